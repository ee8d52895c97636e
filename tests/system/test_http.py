"""HTTP services with real programs: each request finds its own way, whatever becomes of the services meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request

from tests.system.harness import COLLECTED_AT, Section
from tests.system.http_service import pattern
from tests.system.network import Network, eventually
from tests.system.process import Program, free_port, held
from tests.system.services import require, run
from vanrouter.mgmt.vanflow import Attribute, RecordType
from vanrouter.mgmt.vanflow_client import Collector
from vanrouter.mgmt.vanflow_picture import Picture
from vanrouter.mgmt.vanflow_summary import has_all_routers

SERVICE = Path(__file__).with_name("http_service.py")

SERVICES = {"one": "C", "two": "B", "three": "B"}
"""Services of the address `web`, and where they are; clients are at A. A service at their own site would be nearer, and
have a client that asks one thing at a time for itself."""


def http_listener(name: str, address: str, **more: object) -> Section:
    return "httpListener", {"name": name, "host": "127.0.0.1", "port": 0, "address": address, **more}


def http_connector(address: str, port: int, **more: object) -> Section:
    return "httpConnector", {"name": f"{address}-{port}", "host": "127.0.0.1", "port": port, "address": address, **more}


@contextlib.contextmanager
def service(name: str, directory: Path, port: int | None = None) -> Iterator[tuple[Program, int]]:
    with Program(f"service {name}", [sys.executable, "-u", SERVICE, name], directory / f"{name}.log") as program:
        yield program, int(program.wait_for(r"Serving \S+ on port (\d+)")[1])


class World:
    """Three services at two sites, and ports for clients at a third."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self.programs: dict[str, Program] = {}
        self.network = stack.enter_context(held(Network(directory)))
        self.network.add("A")
        for name in "BC":
            self.network.add(name)
            self.network.link(name, "A")
        for name, site in SERVICES.items():
            self.programs[name], port = stack.enter_context(service(name, directory))
            self.network.section(site, http_connector("web", port))
            if name == "three":
                self.network.section("B", http_connector("alone", port, hostOverride="inside.example"))
                self.network.section("B", http_connector("counted", port))
                self.network.section(
                    "B", ("tcpConnector", {"name": "plain", "host": "127.0.0.1", "port": port, "address": "plain"})
                )
        self.network.section("A", http_listener("web", "web"))
        self.network.section("A", http_listener("alone", "alone", forwardedHeaders=True))
        self.network.section("A", http_listener("limited", "alone", requestTimeoutSeconds=1))
        self.network.section("A", http_listener("plain", "plain"))
        self.network.section("A", http_listener("counted", "counted"))
        self.network.section("A", ("listener", {"name": "http", "host": "127.0.0.1", "port": 0, "http": True}))
        self.network.section("A", http_listener("nobody", "nobody", whenUnreachable="503"))
        self.network.section("A", http_listener("narrow", "alone", maxHeaderBytes=1024, maxHeaders=10))
        self.network.section("A", ("tcpListener", {"name": "tcp", "host": "127.0.0.1", "port": 0, "address": "alone"}))
        self.network.start()

    def port(self, listener: str) -> int:
        return self.network["A"].port(listener)

    def url(self, listener: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port(listener)}{path}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        world = World(tmp_path_factory.mktemp("http"), stack)
        yield world
        world.network.check_logs()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    """A world of one's own, for tests that break it."""
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, stack)


def fetch(*arguments: str | Path) -> str:
    """What curl says."""
    return run(require("curl"), "-s", *arguments).stdout


def kept_alive(port: int) -> contextlib.closing[http.client.HTTPConnection]:
    """One connection of a client."""
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20))


