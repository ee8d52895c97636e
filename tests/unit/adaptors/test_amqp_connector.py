"""Connectors against real listeners on loopback: attempts, proxies, renewed credentials."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from tests.unit.core.engines import World
from tests.unit.core.engines import world as make_world
from vanrouter.adaptors.amqp import AmqpConnections, AmqpListener, AmqpSettings
from vanrouter.adaptors.amqp_connector import CONNECT_TIMEOUT_S, SILENT_HELLO_AGES, AmqpConnector
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.net.dial import Address, Resolver
from vanrouter.net.tunnel import Proxy


class Pair:
    """Two interior routers, one with a listener, one with a connector to it."""

    def __init__(self, world: World, idle_timeout_s: int = 0) -> None:
        self.world = world
        self.near: Router = world.interior("N")
        self.far: Router = world.interior("F")
        self.listener = AmqpListener(
            AmqpConnections(self.far),
            AmqpSettings(name="l", host="127.0.0.1", port="0", role=Role.INTER_ROUTER, idle_timeout_s=idle_timeout_s),
        )
        self.listener.open()
        assert self.listener._acceptor is not None
        self.port = self.listener._acceptor.port
        self.settings = AmqpSettings(
            name="c",
            host="127.0.0.1",
            port=str(self.port),
            role=Role.INTER_ROUTER,
            data_connections=1,
            idle_timeout_s=idle_timeout_s,
        )

    def connector(self, settings: AmqpSettings | None = None) -> AmqpConnector:
        self.made = AmqpConnector(AmqpConnections(self.near), settings or self.settings, Random(1))
        self.made.open()
        self.world.settle()
        return self.made

    @property
    def is_linked(self) -> bool:
        return "F" in self.near.nodes and "N" in self.far.nodes

    def close(self) -> None:
        self.made.close()
        self.listener.close()
        self.world.settle()
        for router in (self.near, self.far):
            for connection in list(router.amqp_connections.values()):
                connection.engine.drop(None)
        self.world.settle()


@pytest.fixture
def world() -> Iterator[World]:
    with make_world() as here:
        yield here


@pytest.fixture
def pair(world: World) -> Iterator[Pair]:
    found = Pair(world)
    yield found
    found.close()


def test_control_and_data_connections(world: World, pair: Pair) -> None:
    connector = pair.connector()
    world.until(lambda: pair.is_linked)
    assert connector.status == "SUCCESS"
    assert connector.connection is not None
    assert len(pair.near.amqp_connections) == 2
    world.until(lambda: connector.connection is not None and len(connector.connection.trunks) == 1)


def test_it_comes_back(world: World, pair: Pair) -> None:
    connector = pair.connector()
    world.until(lambda: pair.is_linked)
    first = connector.connection
    assert first is not None
    first.engine.drop(("proton:io", "cut"))
    assert connector.connection is not first
    world.until(lambda: connector.connection is not None and connector.connection.control_out is not None)
    assert connector.status == "SUCCESS"


def test_nobody_listens(world: World, pair: Pair) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        connector = pair.connector(replace(pair.settings, port=str(taken.getsockname()[1])))
        world.advance(3)
        assert connector.status == "CONNECTING"
        assert "Connection refused" in connector.message


class FakeProxy:
    """Takes a connection, reads the request; the test answers."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.settings = Proxy(host="127.0.0.1", port=str(self.socket.getsockname()[1]), username="u", password="p")

    def request(self) -> tuple[socket.socket, bytes]:
        taken, _ = self.socket.accept()
        taken.settimeout(5)
        return taken, taken.recv(4096)


@pytest.fixture
def proxy() -> Iterator[FakeProxy]:
    found = FakeProxy()
    yield found
    found.socket.close()


def test_through_a_proxy(world: World, pair: Pair, proxy: FakeProxy) -> None:
    connector = pair.connector(replace(pair.settings, data_connections=0, proxy=proxy.settings))
    taken, asked = proxy.request()
    assert asked.startswith(f"CONNECT 127.0.0.1:{pair.port} HTTP/1.1\r\n".encode())
    taken.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    world.until(lambda: connector.connection is not None, 1)
    assert taken.recv(8)[:4] == b"AMQP"
    taken.close()
    world.until(lambda: connector.connection is None, 5)


