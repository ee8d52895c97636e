"""A site's router put together: loop, core, adaptors, management; and each entity's way to the room concerned.

Layer: 5. Source: management.md, sections 9 and 11; architecture (a change of configuration).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vanrouter import __version__
from vanrouter.adaptors.amqp import NOT_LISTENING, AmqpConnections, AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.adaptors.tcp_shared import Shared
from vanrouter.core.auto_links import AutoLink
from vanrouter.core.connection import Connection
from vanrouter.core.links import Receiver
from vanrouter.core.rates import SettleRates
from vanrouter.core.router import Router
from vanrouter.core.stuck import StuckReport
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import decode_message
from vanrouter.errors import ConfigError, ManagementError, PeerError, VanrouterError
from vanrouter.ids import boot_number
from vanrouter.mgmt import rules
from vanrouter.mgmt.agent import Agent
from vanrouter.mgmt.config import Configuration
from vanrouter.mgmt.entities import Entity, EntityConfig, Registry
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.levels import LEVELS
from vanrouter.mgmt.options import StartOptions
from vanrouter.net.reactor import Reactor
from vanrouter.server.drain import Drain
from vanrouter.server.flows import FlowSource
from vanrouter.server.host_names import HostNames
from vanrouter.server.http import HttpService, HttpServices
from vanrouter.server.management import ManagementNode
from vanrouter.server.policy import PolicyGate, vhost_entities
from vanrouter.server.port import Ports, is_http
from vanrouter.server.reload import Outcome, Reloader
from vanrouter.server.renewal import Renewal
from vanrouter.server.settings import TREATMENTS, Settings, control_settings, fingerprint, given_name, text_of
from vanrouter.server.views import LiveViews

logger = logging.getLogger("vanrouter.core.router")
config_logger = logging.getLogger("vanrouter.connections")
tcp_logger = logging.getLogger("vanrouter.adaptors.tcp")


TEST_LOG = "io.skupper.router.router/test/log"
"""With `--test-hooks`: a message here makes a line of the log, at the level that its subject names."""
TEST_IDLE_STREAMS = 2
"""Idle streaming links that a connection keeps when `--test-hooks` is given."""


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
            instance=boot_number(time.time()),
            network_id=text_of(network.get("networkId")),
            tenant_id=text_of(network.get("tenantId")) or text_of(entity.get("vanId")),
            default_treatment=TREATMENTS[str(entity["defaultDistribution"])],
            control_settings=control_settings(entity),
        )
        self.started_at = self.reactor.now
        self.router_attributes = entity
        self.registry = Registry(SCHEMA, self.router.next_link_id)
        self._configuration = configuration
        if options.has_test_hooks:
            self.router.idle_streams_kept = TEST_IDLE_STREAMS
        self.amqp = AmqpConnections(self.router)
        self.host_names = HostNames(self.reactor, self._renew_vhosts)
        self.gate = PolicyGate({}, self.host_names)
        """Replaced by that of the policy entity."""
        self._built_in: dict[str, int] = {}
        """Bounds that hold where the router entity gives none."""
        self.requester: Connection | None = None
        """Connection that the management request in progress came on."""
        self.flows = FlowSource(self.router)
        options.logs.on_event = self.flows.on_log_event
        self.recorder = self.flows.recorder
        """Told of services, flows and requests by all adaptors."""
        self.tcp = Shared(self.router, tenant=self.router.space.tenant_id, recorder=self.recorder)
        self.http = HttpServices(self.router, self.recorder)
        self.take_limits(entity)
        self.settings = Settings(self.registry, entity, options.logs)
        self.rates = SettleRates(self.router)
        self.objects: dict[Entity, Any] = {}
        """The live object of each entity that has one."""
        self.fingerprints: dict[str, str] = {}
        """Digest of the files of each sslProfile when they were last read."""
        self.renewal = Renewal(self)
        self.reloader = Reloader(self, configuration.file)
        self.views = LiveViews(self)
        self.agent = Agent(self.registry, self.views, self)
        self.management = ManagementNode(self)
        self.ports = Ports(self)
        self.drain = Drain(self)
        self.is_shutting_down = False

    def take_limits(self, router: Mapping[str, object]) -> None:
        """Take over the bounds of the router entity; 0 leaves the built-in ones (extensions, limits)."""
        for attribute, owner, name in (
            ("maxHandshakes", self.amqp, "max_handshakes"),
            ("maxSessionsPerConnection", self.router, "max_sessions"),
            ("maxLinksPerConnection", self.router, "max_links"),
        ):
            value = router.get(attribute)
            built_in = self._built_in.setdefault(name, getattr(owner, name))
            setattr(owner, name, value if isinstance(value, int) and value > 0 else built_in)
        buffered = router.get("maxBufferedBytes")
        bound = buffered if isinstance(buffered, int) and buffered > 0 else quarter_of_memory()
        self.router.memory.set_limit(bound)

    def _renew_vhosts(self) -> None:
        self.renewal.renew_vhosts()

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
        if self.options.has_test_hooks:
            router.subscribe_messages(TEST_LOG, self._on_test_log, is_announced=False)
        self.flows.start()
        StuckReport(router).start()
        self.rates.start()
        for config in self._configuration.entities:
            entity = self.registry.load(config)
            try:
                self.bring_up(entity)
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
        self.host_names.is_serving = True

    @staticmethod
    def _on_test_log(_annotations: Annotations, content: bytes, _receiver: Receiver | None) -> None:
        try:
            level = (decode_message(content).subject or "").lower()
        except PeerError:
            return
        if level in LEVELS:
            logger.log(logging.getLevelNamesMapping()[level.upper()], "A test has asked for a line at level %s", level)

    def terminate(self) -> None:
        """End as SIGTERM asks: after a drain where one is configured; at once when asked again."""
        limit_s = self.router_attributes.get("drainSeconds")
        if isinstance(limit_s, int) and limit_s > 0 and not self.drain.is_on:
            self.drain.begin(limit_s)
        else:
            self.shut_down()

    def shut_down(self) -> None:
        """End: sockets just close (management.md section 12), at once or when collectors of records were told.

        Asked again it does not wait for those.
        """
        if self.is_shutting_down:
            self._stop()
            return
        self.is_shutting_down = True
        try:
            for live in list(self.objects.values()):
                if isinstance(live, AmqpConnector):
                    live.is_closed = True
                elif isinstance(live, (ListenerService, ConnectorService, HttpService)):
                    live.shut_down()
        finally:  # a service with a bug keeps no router from its end
            self.flows.finish(self._stop)

    def _stop(self) -> None:
        for connection in list(self.router.amqp_connections.values()):
            connection.on_closed = None
            connection.engine.drop(None)
        self.reactor.call_soon(self.reactor.stop)

    # What entities become. These are the agent's `Actions`.

    def create(self, entity: Entity) -> None:
        """Bring up an entity made while running."""
        try:
            self.bring_up(entity)
        except OSError as error:
            logging.getLogger("vanrouter.engine.connection").error(
                NOT_LISTENING, entity.text("host"), entity.text("port"), error.strerror or error
            )
        except VanrouterError:
            self.objects.pop(entity, None)  # the agent takes it off the registry
            raise

    def bring_up(self, entity: Entity) -> None:
        """Make the live object of an entity, if its type has one.

        Raises:
            OSError: it cannot listen.
            ConfigError, ManagementError: it cannot be.
        """
        handler = getattr(self, f"_up_{entity.type.short.replace('.', '_')}", None)
        if handler is not None:
            handler(entity)

    def update(self, entity: Entity, changes: Mapping[str, object]) -> None:
        """Apply changed attributes."""
        self.renewal.update(entity, changes)

    def delete(self, entity: Entity) -> None:
        """Take an entity down for good. What refuses stays as it is."""
        drop = self.router_attributes.get("dropTcpConnections") is not False
        self.take_down(entity, drop_connections=drop)

    def take_down(self, entity: Entity, *, drop_connections: bool) -> None:
        """Take an entity down; flows of TCP services end with it or run on. What refuses stays as it is."""
        live = self.objects.get(entity)
        kind = entity.type.short
        if isinstance(live, (ListenerService, ConnectorService)):
            live.delete(drop_connections)
            tcp_logger.info("Deleted %s for %s", type_title(kind), entity.text("address"))
        elif isinstance(live, HttpService):
            self.http.delete(live, drop_connections=drop_connections)
        elif isinstance(live, AmqpListener):
            live.close()
            self.flows.links.remove(live)
            config_logger.info("Deleted  Listener: %s", live.settings.endpoint)
        elif isinstance(live, AmqpConnector):
            live.close()
            self.flows.links.remove(live)
            config_logger.info("Deleted Connector: %s", live.settings.endpoint)
        elif isinstance(live, AutoLink):
            live.cancel()
        elif kind == "logSink":
            self.options.logs.remove_sink(entity.identity)
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
            self.renewal.trace(connection, is_on=changes["enableProtocolTrace"] is True)
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

    def reload(self, done: Callable[[Outcome | VanrouterError], object]) -> None:
        """Read the configuration file again; `done` is told what has changed, or why nothing has."""
        self.reloader.reload(done)

    # One method for each type that has a live object.

    def _up_logSink(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        self.options.logs.put_sink(entity.identity, entity.attributes)

    def _up_sslProfile(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        self.fingerprints[entity.name or ""] = fingerprint(entity.attributes)

    def _up_listener(self, entity: Entity) -> None:
        settings = self.settings.amqp(entity)
        listener = self.ports.listener(entity, settings) if is_http(entity) else AmqpListener(self.amqp, settings)
        self.flows.links.add(listener)
        self.objects[entity] = listener
        config_logger.info("Configured  Listener: %s", self._described(entity))
        listener.open()

    def _up_connector(self, entity: Entity) -> None:
        connector = AmqpConnector(self.amqp, self.settings.amqp(entity))
        self.flows.links.add(connector)
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

    def _up_httpListener(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        self.objects[entity] = self.http.bring_up(entity, self.settings.tls_files(entity))

    _up_httpConnector = _up_httpListener  # noqa: N815  # named for the entity type

    def _up_listenerAddress(self, entity: Entity) -> None:  # noqa: N802  # named for the entity type
        listener = self._tcp_listener(entity.text("listener"))
        if listener is None:
            raise ConfigError("listenerAddress.listener", f"there is no tcpListener named '{entity.text('listener')}'")
        self.objects[entity] = listener.add_address(
            entity.name or entity.identity, entity.text("address"), entity.number("value")
        )

    def _up_site(self, entity: Entity) -> None:
        self.flows.begin_site({**entity.attributes, "name": given_name(entity)})

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
        self.gate = PolicyGate(entity.attributes, self.host_names)
        self.take_policy(entity)
        for config in policy_dir(entity):
            rules.check(self.registry.schema[config.type], config.attributes, self.registry)
            self._up_vhost(self.registry.load(config))

    def take_policy(self, entity: Entity) -> None:
        """Take over the bounds of the policy entity, and its gate for connections from now on."""
        own = self.router_attributes.get("maxConnections")
        limits = [limit for limit in (entity.number("maxConnections"), own) if isinstance(limit, int)]
        self.amqp.max_connections = min(limits[:1] + [limit for limit in limits[1:] if limit > 0])
        self.amqp.gate = self.gate if self.gate.is_on else None

    def _up_vhost(self, entity: Entity) -> None:
        self.renewal.put_vhost(entity)

    def _tcp_listener(self, name: str) -> ListenerService | None:
        entity = self.registry.named("tcpListener", name)
        live = None if entity is None else self.objects.get(entity)
        return live if isinstance(live, ListenerService) else None


def quarter_of_memory() -> int:
    """Return a quarter of the machine's memory in octets."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def policy_dir(policy: Entity) -> Iterable[EntityConfig]:
    """Yield the vhosts of `policyDir`.

    Raises:
        ConfigError: a file there is wrong.
    """
    folder = policy.text("policyDir")
    return vhost_entities(folder) if folder else ()


def type_title(short: str) -> str:
    """Return an entity type as the log writes it: `TcpListener`."""
    return short[0].upper() + short[1:]
