"""AMQP listeners, and what they share with connectors: sockets with TLS, SASL and an OPEN, given to the core.

Layer: 4. Source: router protocol, sections 1.2 to 1.5 and 1.8; management.md section 8 (listener, connector).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from vanrouter import __version__
from vanrouter.adaptors.amqp_header import FirstOctets
from vanrouter.core.connection import Connection
from vanrouter.core.message_log import MessageLog
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
from vanrouter.engine import proton, trace
from vanrouter.engine.connection import Channel, EngineConnection
from vanrouter.engine.sections import Int
from vanrouter.engine.security import (
    PeerSecurity,
    TlsProfile,
    free_domain,
    peer_security,
    start_sasl,
    start_tls,
    tls_domain,
)
from vanrouter.net.dial import Address, literal_addresses, resolve
from vanrouter.net.listener import Acceptor, bind, text_address
from vanrouter.net.tunnel import Proxy

logger = logging.getLogger("vanrouter.engine.connection")
core_logger = logging.getLogger("vanrouter.core")
policy_logger = logging.getLogger("vanrouter.policy")
config_logger = logging.getLogger("vanrouter.connections")

PRODUCT = "skupper-router"
"""Not checked by anybody, but shown; peers and tools know this word (router protocol, section 1.4)."""

ROUTER_FRAME_BYTES = 65536
"""Largest frame on inter-router roles between vanrouters; C routers offer less and so bound it (extensions)."""

NOTSENT_LOWAT_BYTES = 128 * 1024
"""Octets that the kernel holds unsent on router connections, so that bulk does not fill it ahead of hellos."""

TCP_RTO_MAX_MS = 44
"""Option of Linux 6.15 and later that the socket module has no name for."""

RETRANSMIT_MS = 3000
"""What a router has not acknowledged is sent again at least so often: after a cut the kernel's own distance, doubled
each time, would leave a connection silent for as long again as the cut lasted. More than a round trip by satellite."""

NOT_LISTENING = "Cannot listen on %s:%s: %s; delete the listener and create it again when that is mended"

HANDSHAKE_S = 30.0
"""A peer of a listener that has not opened by then is cut, unless the listener says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterTls:
    """TLS that ends before the engine, under a WebSocket. `user`: of the client's certificate, None without one."""

    protocol: str | None
    cipher: str | None
    user: str | None


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
    policy_vhost: str = ""
    message_components: frozenset[str] = frozenset()
    """Properties of messages that are logged."""
    sasl_config_dir: str | None = None
    sasl_config_name: str | None = None
    # Listeners.
    authenticate_peer: bool = False
    require_encryption: bool = False
    require_tls: bool = False
    handshake_timeout_s: int = 0
    failover_urls: tuple[dict[str, str], ...] = ()
    outer_tls: OuterTls | None = None
    # Connectors.
    verify_hostname: bool = True
    sasl_username: str | None = None
    sasl_password: str | None = None
    data_connections: int = 0
    proxy: Proxy | None = None

    def __repr__(self) -> str:
        return f"AmqpSettings({self.name!r}, {self.host}:{self.port}, {self.role.value})"

    @property
    def endpoint(self) -> str:
        """`host:port` as configured."""
        return f"{self.host}:{self.port}"


def of_family(found: list[Address], family: str | None) -> list[Address]:
    """Keep the addresses of a family (`IPv4`, `IPv6`, None for both)."""
    wanted = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(family or "")
    return found if wanted is None else [address for address in found if address.family == wanted]


class Gate(Protocol):
    """Lets connections in by policy."""

    def admit(self, connection: Connection, settings: AmqpSettings, user: str | None) -> bool:
        """Judge a connection whose OPEN has come; one that is refused gets its CLOSE here."""


GOVERNED_OUT = frozenset((Role.NORMAL, Role.ROUTE_CONTAINER, Role.INTER_NETWORK))
"""Roles of connectors that `policyVhost` governs (management.md section 15)."""


