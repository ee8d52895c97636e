"""A way through an HTTP proxy: CONNECT on a connected socket, and the proxy's answer.

Layer: 2. Source: RFC 9110, section 9.3.6 (CONNECT), RFC 7617 (basic authentication). What follows the answer is left on
the socket for whoever gets it.
"""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass, field
from typing import Protocol

from vanrouter.net.reactor import IN, Reactor

MAX_ANSWER_BYTES = 16384
"""A proxy whose answer is longer is given up."""

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy and who we are to it."""

    host: str
    port: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class TunnelOwner(Protocol):
    """Who wants the tunnel."""

    def on_tunnel(self, sock: socket.socket) -> None:
        """The proxy has connected; the owner has to close the socket."""

    def on_tunnel_failed(self, reason: str) -> None:
        """It has not; the socket is closed."""


def request(proxy: Proxy, host: str, port: str) -> bytes:
    """Return the request for a way to a server."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.username is not None:
        credentials = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Tunnel:
    """One CONNECT."""

    __slots__ = ("_answer", "_owner", "_reactor", "_request", "_sock")

    def __init__(
        self, reactor: Reactor, sock: socket.socket, proxy: Proxy, host: str, port: str, owner: TunnelOwner
    ) -> None:
        self._reactor = reactor
        self._sock: socket.socket | None = sock
        self._owner = owner
        self._answer = b""
        self._request = request(proxy, host, port)

    def start(self) -> None:
        """Ask; the owner is told later."""
        sock = self._sock
        assert sock is not None
        self._reactor.register(sock.fileno(), self._on_ready, IN)
        try:
            sent = sock.send(self._request)  # the first octets on this socket: its buffer takes them all
        except OSError as error:
            self._fail(error.strerror or "failed")
            return
        if sent < len(self._request):
            self._fail("proxy: request not taken")

    def cancel(self) -> None:
        """Give up; the owner is not told."""
        sock = self._release()
        if sock is not None:
            self._reactor.call_soon(sock.close)

    def _release(self) -> socket.socket | None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._reactor.unregister(sock.fileno())
        return sock

    def _fail(self, reason: str) -> None:
        self.cancel()
        owner = self._owner
        self._reactor.call_soon(lambda: owner.on_tunnel_failed(reason))

    def _on_ready(self, _mask: int) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            seen = sock.recv(MAX_ANSWER_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or "failed")
            return
        if not seen:
            self._fail("proxy closed the connection")
            return
        before = len(self._answer)
        end = (self._answer + seen).find(_END)
        taken = len(seen) if end < 0 else end + len(_END) - before
        self._answer += sock.recv(taken)
        if end >= 0:
            self._on_answer(sock)
        elif len(self._answer) >= MAX_ANSWER_BYTES:
            self._fail("proxy: answer too long")

    def _on_answer(self, sock: socket.socket) -> None:
        status = self._answer.split(b"\r\n", 1)[0].decode("latin-1")
        version, _, rest = status.partition(" ")
        if not version.startswith("HTTP/1.") or not rest.startswith("2"):
            self._fail(f"proxy answered {rest[:80]}" if rest else "proxy: no HTTP")
            return
        self._release()
        self._owner.on_tunnel(sock)
