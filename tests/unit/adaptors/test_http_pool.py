import threading

import pytest

from tests.unit.adaptors.http_site import GET, OK, Client, HttpSite, Server
from tests.unit.adaptors.streams import Loop
from vanrouter.adaptors import http_pool


def test_connections_are_used_again_and_only_as_many_as_needed(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server()
    connector = site.connect_to(server.port)
    listener = site.listen()
    clients = [Client(listener.bound_port or 0) for _ in range(5)]
    for _ in range(10):
        for client in clients:
            assert client.send(GET % 1).answer() == (200, b"ok")
    assert server.connections == 1
    together = threading.Barrier(5)

    def answer(head: bytes) -> bytes:
        together.wait(10)
        return OK

    server.answer = answer
    for client in clients:
        client.send(GET % 2)
    assert [client.answer() for client in clients] == [(200, b"ok")] * 5
    assert server.connections == len(connector.pool.connections) == len(connector.pool.ready) == 5


def test_the_server_closes_after_each_answer(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(lambda head: OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
    connector = site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0)
    for _ in range(5):
        assert client.send(GET % 1).answer() == (200, b"ok")
    assert server.connections == 5
    server.close()
    loop.wait_for(lambda: not connector.pool.connections)
    assert connector.live_attributes()["connectionsClosed"] == 5


def test_idle_connections_go(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "SWEEP_S", 0.02)
    site = HttpSite(loop)
    connector = site.connect_to(Server().port)
    client = Client(site.listen().bound_port or 0)
    assert client.send(GET % 1).answer() == (200, b"ok")
    loop.wait_for(lambda: not connector.pool.connections)
    assert not connector.pool.ready
    assert client.send(GET % 1).answer() == (200, b"ok")


def test_connections_are_bounded(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "MAX_CONNECTIONS", 1)
    site = HttpSite(loop)
    server = Server(lambda head: b"HTTP/1.1 100 Continue\r\n\r\n")
    site.connect_to(server.port)
    listener = site.listen()
    first = Client(listener.bound_port or 0).send(GET % 1)
    assert first.head().startswith(b"HTTP/1.1 100")
    second = Client(listener.bound_port or 0).send(GET % 2)
    assert second.answer()[0] == 503


def test_an_idle_connection_that_the_server_has_closed_is_no_trouble(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server()
    connector = site.connect_to(server.port)
    client = Client(site.listen().bound_port or 0)
    assert client.send(GET % 1).answer() == (200, b"ok")
    for sock in list(server._open):
        sock.shutdown(2)
    loop.wait_for(lambda: not connector.pool.connections)
    assert client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").answer() == (200, b"ok")


def test_a_name_that_nobody_knows(loop: Loop) -> None:
    site = HttpSite(loop)
    connector = site.connect_to(1, host="nowhere.invalid")
    client = Client(site.listen(when_unreachable="503").bound_port or 0)
    assert client.send(GET % 1).answer()[0] == 503
    assert connector.health.last_error


def test_cut_by_management(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(lambda head: b"HTTP/1.1 100 Continue\r\n\r\n")
    connector = site.connect_to(server.port)
    client = Client(site.listen(retry="none").bound_port or 0).send(GET % 1)
    client.head()
    loop.call(lambda: next(iter(connector.pool.connections)).force_close())
    assert client.answer()[0] == 502
