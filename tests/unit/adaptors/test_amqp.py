"""AMQP listeners on loopback, what is said in OPEN, who gets in; back-off and failover of connectors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.system.pki import Pki
from tests.unit.core.engines import World
from tests.unit.core.engines import world as make_world
from vanrouter.adaptors.amqp import (
    HANDSHAKE_S,
    ROUTER_FRAME_BYTES,
    AmqpConnections,
    AmqpListener,
    AmqpSettings,
    of_family,
    wants_certificate,
)
from vanrouter.adaptors.amqp_connector import FIRST_RETRY_S, MAX_RETRY_S, AmqpConnector
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode, Router
from vanrouter.engine import proton
from vanrouter.engine.security import TlsProfile
from vanrouter.errors import ConfigError
from vanrouter.net.dial import Address, resolve

PATIENCE_S = 10.0
SETTINGS = AmqpSettings(name="l", host="127.0.0.1", port="0", idle_timeout_s=0)


def has_failed(connector: AmqpConnector) -> bool:
    """Whether the last attempt has; it tries again, which is what its status says."""
    return connector.status == "CONNECTING" and " failed: " in connector.message


class Bench(World):
    """Two routers, listeners of one and connectors of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.far = self.router("F", Mode.INTERIOR)
        self.near = self.router("N", Mode.INTERIOR)
        self.far_connections = AmqpConnections(self.far)
        self.near_connections = AmqpConnections(self.near)
        self.open: list[AmqpListener | AmqpConnector] = []
        self.sockets: list[socket.socket] = []

    def listener(self, **options: Any) -> AmqpListener:
        made = AmqpListener(self.far_connections, replace(SETTINGS, **options))
        self.open.append(made)
        made.open()
        return made

    def connector(self, *ports: int, **options: Any) -> AmqpConnector:
        first, *others = [str(port) for port in ports]
        settings = replace(SETTINGS, name="c", port=first, **options)
        made = AmqpConnector(self.near_connections, settings, Random(1))
        made.failover += [("127.0.0.1", port) for port in others]
        self.open.append(made)
        made.open()
        self.settle()
        return made

    def dial(self, listener: AmqpListener) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port_of(listener)), 5)
        self.sockets.append(sock)
        self.settle()
        return sock

    def close(self) -> None:
        for each in reversed(self.open):
            each.close()
        for sock in self.sockets:
            sock.close()
        self.settle()
        for router in self.routers:
            for connection in list(router.amqp_connections.values()):
                connection.engine.drop(None)
        super().close()


@pytest.fixture
def world() -> Iterator[World]:
    with make_world() as here:
        yield here


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def port_of(listener: AmqpListener) -> int:
    assert listener._acceptor is not None
    return listener._acceptor.port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def the_one(router: Router) -> Connection:
    (found,) = router.amqp_connections.values()
    return found


def test_clients_alone_may_be_written_to_a_turn_later(world: World) -> None:
    """What others wait for goes on at once."""
    near, _far = world.chain("A", "B")
    world.client(near).receiver("a")
    can_wait = {made.role: made.engine.can_wait for made in near.amqp_connections.values()}
    assert can_wait == {Role.NORMAL: True, Role.INTER_ROUTER: False}


# Listeners.


@pytest.mark.parametrize(("family", "families"), [("IPv4", {2}), ("IPv6", {10}), (None, {2, 10})])
def test_addresses_of_a_family(family: str | None, families: set[int]) -> None:
    found = of_family(resolve("", "0", is_passive=True), family)
    assert {int(address.family) for address in found} == families
    assert {int(address.family) for address in of_family(resolve("localhost", "80"), "IPv4")} == {2}


def test_a_name_that_is_unknown_cannot_be_listened_on(bench: Bench) -> None:
    with pytest.raises(OSError):
        bench.listener(host="256.256.256.256")


def test_an_address_of_another_family_cannot_be_listened_on(bench: Bench) -> None:
    with pytest.raises(OSError, match="it has no address of the family IPv6"):
        bench.listener(family="IPv6")


