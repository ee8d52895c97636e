"""An httpListener: a port for HTTP clients, and each of their requests on its own way to a service.

Layer: 4. Source: HTTP over AMQP, sections 1 and 6; extensions.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from vanrouter.adaptors.http2_fields import lower
from vanrouter.adaptors.http_aggregation import AggregatedForm
from vanrouter.adaptors.http_codecs import SERVER_CODECS
from vanrouter.adaptors.http_config import ANSWER_503, HTTP2, MESSAGE, HttpListenerConfig
from vanrouter.adaptors.http_events import EventForm
from vanrouter.adaptors.http_exchange import HTTP_2, Failure, Header, Requester, RequestHead, Responder, ServerCodec
from vanrouter.adaptors.http_message_listener import MessageForm
from vanrouter.adaptors.http_requests import NOBODY, RoutedRequest
from vanrouter.adaptors.http_shared import Shared
from vanrouter.adaptors.http_socket import SocketTransport
from vanrouter.adaptors.http_statistics import RequestCounts
from vanrouter.core.flows import ServiceKind, ServiceRecord
from vanrouter.core.stream import (
    Cancellable,
)
from vanrouter.net.dial import Address, literal_addresses, resolve
from vanrouter.net.listener import Acceptor, bind, text_address
from vanrouter.net.tls import TlsFiles, listener_context

logger = logging.getLogger(__name__)
socket_logger = logging.getLogger("vanrouter.net.listener")
"""The C router writes `Listening on` as module SERVER; programs wait for that line."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (RFC 9113, section 3.4)."""

CHECK_S = 15.0
"""How often a client connection is looked at."""
IDLE_CHECKS = 5
"""So many looks at an idle connection without an octet, and it is closed: after 75 s at most."""

DEFAULT_AUTHORITY = b"localhost"
"""Host of a request that names none; `hostOverride` of a connector has the last word."""


class Sniffer:
    """Reads the first octets of a connection in clear text, to learn which HTTP its client speaks."""

    __slots__ = ("_connection", "_held")

    is_idle = True

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._held = b""

    @property
    def is_waiting_for_head(self) -> bool:
        """Whether a part of what tells has come."""
        return bool(self._held)

    def receive(self, data: bytes | memoryview) -> None:
        """Decide, once there is enough, and pass everything on."""
        held = self._held + data
        if len(held) < len(PREFACE) and PREFACE.startswith(held):
            self._held = held
            return
        self._connection.speak("h2" if held.startswith(PREFACE) else "http/1.1")
        codec = self._connection.codec
        if codec is not None:
            codec.receive(held)

    def receive_end(self) -> None:
        """The client has gone without a word."""
        self._connection.close()

    def drain(self) -> None:
        """Close: nothing is in progress."""
        self._connection.close()

    def on_lost(self, is_refused: bool) -> None:
        """The client has gone."""

    def on_writable(self) -> None:
        """Nothing was written."""


