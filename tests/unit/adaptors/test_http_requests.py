import threading
import time
from typing import Any

import pytest

from tests.unit.adaptors.http_site import GET, OK, Client, HttpSite, Server
from tests.unit.adaptors.streams import Loop, reset
from vanrouter.engine.messages import encode_stream_head

POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


def dropping(times: int) -> Server:
    """Closes the connection at the first requests, unanswered."""
    server = Server()

    def answer(head: bytes) -> bytes:
        return b"" if len(server.heads) <= times else OK

    server.answer = answer
    return server


def test_safe_requests_are_tried_again(loop: Loop) -> None:
    site = HttpSite(loop)
    server = dropping(3)
    connector = site.connect_to(server.port)
    listener = site.listen()
    client = Client(listener.bound_port or 0)
    assert client.send(GET % 1).answer() == (200, b"ok")
    assert len(server.heads) == 4
    assert listener.counts.retried == 3
    assert site.details(listener) == {"GET:200": 1}
    assert site.details(connector) == {"GET:502": 3, "GET:200": 1}


def test_a_body_is_sent_again(loop: Loop) -> None:
    site = HttpSite(loop)
    server = dropping(1)
    site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0)
    for framing in (b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"):
        assert client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + framing).answer() == (200, b"ok")


def test_requests_that_may_have_an_effect_are_not(loop: Loop) -> None:
    site = HttpSite(loop)
    server = dropping(1)
    site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0)
    status, text = client.send(POST % 1).answer()
    assert status == 502
    assert b"lost before it answered" in text
    assert client.send(POST % 2).answer() == (200, b"ok")


def test_nothing_is_tried_again_where_configured(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(dropping(1).port)
    client = Client(site.listen(retry="none").bound_port or 0)
    assert client.send(GET % 1).answer()[0] == 502


def test_a_service_that_never_answers_is_given_up(loop: Loop) -> None:
    site = HttpSite(loop)
    server = dropping(1000)
    site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0)
    assert client.send(GET % 1).answer()[0] == 502
    assert len(server.heads) == 9


class Wayless:
    """A router that has no way for the first requests, although their address is known: a network that comes up."""

    def __init__(self, loop: Loop, times: int) -> None:
        self.left = times
        self._opened = loop.router.open_stream
        loop.router.open_stream = self.open  # type: ignore[method-assign]

    def open(self, to: str, head: bytes, flags: int, producer: Any) -> Any:
        if to != "svc" or not self.left:
            return self._opened(to, head, flags, producer)
        self.left -= 1
        return self._opened("nobody", encode_stream_head("nobody", None, None), flags, producer)


def test_a_way_that_comes_a_moment_later(loop: Loop) -> None:
    """All tries at once would be over before the network has changed."""
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    way = Wayless(loop, 6)
    began = time.monotonic()
    client = Client(listener.bound_port or 0)
    assert client.send(POST % 1).answer() == (200, b"ok"), "nothing has reached a server: any method may be repeated"
    assert not way.left
    assert time.monotonic() - began >= 0.08
    assert site.details(listener) == {"POST:200": 1}