def test_the_proxy_refuses(world: World, pair: Pair, proxy: FakeProxy) -> None:
    connector = pair.connector(replace(pair.settings, data_connections=0, proxy=proxy.settings))
    taken, _ = proxy.request()
    taken.sendall(b"HTTP/1.1 403 No\r\n\r\n")
    world.advance(0.01)
    assert "proxy answered 403 No" in connector.message
    taken.close()
    world.advance(1)
    again, _ = proxy.request()
    again.close()


def test_the_proxy_is_silent(world: World, pair: Pair, proxy: FakeProxy) -> None:
    connector = pair.connector(replace(pair.settings, data_connections=0, proxy=proxy.settings))
    taken, _ = proxy.request()
    world.advance(CONNECT_TIMEOUT_S + 0.1)
    assert "timed out" in connector.message
    assert taken.recv(1) == b""
    taken.close()


def test_settings_of_the_same_ordinal_wait_for_the_next_connection(world: World, pair: Pair) -> None:
    connector = pair.connector()
    world.until(lambda: pair.is_linked)
    before = connector.connection
    connector.renewed(replace(pair.settings, cost=4))()
    world.settle()
    assert connector.connection is before
    assert connector.settings.cost == 4


def hush(world: World, router: Router) -> None:
    """What a cut does: nothing of this router's connections is heard any more, and nobody is told."""
    for connection in router.amqp_connections.values():
        world.reactor.modify(connection.engine.fd, 0)
        connection.engine.blocked = True


def test_a_silent_group_is_made_anew_and_takes_the_place_of_the_dead(world: World, pair: Pair) -> None:
    connector = pair.connector()
    world.until(lambda: pair.is_linked and connector.connection is not None and connector.connection.trunks)
    first = connector.connection
    dead = list(pair.far.amqp_connections.values())
    hush(world, pair.near)
    hush(world, pair.far)
    age_s = pair.near.control.plane.settings.hello_max_age_s
    world.advance(SILENT_HELLO_AGES * age_s + 0.5)
    assert connector.connection is not first
    world.until(lambda: pair.is_linked and connector.connection is not None and connector.connection.trunks, 3)
    live = list(pair.far.amqp_connections.values())
    assert len(live) == 2
    assert not set(live) & set(dead)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_silent_peer_that_has_moved_is_not_waited_for(
    world: World, pair: Pair, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    connector = pair.connector()
    world.until(lambda: pair.is_linked and connector.connection is not None and connector.connection.trunks)
    first = connector.connection
    now_at = [Address(socket.AF_INET, (pair.settings.host if is_there else "192.0.2.1", int(pair.settings.port)))]
    monkeypatch.setattr(Resolver, "is_literal", False)
    monkeypatch.setattr(Resolver, "ask", lambda _, done: done(now_at))
    hush(world, pair.near)
    hush(world, pair.far)
    age_s = pair.near.control.plane.settings.hello_max_age_s
    world.advance(age_s + 0.2)
    assert (connector.connection is first) == is_there


def test_another_group_when_the_peer_drops_it_without_a_word(
    world: World, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a C router does that still holds a connection of the group: it answers the OPEN, then closes the socket."""

    def refuse(connection: Connection) -> None:
        monkeypatch.undo()
        connection.engine.flush()
        connection.engine.drop(None)

    monkeypatch.setattr(pair.far.groups, "on_opened", refuse)
    connector = AmqpConnector(AmqpConnections(pair.near), replace(pair.settings, data_connections=0), Random(1))
    pair.made = connector
    before = connector.correlator
    connector.open()
    world.until(lambda: pair.is_linked, 5)
    assert connector.correlator not in ("", before)
    assert connector.connection is not None
    assert connector.connection.correlator == connector.correlator


@pytest.mark.parametrize("idle_timeout_s", [8, 16, 60])
def test_a_connection_that_nobody_uses_is_not_taken_for_silent(world: World, idle_timeout_s: int) -> None:
    """Whenever it was opened within a second, and though each timer runs late, as it does in life.

    Its peer looks at full seconds whether an empty frame is due.
    """
    longest_s = 0.0
    for _ in range(10):
        pair = Pair(world, idle_timeout_s)
        connector = pair.connector()
        dial = connector._dials[1]
        data = dial.connection
        for _ in range(15 * idle_timeout_s):
            world.time += 0.1
            world.turn()
            world.settle()
            assert dial.connection is data is not None
            longest_s = max(longest_s, dial.silent_for())
        assert longest_s < connector.silence_s(dial) - 0.5
        pair.close()
        world.advance(0.13)
