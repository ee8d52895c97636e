"""Connection groups: the control connection of a neighbour and the data connections that belong to it.

Layer: 3. Source: router protocol, sections 1.5 and 1.6. A difference to the C router: a new connection with the
correlator and ordinal of an existing one is not dropped but takes its place, because a connector only makes it when the
old one is lost on its side (extensions: an unclean loss must not keep a peer out until a timeout).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vanrouter.core.peer import Role

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.connections")

Group = tuple[str, int]
"""Correlator and ordinal."""


class Groups:
    """All groups of a router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._parents: dict[Group, Connection] = {}
        self._controls: dict[str, list[Connection]] = {}
        """Control connections by correlator, whatever their ordinals."""
        self._idle: dict[Group, list[Connection]] = {}

    @staticmethod
    def key(connection: Connection) -> Group:
        """Return the group that a connection belongs to; ("", 0) for none."""
        if connection.is_outbound:
            return connection.correlator, connection.ordinal
        return connection.peer.correlator, connection.peer.ordinal

    def on_opened(self, connection: Connection) -> None:
        """A connection between interior routers has opened."""
        if not connection.is_interior_link:
            return
        group = self.key(connection)
        if not group[0]:
            return
        if connection.role is Role.INTER_ROUTER_DATA:
            parent = self._parents.get(group)
            if parent is None:
                self._idle.setdefault(group, []).append(connection)
            else:
                self._adopt(parent, connection)
            return
        for existing in tuple(self._controls.get(group[0], ())):
            if existing.is_closed or existing is connection:
                continue
            ordinal = self.key(existing)[1]
            if ordinal > group[1]:
                logger.info("[C%d] Dropped: connection [C%d] of its group is newer", connection.id, existing.id)
                connection.engine.drop(None)
                return
            if ordinal == group[1]:
                logger.info("[C%d] Taken over by connection [C%d]", existing.id, connection.id)
                existing.engine.drop(("", "replaced by a new connection of the same peer"))
        self._controls.setdefault(group[0], []).append(connection)

    def on_control_ready(self, connection: Connection) -> None:
        """Both control links are attached: the group can be used."""
        router = self._router
        group = self.key(connection)
        older = [
            existing
            for existing in self._controls.get(group[0], ())
            if existing is not connection and not existing.is_closed and existing.control_out is not None
        ]
        router.control.on_link_up(connection)
        for existing in older:
            router.control.on_link_replaced(existing, connection)
            if connection.is_outbound:
                for link in (existing.control_in, existing.control_out):
                    if link is not None:
                        existing.detach(link)
        if group[0]:
            self._parents[group] = connection
            for data in self._idle.pop(group, []):
                self._adopt(connection, data)

    def _adopt(self, parent: Connection, data: Connection) -> None:
        if data.is_closed:
            return
        if data.peer.container != parent.peer.container:
            logger.error("[C%d] Connection group failure: connections split across routers", data.id)
            return
        data.parent = parent
        parent.trunks.append(data)

    def on_lost(self, connection: Connection) -> None:
        """A connection is gone: data connections without a parent wait for the next one."""
        group = self.key(connection)
        if connection.parent is not None:
            connection.parent.trunks.remove(connection)
            connection.parent = None
            return
        waiting = self._idle.get(group)
        if waiting and connection in waiting:
            waiting.remove(connection)
        controls = self._controls.get(group[0])
        if controls and connection in controls:
            controls.remove(connection)
            if not controls:
                del self._controls[group[0]]
        if self._parents.get(group) is connection:
            del self._parents[group]
        for data in connection.trunks:
            data.parent = None
            self._idle.setdefault(group, []).append(data)
        connection.trunks.clear()
        if not self._idle.get(group):
            self._idle.pop(group, None)
