"""AMQP listeners and connectors: sockets with TLS, SASL and an OPEN on them, given to the core.

Layer: 4. Source: router protocol, sections 1.2 to 1.5 and 1.8; management.md section 8 (listener, connector).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from dataclasses import dataclass, field
from random import Random
from typing import Any

from vanrouter import __version__
from vanrouter.core.connection import Connection
from vanrouter.core.peer import (
    ANNOTATIONS_VERSION,
    CAPABILITIES,
    INTER_EDGE_CAPABILITY,
    INTER_ROUTER_DATA_CODE,
    VANROUTER_CAPABILITY,
    Role,
    write_open,
)
from vanrouter.core.router import Router
from vanrouter.engine import proton
from vanrouter.engine.connection import EngineConnection
from vanrouter.engine.sections import Int, ULong
from vanrouter.engine.security import (
    PeerSecurity,
    TlsProfile,
    free_domain,
    peer_security,
    start_sasl,
    start_tls,
    tls_domain,
)
from vanrouter.errors import ConfigError
from vanrouter.ids import random_suffix
from vanrouter.net.dial import Address, Connecting, Resolver, literal_addresses, resolve
from vanrouter.net.listener import Acceptor, bind, text_address

logger = logging.getLogger("vanrouter.engine.connection")
core_logger = logging.getLogger("vanrouter.core")
config_logger = logging.getLogger("vanrouter.connections")

PRODUCT = "skupper-router"
"""Not checked by anybody, but shown; peers and tools know this word (router protocol, section 1.4)."""

ROUTER_FRAME_BYTES = 65536
"""Largest frame on inter-router roles between vanrouters; C routers offer less and so bound it (extensions)."""

FIRST_RETRY_S = 0.25
MAX_RETRY_S = 2.0
"""Back-off of connectors: doubled from the first to the last, with jitter."""

CONNECT_TIMEOUT_S = 5.0
NOTSENT_LOWAT_BYTES = 128 * 1024
"""Octets that the kernel holds unsent on router connections, so that bulk does not fill it ahead of hellos."""

HANDSHAKE_S = 30.0
"""A peer of a listener that has not opened by then is cut, unless the listener says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpSettings:
    """What listener and connector entities have in common."""

    name: str
    host: str
    port: str
    role: Role = Role.NORMAL
    cost: int = 1
    family: str | None = None
    tls: TlsProfile | None = None
    sasl_mechanisms: str | None = None
    max_frame_bytes: int = 16384
    max_sessions: int = 32768
    max_session_frames: int | None = None
    idle_timeout_s: int = 16
    strip_annotations: str = "both"
    link_capacity: int = 250
    open_properties: dict[str, Any] = field(default_factory=dict)
    sasl_config_dir: str | None = None
    sasl_config_name: str | None = None
    # Listeners.
    authenticate_peer: bool = False
    require_encryption: bool = False
    require_tls: bool = False
    handshake_timeout_s: int = 0
    failover_urls: tuple[dict[str, str], ...] = ()
    # Connectors.
    verify_hostname: bool = True
    sasl_username: str | None = None
    sasl_password: str | None = None
    data_connections: int = 0

    def __repr__(self) -> str:
        return f"AmqpSettings({self.name!r}, {self.host}:{self.port}, {self.role.value})"

    @property
    def endpoint(self) -> str:
        """`host:port` as configured."""
        return f"{self.host}:{self.port}"


def addresses_for(host: str, port: str, family: str | None, *, is_passive: bool = False) -> list[Address]:
    """Resolve, restricted to a family if one is asked for. Blocks when it is a name.

    Raises:
        OSError: it cannot be resolved.
    """
    found = literal_addresses(host, port, is_passive=is_passive)
    if found is None:
        found = resolve(host, port, is_passive=is_passive)
    return of_family(found, family)


def of_family(found: list[Address], family: str | None) -> list[Address]:
    """Keep the addresses of a family (`IPv4`, `IPv6`, None for both)."""
    wanted = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(family or "")
    return found if wanted is None else [address for address in found if address.family == wanted]