class NameServer:
    """Knows one name, and answers when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.fails = False
        monkeypatch.setattr("vanrouter.adaptors.amqp.resolve", self.resolve)

    def resolve(self, _host: str, port: str, *, is_passive: bool) -> list[Address]:
        assert self.gate.wait(PATIENCE_S)
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", port, is_passive=is_passive)


@pytest.mark.parametrize("fails", [False, True])
def test_a_name_is_asked_for_beside_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    server = NameServer(monkeypatch)
    server.fails = fails
    made: list[AmqpListener] = []
    reactor = bench.reactor
    reactor.call_soon(lambda: made.append(bench.listener(host="here.example")))
    reactor.call_soon(reactor.stop)
    reactor.run()
    (listener,) = made
    assert not listener.is_listening
    server.gate.set()
    while not (listener.is_listening or caplog.records):
        reactor.run_once(PATIENCE_S)
    if fails:
        assert "Cannot listen on here.example:0: Name or service not known; delete" in caplog.text
    else:
        bench.dial(listener)


def test_a_listener_that_was_deleted_meanwhile_stays_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    server = NameServer(monkeypatch)
    reactor = bench.reactor
    made: list[AmqpListener] = []
    reactor.call_soon(lambda: made.append(bench.listener(host="here.example")))
    reactor.call_soon(reactor.stop)
    reactor.run()
    made[0].close()
    server.gate.set()
    reactor.run_once(PATIENCE_S)
    assert not made[0].is_listening


def test_more_connections_than_allowed(bench: Bench) -> None:
    listener = bench.listener()
    bench.far_connections.max_connections = 1
    bench.dial(listener)
    assert bench.dial(listener).recv(8) == b""
    assert (bench.far_connections.refused, bench.far_connections.processed) == (1, 2)
    bench.sockets[0].close()
    bench.settle()
    bench.dial(listener)
    assert bench.far_connections.refused == 1


def test_more_handshakes_than_allowed(bench: Bench) -> None:
    listener = bench.listener()
    bench.far_connections.max_handshakes = 1
    bench.dial(listener)
    assert bench.dial(listener).recv(8) == b""
    assert bench.far_connections.handshakes_refused == 1
    assert len(bench.far_connections.opening) == 1


@pytest.mark.parametrize("timeout_s", [0, 3])
def test_a_peer_that_says_nothing_is_cut(bench: Bench, timeout_s: int) -> None:
    listener = bench.listener(handshake_timeout_s=timeout_s)
    sock = bench.dial(listener)
    sock.settimeout(5)
    bench.advance((timeout_s or HANDSHAKE_S) - 0.1)
    assert bench.far.amqp_connections
    bench.advance(0.2)
    assert not bench.far.amqp_connections
    assert not bench.far_connections.opening
    while sock.recv(4096):
        pass


def test_close_keeps_connections(bench: Bench) -> None:
    listener = bench.listener()
    connector = bench.connector(port_of(listener))
    listener.close()
    listener.close()
    bench.advance(1)
    assert connector.status == "SUCCESS"
    assert the_one(bench.far).is_opened


@pytest.mark.parametrize(
    ("role", "frame", "offered"),
    [
        (Role.NORMAL, 16384, 16384),
        (Role.INTER_ROUTER, 16384, ROUTER_FRAME_BYTES),
        (Role.INTER_ROUTER, 4096, 4096),
        (Role.EDGE, 16384, ROUTER_FRAME_BYTES),
    ],
)
def test_frames_that_are_offered(bench: Bench, role: Role, frame: int, offered: int) -> None:
    listener = bench.listener(role=role, max_frame_bytes=frame)
    bench.dial(listener)
    assert the_one(bench.far).max_frame_bytes == offered


def test_what_an_open_says(bench: Bench) -> None:
    entries = ({"network-host": "other", "port": "7"},)
    listener = bench.listener(failover_urls=entries, open_properties={"mine": 5}, cost=3)
    bench.connector(port_of(listener))
    bench.settle()
    near, far = the_one(bench.near), the_one(bench.far)
    assert near.peer.container == "F"
    assert near.peer.is_vanrouter
    assert near.peer.properties["product"] == "skupper-router"
    assert near.peer.properties["mine"] == 5
    assert near.peer.properties["qd.conn-id"] == far.id
    assert near.peer.cost == 3
    assert near.peer.failover == entries
    assert far.peer.hostname == "127.0.0.1"
    assert far.peer.failover is None
    assert far.security is not None
    assert (far.security.mechanism, far.security.user) == ("ANONYMOUS", "anonymous")


@pytest.mark.parametrize(("strip", "expected"), [("both", (1, 1)), ("in", (1, 0)), ("out", (0, 1)), ("no", (0, 0))])
def test_annotations_to_strip(bench: Bench, strip: str, expected: tuple[int, int]) -> None:
    bench.dial(bench.listener(strip_annotations=strip))
    found = the_one(bench.far)
    assert (found.strips_in, found.strips_out) == expected


def test_peers_must_prove_who_they_are(bench: Bench) -> None:
    listener = bench.listener(authenticate_peer=True, sasl_mechanisms="EXTERNAL")
    connector = bench.connector(port_of(listener))
    bench.advance(0.1)
    assert connector.connection is None or not connector.connection.is_opened
    assert has_failed(connector)
    assert connector.message


# TLS.


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def profile(pki: Pki, name: str, **more: Any) -> TlsProfile:
    files = pki.issue(name)
    return TlsProfile(
        name=name, ca_file=str(files.ca), cert_file=str(files.cert), key_file=str(files.key),
        **more,
    )  # fmt: skip


def test_users_of_certificates(bench: Bench, pki: Pki) -> None:
    tls = profile(pki, "server", uid_format="on", names={"vanrouter tests;client": "somebody"})
    listener = bench.listener(tls=tls, authenticate_peer=True, sasl_mechanisms="EXTERNAL", require_tls=True)
    connector = bench.connector(port_of(listener), tls=profile(pki, "client"), verify_hostname=False)
    bench.until(lambda: connector.status == "SUCCESS", 5)
    security = the_one(bench.far).security
    assert security is not None
    assert security.user == "somebody"
    assert (security.mechanism, security.is_encrypted, security.is_authenticated) == ("EXTERNAL", True, True)
    assert (security.tls_protocol, bool(security.tls_cipher)) == ("TLSv1.3", True)


def test_the_name_of_the_server_is_checked(bench: Bench, pki: Pki) -> None:
    listener = bench.listener(tls=profile(pki, "server"))
    connector = bench.connector(port_of(listener), tls=profile(pki, "client"))
    bench.advance(0.1)
    assert has_failed(connector), "the certificate is that of localhost, not of 127.0.0.1"
    assert "amqp:connection:framing-error" in connector.message


def test_encryption_may_be_demanded(bench: Bench, pki: Pki) -> None:
    connector = bench.connector(port_of(bench.listener(tls=profile(pki, "server"), require_tls=True)))
    bench.advance(0.1)
    assert has_failed(connector)


def test_a_connector_needs_an_authority_to_check_names(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="caCertFile is needed"):
        AmqpConnector(bench.near_connections, replace(SETTINGS, tls=TlsProfile(name="p"))).open()


def test_files_of_a_listener_are_read_when_it_opens(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.pem"):
        bench.listener(tls=TlsProfile(name="p", cert_file=str(tmp_path / "nothing.pem")))


@pytest.mark.parametrize(
    ("mechanisms", "authenticates", "wants"),
    [(None, False, False), (None, True, True), ("EXTERNAL", False, True), ("PLAIN", True, False), ("", True, False)],
)
def test_who_must_show_a_certificate(bench: Bench, pki: Pki, mechanisms: str, authenticates: bool, wants: bool) -> None:
    listener = bench.listener(tls=profile(pki, "server"), sasl_mechanisms=mechanisms, authenticate_peer=authenticates)
    assert wants_certificate(listener.settings) is wants


# Connectors: when they try, and where.


def attempts(bench: Bench, connector: AmqpConnector, seconds: float) -> list[float]:
    """Pauses between the attempts of that time."""
    dial = connector._dials[0]
    times, before = [bench.time], dial._number
    end = bench.time + seconds
    while bench.time < end:
        bench.advance(0.01)
        if dial._number != before:
            before = dial._number
            times.append(bench.time)
    return [later - earlier for earlier, later in pairwise(times)]


def test_pauses_grow_up_to_the_last(bench: Bench) -> None:
    connector = bench.connector(free_port())
    assert has_failed(connector)
    pauses = attempts(bench, connector, 12)
    limit = FIRST_RETRY_S
    for pause in pauses:
        assert limit / 2 - 0.02 <= pause <= limit + 0.02
        limit = min(MAX_RETRY_S, limit * 2)
    assert limit == MAX_RETRY_S
    assert len(set(pauses[4:])) > 1, "with jitter"


def test_pauses_begin_anew_after_a_connection(bench: Bench) -> None:
    port = free_port()
    connector = bench.connector(port)
    bench.advance(6)
    listener = bench.listener(port=str(port))
    bench.until(lambda: connector.status == "SUCCESS", 5)
    the_one(bench.far).engine.drop(None)
    bench.settle()
    assert connector.connection is None
    listener.close()
    bench.settle()
    assert attempts(bench, connector, 0.5)[0] <= FIRST_RETRY_S + 0.02


def test_two_attempts_at_each_of_several_hosts(bench: Bench) -> None:
    first, second = free_port(), free_port()
    connector = bench.connector(first, second)
    targets = [connector._dials[0].target[1]]
    assert connector.failover_urls == f"amqp://127.0.0.1:{first}, amqp://127.0.0.1:{second}"
    number = connector._dials[0]._number
    while len(targets) < 6:
        bench.advance(0.05)
        if connector._dials[0]._number != number:
            number = connector._dials[0]._number
            targets.append(connector.message.rpartition(" failed")[0].rpartition(":")[2])
    assert targets == [str(port) for port in (first, first, second, second, first, first)]


def test_the_list_of_the_peer_is_used(bench: Bench) -> None:
    spare = bench.listener(name="spare")
    there = {"network-host": "127.0.0.1", "port": str(port_of(spare))}
    main = bench.listener(failover_urls=(there, {"port": "no host"}))
    connector = bench.connector(port_of(main))
    bench.until(lambda: connector.status == "SUCCESS", 5)
    assert connector.failover == [("127.0.0.1", str(port_of(main))), ("127.0.0.1", str(port_of(spare)))]
    main.close()
    the_one(bench.far).engine.drop(None)
    bench.until(lambda: connector.connection is not None and connector.connection.is_opened, 10)
    assert connector._dials[0].target[1] == str(port_of(spare))
    assert connector.failover_urls.startswith(f"amqp://127.0.0.1:{port_of(spare)}, ")
    assert connector.status == "SUCCESS"


def test_status_and_message(bench: Bench) -> None:
    port = free_port()
    connector = bench.connector(port)
    assert has_failed(connector)
    assert connector.message == f"Connection to 127.0.0.1:{port} failed: proton:io Connection refused"
    bench.listener(port=str(port))
    bench.until(lambda: connector.status == "SUCCESS", 5)
    assert connector.message.startswith(f"[C{connector.connection.id}] Connection Opened: dir=out host=127.0.0.1:")
    the_one(bench.far).close()
    bench.settle()
    assert (connector.status, connector.message) == ("CONNECTING", ""), "an orderly end is no failure"
    bench.until(lambda: connector.status == "SUCCESS", 5)


def test_no_address_of_its_family(bench: Bench) -> None:
    assert bench.connector(free_port(), family="IPv6").message.endswith("no address of the configured family")


def test_a_peer_that_never_opens(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connector = bench.connector(silent.getsockname()[1])
        assert connector.connection is not None
        bench.advance(HANDSHAKE_S + 0.5)
        assert "Timeout waiting for initial handshake" in connector.message
        assert connector.status == "CONNECTING"


def test_a_connector_that_is_closed_tries_no_more(bench: Bench) -> None:
    connector = bench.connector(free_port())
    number = bench.near.next_connection_id()
    connector.close()
    bench.advance(10)
    assert bench.near.next_connection_id() == number + 1


def test_settings_hide_what_is_secret() -> None:
    shown = repr(replace(SETTINGS, sasl_password="hush", tls=TlsProfile(name="p", password="hush")))
    assert "hush" not in shown
    assert shown == "AmqpSettings('l', 127.0.0.1:0, normal)"


def test_connections_by_socket_pair_have_no_options(world: World) -> None:
    client = world.client(world.router("R"), role=Role.INTER_ROUTER)
    assert proton.transport_get_remote_max_frame(client.engine.transport) == ROUTER_FRAME_BYTES
