"""What the port answers, and AMQP over WebSocket to the management node."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Request
from wsproto.events import CloseConnection as Closed

from tests.system.pki import Credentials, Pki
from tests.unit.server.sites import ROUTER, Bench
from vanrouter.errors import ConfigError
from vanrouter.server.port import certificate_user

HTTP = """
listener {
    name: l
    host: 127.0.0.1
    port: 0
    http: yes
    %s
}
"""
AMQP_HEADER = b"AMQP\0\1\0\0"
OPEN = bytes.fromhex("0000001102000000005310c00401a10163")
"""With the container id `c`."""


class Web:
    """Clients of the port of a site in the test's process."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.open: list[socket.socket] = []
        self.further: list[object] = []
        """Events that came with the last upgrade."""

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.bench.port()), 5)
        self.open.append(sock)
        sock.setblocking(False)
        return sock

    def turn(self) -> None:
        self.bench.reactor.run_once(0.005)
        self.bench.time += 0.002

    def read(self, sock: socket.socket, is_enough: Callable[[bytes], bool]) -> bytes:
        data = b""
        for _ in range(2000):
            self.turn()
            try:
                part = sock.recv(1 << 20)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            data += part
            if not part or is_enough(data):
                return data
        raise AssertionError(data)

    def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, bytes, bytes]:
        """Status, head and body."""
        sock = self.connect()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
        sock.send("\r\n".join(lines).encode())
        head, _, body = self.read(sock, lambda _data: False).partition(b"\r\n\r\n")
        return int(head.split()[1]), head, body

    def websocket(self, sock: socket.socket) -> WSConnection:
        client = WSConnection(ConnectionType.CLIENT)
        sock.send(client.send(Request(host="localhost", target="/", subprotocols=["amqp"])))
        client.receive_data(self.read(sock, lambda data: data.endswith(b"\r\n\r\n")))
        event, *self.further = client.events()
        assert isinstance(event, AcceptConnection)
        assert event.subprotocol == "amqp"
        return client


@pytest.fixture
def web(bench_of: Callable[[str], Bench]) -> Iterator[Callable[[str], Web]]:
    made: list[Web] = []

    def start(text: str) -> Web:
        made.append(Web(bench_of(text).start()))
        return made[-1]

    yield start
    for each in made:
        for sock in each.open:
            sock.close()


def test_probes(web: Callable[[str], Web]) -> None:
    port = web(ROUTER + HTTP % "")
    assert port.get("/healthz")[::2] == (200, b"OK\n")
    assert port.get("/readyz")[::2] == (200, b"OK\n")
    assert port.get("/healthz", method="HEAD")[::2] == (200, b"")
    status, head, _ = port.get("/healthz", method="DELETE")
    assert status == 405
    assert b"allow: GET, HEAD, POST" in head
    port.bench.site.is_shutting_down = True
    assert port.get("/readyz")[::2] == (503, b"the router is shutting down\n")
    port.bench.site.is_shutting_down = False


def test_what_is_off_is_not_found(web: Callable[[str], Web]) -> None:
    port = web(ROUTER + HTTP % "healthz: no\n    metrics: no")
    assert [port.get(path)[0] for path in ("/healthz", "/readyz", "/metrics", "/")] == [404] * 4


def test_all_series_for_whoever_says_what_it_reads(web: Callable[[str], Web]) -> None:
    port = web(ROUTER + HTTP % "")
    status, head, body = port.get("/metrics", "Accept: text/plain")
    assert status == 200
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert b"\nqdr_connections_total 0.0\n" in body
    assert b"\nvanrouter_build_info{" in body


def test_the_c_routers_series_alone_for_who_does_not(web: Callable[[str], Web]) -> None:
    status, _, body = web(ROUTER + HTTP % "").get("/metrics/x")
    lines = body.decode().splitlines()
    assert status == 200
    assert lines[:2] == ["# TYPE qdr_connections_total gauge", "qdr_connections_total 0"]
    assert all(line.startswith(("qd", "# TYPE qd")) for line in lines)


