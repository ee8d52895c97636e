"""HTTP/2 and gRPC through two sites linked by mutual TLS, with clients and services of other hands."""

from __future__ import annotations

import asyncio  # noqa: TID251  # the loop of a client
import contextlib
import hashlib
import json
import queue
import random
import re
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Section, Sites, mutual_credentials, tcp_connector
from tests.system.http_services import grpc_server, http1_server, http2_server, octets, websocket_server
from tests.system.network import eventually
from tests.system.pki import Pki
from tests.system.services import require, run
from vanrouter.adaptors import http2_frames as wire

VERSIONS = {"HTTP1": "--http1.1", "HTTP2": "--http2-prior-knowledge"}


def listener(name: str, protocol: str = "HTTP2", **more: object) -> Section:
    attributes = {"name": name, "address": name, "host": "127.0.0.1", "port": 0, "protocolVersion": protocol}
    return ("httpListener", {**attributes, **more})


def connector(name: str, address: str, port: int, protocol: str = "HTTP2") -> Section:
    attributes = {"name": name, "address": address, "host": "127.0.0.1", "port": port, "protocolVersion": protocol}
    return ("httpConnector", attributes)


@dataclass(frozen=True)
class Services:
    http1: int
    http2: int
    grpc: tuple[int, int, int]
    websocket: int = 0
    tls: int = 0
    tls_http1: int = 0


@pytest.fixture(scope="module")
def services(pki: Pki) -> Iterator[Services]:
    pytest.importorskip("grpc")
    card = pki.issue("localhost")
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    for context, alpn in zip(contexts, ("h2", "http/1.1"), strict=True):
        context.load_cert_chain(card.cert, card.key)
        context.set_alpn_protocols([alpn])
    with contextlib.ExitStack() as stack:
        yield Services(
            stack.enter_context(http1_server()),
            stack.enter_context(http2_server()),
            tuple(stack.enter_context(grpc_server(f"server{number}")) for number in range(3)),  # type: ignore[arg-type]
            stack.enter_context(websocket_server()),
            stack.enter_context(http2_server("behind TLS", contexts[0])),
            stack.enter_context(http2_server("never asked", contexts[1])),
        )


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, services: Services, pki: Pki) -> Sites:
    a, b = mutual_credentials(pki)
    card = pki.issue("localhost")
    return start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=[
            card.ssl_profile("port"),
            listener("http1", "HTTP1"),
            listener("http2"),
            listener("secure", address="http2", sslProfile="port"),
            listener("grpc"),
            listener("plain"),
            listener("websocket", "HTTP1"),
            listener("tls"),
            listener("tls-http1"),
            connector("grpc-here", "grpc", services.grpc[0]),
        ],
        b_sections=[
            connector("to-http1", "http1", services.http1, "HTTP1"),
            connector("to-http2", "http2", services.http2),
            connector("grpc-1", "grpc", services.grpc[1]),
            connector("grpc-2", "grpc", services.grpc[2]),
            tcp_connector("plain", services.http2),
            connector("websocket", "websocket", services.websocket, "HTTP1"),
            ("sslProfile", {"name": "servers", "caCertFile": str(pki.ca)}),
            *[
                ("httpConnector", {**connector(name, name, port)[1], "host": "localhost", "sslProfile": "servers"})
                for name, port in (("tls", services.tls), ("tls-http1", services.tls_http1))
            ],
        ],
    )


def curl(sites: Sites, service: str, path: str, *more: str | Path) -> subprocess.CompletedProcess[str]:
    port = sites.a.port(service)
    return run(require("curl"), "-sS", "--max-time", "30", *more, f"http://127.0.0.1:{port}{path}")


def headers_of(said: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in said["headers"]]


@pytest.mark.parametrize("service", ["http1", "http2"])
@pytest.mark.parametrize("client", VERSIONS)
def test_versions_are_converted(sites: Sites, client: str, service: str) -> None:
    done = curl(
        sites, service, "/path?q=1", VERSIONS[client], "-i", "-H", "Cookie: x=1",
        "-H", "X-Twice: 1", "-H", "X-Twice: 2", "-H", "Host: asked.example",
        "-H", "Connection: X-Hop, keep-alive", "-H", "X-Hop: 1",
    )  # fmt: skip
    head, _, body = done.stdout.partition("\n\n")
    assert re.match(r"HTTP/(1.1|2) 200", head)
    answered = head.lower()
    assert answered.count("set-cookie") == 2
    said = json.loads(body[: body.rindex("}") + 1])
    headers = headers_of(said)
    assert dict(headers)[":method"] == "GET"
    assert dict(headers)[":path"] == "/path?q=1"
    assert "asked.example" in (dict(headers).get("host"), dict(headers).get(":authority"))
    assert [value for name, value in headers if name == "x-twice"] == ["1", "2"]
    assert dict(headers)["cookie"] == "x=1"
    if client == "HTTP1":
        assert "x-hop" not in dict(headers)


