"""A site's router put together: loop, core, adaptors, management; and each entity's way to the room concerned.

Layer: 5. Source: management.md, sections 9 and 11; architecture (a change of configuration).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vanrouter import __version__
from vanrouter.adaptors.amqp import AmqpConnections, AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.adaptors.tcp_shared import Shared
from vanrouter.core.auto_links import AutoLink
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.core.stuck import StuckReport
from vanrouter.engine import trace
from vanrouter.errors import ConfigError, ManagementError, VanrouterError
from vanrouter.mgmt import rules
from vanrouter.mgmt.agent import Agent
from vanrouter.mgmt.config import Configuration
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.options import StartOptions
from vanrouter.mgmt.policy import PolicyError
from vanrouter.net.reactor import Reactor
from vanrouter.server.management import ManagementNode
from vanrouter.server.policy import PolicyGate, vhost_entities
from vanrouter.server.port import Ports, is_http
from vanrouter.server.settings import TREATMENTS, Settings, control_settings, text_of
from vanrouter.server.views import LiveViews

logger = logging.getLogger("vanrouter.core.router")
config_logger = logging.getLogger("vanrouter.connections")
tcp_logger = logging.getLogger("vanrouter.adaptors.tcp")


class Site:
    """Everything of one router."""

    def __init__(self, configuration: Configuration, options: StartOptions) -> None:
        self.reactor = Reactor()
        self.options = options
        entity = configuration.router.attributes
        network = configuration.of("network")[0].attributes
        self.router = Router(
            self.reactor,
            str(entity["id"]),
            str(entity["mode"]),
            instance=int(time.time()),
            network_id=text_of(network.get("networkId")),
            tenant_id=text_of(network.get("tenantId")) or text_of(entity.get("vanId")),
            default_treatment=TREATMENTS[str(entity["defaultDistribution"])],
            control_settings=control_settings(entity),
        )
        self.started_at = self.reactor.now
        self.router_attributes = entity
        self.registry = Registry(SCHEMA, self.router.next_link_id)
        self._configuration = configuration
        self.amqp = AmqpConnections(self.router)
        self.gate = PolicyGate({})
        """Replaced by that of the policy entity."""
        self.requester: Connection | None = None
        """Connection that the management request in progress came on."""
        buffered = entity.get("maxBufferedBytes") or quarter_of_memory()
        self.tcp = Shared(self.router, int(str(buffered)), tenant=self.router.space.tenant_id)
        self._set_limits(entity)
        self.settings = Settings(self.registry, entity, options.logs)
        self.objects: dict[Entity, Any] = {}
        """The live object of each entity that has one."""
        self.views = LiveViews(self)
        self.agent = Agent(self.registry, self.views, self)
        self.management = ManagementNode(self)
        self.ports = Ports(self)
        self.is_shutting_down = False

    def _set_limits(self, router: Mapping[str, object]) -> None:
        """Take over the bounds of the router entity; 0 leaves the built-in ones (extensions, limits)."""
        for name, owner, attribute in (
            ("maxHandshakes", self.amqp, "max_handshakes"),
            ("maxSessionsPerConnection", self.router, "max_sessions"),
            ("maxLinksPerConnection", self.router, "max_links"),
        ):
            value = router.get(name)
            if isinstance(value, int) and value > 0:
                setattr(owner, attribute, value)

    # Start and end.

    def start(self) -> None:
        """Bring up everything that the configuration names.

        Raises:
            ConfigError: something cannot be brought up.
            OSError: an AMQP listener cannot bind.
        """
        router = self.router
        logger.info("Version: %s", __version__)
        server_logger = logging.getLogger("vanrouter.engine.connection")
        server_logger.info("Container Name: %s", router.router_id)
        mode = router.mode.capitalize()
        detail = f", area=0 id={router.router_id}" if router.is_interior else ""
        logger.info("Router started in %s mode%s", mode, detail)
        if router.is_interior:
            is_set = str(self.router_attributes.get("dataConnectionCount", "")).isdigit()
            how = "set to" if is_set else "calculated at"
            config_logger.info("Inter-router data connections %s %d", how, self.settings.data_connections())
        self.management.start()
        StuckReport(router).start()
        for config in self._configuration.entities:
            entity = self.registry.load(config)
            try:
                self._bring_up(entity)
            except OSError as error:
                endpoint = f"{entity.text('host')}:{entity.text('port')}"
                server_logger.critical("Shutting down, required listener failed %s", endpoint)
                raise ConfigError(
                    f"{entity.type.short} {endpoint}",
                    f"cannot listen: {error.strerror or error}",
                    file=config.file,
                    line=config.line,
                ) from error
            except ConfigError as error:
                if error.file is None:
                    raise ConfigError(error.key, error.reason, file=config.file, line=config.line) from error
                raise

    def shut_down(self) -> None:
        """End at once: sockets just close (management.md section 12)."""
        if self.is_shutting_down:
            return
        self.is_shutting_down = True
        for live in list(self.objects.values()):
            if isinstance(live, AmqpConnector):
                live.is_closed = True
            elif isinstance(live, (ListenerService, ConnectorService)):
                live.shut_down()
        for connection in list(self.router.amqp_connections.values()):
            connection.on_closed = None
            connection.engine.drop(None)
        self.reactor.call_soon(self.reactor.stop)

    # What entities become. These four are the agent's `Actions`.

    def create(self, entity: Entity) -> None:
        """Bring up an entity made while running."""
        try:
            self._bring_up(entity)
        except OSError as error:
            logging.getLogger("vanrouter.engine.connection").error(
                "Cannot listen on %s:%s: %s", entity.text("host"), entity.text("port"), error.strerror or error
            )
        except VanrouterError:
            self.objects.pop(entity, None)  # the agent takes it off the registry
            raise

    def _bring_up(self, entity: Entity) -> None:
        handler = getattr(self, f"_up_{entity.type.short.replace('.', '_')}", None)
        if handler is not None:
            handler(entity)

    def update(self, entity: Entity, changes: Mapping[str, object]) -> None:
        """Apply changed attributes."""
        kind = entity.type.short
        if kind == "log":
            self.options.logs.update(entity.text("module"), changes)
            if entity.text("module") == "PROTOCOL":
                for connection in self.router.amqp_connections.values():
                    _trace(connection, is_on=trace.is_wanted())
        elif kind == "vhost":
            self._up_vhost(entity)
        elif kind == "network" and "networkId" in changes:
            self.router.space.set_network_id(text_of(changes["networkId"]))
        elif kind == "tcpListener" and "observer" in changes:
            self.objects[entity].observer = entity.text("observer")
        elif kind in ("listener", "connector") and "cost" in changes:
            self._change_cost(entity)
        elif kind in ("sslProfile", "proxyProfile"):
            self._renew_tls_services(entity)
            self._renew_users_of(entity)

    def delete(self, entity: Entity) -> None:
        """Take an entity down. What refuses stays as it is."""
        live = self.objects.get(entity)
        kind = entity.type.short
        drop = self.router_attributes.get("dropTcpConnections") is not False
        if isinstance(live, (ListenerService, ConnectorService)):
            live.delete(drop)
            tcp_logger.info("Deleted %s for %s", type_title(kind), entity.text("address"))
        elif isinstance(live, AmqpListener):
            live.close()
            config_logger.info("Deleted  Listener: %s", live.settings.endpoint)
        elif isinstance(live, AmqpConnector):
            live.close()
            config_logger.info("Deleted Connector: %s", live.settings.endpoint)
        elif isinstance(live, AutoLink):
            live.cancel()
        elif kind == "vhost":
            self.gate.policies.remove(entity.text("hostname"))
        elif kind == "address":
            self.router.table.rules.remove(str(live))
        elif kind == "listenerAddress":
            listener = self._tcp_listener(entity.text("listener"))
            if listener is not None and live is not None:
                listener.remove_address(str(live.name))
        self.objects.pop(entity, None)

    def update_connection(self, identity: str, changes: Mapping[str, object]) -> None:
        """Cut a connection, or trace its frames."""
        connection = self.router.connections.get(int(identity)) if identity.isdigit() else None
        if connection is None:
            raise ManagementError(400, f"No connection with identity={identity}")
        if "enableProtocolTrace" in changes and isinstance(connection, Connection):
            _trace(connection, is_on=changes["enableProtocolTrace"] is True)
        if changes.get("adminStatus") == "deleted":
            if self.requester is not None and not self.requester.allows_admin_delete:
                raise ManagementError(403, "You are not allowed to perform this operation.")
            if getattr(connection, "is_protected", False):
                raise ManagementError(403, "You are not allowed to perform this operation.")
            if hasattr(connection, "force_close"):
                connection.force_close()
            else:
                connection.engine.drop(None)  # without a CLOSE, so that the peer may come back (section 1.7)
            logging.getLogger("vanrouter.mgmt").info("[C%s] Connection force-closed by request", identity)

    def _change_cost(self, entity: Entity) -> None:
        cost = entity.number("cost")
        live = self.objects[entity]
        settings, live.settings = live.settings, replace(live.settings, cost=cost)
        for connection in list(self.router.amqp_connections.values()):
            if connection.settings is settings and connection.role is Role.INTER_ROUTER:
                connection.settings = live.settings
                connection.cost = max(cost, connection.peer.cost)
                self.router.control.on_cost_changed(connection)

    def _renew_tls_services(self, profile: Entity) -> None:
        """Give services that speak TLS the changed profile, for new connections: all of them, or none and an error."""
        changes = []
        for entity, live in self.objects.items():
            if isinstance(live, (ListenerService, ConnectorService)) and entity.text("sslProfile") == profile.name:
                files = self.settings.tls_files(entity)
                if files is not None and profile.type.short == "sslProfile":
                    changes.append(live.renewed_tls(files))
        for apply in changes:
            apply()

    def _renew_users_of(self, profile: Entity) -> None:
        """Give AMQP listeners and connectors the changed profile; end connections of credentials that are too old."""
        kind = profile.type.short
        for entity, live in list(self.objects.items()):
            if isinstance(live, (AmqpListener, AmqpConnector)) and entity.text(kind) == profile.name:
                try:
                    live.renew(self.settings.amqp(entity))
                except ConfigError as error:
                    config_logger.error("%s %s: %s", type_title(kind), profile.name, error)
        oldest = profile.number("oldestValidOrdinal") if kind == "sslProfile" else 0
        for connection in list(self.router.amqp_connections.values()):
            tls = connection.settings.tls
            if tls is not None and tls.name == profile.name and tls.ordinal < oldest:
                logger.info("[C%d] Closed: credentials older than oldestValidOrdinal", connection.id)
                connection.engine.drop(None)

    # One method for each type that has a live object.

    def _up_listener(self, entity: Entity) -> None:
        settings = self.settings.amqp(entity)
        listener = self.ports.listener(entity, settings) if is_http(entity) else AmqpListener(self.amqp, settings)
        self.objects[entity] = listener
        config_logger.info("Configured  Listener: %s", self._described(entity))
        listener.open()

    def _up_connector(self, entity: Entity) -> None:
        connector = AmqpConnector(self.amqp, self.settings.amqp(entity))
        self.objects[entity] = connector
        config_logger.info("Configured Connector: %s", self._described(entity))
        connector.open()

    def _described(self, entity: Entity) -> str:
        profile = entity.text("sslProfile")
        suffix = f", sslProfile={profile}" if profile else ""
        http = ", http" if entity.type.short == "listener" and is_http(entity) else ""
        endpoint = f"{entity.text('host')}:{entity.text('port')}"
        return f"{endpoint} proto=any, role={entity.text('role')}{http}{suffix}"

    def _up_tcpListener(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        service = ListenerService(self.tcp, self.settings.tcp_listener(entity))
        self.objects[entity] = service
        tcp_logger.info(
            "Configured TcpListener for %s, %s:%s", entity.text("address"), entity.text("host"), entity.text("port")
        )
        service.start()

    def _up_tcpConnector(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        service = ConnectorService(self.tcp, self.settings.tcp_connector(entity))
        self.objects[entity] = service
        tcp_logger.info(
            "Configured TcpConnector for %s, %s:%s", entity.text("address"), entity.text("host"), entity.text("port")
        )
        service.start()

    def _up_listenerAddress(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        listener = self._tcp_listener(entity.text("listener"))
        if listener is None:
            raise ConfigError("listenerAddress.listener", f"there is no tcpListener named '{entity.text('listener')}'")
        self.objects[entity] = listener.add_address(
            entity.name or entity.identity, entity.text("address"), entity.number("value")
        )

    def _up_address(self, entity: Entity) -> None:
        rule = self.settings.address_rule(entity)
        self.router.table.rules.add(rule)
        self.objects[entity] = rule.pattern
        word = "Prefix" if entity.text("prefix") else "Pattern"
        config_logger.info(
            "Created address with %s=%s and distribution=%s", word, rule.pattern, entity.text("distribution")
        )

    def _up_autoLink(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        self.objects[entity] = self.router.auto_links.add(self.settings.auto_link(entity))

    def _up_policy(self, entity: Entity) -> None:
        own = self.router_attributes.get("maxConnections")
        limits = [limit for limit in (entity.number("maxConnections"), own) if isinstance(limit, int)]
        self.amqp.max_connections = min(limits[:1] + [limit for limit in limits[1:] if limit > 0])
        self.gate = PolicyGate(entity.attributes)
        if self.gate.is_on:
            self.amqp.gate = self.gate
        folder = entity.text("policyDir")
        for config in vhost_entities(folder) if folder else ():
            rules.check(self.registry.schema[config.type], config.attributes, self.registry)
            self._up_vhost(self.registry.load(config))

    def _up_vhost(self, entity: Entity) -> None:
        try:
            self.gate.policies.put(entity.attributes)
        except PolicyError as error:
            raise ManagementError(500, f"PolicyError: {error}") from error

    def _tcp_listener(self, name: str) -> ListenerService | None:
        entity = self.registry.named("tcpListener", name)
        live = None if entity is None else self.objects.get(entity)
        return live if isinstance(live, ListenerService) else None


def _trace(connection: Connection, *, is_on: bool) -> None:
    if is_on:
        trace.start(connection.engine.transport, connection.id)
    else:
        trace.stop(connection.engine.transport)


def quarter_of_memory() -> int:
    """Return a quarter of the machine's memory in octets."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def type_title(short: str) -> str:
    """Return an entity type as the log writes it: `TcpListener`."""
    return short[0].upper() + short[1:]