class AmqpConnections:
    """Makes connections of sockets: what listeners and connectors share."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.max_connections = 65535
        self.max_handshakes = 4096
        self.refused = 0
        self.handshakes_refused = 0
        """Connections refused by these limits."""
        self.processed = 0
        """Connections that came to a listener."""
        self.accepted: set[Connection] = set()
        """Connections of all listeners that are open."""
        self.opening: set[Connection] = set()
        """Those whose OPEN has not come yet."""
        self.gate: Gate | None = None
        """Judges connections; None while there are no vhost rules."""

    def make(
        self, sock: Any, settings: AmqpSettings, domain: Any, *, is_server: bool, host: str, role: Role | None = None
    ) -> Connection:
        """Put the engine and the core on a connected socket; nothing runs before `start`."""
        router = self.router
        connection = Connection(router, role or settings.role, is_outbound=not is_server)
        engine = EngineConnection(router.reactor, sock, connection, is_server=is_server)
        connection.attach_engine(engine)
        engine.comes_first = connection.is_router
        engine.can_wait = connection.role is Role.NORMAL
        engine.reads_less = engine.can_wait and isinstance(sock, socket.socket)
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
        if settings.message_components:
            connection.log_messages(MessageLog(settings.message_components))
        if trace.is_wanted():
            trace.start(transport, connection.id)
        self._secure(connection, settings, domain, is_server=is_server)
        self._fill_open(connection, settings, is_server=is_server)
        if self.gate is not None and self._is_governed(settings, is_server=is_server):
            connection.admit = partial(self._admit, self.gate, connection)
        router.add_connection(connection)
        return connection

    @staticmethod
    def _is_governed(settings: AmqpSettings, *, is_server: bool) -> bool:
        """Tell whether vhost rules hold for a connection (management.md section 15)."""
        if is_server:
            return settings.role is not Role.INTER_ROUTER
        return bool(settings.policy_vhost) and settings.role in GOVERNED_OUT

    def _admit(self, gate: Gate, connection: Connection) -> bool:
        return gate.admit(connection, connection.settings, self.identify(connection).user)

    def _secure(self, connection: Connection, settings: AmqpSettings, domain: Any, *, is_server: bool) -> None:
        engine = connection.engine
        if is_server:
            proton.transport_require_auth(engine.transport, settings.authenticate_peer)
            engine.requires_auth = settings.authenticate_peer
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
        if role.is_router:
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
        engine = connection.engine
        if connection.is_outbound:
            proton.connection_open(engine.connection)
        else:
            engine.channel = FirstOctets(engine)
        engine.start()

    def identify(self, connection: Connection) -> PeerSecurity:
        """Note what the handshakes have shown."""
        if connection.security is not None:
            return connection.security
        settings: AmqpSettings = connection.settings
        security = connection.security = peer_security(
            connection.engine.transport,
            has_tls=settings.tls is not None,
            has_sasl=True,
            uid_format=None if settings.tls is None else settings.tls.uid_format,
        )
        outer = settings.outer_tls
        if outer is not None:
            security = connection.security = replace(
                security,
                is_authenticated=security.is_authenticated or outer.user is not None,
                is_encrypted=True,
                user=outer.user or security.user,
                tls_protocol=outer.protocol,
                tls_cipher=outer.cipher,
            )
        name = None if settings.tls is None or security.user is None else settings.tls.names.get(security.user)
        if name is not None:
            security = connection.security = replace(security, user=name)
        return security

    def opened(self, connection: Connection) -> PeerSecurity:
        """Note and log what the handshakes have shown."""
        security = self.identify(connection)
        core_logger.info("[C%d] %s", connection.id, opened_text(connection, security))
        return security


def opened_text(connection: Connection, security: PeerSecurity) -> str:
    """Return what the log, and a connector's `connectionMsg`, say of an open connection."""
    return (
        f"Connection Opened: dir={'out' if connection.is_outbound else 'in'} host={connection.host} "
        f"encrypted={security.tls_protocol or 'no'} auth={security.mechanism or 'no'} "
        f"user={security.user or 'anonymous'} container_id={connection.peer.container} "
        f"props={connection.peer.properties}"
    )