class ClientConnection(SocketTransport):
    """One connection of a client, and the handler of its requests."""

    __slots__ = (
        "_counts", "_quiet_checks", "_requests", "_seen", "host", "id", "opened_at", "protocol", "record", "service",
    )  # fmt: skip

    direction = "in"

    def __init__(self, service: HttpListener, remote: Any) -> None:
        shared = service.shared
        super().__init__(shared.reactor, shared.wheel, remote)
        self.service = service
        self.id = 0
        self.opened_at = shared.reactor.now
        self.protocol = "http1"
        self.host, _, port = text_address(remote).rpartition(":")
        recorder = shared.recorder
        self.record = recorder.begin_flow(recorder.next_identity(), service.record, self, self.host, port)
        self._counts = service.counts.peer(self.host)
        self._requests = 0
        self._seen = (0, 0)
        self._quiet_checks = 0
        self.codec = Sniffer(self)

    def on_ready(self, alpn: str | None) -> None:
        if alpn is not None:
            self.speak(alpn)
        self.wheel.schedule(self, CHECK_S)

    def speak(self, protocol: str) -> None:
        """Have the rest read as what the client speaks."""
        codec_type = SERVER_CODECS.get(protocol) or SERVER_CODECS["http/1.1"]
        self.protocol = "http2" if protocol == "h2" else "http1"
        scheme = b"http" if self.tls is None else b"https"
        self.codec = codec_type(self, self, self.service.config.limits, scheme=scheme)

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """Send a request on its way."""
        service = self.service
        self._requests += 1
        if not service.is_reachable:
            service.counts.count(self._counts, head.method, 503, 0.0, 0, 0)
            service.shared.reactor.call_soon(lambda: requester.on_failure(Failure.NO_SERVICE))
            return NOBODY
        if service.config.forwarded_headers:
            add_forwarded(head, self.host)
        if head.authority is None:  # HTTP/1.0; it goes on as HTTP/1.1, and servers refuse that without a host
            head.authority = DEFAULT_AUTHORITY
        request = RoutedRequest(service, head, requester, self._counts)
        if self.record is not None:
            request.record_under(self.record)
        request.begin()
        return request

    # What the record of the connection is written from.

    @property
    def sent(self) -> int:
        """Octets that the client has sent."""
        return self.bytes_in

    @property
    def written(self) -> int:
        """Octets written to the client."""
        return self.bytes_out

    def tell_next(self) -> None:
        """Have the next octets of each direction told to the recorder, once: other reads and writes pay nothing."""
        if self.sock is not None and not self._is_shaking:
            self.recv_into, self.send = self._read_told, self._write_told

    def _read_told(self, buffer: bytearray) -> int:
        assert self.sock is not None
        receive = self.recv_into = self.sock.recv_into if self.tls is None else self.tls.recv_into
        count = receive(buffer)
        self._tell(is_towards_server=True)
        return count

    def _write_told(self, data: bytes | bytearray | memoryview) -> int:
        assert self.sock is not None
        send = self.send = self.sock.send if self.tls is None else self.tls.send
        count = send(data)
        self._tell(is_towards_server=False)
        return count

    def _tell(self, *, is_towards_server: bool) -> None:
        if self.record is not None:
            self.service.shared.recorder.on_octets(self.record, is_towards_server=is_towards_server)

    def on_deadline(self, now: float) -> None:
        """Look whether the client is still there: nothing for long, or a head that never ends."""
        codec: Any = self.codec
        if self._closing or self._is_shaking or codec is None:
            super().on_deadline(now)
            return
        moved = self.bytes_in + self.bytes_out
        seen, self._seen = self._seen, (self._requests, moved)
        self._quiet_checks = self._quiet_checks + 1 if seen[1] == moved else 0
        is_late = codec.is_waiting_for_head and seen[0] == self._requests and self.opened_at + CHECK_S <= now
        if is_late or (codec.is_idle and self._quiet_checks >= IDLE_CHECKS):
            codec.drain()
        else:
            self.wheel.schedule(self, CHECK_S)

    def on_handshake_failed(self, error: OSError) -> None:
        self.service.handshake_failures += 1
        logger.info("[C%d] TLS handshake of %s failed: %s", self.id, self.service.name, error)

    def on_closed(self) -> None:
        self.service.on_closed(self)

    def force_close(self) -> None:
        """Cut by management."""
        self._lost()

    def drain(self) -> None:
        """Close when nothing is in progress any more."""
        codec: ServerCodec | Any = self.codec
        if codec is not None:
            codec.drain()

    def management_row(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity."""
        return connection_row(self, text_address(self.remote))


def add_forwarded(head: RequestHead, host: str) -> None:
    """Add X-Forwarded-For, behind what is there already, and -Proto and -Host where nobody has."""
    present = {field[0].lower() for field in head.headers}
    headers: list[Header] = []
    earlier = b""
    for field in head.headers:
        if field[0].lower() == b"x-forwarded-for":
            earlier += field[1] + b", "
        else:
            headers.append(field)
    added: list[Header] = [(b"X-Forwarded-For", earlier + host.encode())]
    if b"x-forwarded-proto" not in present:
        added.append((b"X-Forwarded-Proto", head.scheme))
    if b"x-forwarded-host" not in present and head.authority:
        added.append((b"X-Forwarded-Host", head.authority))
    head.headers = headers + (lower(added) if head.version == HTTP_2 else added)


def connection_row(connection: Any, host: str) -> dict[str, Any]:
    """Return the attributes of the `connection` entity that connections of clients and servers have in common."""
    local = ""
    if connection.sock is not None:
        try:
            local = text_address(connection.sock.getsockname())
        except OSError:
            local = ""
    return {
        "identity": str(connection.id),
        "name": f"connection/{host}",
        "host": host,
        "localSocket": local,
        "role": "normal",
        "protocol": connection.protocol,
        "dir": connection.direction,
        "container": "HttpAdaptor",
        "isAuthenticated": False,
        "isEncrypted": False,
        "user": "anonymous",
        "ssl": False,
        "opened": True,
        "active": True,
        "adminStatus": "enabled",
        "operStatus": "up",
        "uptimeSeconds": int(connection.reactor.now - connection.opened_at),
        "enableProtocolTrace": False,
        "properties": {"qd.adaptor": "http"},
        **connection.encryption(),
    }


def message_form(shared: Shared, config: HttpListenerConfig, to: str) -> MessageForm:
    """Return how a listener in the message form sends its requests."""
    if config.event_channel:
        return EventForm(shared, config, to)
    if config.aggregation is not None:
        return AggregatedForm(shared, config, to)
    return MessageForm(shared, config, to)


class HttpListener:
    """An httpListener."""

    entity_type = "httpListener"

    def __init__(self, shared: Shared, config: HttpListenerConfig) -> None:
        self.shared = shared
        self.config = config
        self.name = config.name
        self.to = shared.address_prefix + config.address
        self.counts = RequestCounts("in", config.address)
        self.connections: set[ClientConnection] = set()
        self.connections_opened = 0
        self.connections_closed = 0
        self.handshake_failures = 0
        self.connection_msg = ""
        self.bound_port: int | None = None
        self.is_reachable = False
        self._tls = None
        if config.tls is not None:
            self._tls = listener_context(config.tls, config.authenticate_peer, list(SERVER_CODECS))
        self.messages = message_form(shared, config, self.to) if config.form == MESSAGE else None
        protocol = "http2" if config.protocol == HTTP2 else "http1"
        self.record = ServiceRecord(
            ServiceKind.LISTENER, config.name, protocol, config.host, config.port, config.address
        )
        self._acceptor: Acceptor | None = None
        self._watch: Cancellable | None = None
        self._attempt = 0
        self._is_deleted = False

    def start(self) -> None:
        """Watch the address; the port follows."""
        self.shared.recorder.begin_service(self.record)
        self._watch = self.shared.router.watch(self.config.address, self._on_reachable)
        if self.config.when_unreachable == ANSWER_503:
            self._open()

    def _on_reachable(self, is_reachable: bool) -> None:
        self.is_reachable = is_reachable
        if self._is_deleted or self.config.when_unreachable == ANSWER_503:
            return
        if is_reachable:
            self._open()
        else:
            self._close()

    # --- the port -----------------------------------------------------------------------------------------------------

    @property
    def oper_status(self) -> str:
        """`up` while the socket is really listening."""
        return "up" if self._acceptor is not None else "down"

    def _open(self) -> None:
        if self._acceptor is not None:
            return
        self._attempt += 1
        host, port, attempt = self.config.host, self.config.port, self._attempt
        found = literal_addresses(host, port, is_passive=True)
        if found is not None:
            self._listen(found)
            return
        self.shared.reactor.run_in_thread(
            lambda: resolve(host, port, is_passive=True), lambda result: self._on_resolved(attempt, result)
        )

    def _on_resolved(self, attempt: int, result: list[Address] | Exception) -> None:
        if attempt != self._attempt or self._is_deleted:
            return
        if isinstance(result, Exception):
            self._failed(getattr(result, "strerror", None) or str(result))
        else:
            self._listen(result)

    def _listen(self, targets: list[Address]) -> None:
        if self.bound_port is not None:
            # An ephemeral port stays the same when the listener opens again.
            targets = [Address(at.family, (at.address[0], self.bound_port, *at.address[2:])) for at in targets]
        try:
            sockets = bind(targets, self.config.backlog)
        except OSError as error:
            self._failed(f"{os.strerror(error.errno or 0)} - listen on {self.config.host}:{self.config.port}")
            return
        for sock in sockets:  # accepted sockets inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socket_logger.info("Listening on %s (%s)", text_address(sock.getsockname()), self.name)
        self.bound_port = int(sockets[0].getsockname()[1])
        self.connection_msg = ""
        self._acceptor = Acceptor(self.shared.reactor, sockets, self._accepted)

    def _failed(self, reason: str) -> None:
        self.connection_msg = reason
        logger.error("Listener %s: %s", self.name, reason)

    def _close(self) -> None:
        self._attempt += 1
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            socket_logger.info("Stopped listening on %s:%s (%s)", self.config.host, self.config.port, self.name)

    def _accepted(self, sock: socket.socket, remote: Any) -> None:
        connection = ClientConnection(self, remote)
        router = self.shared.router
        connection.id = router.next_connection_id()
        router.connections[connection.id] = connection
        self.connections.add(connection)
        self.connections_opened += 1
        if self._tls is not None:
            connection.secure(self._tls, None)
        connection.take(sock)

    def on_closed(self, connection: ClientConnection) -> None:
        """A client's connection is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.connections_closed += 1
            if connection.record is not None:
                self.shared.recorder.end(connection.record)
            router = self.shared.router
            router.connections.pop(connection.id, None)
            router.trimmer.note_cycle()

    # --- management ---------------------------------------------------------------------------------------------------

    def live_attributes(self) -> dict[str, Any]:
        """Return the attributes that change by themselves."""
        return {
            "operStatus": self.oper_status,
            "connectionsOpened": self.connections_opened,
            "connectionsClosed": self.connections_closed,
        }

    def renewed_tls(self, files: TlsFiles) -> Callable[[], None]:
        """Return what lets new connections use other credentials.

        Raises:
            ConfigError: they are wrong; nothing has changed.
        """
        context = listener_context(files, self.config.authenticate_peer, list(SERVER_CODECS))

        def apply() -> None:
            self._tls = context

        return apply

    def delete(self, drop_connections: bool) -> None:
        """Close the port; connections end with it, or when they are idle."""
        self.shut_down()
        if drop_connections:
            for connection in list(self.connections):
                connection.force_close()

    def shut_down(self) -> None:
        """Stop listening and watching; what has been asked is answered, and idle connections close."""
        self._is_deleted = True
        self._close()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            self.shared.recorder.end_service(self.record)
        for connection in list(self.connections):
            connection.drain()
        if self.messages is not None:
            self.messages.close()