def test_a_source_that_raises_is_an_answer(web: Callable[[str], Web], monkeypatch: pytest.MonkeyPatch) -> None:
    port = web(ROUTER + HTTP % "")

    def broken(_site: object) -> Iterator[None]:
        raise RuntimeError("broken")
        yield

    monkeypatch.setattr("vanrouter.server.measures.SOURCES", [broken])
    port.bench.allows_crashes = True
    sock = port.connect()
    sock.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
    answer = port.read(sock, lambda data: b"\r\n\r\n" in data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 500")
    assert port.get("/healthz")[0] == 200


def test_files(web: Callable[[str], Web], tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>hello")
    (tmp_path / "healthz").write_text("hidden by the probe")
    port = web(ROUTER + HTTP % f"httpRootDir: {tmp_path}")
    status, head, body = port.get("/")
    assert (status, body) == (200, b"<p>hello")
    tag = next(line.split(b" ")[1] for line in head.splitlines() if line.startswith(b"etag"))
    assert port.get("/", f"If-None-Match: {tag.decode()}")[0] == 304
    assert port.get("/../secret")[0] == 404
    assert port.get("/healthz")[2] == b"OK\n"


def test_a_folder_switches_http_on(web: Callable[[str], Web], tmp_path: Path) -> None:
    port = web(ROUTER + (HTTP % f"httpRootDir: {tmp_path}").replace("    http: yes\n", ""))
    assert port.get("/healthz")[0] == 200


def test_amqp_over_websocket(web: Callable[[str], Web]) -> None:
    port = web(ROUTER + HTTP % "")
    sock = port.connect()
    client = port.websocket(sock)
    sock.send(client.send(BytesMessage(data=AMQP_HEADER)))
    client.receive_data(port.read(sock, lambda data: AMQP_HEADER in data))
    (event,) = client.events()
    assert isinstance(event, BytesMessage)
    assert bytes(event.data) == AMQP_HEADER
    (connection,) = port.bench.site.router.amqp_connections.values()
    assert connection.host == "127.0.0.1"  # without a port (management.md section 13)
    live = port.bench.live("l")
    live.close()  # open connections stay
    port.turn()
    assert port.bench.site.router.amqp_connections
    sock.send(client.send(Closed(code=1000)))
    client.receive_data(port.read(sock, lambda _data: False))
    assert isinstance(list(client.events())[-1], Closed)
    assert not port.bench.site.router.amqp_connections


def test_too_many_connections(web: Callable[[str], Web]) -> None:
    port = web(ROUTER + "policy {\n    maxConnections: 1\n}\n" + HTTP % "")
    first, second = port.connect(), port.connect()
    port.websocket(first)
    client = port.websocket(second)
    client.receive_data(port.read(second, lambda _data: False))
    assert isinstance([*port.further, *client.events()][-1], Closed)
    assert port.bench.site.amqp.refused == 1


# TLS.


@pytest.fixture
def mine(tmp_path: Path) -> Credentials:
    return Pki(tmp_path).issue("client")


def profile(made: Credentials, more: str = "") -> str:
    files = f"certFile: {made.cert}\n    privateKeyFile: {made.key}\n    caCertFile: {made.ca}\n    {more}"
    return f"sslProfile {{\n    name: p\n    {files}\n}}\n"


def secured(port: Web, made: Credentials, *, with_certificate: bool = True) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(made.ca))
    if with_certificate:
        context.load_cert_chain(made.cert, made.key)
    sock = context.wrap_socket(port.connect(), server_hostname="localhost", do_handshake_on_connect=False)
    port.open.append(sock)
    for _ in range(200):
        port.turn()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            continue
        return sock
    raise AssertionError("no handshake")


def test_the_certificate_is_who_it_is(web: Callable[[str], Web], mine: Credentials) -> None:
    listener = HTTP % "sslProfile: p\n    authenticatePeer: yes\n    requireSsl: yes"
    port = web(ROUTER + profile(mine, "uidFormat: on\n    protocols: TLSv1.2") + listener)
    sock = secured(port, mine)
    assert sock.version() == "TLSv1.2"
    client = port.websocket(sock)
    # Without SASL: the certificate has shown who it is.
    sock.send(client.send(BytesMessage(data=AMQP_HEADER + OPEN)))
    for _ in range(100):
        port.turn()
    (connection,) = port.bench.site.router.amqp_connections.values()
    assert connection.is_opened
    security = connection.security
    assert (security.user, security.is_encrypted, security.is_authenticated) == ("vanrouter tests;client", True, True)
    assert security.tls_protocol == "TLSv1.2"


def test_wrong_files_are_named(bench_of: Callable[[str], Bench], tmp_path: Path) -> None:
    text = ROUTER + "sslProfile {\n    name: p\n    certFile: /nonexistent\n}\n" + HTTP % "sslProfile: p"
    with pytest.raises(ConfigError, match="/nonexistent"):
        bench_of(text).start()


def test_a_changed_profile_is_used_from_now_on(web: Callable[[str], Web], mine: Credentials, tmp_path: Path) -> None:
    port = web(ROUTER + profile(mine) + HTTP % "sslProfile: p")
    before = port.bench.live("l").port.context
    (entity,) = port.bench.site.registry.of("sslProfile")
    port.bench.site.update(entity, {"ordinal": 1})
    assert port.bench.live("l").port.context is not before
    sock = secured(port, mine, with_certificate=False)
    sock.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert port.read(sock, lambda _data: False).endswith(b"OK\n")


def test_users_of_certificates() -> None:
    subject = [("organizationName", "o"), ("commonName", "n")]
    assert certificate_user(b"der", subject, None) == "organizationName=o,commonName=n"
    assert certificate_user(b"der", subject, "no") == "n;o"
    assert certificate_user(b"der", subject, "c2") == hashlib.sha256(b"der").hexdigest()