@pytest.mark.parametrize("service", ["http1", "http2"])
@pytest.mark.parametrize("client", VERSIONS)
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_bodies_of_any_size(sites: Sites, tmp_path: Path, client: str, service: str, length: str) -> None:
    content = random.Random(3).randbytes(5_000_001)
    file = tmp_path / "up"
    file.write_bytes(content)
    more = ["-H", "Transfer-Encoding: chunked"] if length == "unknown" and client == "HTTP1" else []
    done = curl(sites, service, "/up", VERSIONS[client], *more, "-H", "Expect: 100-continue", "-T", file)
    said = json.loads(done.stdout)
    assert (said["size"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    down = tmp_path / "down"
    curl(sites, service, "/bytes/9000001", VERSIONS[client], "-o", down)
    assert down.read_bytes() == bytes(9_000_001)


@pytest.mark.parametrize("client", VERSIONS)
def test_answers_without_a_body(sites: Sites, client: str) -> None:
    for status in (204, 304):
        done = curl(sites, "http2", f"/status/{status}", VERSIONS[client], "-w", "%{http_code} %{size_download}")
        assert done.stdout == f"{status} 0"
    assert "200" in curl(sites, "http2", "/", VERSIONS[client], "-I").stdout.splitlines()[0]
    assert "103" in curl(sites, "http2", "/hints", VERSIONS[client], "-i").stdout.splitlines()[0]


def test_trailers(sites: Sites) -> None:
    done = run(require("nghttp"), "-v", f"http://127.0.0.1:{sites.a.port('http2')}/")
    assert re.search(r"x-trailer: behind", done.stdout)
    done = run(
        require("nghttp"),
        "-v",
        "--no-content-length",
        "--trailer",
        "x-sum: 5",
        "-d",
        __file__,
        f"http://127.0.0.1:{sites.a.port('http1')}/",
    )
    assert re.search(r"x-trailer: behind", done.stdout)
    assert "x-sum: 5" in done.stdout.lower().split('"trailers"')[1]


def test_failures_of_single_streams(sites: Sites) -> None:
    done = curl(sites, "http2", "/reset", "--http2-prior-knowledge", "-w", "%{http_code}", "-o", "/dev/null")
    assert done.stdout == "502"
    for path in ("/refuse", "/goaway"):
        done = curl(sites, "http2", path, "--http2-prior-knowledge", "-w", "%{http_code}", "-o", "/dev/null")
        assert done.stdout in ("502", "503")
    assert json.loads(curl(sites, "http2", "/after", "--http2-prior-knowledge").stdout)["server"] == "server"


@pytest.mark.parametrize(("offer", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_alpn(sites: Sites, pki: Pki, offer: str, version: str) -> None:
    url = f"https://localhost:{sites.a.port('secure')}/"
    done = run(require("curl"), "-sS", "--max-time", "20", "--cacert", pki.ca, offer,
               "-w", "\n%{http_version}", url)  # fmt: skip
    body, _, spoken = done.stdout.rpartition("\n")
    assert spoken == version
    assert dict(json.loads(body)["headers"])[":scheme"] == "https"


@pytest.mark.parametrize("service", ["http1", "http2"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_httpx(sites: Sites, service: str, version: str) -> None:
    """One client on a few connections that stay open; bodies with and without a known length, both ways."""
    content = random.Random(5).randbytes(700_001)
    digest = hashlib.sha256(content).hexdigest()
    is_http2 = version == "HTTP/2"
    base = f"http://127.0.0.1:{sites.a.port(service)}"
    with httpx.Client(http1=not is_http2, http2=is_http2, base_url=base, timeout=30, trust_env=False) as client:
        for number in range(30):
            answer = client.get(f"/{number}", params={"q": "a b"}, headers=[("X-Twice", "1"), ("X-Twice", "2")])
            assert (answer.status_code, answer.http_version) == (200, version)
            headers = headers_of(answer.json())
            assert dict(headers)[":path"] == f"/{number}?q=a+b"
            assert [value for name, value in headers if name == "x-twice"] == ["1", "2"]
            assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
        for body in (content, (content[at : at + 9999] for at in range(0, len(content), 9999))):
            said = client.put("/up", content=body).json()
            assert (said["size"], said["sha256"]) == (len(content), digest)
        with client.stream("GET", "/bytes/3000001") as answer:
            assert sum(len(piece) for piece in answer.iter_raw()) == 3_000_001
        answer = client.head("/head")
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("is_http2", [False, True])
def test_httpx_asks_many_things_at_once(sites: Sites, pki: Pki, *, is_http2: bool) -> None:
    """Under TLS, where ALPN tells the version; by HTTP/2 on a connection that all share.

    In one thread: those of the blocking client share a connection without a lock around the choice of a stream's
    number, and now and then send two requests on one.
    """
    context = ssl.create_default_context(cafile=str(pki.ca))
    base = f"https://localhost:{sites.a.port('secure')}"

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(
            http2=is_http2, base_url=base, verify=context, timeout=30, trust_env=False, limits=limits
        ) as client:
            return await asyncio.gather(*(client.get(f"/{number}") for number in range(80)))

    answers = asyncio.run(ask())
    version = "HTTP/2" if is_http2 else "HTTP/1.1"
    assert {answer.http_version for answer in answers} == {version}
    assert [dict(answer.json()["headers"])[":path"] for answer in answers] == [f"/{number}" for number in range(80)]


def test_a_plain_tcp_connector_serves_http2(sites: Sites) -> None:
    for client in VERSIONS.values():
        assert json.loads(curl(sites, "plain", "/", client).stdout)["server"] == "server"


def test_a_server_behind_tls(sites: Sites) -> None:
    for client in VERSIONS.values():
        assert json.loads(curl(sites, "tls", "/", client).stdout)["server"] == "behind TLS"
    done = curl(sites, "tls-http1", "/", "-w", "%{http_code}", "-o", "/dev/null")
    assert done.stdout == "503"
    sites.b.wait_for(r"the server does not speak HTTP/2 \(ALPN\); set protocolVersion: HTTP1")


def test_a_websocket_over_http2(sites: Sites) -> None:
    """By extended CONNECT (RFC 8441), to a server that knows only the upgrade of HTTP/1.1."""
    fields = [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"),
        (":authority", "a"), ("sec-websocket-version", "13"),
    ]  # fmt: skip
    events: list[Any] = []
    other = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    other.initiate_connection()
    with socket.create_connection(("127.0.0.1", sites.a.port("websocket")), 20) as client:

        def until(kind: type[Any]) -> Any:
            while True:
                for number, event in enumerate(events):
                    if isinstance(event, kind):
                        del events[: number + 1]
                        return event
                client.sendall(other.data_to_send())
                data = client.recv(65536)
                assert data, "the router has closed"
                events.extend(other.receive_data(data))

        until(h2.events.RemoteSettingsChanged)
        other.send_headers(1, fields)
        answer = until(h2.events.ResponseReceived)
        assert dict(answer.headers)[":status"] == "200"
        for text in (b"one", b"two"):
            other.send_data(1, text)
            assert until(h2.events.DataReceived).data == text
        other.end_stream(1)
        until(h2.events.StreamEnded)


def test_many_streams_at_once(sites: Sites) -> None:
    url = f"http://127.0.0.1:{sites.a.port('http2')}/"
    done = run(require("h2load"), "-n", "2000", "-c", "4", "-m", "8", url)
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    done = run(require("h2load"), "-n", "40", "-c", "1", "-m", "40", f"{url}bytes/1000000")
    assert "40 succeeded, 0 failed" in done.stdout


# --- gRPC -------------------------------------------------------------------------------------------------------------


class Calls:
    """The methods of the tests' gRPC server."""

    def __init__(self, channel: Any) -> None:
        self.unary = channel.unary_unary("/test/unary", octets, octets)
        self.name = channel.unary_unary("/test/name", octets, octets)
        self.down = channel.unary_stream("/test/down", octets, octets)
        self.up = channel.stream_unary("/test/up", octets, octets)
        self.both = channel.stream_stream("/test/both", octets, octets)
        self.fail = channel.unary_unary("/test/fail", octets, octets)
        self.wait = channel.unary_unary("/test/wait", octets, octets)
        self.cancelled = channel.unary_unary("/test/cancelled", octets, octets)


@pytest.fixture
def calls(sites: Sites) -> Iterator[Calls]:
    import grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{sites.a.port('grpc')}", options) as channel:
        yield Calls(channel)


def test_grpc_of_all_four_kinds(calls: Calls) -> None:
    assert calls.unary(b"hi", timeout=20) == b"hi!"
    assert list(calls.down(b"x", timeout=20)) == [b"x%d" % number for number in range(10)]
    assert calls.up(iter([b"a", b"b", b"c"]), timeout=20) == b"abc"
    assert list(calls.both(iter([b"a", b"b"]), timeout=20)) == [b"a?", b"b?"]


def test_grpc_goes_back_and_forth_and_the_server_may_speak_first(calls: Calls) -> None:
    sent: queue.Queue[bytes | None] = queue.Queue()
    call = calls.both(iter(sent.get, None), timeout=30)
    assert dict(call.initial_metadata())["x-server"].startswith("server")  # before any message
    for number in range(20):
        sent.put(b"%d" % number)
        assert next(call) == b"%d?" % number
    sent.put(None)
    assert list(call) == []


def test_grpc_errors_and_metadata(calls: Calls) -> None:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        calls.fail(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "nothing of this name"
    assert dict(caught.value.trailing_metadata())["x-detail-bin"] == b"\x00\xff"


def test_grpc_of_large_messages(calls: Calls) -> None:
    message = random.Random(4).randbytes(3_000_000)
    assert calls.unary(message, timeout=30) == message + b"!"
    assert calls.up(iter([message] * 3), timeout=30) == message * 3


def test_a_call_given_up_is_given_up_at_its_server(calls: Calls) -> None:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        calls.wait(b"", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: any(int(calls.cancelled(b"", timeout=20)) for _ in range(6)))


def test_one_channel_spreads_over_services_at_both_sites(calls: Calls) -> None:
    pending = [calls.name.future(b"", timeout=30) for _ in range(60)]
    names = Counter(future.result() for future in pending)
    assert len(names) == 3, names


# --- hostile ----------------------------------------------------------------------------------------------------------

BLOCK = b"\x82\x86\x84\x41\x03svc"


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return wire.frame_header(len(payload), kind, flags, stream_id) + payload


def rapid_reset() -> Iterator[bytes]:
    for stream_id in range(1, 20_001, 2):
        yield frame(wire.HEADERS, 5, stream_id, BLOCK) + wire.rst_stream(stream_id, 8)


ATTACKS = {
    "rapid reset": rapid_reset,
    "ping flood": lambda: iter([frame(wire.PING, 0, 0, bytes(8)) * 500] * 200),
    "settings flood": lambda: iter([frame(wire.SETTINGS, 0, 0) * 500] * 200),
    "continuation flood": lambda: iter(
        [frame(wire.HEADERS, 1, 1, BLOCK), *[frame(wire.CONTINUATION, 0, 1, bytes(16000))] * 100]
    ),
    "header bomb": lambda: iter([frame(wire.HEADERS, 5, 1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 12_000)]),
    "empty frames": lambda: iter([frame(wire.HEADERS, 4, 1, BLOCK), *[frame(wire.DATA, 0, 1) * 500] * 200]),
    "window overflow": lambda: iter([wire.window_update(0, 2**31 - 1) * 2]),
    "garbage": lambda: iter([random.Random(5).randbytes(100_000)]),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_their_own_connection_and_nothing_else(sites: Sites, attack: str) -> None:
    port = sites.a.port("http2")
    with socket.create_connection(("127.0.0.1", port), 20) as attacker:
        attacker.sendall(wire.PREFACE + wire.settings({}))
        with contextlib.suppress(OSError):
            for octets_ in ATTACKS[attack]():
                attacker.sendall(octets_)
        with contextlib.suppress(ConnectionError):
            while attacker.recv(65536):
                pass
    assert json.loads(curl(sites, "http2", "/", "--http2-prior-knowledge").stdout)["server"] == "server"


def test_a_client_that_never_reads_is_bounded(sites: Sites) -> None:
    """Its windows are open wide; its socket is not read: the router holds no more than its own bound."""
    port = sites.a.port("http2")
    before = sites.a.memory_kb()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            wide = wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31 - 1})
            path = b"\x04\x10/bytes/100000000"
            block = b"\x82\x86" + path + b"\x41\x03svc"
            client.sendall(
                wire.PREFACE + wire.settings({}) + wide + wire.window_update(0, 2**30)
                + b"".join(frame(wire.HEADERS, 5, stream_id, block) for stream_id in range(1, 9, 2))
            )  # fmt: skip
        threading.Event().wait(2.0)
        assert sites.a.memory_kb() - before < 150 * 1024