def test_a_way_that_never_comes(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    way = Wayless(loop, 100)
    assert Client(listener.bound_port or 0).send(GET % 1).answer()[0] == 503
    assert way.left == 100 - 9


def test_a_client_that_goes_while_its_request_waits(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    way = Wayless(loop, 100)
    client = Client(listener.bound_port or 0).send(GET % 1)
    loop.wait_for(lambda: way.left <= 96)
    reset(client.sock)
    loop.wait_for(lambda: not listener.connections)
    assert site.details(listener) == {"GET:499": 1}


@pytest.mark.parametrize(("size", "status"), [(60_000, 200), (100_000, 503)])
def test_a_body_that_comes_while_its_request_waits(loop: Loop, size: int, status: int) -> None:
    """It is kept up to a bound."""
    site = HttpSite(loop)
    server = Server(lambda head: OK)
    site.connect_to(server.port)
    listener = site.listen()
    way = Wayless(loop, 5)
    client = Client(listener.bound_port or 0)
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    loop.wait_for(lambda: way.left <= 1)
    client.send(bytes(size))
    assert client.answer()[0] == status


@pytest.mark.parametrize("where", ["listener", "connector"])
def test_504(loop: Loop, where: str) -> None:
    site = HttpSite(loop)
    release = threading.Event()

    def answer(head: bytes) -> bytes:
        release.wait(10)
        return OK

    server = Server(answer)
    limit = {"request_timeout_s": 0.2}
    connector = site.connect_to(server.port, **(limit if where == "connector" else {}))
    listener = site.listen(**(limit if where == "listener" else {}))
    client = Client(listener.bound_port or 0)
    assert client.send(GET % 1).answer()[0] == 504
    release.set()
    server.answer = lambda head: OK
    assert client.send(GET % 2).answer() == (200, b"ok")
    assert site.details(listener) == {"GET:504": 1, "GET:200": 1}
    loop.wait_for(lambda: sum(connector.counts.latency.counts) == 2)


def test_what_is_not_http_is_502(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server(lambda head: b"SSH-2.0-OpenSSH\r\n\r\n").port)
    client = Client(site.listen().bound_port or 0)
    status, text = client.send(GET % 1).answer()
    assert status == 502
    assert b"not HTTP" in text


def test_an_answer_cut_off_is_cut_off_for_the_client(loop: Loop) -> None:
    site = HttpSite(loop)
    connector = site.connect_to(Server(lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").port)
    client = Client(site.listen().bound_port or 0).send(GET % 1)
    assert client.head().startswith(b"HTTP/1.1 200")
    assert client.body(3) == b"abc"
    loop.call(connector.pool.close)
    with pytest.raises(ConnectionResetError):
        client.rest()


def test_the_client_goes_and_the_server_learns_it(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(lambda head: b"HTTP/1.1 100 Continue\r\n\r\n")
    connector = site.connect_to(server.port)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
    client.head()
    client.sock.close()
    loop.wait_for(lambda: not connector.pool.connections)
    assert site.details(listener) == {"PUT:499": 1}
    loop.wait_for(lambda: not listener.connections)


def test_an_upgrade_becomes_a_tunnel(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(
        lambda head: (
            b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhi\r\n\r\n"
            if b"Upgrade: echo" in head
            else head + b"\r\n\r\n"
        )
    )
    connector = site.connect_to(server.port)
    listener = site.listen()
    client = Client(listener.bound_port or 0)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert client.head().startswith(b"HTTP/1.1 101")
    assert client.body(6) == b"hi\r\n\r\n"
    for _ in range(3):
        assert client.send(b"ping\r\n\r\n").body(8) == b"ping\r\n\r\n"
    client.sock.shutdown(1)
    assert client.rest() == b""
    loop.wait_for(lambda: not connector.pool.connections)
    assert site.details(listener) == site.details(connector) == {"GET:101": 1}
    loop.wait_for(lambda: not listener.connections)


def test_large_bodies_both_ways(loop: Loop) -> None:
    site = HttpSite(loop)
    size = 20_000_000
    payload = bytes(range(256)) * (size // 256)
    server = Server(lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)
    site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0).send(GET % 1)
    status, body = client.answer()
    assert status == 200
    assert body == payload


def test_a_request_that_comes_slowly_has_its_time(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(lambda head: b"")
    server.answer = lambda head: b"HTTP/1.1 100 Continue\r\n\r\n"
    site.connect_to(server.port)
    listener = site.listen(request_timeout_s=0.4)
    client = Client(listener.bound_port or 0).send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    assert client.head().startswith(b"HTTP/1.1 100")
    begun = loop.call(lambda: loop.reactor.now)
    for _ in range(8):
        client.send(b"x")
        at = loop.call(lambda: loop.reactor.now)
        loop.wait_for(lambda at=at: loop.reactor.now > at + 0.1)
    assert loop.call(lambda: loop.reactor.now) > begun + 0.8
    assert not site.details(listener)
    assert client.answer()[0] == 504