class AmqpConnections:
    """Makes connections of sockets: what listeners and connectors share."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.max_connections = 65535
        self.max_handshakes = 4096
        self.refused = 0
        """Connections refused by one of these limits."""
        self.handshakes = 0
        self.trace_frames = False

    def make(
        self, sock: Any, settings: AmqpSettings, domain: Any, *, is_server: bool, host: str, role: Role | None = None
    ) -> Connection:
        """Put the engine and the core on a connected socket; nothing runs before `start`."""
        router = self.router
        connection = Connection(router, role or settings.role, is_outbound=not is_server)
        engine = EngineConnection(router.reactor, sock, connection, is_server=is_server)
        connection.attach_engine(engine)
        connection.listener_name = settings.name
        connection.host = host
        connection.cost = settings.cost
        connection.capacity = settings.link_capacity
        connection.window_frames = settings.max_session_frames
        connection.strips_in = settings.strip_annotations in ("both", "in")
        connection.strips_out = settings.strip_annotations in ("both", "out")
        connection.settings = settings
        transport = engine.transport
        frame = settings.max_frame_bytes
        if settings.role in (Role.INTER_ROUTER, Role.EDGE, Role.INTER_EDGE) and frame == 16384:
            frame = ROUTER_FRAME_BYTES
        connection.max_frame_bytes = frame
        proton.transport_set_max_frame(transport, frame)
        proton.transport_set_channel_max(transport, settings.max_sessions - 1)
        proton.transport_set_idle_timeout(transport, settings.idle_timeout_s * 1000)
        self._secure(connection, settings, domain, is_server=is_server)
        self._fill_open(connection, settings, is_server=is_server)
        router.add_connection(connection)
        return connection

    def _secure(self, connection: Connection, settings: AmqpSettings, domain: Any, *, is_server: bool) -> None:
        engine = connection.engine
        if is_server:
            proton.transport_require_auth(engine.transport, settings.authenticate_peer)
            proton.transport_require_encryption(engine.transport, settings.require_encryption or settings.require_tls)
        if settings.sasl_username is not None:
            proton.connection_set_user(engine.connection, settings.sasl_username.encode())
        if settings.sasl_password is not None:
            proton.connection_set_password(engine.connection, settings.sasl_password.encode())
        mechanisms = settings.sasl_mechanisms
        if mechanisms is None and not is_server and settings.sasl_username is None:
            mechanisms = "EXTERNAL ANONYMOUS" if settings.tls is not None else "ANONYMOUS"
        start_sasl(
            engine.transport,
            mechanisms,
            config_dir=settings.sasl_config_dir,
            config_name=settings.sasl_config_name if is_server else None,
            allow_insecure=True,
        )
        if domain is not None:
            start_tls(engine.transport, domain, None if is_server else settings.host)

    def _fill_open(self, connection: Connection, settings: AmqpSettings, *, is_server: bool) -> None:
        engine = connection.engine
        role = connection.role
        proton.connection_set_container(engine.connection, self.router.router_id.encode())
        if not is_server:
            proton.connection_set_hostname(engine.connection, settings.host.encode())
        properties: dict[str, Any] = {
            "product": PRODUCT,
            "version": __version__,
            "qd.conn-id": Int(connection.id),
            **settings.open_properties,
        }
        if role in (Role.INTER_ROUTER, Role.INTER_ROUTER_DATA, Role.EDGE):
            properties["qd.annotations-version"] = Int(ANNOTATIONS_VERSION)
        if settings.cost > 1:
            properties["qd.inter-router-cost"] = Int(settings.cost)
        if role is Role.INTER_ROUTER_DATA:
            properties["qd.inter-router-role"] = Int(INTER_ROUTER_DATA_CODE)
        if settings.failover_urls:
            properties["failover-server-list"] = [dict(entry) for entry in settings.failover_urls]
        properties["vanrouter.version"] = __version__
        capabilities: tuple[str, ...] = CAPABILITIES
        if role is Role.INTER_EDGE:
            capabilities = (*capabilities, INTER_EDGE_CAPABILITY)
        connection.open_properties = properties
        connection.open_capabilities = (*capabilities, VANROUTER_CAPABILITY)

    def start(self, connection: Connection) -> None:
        """Write the OPEN's fields and begin."""
        write_open(
            connection.engine.connection,
            capabilities=connection.open_capabilities,
            properties=connection.open_properties,
        )
        if connection.is_outbound:
            proton.connection_open(connection.engine.connection)
        connection.engine.start()

    def opened(self, connection: Connection) -> PeerSecurity:
        """Note and log what the handshakes have shown."""
        settings: AmqpSettings = connection.settings
        security = peer_security(
            connection.engine.transport,
            has_tls=settings.tls is not None,
            has_sasl=True,
            uid_format=None if settings.tls is None else settings.tls.uid_format,
        )
        connection.security = security
        core_logger.info(
            "[C%d] Connection Opened: dir=%s host=%s encrypted=%s auth=%s user=%s container_id=%s props=%s",
            connection.id,
            "out" if connection.is_outbound else "in",
            connection.host,
            security.tls_protocol or "no",
            security.mechanism or "no",
            security.user or "anonymous",
            connection.peer.container,
            connection.peer.properties,
        )
        return security


