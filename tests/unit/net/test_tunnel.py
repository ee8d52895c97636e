"""CONNECT by transcript: what the proxy sends, and what becomes of the tunnel."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from vanrouter.net.reactor import Reactor
from vanrouter.net.tunnel import MAX_ANSWER_BYTES, Proxy, Tunnel, request

PROXY = Proxy(host="proxy", port="3128")


class Owner:
    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.reason: str | None = None

    def on_tunnel(self, sock: socket.socket) -> None:
        self.sock = sock

    def on_tunnel_failed(self, reason: str) -> None:
        self.reason = reason


class Case:
    def __init__(self) -> None:
        self.reactor = Reactor()
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.owner = Owner()
        self.tunnel = Tunnel(self.reactor, self.near, PROXY, "server", "5671", self.owner)
        self.tunnel.start()
        assert self.far.recv(4096) == b"CONNECT server:5671 HTTP/1.1\r\nHost: server:5671\r\n\r\n"

    def answer(self, octets: bytes) -> Owner:
        self.far.sendall(octets)
        for _ in range(4):
            self.reactor.run_once(0)
        return self.owner


@pytest.fixture
def case() -> Iterator[Case]:
    found = Case()
    yield found
    found.near.close()
    found.far.close()
    found.reactor.close()


def test_the_way_is_free_and_what_follows_is_left(case: Case) -> None:
    owner = case.answer(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nAMQP")
    assert owner.sock is case.near
    assert owner.sock.recv(100) == b"AMQP"
    assert owner.reason is None


def test_an_answer_octet_by_octet(case: Case) -> None:
    octets = b"HTTP/1.0 200 OK\r\n\r\nrest"
    for place in range(len(octets)):
        case.answer(octets[place : place + 1])
    assert case.owner.sock is case.near
    assert case.near.recv(100) == b"rest"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy answered 407 Proxy Authentication Required"),
        (b"HTTP/1.1 503 \r\n\r\n", "proxy answered 503 "),
        (b"SSH-2.0-x\r\n\r\n", "proxy: no HTTP"),
        (b"x" * MAX_ANSWER_BYTES, "proxy: answer too long"),
    ],
)
def test_refusals(case: Case, octets: bytes, reason: str) -> None:
    owner = case.answer(octets)
    assert (owner.sock, owner.reason) == (None, reason)
    assert case.near.fileno() == -1


def test_the_proxy_goes_away(case: Case) -> None:
    case.far.close()
    for _ in range(3):
        case.reactor.run_once(0)
    assert case.owner.reason == "proxy closed the connection"


def test_cancelled(case: Case) -> None:
    case.tunnel.cancel()
    case.tunnel.cancel()
    owner = case.answer(b"")
    assert (owner.sock, owner.reason, case.near.fileno()) == (None, None, -1)


def test_credentials_and_literals() -> None:
    proxy = Proxy(host="p", port="1", username="user", password="secret")
    octets = request(proxy, "::1", "5671")
    assert octets.startswith(b"CONNECT [::1]:5671 HTTP/1.1\r\nHost: [::1]:5671\r\n")
    assert b"\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in octets
    assert "secret" not in repr(proxy)
