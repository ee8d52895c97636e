"""Each type of entity brought up and taken down in a site on loopback (management.md, sections 8, 9 and 11)."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.pki import Pki
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.core.peer import Role
from vanrouter.core.table import Treatment
from vanrouter.engine.annotations import NO_ANNOTATIONS
from vanrouter.engine.messages import Message, encode_message
from vanrouter.errors import ConfigError, ManagementError
from vanrouter.mgmt.config import load_text
from vanrouter.mgmt.entities import Entity
from vanrouter.server.site import Site, type_title

Made = Callable[[str], Bench]

INTERIOR = """
router {
    mode: interior
    id: S
}
"""


def section(kind: str, **attributes: object) -> str:
    lines = "".join(f"    {key}: {value}\n" for key, value in attributes.items())
    return f"{kind} {{\n{lines}}}\n"


def entity(bench: Bench, kind: str, name: str) -> Entity:
    found = bench.site.registry.named(kind, name)
    assert found is not None
    return found


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


# Start.


def test_the_router_is_what_the_file_says(bench_of: Made) -> None:
    text = section("router", mode="interior", id="me", defaultDistribution="closest", helloIntervalSeconds=2)
    bench = bench_of(text + section("network", networkId="net", tenantId="ten")).start()
    router = bench.site.router
    assert (router.router_id, router.mode) == ("me", "interior")
    assert router.table.ensure("Mq").treatment is Treatment.CLOSEST
    assert router.space.tenant_id == "ten"


def test_a_port_that_is_taken_ends_the_start(bench_of: Made, taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    bench = bench_of(ROUTER + section("listener", host="127.0.0.1", port=port))
    with pytest.raises(ConfigError, match="cannot listen: Address already in use") as raised:
        bench.start()
    assert f"127.0.0.1:{port}" in str(raised.value)
    assert (raised.value.file, raised.value.line) == ("test.conf", 6)


def test_what_cannot_be_brought_up_is_told_with_its_place(bench_of: Made) -> None:
    profile = section("sslProfile", name="p", certFile="/nowhere/cert.pem")
    bench = bench_of(ROUTER + profile + section("listener", host="127.0.0.1", port=0, sslProfile="p"))
    with pytest.raises(ConfigError, match=r"/nowhere/cert\.pem") as raised:
        bench.start()
    assert raised.value.file == "test.conf"
    assert raised.value.line == 10


def test_a_service_with_a_bug_keeps_no_router_from_its_end(bench_of: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(ROUTER + section("tcpListener", name="t", host="127.0.0.1", port=0, address="a")).start()

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("vanrouter.adaptors.tcp_listener.ListenerService.shut_down", broken)
    with pytest.raises(RuntimeError):
        bench.site.shut_down()
    monkeypatch.undo()
    bench.reactor.run()


def test_shut_down_cuts_everything_and_ends_the_loop(bench: Bench) -> None:
    client = bench.connect()
    bench.site.shut_down()
    bench.site.shut_down()
    bench.reactor.run()
    bench.settle()
    assert client.is_lost
    assert bench.site.router.connections == {}


# Types.


def test_a_listener(bench: Bench) -> None:
    created = bench.manager.call("CREATE", {"host": "127.0.0.1", "port": "0", "role": "route-container"},
                                 type="listener", name="second")  # fmt: skip
    assert created["role"] == "route-container"
    client = bench.connect("second")
    assert client.there.role is Role.ROUTE_CONTAINER
    port = bench.port("second")
    bench.manager.call("DELETE", type="listener", name="second")
    bench.settle()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    assert not client.is_lost, "connections stay"


def test_a_listener_made_later_whose_port_is_taken(bench: Bench, taken: socket.socket) -> None:
    port = str(taken.getsockname()[1])
    bench.manager.call("CREATE", {"host": "127.0.0.1", "port": port}, type="listener", name="x")
    assert isinstance(bench.live("x"), AmqpListener)
    bench.manager.call("DELETE", type="listener", name="x")


def test_a_connector(bench_of: Made) -> None:
    far = bench_of(INTERIOR.replace("id: S", "id: F") + LISTENER.replace("name: l", "name: l\n    role: inter-router"))
    far.start()
    near = bench_of(INTERIOR.replace("id: S\n", "id: N\n    dataConnectionCount: 1\n")).start()
    connector = {"host": "127.0.0.1", "port": str(far.port()), "role": "inter-router", "cost": 3}
    made = near.site.registry.add(near.site.registry.schema["connector"], {**connector, "name": "c"}, frozenset())
    near.site.create(made)
    for _ in range(20):
        far.advance(0.5)
        near.advance(0.5)
    assert list(near.site.router.nodes) == ["F"]
    assert len(near.site.router.amqp_connections) == 2, "control and data"
    live = near.live("c")
    assert isinstance(live, AmqpConnector)
    assert live.connection is not None
    assert live.connection.cost == 3
    made.attributes["cost"] = 5
    near.site.update(made, {"cost": 5})
    assert (live.settings.cost, live.connection.cost) == (5, 5)
    near.site.delete(made)
    for _ in range(20):
        near.advance(0.5)
        far.advance(0.5)
    assert near.site.router.amqp_connections == {}
    assert far.site.router.amqp_connections == {}


@pytest.mark.parametrize("kind", ["tcpListener", "tcpConnector"])
def test_a_service(bench: Bench, kind: str, taken: socket.socket) -> None:
    port = 0 if kind == "tcpListener" else taken.getsockname()[1]
    attributes = {"host": "127.0.0.1", "port": str(port), "address": "shop"}
    bench.manager.call("CREATE", attributes, type=kind, name="web")
    row = bench.manager.call("READ", type=kind, name="web")
    assert row["address"] == "shop"
    bench.manager.call("DELETE", type=kind, name="web")
    bench.advance(1)
    assert [found["protocol"] for found in bench.manager.query("connection")] == ["amqp"]
    assert not [found for found in bench.manager.query("router.address") if found["subscriberCount"] and
                found["key"] == "Mshop"]  # fmt: skip


def test_a_service_from_end_to_end(bench_of: Made, taken: socket.socket) -> None:
    listener = section("tcpListener", name="web", host="127.0.0.1", port=0, address="shop")
    connector = section("tcpConnector", name="s", host="127.0.0.1", port=taken.getsockname()[1], address="shop")
    bench = bench_of(ROUTER + connector + listener).start()
    client = socket.create_connection(("127.0.0.1", bench.live("web").bound_port), 5)
    bench.settle()
    server, _ = taken.accept()
    with client, server:
        client.sendall(b"hello")
        bench.settle()
        assert server.recv(10) == b"hello"
        assert bench.site.views.live(entity(bench, "tcpListener", "web"))["connectionsOpened"] == 1
        bench.site.delete(entity(bench, "tcpListener", "web"))
        bench.settle()
        client.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_flows_may_outlive_their_listener(bench_of: Made, taken: socket.socket) -> None:
    listener = section("tcpListener", name="web", host="127.0.0.1", port=0, address="shop")
    connector = section("tcpConnector", name="s", host="127.0.0.1", port=taken.getsockname()[1], address="shop")
    bench = bench_of(ROUTER.replace("id: S\n", "id: S\n    dropTcpConnections: no\n") + connector + listener).start()
    client = socket.create_connection(("127.0.0.1", bench.live("web").bound_port), 5)
    bench.settle()
    server, _ = taken.accept()
    with client, server:
        bench.site.delete(entity(bench, "tcpListener", "web"))
        bench.settle()
        client.sendall(b"still")
        bench.settle()
        assert server.recv(10) == b"still"
    bench.settle()
    bench.advance(30)


def test_addresses_of_a_listener(bench: Bench) -> None:
    ask = bench.manager.call
    ask("CREATE", {"host": "127.0.0.1", "port": "0", "multiAddressStrategy": "priority"}, type="tcpListener", name="w")
    ask("CREATE", {"listener": "w", "address": "one", "value": 1}, type="listenerAddress", name="a", extensions=True)
    assert list(bench.live("w", "tcpListener").addresses) == ["a"]
    with pytest.raises(ManagementError, match="delete it first"):
        ask("DELETE", type="tcpListener", name="w")
    ask("DELETE", type="listenerAddress", name="a")
    assert list(bench.live("w", "tcpListener").addresses) == []
    ask("DELETE", type="tcpListener", name="w")


@pytest.mark.parametrize("word", ["multicast", "closest", "balanced"])
def test_an_address(bench: Bench, word: str) -> None:
    made = bench.manager.call("CREATE", {"prefix": "q", "distribution": word}, type="address", name="a")
    bench.connect().receiver("q.x")
    rows = {row["key"]: row["distribution"] for row in bench.manager.query("router.address")}
    assert rows["Mq.x"] == word
    bench.manager.call("DELETE", type="address", identity=made["identity"])
    bench.connect().receiver("q.y")
    rows = {row["key"]: row["distribution"] for row in bench.manager.query("router.address")}
    assert rows["Mq.y"] == "balanced"


def test_an_address_that_is_unavailable(bench: Bench) -> None:
    bench.manager.call("CREATE", {"pattern": "q/#", "distribution": "unavailable"}, type="address", name="a")
    assert bench.connect().receiver("q/x").is_refused


def test_an_auto_link(bench_of: Made) -> None:
    bench = bench_of(ROUTER + LISTENER + section("listener", name="broker", host="127.0.0.1", port=0,
                     role="route-container", authenticatePeer="no")).start()  # fmt: skip
    attributes = {"address": "queue", "direction": "in", "containerId": "b"}
    bench.manager.call("CREATE", attributes, type="autoLink", name="q")
    broker = bench.connect("broker", container="b")
    bench.settle()
    assert bench.manager.call("READ", type="autoLink", name="q")["operStatus"] != "inactive"
    assert broker.there.receivers
    bench.manager.call("DELETE", type="autoLink", name="q")
    assert len(bench.site.router.auto_links) == 0


def test_the_network_of_a_router_may_get_its_name_later(bench: Bench) -> None:
    (network,) = bench.site.registry.of("network")
    bench.site.update(network, {"networkId": "net"})
    assert bench.site.router.space.network_id == "net"


def test_no_more_connections_than_the_policy_allows(bench_of: Made) -> None:
    bench = bench_of(ROUTER + LISTENER + section("policy", maxConnections=1)).start()
    bench.connect()
    with socket.create_connection(("127.0.0.1", bench.port()), 5) as refused:
        bench.settle()
        assert refused.recv(8) == b""
    assert bench.site.amqp.refused == 1


def test_what_is_refused_by_its_files_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    ask = bench.manager.call
    ask("CREATE", {"certFile": str(tmp_path / "none.pem")}, type="sslProfile", name="p")
    before = dict(bench.site.objects)
    rows = len(bench.site.router.connections)
    for kind in ("listener", "connector", "tcpListener", "tcpConnector"):
        attributes = {"host": "127.0.0.1", "port": "0", "sslProfile": "p"}
        more = {"address": "a"} if kind.startswith("tcp") else {}
        with pytest.raises(ManagementError) as raised:
            ask("CREATE", {**attributes, **more}, type=kind, name="x")
        assert raised.value.status == 500
        assert bench.site.objects == before, kind
        assert len(bench.site.router.connections) == rows, kind


# Credentials.


def test_credentials_that_are_too_old_end_their_connections(bench_of: Made, tmp_path: Path) -> None:
    files = Pki(tmp_path).issue("r", host="127.0.0.1")
    profile = section("sslProfile", name="p", caCertFile=files.ca, certFile=files.cert, privateKeyFile=files.key)
    bench = bench_of(ROUTER + profile + LISTENER.replace("port: 0", "port: 0\n    sslProfile: p")).start()
    client = bench.connect()
    assert client.is_open, "clients without TLS are let in"
    live = bench.live("l")
    domain = live._domain
    changed = entity(bench, "sslProfile", "p")
    changed.attributes.update(ordinal=2, oldestValidOrdinal=1)
    bench.site.update(changed, {"ordinal": 2, "oldestValidOrdinal": 1})
    bench.settle()
    assert live.settings.tls.ordinal == 2
    assert live._domain != domain
    assert client.is_lost
    changed.attributes["certFile"] = str(tmp_path / "none.pem")
    with pytest.raises(ManagementError, match=r"update failed: .*none\.pem.*, used by listener/"):
        bench.site.update(changed, {"certFile": str(tmp_path / "none.pem")})
    assert bench.connect().is_open, "the old ones stay when the new ones are no good"


def test_services_get_changed_credentials_all_or_none(bench_of: Made, tmp_path: Path) -> None:
    files = Pki(tmp_path).issue("r", host="127.0.0.1")
    profile = section("sslProfile", name="p", caCertFile=files.ca, certFile=files.cert, privateKeyFile=files.key)
    other = section("sslProfile", name="q", caCertFile=files.ca, certFile=files.cert, privateKeyFile=files.key)
    listener = section("tcpListener", name="in", host="127.0.0.1", port=0, address="a", sslProfile="p")
    apart = section("tcpListener", name="apart", host="127.0.0.1", port=0, address="a", sslProfile="q")
    connector = section("tcpConnector", name="out", host="127.0.0.1", port=1, address="a", sslProfile="p")
    bench = bench_of(ROUTER + profile + other + listener + apart + connector).start()

    def contexts() -> list[object]:
        return [bench.live("in")._tls, bench.live("out").tls_context(None), bench.live("apart")._tls]

    before = contexts()
    changed = entity(bench, "sslProfile", "p")
    right = changed.attributes["caCertFile"]
    changed.attributes["caCertFile"] = str(tmp_path / "none.pem")
    words = r"sslProfile configuration update failed: Failed to configure TLS caCertFile .*none.pem for sslProfile 'p'"
    with pytest.raises(ManagementError, match=words):
        bench.site.update(changed, {"caCertFile": str(tmp_path / "none.pem")})
    assert contexts() == before
    changed.attributes["caCertFile"] = right
    bench.site.update(changed, {"caCertFile": right})
    assert [new == old for new, old in zip(contexts(), before, strict=True)] == [False, False, True]


def test_a_password_that_cannot_be_read_is_said_and_does_not_end_the_router(bench_of: Made) -> None:
    profile = section("sslProfile", name="p", password="env:VANROUTER_TEST_NOTHING")
    bench = bench_of(ROUTER + profile + LISTENER.replace("port: 0", "port: 0\n    sslProfile: p")).start()
    assert bench.live("l").settings.tls.password is None


def test_what_refuses_to_go_is_not_forgotten(bench: Bench) -> None:
    listener = {"host": "127.0.0.1", "port": "0", "multiAddressStrategy": "weighted"}
    bench.manager.call("CREATE", listener, type="tcpListener", name="several")
    bench.manager.call("CREATE", {"address": "a", "value": 1, "listener": "several"}, type="listenerAddress", name="a")
    several = entity(bench, "tcpListener", "several")
    with pytest.raises(ConfigError, match="still has addresses"):
        bench.site.delete(several)
    assert bench.live("several") is bench.site.objects[several]


def test_a_log_sink(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    attributes = {"outputFile": str(file), "modules": "AGENT", "enable": "error+", "format": "json"}
    bench.manager.call("CREATE", attributes, type="logSink", name="audit")
    with pytest.raises(ManagementError, match="'X' is not a log module") as raised:
        bench.manager.call("UPDATE", {"modules": "x"}, type="logSink", name="audit")
    assert raised.value.status == 500
    bench.logs.drain()
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["text"].startswith("Error performing UPDATE")
    row = bench.manager.call("READ", type="logSink", name="audit", extensions=True)
    assert (row["linesWritten"], row["linesDropped"]) == (1, 0)
    bench.manager.call("UPDATE", {"enable": "none"}, type="logSink", name="audit")
    bench.manager.call("DELETE", type="logSink", name="audit")
    assert bench.logs.sink_counts("logSink/audit") == {}


# Small things.


def test_titles() -> None:
    assert type_title("tcpListener") == "TcpListener"


def test_test_hooks_shorten_the_pool_of_idle_streams(bench: Bench) -> None:
    """As upstream's own tests expect of `--test-hooks`."""
    options = replace(bench.site.options, has_test_hooks=True)
    site = Site(load_text(ROUTER, "test.conf"), options)
    assert site.router.idle_streams_kept == 2 < bench.site.router.idle_streams_kept
    site.reactor.close()


@pytest.mark.parametrize("level", ["DEBUG", "warning", "Critical"])
def test_test_hooks_make_lines_of_the_log(caplog: pytest.LogCaptureFixture, level: str) -> None:
    caplog.set_level(logging.DEBUG, "vanrouter.core.router")
    for content in (encode_message(Message(subject=level)), encode_message(Message(subject="odd")), b"\x00"):
        Site._on_test_log(NO_ANNOTATIONS, content, None)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (level.upper(), f"A test has asked for a line at level {level.lower()}")
    ]