def tune(sock: socket.socket, settings: AmqpSettings) -> None:
    """Set the options of a socket."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.role.is_router:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.idle_timeout_s * 1000)
            with contextlib.suppress(OSError):  # a kernel older than 6.15
                sock.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, RETRANSMIT_MS)


def wants_certificate(settings: AmqpSettings) -> bool:
    """Tell whether clients must show one: always with EXTERNAL; clients of other mechanisms prove who they are."""
    if settings.sasl_mechanisms is None:
        return settings.authenticate_peer and settings.tls is not None and settings.tls.ca_file is not None
    return "EXTERNAL" in settings.sasl_mechanisms.upper().split()


class AmqpListener:
    """A listener entity."""

    def __init__(self, connections: AmqpConnections, settings: AmqpSettings) -> None:
        self._connections = connections
        self._router = connections.router
        self.settings = settings
        self._acceptor: Acceptor | None = None
        self._is_closed = False
        self._domain: Any = None
        self.access_id = ""
        """Identity of its ROUTER_ACCESS record, told to who connects (vanflow, section 7)."""
        self.linked: set[Connection] = set()
        """Open connections, those for data left out."""

    def open(self) -> None:
        """Bind and listen: at once, or once a name has been looked up beside the loop.

        Before the loop runs there is nobody that a name server could hold up, and the start has to know.

        Raises:
            ConfigError: a file of the sslProfile cannot be used.
            OSError: the address cannot be bound, or is a name that is not known; while the loop runs, what becomes of
                a name that name servers know is for the log.
        """
        settings, reactor = self.settings, self._router.reactor
        self._use_domain(self._new_domain(settings))
        question = partial(resolve, settings.host, settings.port, is_passive=True)
        found = literal_addresses(settings.host, settings.port, is_passive=True)
        if found is None and reactor.is_running:
            reactor.run_in_thread(question, self._on_resolved)
        else:
            self._listen(question() if found is None else found)

    def _on_resolved(self, result: list[Address] | Exception) -> None:
        """The name has been looked up."""
        if self._is_closed:
            return
        try:
            if isinstance(result, Exception):
                raise result
            self._listen(result)
        except OSError as error:
            logger.error(NOT_LISTENING, self.settings.host, self.settings.port, error.strerror or error)

    def _listen(self, found: list[Address]) -> None:
        settings = self.settings
        targets = of_family(found, settings.family)
        if not targets:
            raise OSError(errno.EAFNOSUPPORT, f"it has no address of the family {settings.family}")
        self._acceptor = Acceptor(self._router.reactor, bind(targets), self._taken)
        self._announce(f"{settings.host}:{self._acceptor.port}", f" ({settings.name})" if settings.name else "")

    def _announce(self, endpoint: str, name: str) -> None:
        """Say which port it became: programs that gave port 0 read it here."""
        logger.info("Listening on %s%s", endpoint, name)

    def _new_domain(self, settings: AmqpSettings) -> Any:
        if settings.tls is None:
            return None
        return tls_domain(
            settings.tls,
            is_server=True,
            verify_peer=wants_certificate(settings),
            verify_host=False,
            allow_plain=not settings.require_tls and not settings.role.is_router,
        )

    def _use_domain(self, domain: Any) -> None:
        if self._domain is not None:
            free_domain(self._domain)
        self._domain = domain

    def renewed(self, settings: AmqpSettings) -> Callable[[], None]:
        """Return what puts other settings, credentials among them, in force for connections from then on.

        Raises:
            ConfigError: a file of the sslProfile cannot be used; nothing has changed.
        """
        domain = self._new_domain(settings)

        def apply() -> None:
            self.settings = settings
            self._use_domain(domain)

        return apply

    @property
    def is_listening(self) -> bool:
        """Whether the port is really open."""
        return self._acceptor is not None

    def _taken(self, sock: socket.socket, address: Any) -> None:
        tune(sock, self.settings)
        self._serve(sock, self.settings, self._domain, text_address(address))

    def _serve(self, channel: Channel, settings: AmqpSettings, domain: Any, host: str) -> Connection | None:
        """Begin AMQP with a client, unless there are too many; the channel is the connection's from now on."""
        connections = self._connections
        count = len(connections.accepted)
        connections.processed += 1
        if count >= connections.max_connections or len(connections.opening) >= connections.max_handshakes:
            if count >= connections.max_connections:
                connections.refused += 1
            else:
                connections.handshakes_refused += 1
            policy_logger.info("DENY Connection '%s' based on global connection count. nConnections= %d", host, count)
            channel.close()
            return None
        policy_logger.debug("ALLOW Connection '%s' based on global connection count. nConnections= %d", host, count + 1)
        connection = connections.make(channel, settings, domain, is_server=True, host=host)
        logger.info("[C%d] Accepted connection to %s from %s", connection.id, settings.endpoint, host)
        if self.access_id:
            connection.open_properties["qd.access-id"] = self.access_id
        connections.accepted.add(connection)
        connections.opening.add(connection)
        timeout = settings.handshake_timeout_s or HANDSHAKE_S
        timer = self._router.reactor.call_later(timeout, lambda: self._overdue(connection))
        connection.on_opened = lambda: self._opened(connection, timer)
        connection.on_closed = lambda condition: self._closed(connection, timer, condition)
        connections.start(connection)
        return connection

    def _opened(self, connection: Connection, timer: Any) -> None:
        timer.cancel()
        self._connections.opening.discard(connection)
        self._connections.opened(connection)
        if connection.role is not Role.INTER_ROUTER_DATA:
            self.linked.add(connection)

    def _overdue(self, connection: Connection) -> None:
        if not connection.is_opened and not connection.is_closed:
            connection.engine.drop(("amqp:not-allowed", "Timeout waiting for initial handshake"))

    def _closed(self, connection: Connection, timer: Any, condition: tuple[str, str] | None) -> None:
        timer.cancel()
        self._connections.opening.discard(connection)
        self._connections.accepted.discard(connection)
        self.linked.discard(connection)
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
        self._is_closed = True
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self._use_domain(None)
