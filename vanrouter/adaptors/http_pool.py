"""The connections of one connector to its server, kept for the next requests.

Layer: 4. Source: HTTP over AMQP, section 6 (design note B); RFC 9112 section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.adaptors.http_codecs import CLIENT_CODECS
from vanrouter.adaptors.http_config import HTTP2
from vanrouter.adaptors.http_exchange import ClientCodec, Failure, Requester, RequestHead, Responder
from vanrouter.adaptors.http_requests import NOBODY
from vanrouter.adaptors.http_socket import SocketTransport
from vanrouter.net.reactor import Timer

if TYPE_CHECKING:
    from vanrouter.adaptors.http_connector import HttpConnector
    from vanrouter.net.dial import Address

MAX_CONNECTIONS = 4096
"""To one server; a request beyond them is offered to another connector."""

SWEEP_S = 20.0
"""A connection that is idle at two sweeps, without an octet between them, is closed."""


class ServerConnection(SocketTransport):
    """One connection to the server."""

    __slots__ = ("codec_in_pool", "id", "opened_at", "pool", "swept_at_bytes")

    direction = "out"
    protocol = "http1"

    def __init__(self, pool: Pool) -> None:
        connector = pool.connector
        shared = connector.shared
        super().__init__(shared.reactor, shared.wheel, (connector.config.host, connector.config.port))
        self.pool = pool
        self.id = 0
        self.opened_at = shared.reactor.now
        self.swept_at_bytes = -1
        codec_type = CLIENT_CODECS[connector.config.protocol]
        codec: ClientCodec = codec_type(self, pool, connector.config.limits)
        self.codec = self.codec_in_pool = codec
        if connector.tls_context is not None:
            self.secure(connector.tls_context, connector.config.host)

    def on_resolved(self, result: list[Address] | Exception) -> None:
        """The name of the server has been looked up."""
        if self.codec is None:
            return
        if isinstance(result, Exception):
            self.pool.connector.on_unresolvable(result)
            self._lost(is_refused=True)
        else:
            self.connect(result, self.pool.connector.config.connect_timeout_s)

    def on_refused(self, error: int) -> None:
        self.pool.connector.health.flow_refused(error)

    def on_ready(self, alpn: str | None) -> None:
        connector = self.pool.connector
        if self.tls is not None and connector.config.protocol == HTTP2 and alpn != CLIENT_CODECS[HTTP2].alpn:
            connector.handshake_failed(OSError("the server does not speak HTTP/2 (ALPN); set protocolVersion: HTTP1"))
            self._lost(is_refused=True)
            return
        connector.on_opened(self)

    def on_handshake_failed(self, error: OSError) -> None:
        self.pool.connector.handshake_failed(error)

    def on_closed(self) -> None:
        self.pool.forget(self)

    def force_close(self) -> None:
        """Cut by management."""
        self._lost()

    def management_row(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity."""
        return self.pool.connector.connection_row(self)


class Pool:
    """Connections with room for exchanges, last used first; new ones as they are needed."""

    def __init__(self, connector: HttpConnector) -> None:
        self.connector = connector
        self.connections: set[ServerConnection] = set()
        self.ready: dict[ClientCodec, None] = {}
        """Codecs with room; the last was used last."""
        self._sweep: Timer | None = None

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """Send a request on a connection that is there, or on a new one."""
        ready = self.ready
        if not ready:
            return self.begin_on_new(head, requester)
        codec, _ = ready.popitem()
        responder = codec.begin(head, requester)
        if codec.room > 0:
            ready[codec] = None
        return responder

    def begin_on_new(self, head: RequestHead, requester: Requester) -> Responder:
        """Send a request on a new connection."""
        reactor = self.connector.shared.reactor
        if len(self.connections) >= MAX_CONNECTIONS:
            reactor.call_soon(lambda: requester.on_failure(Failure.NO_SERVICE))
            return NOBODY
        connection = ServerConnection(self)
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = reactor.call_later(SWEEP_S, self._close_idle)
        codec = connection.codec_in_pool
        responder = codec.begin(head, requester)
        if codec.room > 0:
            self.ready[codec] = None
        resolver = self.connector.resolver
        known = resolver.known()
        if known is None:
            resolver.ask(connection.on_resolved)
        else:
            connection.connect(known, self.connector.config.connect_timeout_s)
        return responder

    def on_room(self, codec: ClientCodec) -> None:
        """An exchange is over there."""
        if self.connector.is_deleted:
            codec.transport.close()  # type: ignore[attr-defined]  # every codec has the transport it was made with
            self.on_gone(codec)
        else:
            self.ready[codec] = None

    def on_gone(self, codec: ClientCodec) -> None:
        """Nothing begins there any more."""
        self.ready.pop(codec, None)

    def forget(self, connection: ServerConnection) -> None:
        """The connection is closed."""
        self.connections.discard(connection)
        self.ready.pop(connection.codec_in_pool, None)
        self.connector.on_closed(connection)

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        for connection in list(self.connections):
            if getattr(connection.codec_in_pool, "is_idle", False):
                self.on_gone(connection.codec_in_pool)
                connection.close()

    def close(self) -> None:
        """End them all."""
        for connection in list(self.connections):
            connection.force_close()

    def _close_idle(self) -> None:
        self._sweep = None
        for connection in list(self.connections):
            moved = connection.bytes_in + connection.bytes_out
            if moved == connection.swept_at_bytes and getattr(connection.codec_in_pool, "is_idle", False):
                self.on_gone(connection.codec_in_pool)
                connection.close()
            connection.swept_at_bytes = moved
        if self.connections:
            self._sweep = self.connector.shared.reactor.call_later(SWEEP_S, self._close_idle)
