"""Connection groups: the control connection of a neighbour and the data connections that belong to it.

Layer: 3. Source: router protocol, sections 1.5 and 1.6. What becomes of a second control connection of a group is
decided in `routing/groups.py`; here it is carried out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vanrouter.core.peer import Role
from vanrouter.routing.groups import Verdict, judge

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.connections")

Group = tuple[str, int]
"""Correlator and ordinal."""

TAKEN_OVER = ("", "replaced by a new connection of the same peer")

LATELY_S = 2.0
"""A data connection that carries streams is heard more often."""

TOGETHER_S = 0.5
"""A peer that has lost its connections makes all of a group anew at the same time."""


def trunk_of(connection: Connection) -> Connection:
    """Return the connection that the next stream to a neighbour takes (section 1.5).

    A data connection, or `connection` where there is none or the peer does not take streams on them. The first that is
    not busy and was heard of late, so that what many flows have to say goes out, and comes in, with one call of the
    system, and not where the peer may be gone; else the one that was heard last; with all busy, in turn.

    Args:
        connection: the control connection.
    """
    trunks = connection.trunks
    if not trunks or not connection.peer.offers_trunking:
        return connection
    lately = connection.loop.now - LATELY_S
    heard_last: Connection | None = None
    for data in trunks:
        if not data.streams.is_busy():
            if data.engine.heard_at >= lately:
                return data
            if heard_last is None or data.engine.heard_at > heard_last.engine.heard_at:
                heard_last = data
    if heard_last is not None:
        return heard_last
    connection.trunk_turn += 1
    return trunks[connection.trunk_turn % len(trunks)]


class _Controls:
    """The control connections of one correlator."""

    __slots__ = ("current", "pending")

    def __init__(self) -> None:
        self.current: Connection | None = None
        """In use, or the first to come."""
        self.pending: Connection | None = None
        """Takes over when both its control links are attached."""


class Groups:
    """All groups of a router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._parents: dict[Group, Connection] = {}
        self._controls: dict[str, _Controls] = {}
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
        controls = self._controls.setdefault(group[0], _Controls())
        current, pending = controls.current, controls.pending
        verdict = judge(group[1], self._ordinal(current), self._ordinal(pending))
        if verdict is Verdict.DROP:
            logger.info("[C%d] Dropped: its group has a newer connection", connection.id)
            connection.engine.drop(None)
        elif verdict is Verdict.SET_UP:
            controls.current = connection
        else:
            controls.pending = connection
            if pending is not None:
                logger.info("[C%d] Dropped: connection [C%d] of its group is newer", pending.id, connection.id)
                pending.engine.drop(None)

    def _ordinal(self, connection: Connection | None) -> int | None:
        return None if connection is None else self.key(connection)[1]

    def on_control_ready(self, connection: Connection) -> None:
        """Both control links are attached: the group can be used."""
        control = self._router.control
        group = self.key(connection)
        controls = self._controls.get(group[0]) if group[0] else None
        control.on_link_up(connection)
        if controls is None:
            return
        self._parents[group] = connection
        if controls.pending is connection:
            old, controls.current, controls.pending = controls.current, connection, None
            if old is not None:
                control.on_link_replaced(old, connection)
                self._retire(old, connection)
        for data in self._idle.pop(group, []):
            self._adopt(connection, data)

    def _retire(self, old: Connection, new: Connection) -> None:
        """End an older control connection, or let it live on for the streams that are open on it."""
        logger.info("[C%d] Connection [C%d] takes over", old.id, new.id)
        if self.key(old) == self.key(new):  # its peer has lost it, and the data connections of that time with it
            for data in list(old.trunks):
                if self._is_of(data, old, new):
                    old.trunks.remove(data)
                    self._adopt(new, data)
                else:
                    data.engine.drop(TAKEN_OVER)
            old.engine.drop(TAKEN_OVER)
        elif new.is_outbound:
            for link in (old.control_in, old.control_out):
                if link is not None:
                    old.detach(link)

    def _is_of(self, data: Connection, old: Connection, new: Connection) -> bool:
        """Say whether a data connection lives on with the new control connection of its group.

        The old one died after it was last heard, before its next HELLO came. What was heard after that lives; what was
        opened in between, and is not heard any more, has died with it.
        """
        silent_since = old.engine.heard_at
        next_hello_at = silent_since + 1.5 * self._router.control.plane.settings.hello_interval_s
        is_fresh = data.opened_at > silent_since and new.opened_at - data.opened_at < TOGETHER_S
        return data.engine.heard_at > next_hello_at or is_fresh

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
            if connection in connection.parent.trunks:  # not when it was retiring
                connection.parent.trunks.remove(connection)
            connection.parent = None
            return
        waiting = self._idle.get(group)
        if waiting and connection in waiting:
            waiting.remove(connection)
        controls = self._controls.get(group[0])
        if controls is not None:
            if controls.current is connection:
                controls.current = None
            if controls.pending is connection:
                controls.pending = None
            if controls.current is None and controls.pending is None:
                del self._controls[group[0]]
        if self._parents.get(group) is connection:
            del self._parents[group]
        for data in connection.trunks:
            data.parent = None
            self._idle.setdefault(group, []).append(data)
        connection.trunks.clear()
        if not self._idle.get(group):
            self._idle.pop(group, None)