def tune(sock: socket.socket, role: Role) -> None:
    """Set the options of a socket."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if role.is_router:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)


class AmqpListener:
    """A listener entity."""

    def __init__(self, connections: AmqpConnections, settings: AmqpSettings) -> None:
        self._connections = connections
        self._router = connections.router
        self.settings = settings
        self._acceptor: Acceptor | None = None
        self._domain: Any = None
        self.failure = ""

    def open(self) -> None:
        """Bind and listen.

        Raises:
            ConfigError: a file of the sslProfile cannot be used.
            OSError: the address cannot be bound.
        """
        settings = self.settings
        if settings.tls is not None:
            self._domain = tls_domain(
                settings.tls,
                is_server=True,
                verify_peer=settings.authenticate_peer,
                verify_host=False,
                allow_plain=not settings.require_tls and not settings.role.is_router,
            )
        targets = addresses_for(settings.host, settings.port, settings.family, is_passive=True)
        self._acceptor = Acceptor(self._router.reactor, bind(targets), self._taken)
        name = settings.name
        logger.info("Listening on %s:%d%s", settings.host, self._acceptor.port, f" ({name})" if name else "")

    def _taken(self, sock: socket.socket, address: Any) -> None:
        connections, settings = self._connections, self.settings
        if (
            len(self._router.amqp_connections) >= connections.max_connections
            or connections.handshakes >= connections.max_handshakes
        ):
            connections.refused += 1
            sock.close()
            return
        tune(sock, settings.role)
        host = text_address(address)
        connection = connections.make(sock, settings, self._domain, is_server=True, host=host)
        logger.info("[C%d] Accepted connection to %s from %s", connection.id, settings.endpoint, host)
        connections.handshakes += 1
        timeout = settings.handshake_timeout_s or HANDSHAKE_S
        timer = self._router.reactor.call_later(timeout, lambda: self._overdue(connection))
        connection.on_opened = lambda: self._opened(connection, timer)
        connection.on_closed = lambda condition: self._closed(connection, timer, condition)
        connections.start(connection)

    def _opened(self, connection: Connection, timer: Any) -> None:
        timer.cancel()
        self._connections.handshakes -= 1
        self._connections.opened(connection)

    def _overdue(self, connection: Connection) -> None:
        if not connection.is_opened and not connection.is_closed:
            connection.engine.drop(("amqp:not-allowed", "Timeout waiting for initial handshake"))

    def _closed(self, connection: Connection, timer: Any, condition: tuple[str, str] | None) -> None:
        timer.cancel()
        if not connection.is_opened:
            self._connections.handshakes -= 1
        if condition is not None and condition[0]:
            logger.error(
                "[C%d] Connection from %s (to %s) failed: %s %s",
                connection.id,
                connection.host,
                self.settings.endpoint,
                *condition,
            )
        core_logger.info("[C%d] Connection Closed", connection.id)

    def close(self) -> None:
        """Stop listening. Connections that are open stay."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        if self._domain is not None:
            free_domain(self._domain)
            self._domain = None