def ask(client: http.client.HTTPConnection, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
    client.request(method, path, **more)
    answer = client.getresponse()
    body = answer.read()
    return answer.status, json.loads(body) if answer.getheader("Content-Type") == "application/json" else {}


def spread(world: World, requests: int = 60) -> Counter[str]:
    """Ask on one connection that is kept alive."""
    found: Counter[str] = Counter()
    with kept_alive(world.port("web")) as client:
        for number in range(requests):
            status, told = ask(client, "GET", f"/{number}")
            assert (status, told["path"]) == (200, f"/{number}")
            found[told["service"]] += 1
    return found


def test_one_connection_reaches_all_services(world: World) -> None:
    eventually(lambda: len(spread(world, 12)) == 3)
    found = spread(world)
    assert set(found) == set(SERVICES)
    assert min(found.values()) >= 10, found


def test_a_service_killed_under_continuous_requests(fresh: World) -> None:
    """Safe requests are all answered; of the others, those that it was serving at most."""
    world = fresh
    eventually(lambda: len(spread(world, 12)) == 3)
    stop = threading.Event()
    wrong: list[str] = []
    safe: Counter[str] = Counter()
    failed = []

    def get(index: int) -> None:
        with kept_alive(world.port("web")) as client:
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                path = f"/{index}/{number}"
                status, told = ask(client, "GET", path)
                if status != 200 or told["path"] != path:
                    wrong.append(f"GET {path}: {status} {told}")
                else:
                    safe[told["service"]] += 1

    def post(index: int) -> None:
        with kept_alive(world.port("web")) as client:
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                body = b"%d %d" % (index, number)
                status, told = ask(client, "POST", "/x", body=body)
                if status == 502:
                    failed.append(number)
                elif status != 200 or told["sha256"] != hashlib.sha256(body).hexdigest():
                    wrong.append(f"POST {number}: {status} {told}")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4) for work in (get, post)]
    for thread in threads:
        thread.start()
    eventually(lambda: safe["two"] > 20 and safe["one"] > 20)
    world.programs["two"].kill()
    before = safe["one"] + safe["three"]
    eventually(lambda: safe["one"] + safe["three"] > before + 200, timeout_s=30)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not wrong, wrong[:5]
    assert len(failed) <= 4, "more than were being served"


def test_curl(world: World, tmp_path: Path) -> None:
    told = json.loads(fetch(world.url("alone", "/a?b=c")))
    assert (told["method"], told["path"]) == ("GET", "/a?b=c")
    fields = dict(told["fields"])
    assert fields["Host"] == "inside.example"
    assert fields["X-Forwarded-For"] == "127.0.0.1"
    assert fields["X-Forwarded-Proto"] == "http"
    assert fields["X-Forwarded-Host"].startswith("127.0.0.1:")
    assert "Connection" not in fields
    assert fetch("-sI", world.url("alone")).startswith("HTTP/1.1 200")
    assert fetch("-si", world.url("alone", "/status/204")).startswith("HTTP/1.1 204")
    assert json.loads(fetch("-s0", world.url("alone")))["method"] == "GET"
    trailers = fetch("-si", world.url("alone", "/chunks/10"))
    assert "Transfer-Encoding: chunked" in trailers
    assert "X-Digest: end" in trailers
    assert fetch("-o", "/dev/null", "-w", "%{http_code}", world.url("limited", "/slow/5")) == "504"
    pipelined = fetch(*[world.url("alone", f"/{number}") for number in range(50)])
    assert re.findall(r'"path": "/(\d+)"', pipelined) == [str(number) for number in range(50)]


@pytest.mark.parametrize("listener", ["web", "plain", "tcp"])
def test_a_pipeline_is_answered_in_order(world: World, listener: str) -> None:
    """All requests are on their way before the first answer; bodies, chunks and answers without one among them.

    Five in a row: of four, which the services take in turns of four, those without a body could all be one service's.
    """
    if listener == "web":
        eventually(lambda: len(spread(world, 12)) == 3)
    octets = b""
    for number in range(40):
        octets += b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
        octets += b"HEAD /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
        octets += b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % number
        octets += b"PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd" % number
        octets += b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number
    octets += b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", world.port(listener)), 20) as client:
        client.sendall(octets)
        while piece := client.recv(65536):
            received += piece
    told = [json.loads(body) for body in re.findall(rb"\r\n\r\n(\{[^{}]*\})", received)]
    sizes = (("GET", 0), ("POST", 3), ("PUT", 4), ("GET", 0))
    expected = [(method, f"/{number}", size) for number in range(40) for method, size in sizes]
    assert [(each["method"], each["path"], each["length"]) for each in told] == [*expected, ("GET", "/last", 0)]
    assert received.count(b"HTTP/1.1 200 ") == 201
    if listener == "web":
        assert {each["service"] for each in told} == set(SERVICES)


