"""The HTTP port of a router: who may connect to it, and what all its connections share.

Layer: 4. Source: management.md section 13. What is answered comes from an `Answerer`; AMQP over WebSocket goes to
whoever makes AMQP connections. The port belongs to operators and probes: a crowd of silent clients must not shut these
out, so at the limit the client that has kept us waiting longest goes, not the new one.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable

from vanrouter.adaptors.port_http import PortConnection
from vanrouter.adaptors.port_messages import Answerer
from vanrouter.adaptors.port_websocket import WebSocketChannel
from vanrouter.net.reactor import Reactor
from vanrouter.net.tls import Tls

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
"""Of one port, WebSockets not counted: these are AMQP connections and count as such."""

OnWebSocket = Callable[[WebSocketChannel, Tls | None, str], object]
"""Called with a channel, its TLS session and the address of the client, which was told that it may begin."""


class Port:
    """What the connections of one listener with `http: yes` share.

    Args:
        reactor: the loop.
        answerer: knows the answers.
        on_websocket: takes AMQP clients.
        has_websockets: they are wanted (`websockets`).
        requires_tls: clients without TLS are not (`requireSsl`).
        max_connections: beyond it, who has waited longest without asking is cut.
        wall_clock: seconds since the epoch, for the Date header.
    """

    def __init__(
        self,
        reactor: Reactor,
        answerer: Answerer,
        on_websocket: OnWebSocket,
        *,
        has_websockets: bool = True,
        requires_tls: bool = False,
        max_connections: int = MAX_CONNECTIONS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.reactor = reactor
        self.answerer = answerer
        self.on_websocket = on_websocket
        self.has_websockets = has_websockets
        self.requires_tls = requires_tls
        self.context: ssl.SSLContext | None = None
        """For TLS; None where there is none. May be replaced at any time."""
        self.wall_clock = wall_clock
        self._max_connections = max_connections
        self._idle: dict[PortConnection, None] = {}
        """Those that have asked nothing yet, or nothing more; who has waited longest first."""
        self._busy: dict[PortConnection, None] = {}
        self.responses: Counter[int] = Counter()
        """Answers so far by status."""
        self.refused = 0
        """Requests that could not be understood."""
        self.evicted = 0
        """Connections cut because there were too many."""
        self.handshake_failures = 0

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def take(self, sock: socket.socket, host: str) -> None:
        """Serve a new connection, a non-blocking socket."""
        if len(self) >= self._max_connections:
            self.evicted += 1
            next(iter(self._idle or self._busy)).close()
        connection = PortConnection(self, sock, host)
        self._idle[connection] = None
        connection.start()

    def note_request(self, connection: PortConnection) -> None:
        """A request has begun to be served."""
        self._idle.pop(connection, None)
        self._busy[connection] = None

    def note_idle(self, connection: PortConnection) -> None:
        """An answer has been given."""
        self._busy.pop(connection, None)
        self._idle[connection] = None

    def forget(self, connection: PortConnection) -> None:
        """A connection is over, or is a WebSocket from now on."""
        self._idle.pop(connection, None)
        self._busy.pop(connection, None)

    def count(self, status: int) -> None:
        """Count an answer."""
        self.responses[status] += 1

    def close(self) -> None:
        """End all connections; WebSockets are not among them any more."""
        for connection in [*self._idle, *self._busy]:
            connection.close()
