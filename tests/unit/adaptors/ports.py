"""An HTTP port in a loop of its own, with answers that a test chooses; clients are plain sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tests.unit.adaptors.streams import Loop, opened
from vanrouter.adaptors.port import Port
from vanrouter.adaptors.port_messages import Reply, Request, plain
from vanrouter.adaptors.port_websocket import WebSocketChannel
from vanrouter.net.listener import Acceptor
from vanrouter.net.tls import Tls


class Answers:
    """Answers with the method and path, unless a test has something else in mind."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.then: Callable[[Request, Reply], object] = lambda request, reply: reply(
            plain(200, f"{request.method} {request.path}")
        )

    def answer(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        self.then(request, reply)


class PortBench:
    """One port on loopback."""

    def __init__(self, loop: Loop, **options: Any) -> None:
        self.loop = loop
        self.answers = Answers()
        self.websockets: list[tuple[WebSocketChannel, Tls | None, str]] = []
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.sock.setblocking(False)

        def begin() -> None:
            self.port = Port(
                loop.reactor,
                self.answers,
                lambda *entry: self.websockets.append(entry),
                wall_clock=lambda: 0.0,
                **options,
            )
            self._acceptor = Acceptor(
                loop.reactor, [self.sock], lambda sock, address: self.port.take(sock, str(address[0]))
            )

        loop.call(begin)
        loop.at_end.append(self._close)

    def _close(self) -> None:
        for channel, _, _ in self.websockets:
            channel.close()
        self._acceptor.close()
        self.port.close()

    def connect(self) -> socket.socket:
        return opened(socket.create_connection(self.sock.getsockname(), 10))

    def say(self, data: bytes) -> bytes:
        """Send octets on a connection of their own; everything that comes back until the port closes it."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def get(self, path: str, *headers: str) -> bytes:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        return self.say("\r\n".join([*lines, "", ""]).encode())


def read_all(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(65536)
        assert part, data
        data += part
    return data
