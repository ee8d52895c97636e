"""HTTP services in one loop: listeners and connectors; clients and servers are the test's blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from tests.unit.adaptors.streams import Loop, connected, listening, opened
from vanrouter.adaptors.http_config import HttpConnectorConfig, HttpListenerConfig
from vanrouter.adaptors.http_connector import HttpConnector
from vanrouter.adaptors.http_listener import HttpListener
from vanrouter.adaptors.http_shared import Shared
from vanrouter.core.flows import FlowRecorder

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    """Answers each request with what `answer(head)` returns; an empty answer closes the connection."""

    def __init__(self, answer: Callable[[bytes], bytes] = lambda head: OK) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.connections = 0
        self.listening = listening()
        self.port = self.listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock = opened(self.listening.accept()[0])
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        held = b""
        with sock:
            while True:
                while b"\r\n\r\n" not in held:
                    try:
                        piece = sock.recv(65536)
                    except OSError:
                        return
                    if not piece:
                        return
                    held += piece
                head, _, held = held.partition(b"\r\n\r\n")
                self.heads.append(head)
                answer = self.answer(head)
                if not answer:
                    return
                with contextlib.suppress(OSError):
                    sock.sendall(answer)

    def close(self) -> None:
        """Stop listening, and cut what is open."""
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class HttpSite:
    def __init__(self, loop: Loop, recorder: FlowRecorder | None = None) -> None:
        self.loop = loop
        self.router = loop.router
        self.shared: Shared = loop.call(lambda: Shared(loop.router, recorder=recorder))
        self.services: list[HttpListener | HttpConnector] = []
        loop.at_end.append(self.close)

    def listen(self, **more: Any) -> HttpListener:
        settings = {"name": "l", "host": "127.0.0.1", "port": "0", "address": "svc", **more}
        listener: HttpListener = self.loop.call(lambda: HttpListener(self.shared, HttpListenerConfig(**settings)))
        self.services.append(listener)
        self.loop.call(listener.start)
        return listener

    def connect_to(self, port: int, **more: Any) -> HttpConnector:
        settings = {"name": "c", "address": "svc", "port": str(port), **more}
        connector: HttpConnector = self.loop.call(lambda: HttpConnector(self.shared, HttpConnectorConfig(**settings)))
        self.services.append(connector)
        self.loop.call(connector.start)
        return connector

    def close(self) -> None:
        for service in self.services:
            service.delete(True)

    def details(self, service: HttpListener | HttpConnector) -> dict[str, int]:
        """What a service has counted, by method and status, of all peers."""
        found: dict[str, int] = {}
        for row in self.loop.call(lambda: list(service.counts.rows())):
            for name, count in row["details"].items():
                found[name] = found.get(name, 0) + count
        return found


class Client:
    """A blocking client of one connection."""

    def __init__(self, port: int) -> None:
        self.sock = connected(port)
        self.held = b""

    def send(self, data: bytes) -> Client:
        self.sock.sendall(data)
        return self

    def head(self) -> bytes:
        """Receive the head of an answer."""
        while b"\r\n\r\n" not in self.held:
            piece = self.sock.recv(65536)
            assert piece, f"end of file after {self.held!r}"
            self.held += piece
        head, _, self.held = self.held.partition(b"\r\n\r\n")
        return head

    def body(self, length: int) -> bytes:
        while len(self.held) < length:
            piece = self.sock.recv(65536)
            assert piece, f"end of file after {self.held!r}"
            self.held += piece
        body, self.held = self.held[:length], self.held[length:]
        return body

    def answer(self) -> tuple[int, bytes]:
        """Receive an answer with a body of known length."""
        head = self.head()
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return int(head.split()[1]), self.body(length)

    def rest(self) -> bytes:
        """Receive until the end."""
        while piece := self.sock.recv(65536):
            self.held += piece
        return self.held


class FakeProducer:
    """Keeps what a consumer answers."""

    def __init__(self) -> None:
        self.outcomes: list[int] = []
        self.reports: list[int] = []
        self.resumed = 0

    def outcome(self, state: int, settled: bool) -> None:
        self.outcomes.append(state)

    def received(self, total: int) -> None:
        self.reports.append(total)

    def writable(self) -> None:
        self.resumed += 1