class AmqpConnector:
    """A connector entity: keeps its connections up, control first, data connections beside it."""

    def __init__(self, connections: AmqpConnections, settings: AmqpSettings, random: Random | None = None) -> None:
        self._connections = connections
        self._router = connections.router
        self.settings = settings
        self._domain: Any = None
        self._random = random or Random()
        self.failover: list[tuple[str, str]] = [(settings.host, settings.port)]
        """Hosts and ports in the order they are tried; the first is configured, others come from the peer."""
        self.status = "CONNECTING"
        self.message = ""
        self.correlator = random_suffix() if settings.role is Role.INTER_ROUTER else ""
        count = settings.data_connections if settings.role is Role.INTER_ROUTER else 0
        self._dials = [_Dial(self, None)] + [_Dial(self, Role.INTER_ROUTER_DATA) for _ in range(count)]
        self.is_closed = False

    def open(self) -> None:
        """Begin to connect.

        Raises:
            ConfigError: a file of the sslProfile cannot be used.
        """
        self.make_domain()
        for dial in self._dials:
            dial.connect()

    def make_domain(self) -> None:
        """Read the files of the sslProfile; again after it was updated."""
        tls = self.settings.tls
        if tls is None:
            return
        if tls.ca_file is None and self.settings.verify_hostname:
            raise ConfigError(f"sslProfile {tls.name}", "caCertFile is needed to check the peer's certificate")
        domain = tls_domain(
            tls,
            is_server=False,
            verify_peer=tls.ca_file is not None,
            verify_host=self.settings.verify_hostname,
            allow_plain=False,
        )
        if self._domain is not None:
            free_domain(self._domain)
        self._domain = domain

    def close(self) -> None:
        """Close the connections and try no more."""
        self.is_closed = True
        for dial in self._dials:
            dial.close()
        if self._domain is not None:
            free_domain(self._domain)
            self._domain = None

    @property
    def connection(self) -> Connection | None:
        """The control connection, while there is one."""
        return self._dials[0].connection

    @property
    def domain(self) -> Any:
        """The TLS domain."""
        return self._domain

    @property
    def connections(self) -> AmqpConnections:
        """Maker of connections."""
        return self._connections

    def note_failure(self, dial: _Dial, connection_id: int, condition: tuple[str, str]) -> None:
        """A connection attempt has failed, or a connection was lost with an error."""
        host, port = dial.target
        text = f"Connection to {host}:{port} failed: {condition[0]} {condition[1]}".rstrip()
        if dial is self._dials[0]:
            self.status = "FAILED"
        if text != self.message:
            self.message = text
            logger.error("[C%d] %s", connection_id, text)

    def note_opened(self, dial: _Dial, connection: Connection) -> None:
        """A connection has opened."""
        if dial is not self._dials[0]:
            return
        self.status, self.message = "SUCCESS", ""
        entries = connection.peer.failover
        if entries is not None:
            others = [
                (str(entry["network-host"]), str(entry.get("port", "amqp")))
                for entry in entries
                if isinstance(entry.get("network-host"), str)
            ]
            first = (self.settings.host, self.settings.port)
            self.failover = [first, *[other for other in others if other != first]]


