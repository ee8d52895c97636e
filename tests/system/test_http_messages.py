"""HTTP in the message form through two sites: both versions, gRPC, many servers with one answer, one-way events."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Section, Sites, mutual_credentials, tcp_connector, tcp_listener
from tests.system.http_services import grpc_server, http1_server, http2_server
from tests.system.network import eventually
from tests.system.pki import Pki
from tests.system.services import require, run
from tests.system.test_http2 import VERSIONS, Calls, Services, connector, curl, listener

FORM = {"form": "message"}


def message_connector(name: str, address: str, port: int, protocol: str = "HTTP2", **more: object) -> Section:
    kind, attributes = connector(name, address, port, protocol)
    return kind, {**attributes, **FORM, **more}


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    pytest.importorskip("grpc")
    with contextlib.ExitStack() as stack:
        yield Services(
            stack.enter_context(http1_server()),
            stack.enter_context(http2_server()),
            tuple(stack.enter_context(grpc_server(f"server{number}")) for number in range(3)),  # type: ignore[arg-type]
        )


class Events(threading.Thread):
    """A server of HTTP/1.1 that keeps what is posted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.bodies: list[bytes] = []
        self.start()

    def run(self) -> None:
        while True:
            client = self._listening.accept()[0]
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            while lines.readline():
                length = 0
                while (line := lines.readline().strip().lower()) != b"":
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.bodies.append(lines.read(length))
                client.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")


@pytest.fixture(scope="module")
def events() -> tuple[Events, Events]:
    return Events(), Events()


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, services: Services, events: tuple[Events, Events], pki: Pki) -> Sites:
    a, b = mutual_credentials(pki)
    many: Section = ("address", {"prefix": "many", "distribution": "multicast"})
    json_mode, multipart = {"aggregation": "json"}, {"aggregation": "multipart"}
    channel = {"eventChannel": True}
    return start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=[
            many,
            listener("http1", "HTTP1", **FORM),
            listener("http2", "HTTP2", **FORM),
            listener("grpc", "HTTP2", **FORM),
            listener("many/json", "HTTP1", **FORM, **json_mode),
            listener("many/parts", "HTTP1", **FORM, **multipart),
            listener("many/events", "HTTP1", **FORM, **channel),
            listener("mixed", "HTTP1", **FORM),
            tcp_listener("mixed-tcp", "mixed2"),
            message_connector("grpc-here", "grpc", services.grpc[0]),
            message_connector("json-here", "many/json", services.http1, "HTTP1", **json_mode),
            message_connector("parts-here", "many/parts", services.http1, "HTTP1", **multipart),
            message_connector("events-here", "many/events", events[0].port, "HTTP1", **channel),
        ],
        b_sections=[
            many,
            message_connector("to-http1", "http1", services.http1, "HTTP1"),
            message_connector("to-http2", "http2", services.http2),
            message_connector("grpc-1", "grpc", services.grpc[1]),
            message_connector("grpc-2", "grpc", services.grpc[2]),
            message_connector("json-there", "many/json", services.http1, "HTTP1", **json_mode),
            message_connector("parts-there", "many/parts", services.http1, "HTTP1", **multipart),
            message_connector("events-there", "many/events", events[1].port, "HTTP1", **channel),
            tcp_connector("mixed", services.http1),
            message_connector("mixed2", "mixed2", services.http1, "HTTP1"),
        ],
    )


