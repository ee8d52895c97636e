"""Changes to entities that are up already: each either takes effect, or raises and leaves everything as it was.

Layer: 5. Source: management.md, section 9; extensions (costs, reload). What a running connection got at its beginning
it keeps; new settings count for connections made from then on, unless a higher ordinal of its profile asks
for more.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.adaptors.http_connector import HttpConnector
from vanrouter.adaptors.http_listener import HttpListener
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.adaptors.tcp_tls import TlsFlow
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.engine import trace
from vanrouter.errors import ConfigError, ManagementError
from vanrouter.mgmt.entities import Entity
from vanrouter.mgmt.policy import PolicyError
from vanrouter.server.policy import PolicyGate
from vanrouter.server.settings import fingerprint, text_of

if TYPE_CHECKING:
    from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.core.router")

TLS_SERVICES = (ListenerService, ConnectorService, HttpListener, HttpConnector)

REOPENED = {
    "listener": frozenset({"socketAddressFamily", "http", "httpRootDir", "healthz", "metrics", "websockets"}),
    "connector": frozenset({"role", "socketAddressFamily"}),
}
"""Attributes of AMQP entities that cannot change while their socket, or their place in the network, stays."""

RUNNING = frozenset(
    {
        "metadata",
        "dropTcpConnections",
        "drainSeconds",
        "timestampsInUTC",
        "timestampFormat",
        "saslConfigDir",
        "saslConfigName",
        "maxConnections",
        "maxHandshakes",
        "maxSessionsPerConnection",
        "maxLinksPerConnection",
        "maxBufferedBytes",
    }
)
"""Attributes of `router` that a reload changes; the others are the router itself and need a restart."""

IN_PLACE = frozenset({"logSink", "managementPermission", "network", "vhost", "sslProfile", "proxyProfile"})
"""Types that `update` changes whole."""

FIXED = {"network": frozenset({"tenantId"})}


class Renewal:
    """Applies changed attributes to what is up."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def update(self, entity: Entity, changes: Mapping[str, object]) -> None:
        """Apply the changes of an UPDATE; the entity has its new values already.

        Raises:
            ManagementError, ConfigError: they cannot be; nothing has changed.
        """
        site = self._site
        kind = entity.type.short
        if kind == "log":
            was_traced = trace.is_wanted()
            site.options.logs.update(entity.text("module"), changes)
            # Also by the level of DEFAULT. Who was traced by itself goes on where this changes nothing.
            if trace.is_wanted() is not was_traced:
                self.trace_as_logged()
        elif kind == "logSink":
            site.options.logs.put_sink(entity.identity, entity.attributes)
        elif kind == "vhost":
            self.put_vhost(entity)
        elif kind == "network" and "networkId" in changes:
            site.router.space.set_network_id(text_of(changes["networkId"]))
        elif kind == "tcpListener" and "observer" in changes:
            site.objects[entity].observer = entity.text("observer")
        elif kind in ("listener", "connector") and "cost" in changes:
            self._change_cost(entity)
        elif kind in ("sslProfile", "proxyProfile"):
            self._renew_users_of(entity)

    def reload(self, entity: Entity, changes: Mapping[str, object]) -> None:
        """Apply the changes that a file makes, None where it gives no value any more; logs are the caller's.

        Raises:
            ManagementError, ConfigError, OSError: they cannot be.
        """
        kind = entity.type.short
        if kind == "router":
            self._site.take_limits(entity.attributes)
        elif kind == "policy":
            self._renew_policy(entity)
        elif kind in ("listener", "connector") and REOPENED[kind].isdisjoint(changes):
            if "cost" in changes:
                self._change_cost(entity)
            if set(changes) != {"cost"}:
                self._site.objects[entity].renewed(self._site.settings.amqp(entity))()
        elif kind in IN_PLACE or set(changes) == {"observer"}:
            self.update(entity, changes)
        else:
            self._reopen(entity)

    def _reopen(self, entity: Entity) -> None:
        """Take an entity down and up again; flows that are open stay."""
        site = self._site
        before = site.objects.get(entity)
        if isinstance(before, ConnectorService):
            # The new one first: the address is never without a consumer, which listeners elsewhere would see.
            site.bring_up(entity)
            before.delete(drop_connections=False)
            return
        if isinstance(before, HttpConnector):
            site.bring_up(entity)
            site.http.delete(before, drop_connections=False)
            return
        addresses = [
            other for other in site.registry.of("listenerAddress") if other.text("listener") == entity.name
        ] if isinstance(before, ListenerService) else []  # fmt: skip
        for address in addresses:
            site.take_down(address, drop_connections=False)
        site.take_down(entity, drop_connections=False)
        site.bring_up(entity)
        after = site.objects.get(entity)
        if isinstance(before, ListenerService) and isinstance(after, ListenerService):
            after.bound_port = after.bound_port or before.bound_port
        for address in addresses:
            site.bring_up(address)

    def put_vhost(self, entity: Entity) -> None:
        """Put the rules of a vhost in force for connections from now on.

        Raises:
            ManagementError: they contradict themselves or others.
        """
        try:
            self._site.gate.policies.put(entity.attributes)
        except PolicyError as error:
            raise ManagementError(500, f"PolicyError: {error}") from error

    def renew_vhosts(self) -> None:
        """An address that remoteHosts names is known now; where it is not, the rules stay as they were."""
        for vhost in self._site.registry.of("vhost"):
            with contextlib.suppress(ManagementError):
                self.put_vhost(vhost)

    def _renew_policy(self, policy: Entity) -> None:
        site = self._site
        before = site.gate
        site.gate = PolicyGate(policy.attributes, site.host_names)
        site.gate.policies.counts = before.policies.counts  # of connections that are open, too
        try:
            for vhost in site.registry.of("vhost"):
                self.put_vhost(vhost)
        except ManagementError:
            site.gate = before
            raise
        site.take_policy(policy)

    def trace_as_logged(self) -> None:
        """Trace the frames of all connections, or of none, as the level of PROTOCOL says."""
        for connection in self._site.router.amqp_connections.values():
            self.trace(connection, is_on=trace.is_wanted())

    @staticmethod
    def trace(connection: Connection, *, is_on: bool) -> None:
        """Switch the frame trace of one connection."""
        if is_on:
            trace.start(connection.engine.transport, connection.id)
        else:
            trace.stop(connection.engine.transport)

    def _change_cost(self, entity: Entity) -> None:
        cost = entity.number("cost")
        live = self._site.objects[entity]
        settings, live.settings = live.settings, replace(live.settings, cost=cost)
        router = self._site.router
        for connection in list(router.amqp_connections.values()):
            if connection.settings is settings and connection.role is Role.INTER_ROUTER:
                connection.settings = live.settings
                connection.cost = max(cost, connection.peer.cost)
                router.control.on_cost_changed(connection)

    def _renew_users_of(self, profile: Entity) -> None:
        """Give all that use a profile its new values, or nobody; end what has credentials that are too old."""
        kind = profile.type.short
        settings = self._site.settings
        changes: list[Callable[[], None]] = []
        for entity, live in self._site.objects.items():
            if entity.text(kind) != profile.name:
                continue
            try:
                if isinstance(live, AmqpListener | AmqpConnector):
                    changes.append(live.renewed(settings.amqp(entity)))
                elif isinstance(live, TLS_SERVICES) and kind == "sslProfile":
                    files = settings.tls_files(entity)
                    assert files is not None  # it names this profile
                    changes.append(live.renewed_tls(files))
            except ConfigError as error:
                reason = f"{kind} configuration update failed: {error.reason}, used by {entity.identity}"
                raise ManagementError(400, reason) from error
        for apply in changes:
            apply()
        if kind == "sslProfile":
            self._site.fingerprints[profile.name or ""] = fingerprint(profile.attributes)
            self._end_older(profile.name or "", profile.number("oldestValidOrdinal"))

    def _end_older(self, profile: str, oldest: int) -> None:
        """Close connections of both sides, and flows, whose credentials are older than `oldestValidOrdinal`."""
        for connection in list(self._site.router.connections.values()):
            if isinstance(connection, Connection):
                tls = connection.settings.tls
                if tls is not None and tls.name == profile and tls.ordinal < oldest:
                    logger.info("[C%d] Closed: credentials older than oldestValidOrdinal", connection.id)
                    connection.engine.drop(None)
            elif isinstance(connection, TlsFlow):
                files = connection.credentials
                if files.name == profile and files.ordinal < oldest:
                    logger.info("[C%d] Flow ended: credentials older than oldestValidOrdinal", connection.id)
                    connection.drop(is_reset=True)