class _Dial:
    """One connection of a connector: attempts, back-off, and the connection while it lasts."""

    def __init__(self, connector: AmqpConnector, role: Role | None) -> None:
        self._connector = connector
        self._router = connector.connections.router
        self._role = role
        self._place = 0
        self._attempts_here = 0
        self._retry_s = FIRST_RETRY_S
        self._timer: Any = None
        self._deadline: Any = None
        self._connecting: Connecting | None = None
        self._resolver: tuple[tuple[str, str], Resolver] | None = None
        self._number = 0
        self._round = 0
        self.connection: Connection | None = None

    @property
    def target(self) -> tuple[str, str]:
        """Host and port being tried."""
        hosts = self._connector.failover
        return hosts[self._place % len(hosts)]

    def connect(self) -> None:
        """Try the present target."""
        self._timer = None
        if self._connector.is_closed or self.connection is not None:
            return
        self._round += 1
        this_round = self._round
        self._number = self._router.next_connection_id()
        self._deadline = self._router.reactor.call_later(CONNECT_TIMEOUT_S, lambda: self._overdue(this_round))
        target = self.target
        if self._resolver is None or self._resolver[0] != target:
            self._resolver = (target, Resolver(self._router.reactor, *target))
        resolver = self._resolver[1]
        known = resolver.known()
        if known is not None:
            self._resolved(this_round, known)
        else:
            resolver.ask(lambda result: self._resolved(this_round, result))

    def _overdue(self, this_round: int) -> None:
        if this_round == self._round and self.connection is None:
            if self._connecting is not None:
                self._connecting.cancel()
            self._resolver = None
            self._failed("Connection timed out")

    def _resolved(self, this_round: int, result: list[Address] | Exception) -> None:
        if this_round != self._round or self._connector.is_closed:
            return
        if isinstance(result, Exception):
            self._failed(str(result.args[-1]) if result.args else str(result))
            return
        targets = of_family(result, self._connector.settings.family)
        if not targets:
            self._failed("no address of the configured family")
            return
        self._connecting = Connecting(self._router.reactor, targets, self)
        self._connecting.start()

    def on_connect_failed(self, error: int) -> None:
        """No address answered."""
        self._failed(os.strerror(error) if error else errno.errorcode.get(error, "failed"))

    def _failed(self, reason: str) -> None:
        self._round += 1
        self._connector.note_failure(self, self._number, ("proton:io", reason))
        self._attempts_here += 1
        self._retry()

    def _retry(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._connector.is_closed:
            return
        hosts = self._connector.failover
        if len(hosts) > 1 and self._attempts_here >= 2:
            self._place = (self._place + 1) % len(hosts)
            self._attempts_here = 0
        delay = self._retry_s * (0.5 + 0.5 * self._connector._random.random())  # one room, two classes
        self._retry_s = min(MAX_RETRY_S, self._retry_s * 2)
        self._timer = self._router.reactor.call_later(delay, self.connect)

    def on_connected(self, sock: socket.socket) -> None:
        """The socket is connected: put AMQP on it."""
        connector = self._connector
        settings = connector.settings
        self._round += 1
        self._deadline.cancel()
        tune(sock, settings.role)
        host, port = self.target
        connection = connector.connections.make(
            sock, settings, connector.domain, is_server=False, host=f"{host}:{port}", role=self._role
        )
        connection.correlator = connector.correlator
        properties = connection.open_properties
        if connector.correlator:
            properties["qd.group-correlator"] = connector.correlator
            if settings.tls is not None:
                connection.ordinal = settings.tls.ordinal
                properties["qd.group-ordinal"] = ULong(connection.ordinal)
        self.connection = connection
        connection.on_opened = lambda: self.opened(connection)
        connection.on_retired = self._retired
        connection.on_closed = lambda condition: self._lost(connection, condition)
        self._deadline = self._router.reactor.call_later(HANDSHAKE_S, lambda: self._handshake_overdue(connection))
        connector.connections.start(connection)

    def _handshake_overdue(self, connection: Connection) -> None:
        if not connection.is_opened and not connection.is_closed:
            connection.engine.drop(("amqp:not-allowed", "Timeout waiting for initial handshake"))

    def opened(self, connection: Connection) -> None:
        """The peer's OPEN has come."""
        self._deadline.cancel()
        self._retry_s = FIRST_RETRY_S
        self._attempts_here = 0
        self._connector.connections.opened(connection)
        self._connector.note_opened(self, connection)

    def _retired(self) -> None:
        """The connection takes no new streams: make the one that follows it."""
        self.connection = None
        self.connect()

    def _lost(self, connection: Connection, condition: tuple[str, str] | None) -> None:
        if self.connection is not connection:
            core_logger.info("[C%d] Connection Closed", connection.id)
            return
        self.connection = None
        core_logger.info("[C%d] Connection Closed", connection.id)
        if not self._connector.is_closed:
            self._connector.status = "CONNECTING"
            if condition is not None and (condition[0] or not connection.is_opened):
                self._connector.note_failure(self, connection.id, condition)
            if not connection.is_opened:
                self._attempts_here += 1
            self._retry()

    def close(self) -> None:
        """Stop trying; close the connection."""
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self.connection is not None:
            self.connection.close()