@pytest.mark.parametrize("service", ["http1", "http2"])
@pytest.mark.parametrize("client", VERSIONS)
def test_requests_of_any_size(sites: Sites, tmp_path: Path, client: str, service: str) -> None:
    done = curl(sites, service, "/path?q=1", VERSIONS[client], "-i", "-H", "X-Twice: 1", "-H", "X-Twice: 2")
    assert done.stdout.lower().count("set-cookie") == 2
    said = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
    headers = [(name.lower(), value) for name, value in said["headers"]]
    assert [value for name, value in headers if name == "x-twice"] == ["1", "2"]
    assert dict(headers)[":path"] == "/path?q=1"
    content = random.Random(6).randbytes(4_000_001)
    file = tmp_path / "up"
    file.write_bytes(content)
    for more in ([], ["-H", "Transfer-Encoding: chunked"] if client == "HTTP1" else ["-H", "Content-Length:"]):
        said = json.loads(curl(sites, service, "/up", VERSIONS[client], *more, "-T", file).stdout)
        assert (said["size"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    down = tmp_path / "down"
    curl(sites, service, "/bytes/9000001", VERSIONS[client], "-o", down)
    assert down.read_bytes() == bytes(9_000_001)
    assert "200" in curl(sites, service, "/", VERSIONS[client], "-I").stdout.splitlines()[0]


def test_many_streams_at_once(sites: Sites) -> None:
    url = f"http://127.0.0.1:{sites.a.port('http2')}/"
    done = run(require("h2load"), "-n", "1000", "-c", "4", "-m", "8", url)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout


def test_grpc(sites: Sites) -> None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{sites.a.port('grpc')}") as channel:
        calls = Calls(channel)
        assert calls.unary(b"hi", timeout=20) == b"hi!"
        assert list(calls.down(b"x", timeout=20)) == [b"x%d" % number for number in range(10)]
        assert calls.up(iter([b"a", b"b"]), timeout=20) == b"ab"
        assert list(calls.both(iter([b"a", b"b"]), timeout=20)) == [b"a?", b"b?"]
        big = random.Random(7).randbytes(2_000_000)
        assert calls.unary(big, timeout=30) == big + b"!"
        with pytest.raises(grpc.RpcError) as caught:
            calls.fail(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            calls.wait(b"", timeout=0.3)
        names = Counter(call.result() for call in [calls.name.future(b"", timeout=30) for _ in range(60)])
        assert len(names) == 3, names


def test_many_servers_and_one_answer(sites: Sites, tmp_path: Path) -> None:
    eventually(lambda: len(json.loads(curl(sites, "many/json", "/").stdout)) == 2)
    for body in ("small", "x" * 300_000):
        (tmp_path / "body").write_text(body)
        posted = ["--data-binary", f"@{tmp_path / 'body'}"]
        rows = json.loads(curl(sites, "many/json", "/p", *posted).stdout)
        assert len(rows) == 2
        for row in rows:
            assert json.loads(row["body"])["size"] == len(body)
            assert row[":version"] == "1.1"
        parts = curl(sites, "many/parts", "/p", "-i", *posted).stdout
        assert "multipart/mixed; boundary=" in parts
        assert parts.count('"size": ') == 2


def test_what_is_too_long_for_many_is_refused_in_words(sites: Sites, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(17 << 20))
    for address in ("many/json", "many/events"):
        said = curl(sites, address, "/p", "-X", "POST", "-T", tmp_path / "body", "-w", " %{http_code}").stdout
        assert said.endswith(" 413"), said
        assert "it may have 16 MiB" in said
    # curl gives up when it is answered in the middle of its stream.
    done = run(require("nghttp"), "-d", tmp_path / "body", f"http://127.0.0.1:{sites.a.port('many/json')}/p")
    assert "it may have 16 MiB" in done.stdout
    for address in ("many/json", "many/parts"):  # each answer is taken, both together are too long
        said = curl(sites, address, "/bytes/9000000", "-w", " %{http_code}").stdout
        assert said.endswith(" 502"), said[-200:]
        assert "longer than the 16 MiB" in said


def test_events_go_to_all(sites: Sites, events: tuple[Events, Events]) -> None:
    done = curl(sites, "many/events", "/", "-d", "happened", "-w", "%{http_code}")
    assert done.stdout == "204"
    eventually(lambda: all(service.bodies == [b"happened"] for service in events))
    done = curl(sites, "many/events", "/", "-w", " %{http_code}", "-v", "--http1.1")
    assert done.stdout.endswith("only POST is allowed. 405")
    assert "< Connection: close" in done.stderr


def test_encapsulations_are_not_mixed_up(sites: Sites) -> None:
    """A request as a message comes to a TCP connector, and a TCP stream to a connector of messages: both released."""
    done = curl(sites, "mixed", "/", "-w", " %{http_code}")
    assert done.stdout.endswith("503")
    with socket.create_connection(("127.0.0.1", sites.a.port("mixed-tcp")), 20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert client.recv(1000) == b""