@pytest.mark.parametrize("listener", ["web", "plain"])
def test_a_body_that_waits_for_100(world: World, listener: str) -> None:
    with socket.create_connection(("127.0.0.1", world.port(listener)), 20) as client, client.makefile("rb") as lines:
        for number in range(3):
            head = b"PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(head % number)
            assert lines.readline().startswith(b"HTTP/1.1 100 ")
            assert lines.readline() == b"\r\n"
            client.sendall(b"hello")
            assert lines.readline().startswith(b"HTTP/1.1 200 ")
            length = 0
            while (line := lines.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert json.loads(lines.read(length))["length"] == 5


@pytest.mark.parametrize("listener", ["alone", "plain"])
def test_large_bodies_arrive_whole_and_nothing_piles_up(world: World, listener: str, tmp_path: Path) -> None:
    size = 60_000_000
    big = tmp_path / "big"
    with big.open("wb") as file:
        for piece in pattern(size):
            file.write(piece)
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    routers = list(world.network)
    before = [router.memory_kb() for router in routers]
    for more in (["-T", str(big)], ["-T", str(big), "-H", "Transfer-Encoding: chunked"]):
        told = json.loads(fetch(*more, world.url(listener, "/up")))
        assert (told["length"], told["sha256"]) == (size, digest)
    for kind in ("bytes", "chunks"):
        fetch("-o", str(tmp_path / "back"), world.url(listener, f"/{kind}/{size}"))
        assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest
    # A client that reads slowly holds the server up, and nobody keeps the rest.
    fetch("--limit-rate", "20M", "-o", "/dev/null", world.url(listener, f"/bytes/{size}"))
    for router, kb in zip(routers, before, strict=True):
        assert router.memory_kb() < COLLECTED_AT * kb + 32_000, router.name


def test_a_plain_tcp_connector_serves_and_a_plain_listener_asks(world: World) -> None:
    for listener in ("plain", "tcp"):
        with kept_alive(world.port(listener)) as client:
            for number in range(10):
                assert ask(client, "POST", f"/{number}", body=b"x" * number)[1]["length"] == number


@pytest.mark.parametrize("listener", ["alone", "plain"])
def test_an_upgrade_becomes_a_tunnel(world: World, listener: str) -> None:
    with socket.create_connection(("127.0.0.1", world.port(listener)), 20) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += client.recv(4096)
        assert received.startswith(b"HTTP/1.1 101")
        for size in (1, 1000, 1_000_000):
            sender = threading.Thread(target=client.sendall, args=(bytes(size),))
            sender.start()
            left = size
            while left:
                piece = client.recv(65536)
                assert piece
                left -= len(piece)
            sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


@pytest.mark.parametrize("listener", ["alone", "plain"])
def test_websocket(world: World, listener: str) -> None:
    """Messages of a real implementation at both ends."""
    ws = WSConnection(ConnectionType.CLIENT)
    received = b""
    sizes = [1, 1000, 300_000, 0]
    with socket.create_connection(("127.0.0.1", world.port(listener)), 20) as client:
        client.sendall(ws.send(Request(host="a", target="/ws")))
        while True:
            for event in ws.events():
                if isinstance(event, BytesMessage):
                    received += event.data
                    if not event.message_finished:
                        continue
                    assert received == bytes(sizes.pop(0))
                    received = b""
                if isinstance(event, AcceptConnection | BytesMessage):
                    client.sendall(ws.send(BytesMessage(data=bytes(sizes[0])) if sizes else CloseConnection(code=1000)))
                if isinstance(event, CloseConnection):
                    assert event.code == 1000
                    assert client.recv(1) == b""
                    return
            piece = client.recv(65536)
            assert piece, (sizes, len(received))
            ws.receive_data(piece)


def test_what_is_counted(world: World) -> None:
    """By management, as metrics, and as a record of each request while somebody collects them."""
    router = world.network["A"]
    with Collector(f"127.0.0.1:{router.port('amqp')}") as collector:
        assert collector.wait_for(has_all_routers, 20.0)
        with kept_alive(world.port("counted")) as client:
            for method, path in (("GET", "/a"), ("GET", "/status/404"), ("PUT", "/b")):
                ask(client, method, path, body=b"12345" if method == "PUT" else None)

        def requests(picture: Picture) -> list[tuple[object, ...]]:
            found = picture.of_type(RecordType.BIFLOW_APP).values()
            names = (Attribute.PROTOCOL, Attribute.METHOD, Attribute.RESULT, Attribute.OCTETS)
            return sorted(tuple(str(record.get(name)) for name in names) for record in found)

        expected = [("HTTP/1.1", "GET", "200", "0"), ("HTTP/1.1", "GET", "404", "0"), ("HTTP/1.1", "PUT", "200", "5")]
        assert collector.wait_for(lambda picture: requests(picture) == expected, 20.0), "the records of the requests"
    van = [sys.executable, "-c", "from vanrouter.cli.van import main; main()", "manage", "query", "httpRequestInfo"]
    rows = json.loads(run(*van, "--json", env={"VAN_URL": f"amqp://127.0.0.1:{router.port('amqp')}"}).stdout)
    (row,) = [row for row in rows if row["name"] == "i_127.0.0.1_counted"]
    assert (row["direction"], row["requests"], row["bytesIn"]) == ("in", 3, 5)
    assert row["details"] == {"GET:200": 1, "GET:404": 1, "PUT:200": 1}
    metrics = fetch(f"http://127.0.0.1:{router.port('http')}/metrics")
    labels = 'address="counted",kind="httpListener",name="counted"'
    for status, count in (("200", 2), ("404", 1)):
        assert f'vanrouter_http_requests_total{{{labels},status="{status}"}} {count}.0' in metrics
    assert f"vanrouter_http_request_seconds_count{{{labels}}} 3.0" in metrics


def test_503_without_a_service(world: World) -> None:
    with kept_alive(world.port("nobody")) as client:
        for _ in range(3):
            assert ask(client, "GET", "/")[0] == 503


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"

HOSTILE = {
    "both lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        400,
    ),
    "a fold": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "a bare LF": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "only LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a bad chunk size": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        400,
    ),
    "too long": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000 + b"\r\n\r\n", 431),
    "too many": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
    "TLS": (bytes.fromhex("1603010200010001fc0303") + bytes(500), 400),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_are_refused_and_reach_nobody(world: World, name: str) -> None:
    octets, status = HOSTILE[name]
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in ([octets + smuggled], [octets[at : at + 7] for at in range(0, len(octets), 7)]):
        with socket.create_connection(("127.0.0.1", world.port("narrow")), 20) as client:
            for piece in pieces:
                with contextlib.suppress(ConnectionError):
                    client.sendall(piece)
            received = b""
            with contextlib.suppress(ConnectionError):
                while piece := client.recv(65536):
                    received += piece
            assert received.startswith(b"HTTP/1.1 %d " % status), received[:100]
            assert received.count(b"HTTP/1.1 ") == 1
            assert b"smuggled" not in received


def test_wrk(world: World) -> None:
    wrk = require("wrk")
    told = run(wrk, "-t1", "-c32", "-d2s", world.url("web")).stdout
    assert "Non-2xx" not in told, told
    assert "Socket errors" not in told, told


def test_the_end_of_a_router_under_requests(fresh: World) -> None:
    """The site of two of the services ends: the third answers."""
    world = fresh
    eventually(lambda: len(spread(world, 12)) == 3)
    world.network["B"].stop()
    eventually(lambda: set(spread(world, 6)) == {"one"})


def test_no_port_is_promised_that_nobody_serves(network: Network) -> None:
    network.add("A")
    network.section("A", http_listener("web", "web"))
    network.section("A", http_connector("web", free_port()))
    network.start()
    with kept_alive(network["A"].port("web")) as client:
        assert ask(client, "GET", "/")[0] == 503
    network["A"].wait_for(r"Stopped listening on 127.0.0.1:0 \(web\)")
