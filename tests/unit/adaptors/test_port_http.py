"""Requests whole and in pieces, wrong ones, pipelines, slow readers, files, TLS beside plain, the way to WebSocket."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.pki import Pki
from tests.unit.adaptors.ports import PortBench, read_all, read_until
from tests.unit.adaptors.streams import Loop
from vanrouter.adaptors import port_http
from vanrouter.adaptors.port_http import FILE_PIECE_BYTES, MAX_BODY_BYTES, MAX_HEAD_BYTES
from vanrouter.adaptors.port_messages import OpenFile, Reply, Request, Response
from vanrouter.net.tls import TlsFiles, listener_context

UPGRADE = (
    b"GET /any HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_an_answer_says_who_and_when(loop: Loop) -> None:
    answer = PortBench(loop).get("/a%20b?c=d")
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head == [
        b"HTTP/1.1 200 OK",
        b"server: skupper-router",
        b"date: Thu, 01 Jan 1970 00:00:00 GMT",
        b"content-type: text/plain; charset=utf-8",
        b"content-length: 9",
        b"Connection: close",
    ]
    assert body_of(answer) == b"GET /a b\n"


def test_octet_by_octet(loop: Loop) -> None:
    sock = PortBench(loop).connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n":
        sock.send(bytes((octet,)))
    read_until(sock, b"GET /slow\n")


def test_requests_sent_ahead_are_answered_in_order(loop: Loop) -> None:
    bench = PortBench(loop)
    count = 500
    pipeline = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(count))
    answer = bench.say(pipeline + b"GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert [request.path for request in bench.answers.requests] == [*(f"/{n}" for n in range(count)), "/end"]
    assert answer.count(b"HTTP/1.1 200 OK") == count + 1
    assert answer.endswith(b"GET /end\n")


def test_head_has_no_body_but_its_length(loop: Loop) -> None:
    answer = PortBench(loop).say(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"content-length: 7\r\n" in answer
    assert body_of(answer) == b""


def test_a_body_is_read_and_forgotten(loop: Loop) -> None:
    body = b"x" * 5000
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + body
    answer = PortBench(loop).say(request + b"GET /2 HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"GET /2\n")
    assert b"POST /\n" in answer


WRONG = {
    "no HTTP": (b"hello\r\n\r\n", b"400"),
    "AMQP": (b"AMQP\x00\x01\x00\x00" + b"\r\n" * 4, b"400"),
    "TLS where there is none": (bytes((0x16, 3, 1)) + b"\n\r\n" * 9, b"400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
    "long head": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MAX_HEAD_BYTES, b"431"),
    "long body": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"b" * (MAX_BODY_BYTES + 1),
        b"413",
    ),
    "version of WebSocket": (UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n", b"426"),
    "key of WebSocket": (UPGRADE.replace(b"dGhl", b"dGh") + b"\r\n", b"400"),
    "sub-protocol": (UPGRADE + b"Sec-WebSocket-Protocol: mqtt\r\n\r\n", b"400"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_get_an_answer_and_the_end(loop: Loop, name: str) -> None:
    request, status = WRONG[name]
    bench = PortBench(loop)
    answer = bench.say(request)
    assert answer.split(b" ")[1] == status, answer
    loop.wait_for(lambda: len(bench.port) == 0)


def test_a_request_that_never_ends_is_cut(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_http, "REQUEST_S", 0.05)
    bench = PortBench(loop)
    silent = bench.connect()
    slow = bench.connect()
    slow.sendall(b"GET / HT")
    body = bench.connect()
    body.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
    assert [read_all(sock) for sock in (silent, slow, body)] == [b"", b"", b""]


def test_an_idle_connection_is_cut(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_http, "IDLE_S", 0.05)
    sock = PortBench(loop).connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_all(sock).endswith(b"GET /\n")


def test_who_does_not_read_is_cut(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_http, "WRITE_S", 0.1)
    bench = PortBench(loop)
    big = Response(pieces=(b"x" * 65536,) * 400)
    bench.answers.then = lambda _request, reply: reply(big)
    sock = bench.connect()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    loop.wait_for(lambda: bench.answers.requests and len(bench.port) == 0)
    with pytest.raises(ConnectionError):
        while sock.recv(65536):
            pass
        raise ConnectionError  # cut without a reset


def test_a_slow_reader_gets_everything(loop: Loop) -> None:
    bench = PortBench(loop)
    big = Response(pieces=[bytes((number % 256,)) * 65536 for number in range(300)])
    bench.answers.then = lambda _request, reply: reply(big)
    assert body_of(bench.get("/")) == b"".join(big.pieces)


def test_an_answer_may_come_later_or_too_late(loop: Loop) -> None:
    bench = PortBench(loop)
    kept: list[Callable[[Response], None]] = []
    bench.answers.then = lambda _request, reply: kept.append(reply)
    patient, gone = bench.connect(), bench.connect()
    for sock in (patient, gone):
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    loop.wait_for(lambda: len(kept) == 2)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
    gone.close()
    loop.wait_for(lambda: len(bench.port) == 1)
    for reply in kept:
        loop.call(lambda reply=reply: reply(Response(pieces=(b"late",))))
    assert read_all(patient).endswith(b"late")


@pytest.mark.parametrize("size", [0, 1, FILE_PIECE_BYTES, 3 * FILE_PIECE_BYTES + 1])
def test_files(loop: Loop, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "f").write_bytes(content)
    opened: list[OpenFile] = []

    def answer(_request: Request, reply: Reply) -> None:
        opened.append(OpenFile(os.open(tmp_path / "f", os.O_RDONLY), size))
        reply(Response(file=opened[-1]))

    bench = PortBench(loop)
    bench.answers.then = answer
    assert body_of(bench.get("/f")) == content
    assert body_of(bench.say(b"HEAD /f HTTP/1.0\r\n\r\n")) == b""
    assert [file.descriptor for file in opened] == [-1, -1]


def test_a_file_that_shrinks_ends_the_connection(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"short")
    bench = PortBench(loop)
    bench.answers.then = lambda _request, reply: reply(
        Response(file=OpenFile(os.open(tmp_path / "f", os.O_RDONLY), 100))
    )
    answer = bench.get("/f")
    assert b"content-length: 100\r\n" in answer
    assert body_of(answer) == b"short"


# TLS.


def secure(bench: PortBench, pki: Pki, *, authenticate: bool = False) -> ssl.SSLContext:
    """Give the port a certificate; the context of a client that trusts it."""
    made = pki.issue("port", host="localhost")
    files = TlsFiles(ca_file=str(made.ca), cert_file=str(made.cert), key_file=str(made.key))
    bench.port.context = listener_context(files, authenticate, ("http/1.1",))
    return ssl.create_default_context(cafile=str(made.ca))


def over_tls(bench: PortBench, context: ssl.SSLContext, request: bytes) -> bytes:
    with bench.connect() as sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(request)
        return read_all(tls)  # type: ignore[arg-type]  # it reads as a socket does


def test_tls_and_plain_on_one_port(loop: Loop, tmp_path: Path) -> None:
    bench = PortBench(loop)
    context = secure(bench, Pki(tmp_path))
    bench.answers.then = lambda _request, reply: reply(Response(pieces=(b"x" * 65536,) * 40))
    assert len(body_of(over_tls(bench, context, b"GET / HTTP/1.0\r\n\r\n"))) == 65536 * 40
    assert len(body_of(bench.get("/"))) == 65536 * 40


def test_tls_may_be_required(loop: Loop, tmp_path: Path) -> None:
    bench = PortBench(loop, requires_tls=True)
    context = secure(bench, Pki(tmp_path))
    assert b"200 OK" in over_tls(bench, context, b"GET / HTTP/1.0\r\n\r\n")
    answer = bench.say(b"GET / HTTP/1.0\r\n\r\n")
    assert not answer.startswith(b"HTTP")
    assert bench.port.handshake_failures == 1


def test_a_client_without_certificate_where_one_is_demanded(loop: Loop, tmp_path: Path) -> None:
    bench = PortBench(loop)
    pki = Pki(tmp_path)
    context = secure(bench, pki, authenticate=True)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        over_tls(bench, context, b"GET / HTTP/1.0\r\n\r\n")
    assert bench.answers.requests == []
    mine = pki.issue("client")
    context.load_cert_chain(mine.cert, mine.key)
    assert b"200 OK" in over_tls(bench, context, b"GET / HTTP/1.0\r\n\r\n")


# WebSocket.


def test_the_way_to_websocket(loop: Loop) -> None:
    bench = PortBench(loop)
    sock = bench.connect()
    sock.sendall(UPGRADE + b"Sec-WebSocket-Protocol: foo, amqp, binary\r\n\r\nearly")
    answer = read_until(sock, b"\r\n\r\n").split(b"\r\n")
    assert answer[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # RFC 6455, section 1.3
    assert b"Sec-WebSocket-Protocol: amqp" in answer
    loop.wait_for(lambda: bench.websockets)
    channel, tls, host = bench.websockets[0]
    assert (channel.has_early, tls, host) == (True, None, "127.0.0.1")
    assert len(bench.port) == 0


@pytest.mark.parametrize(
    ("wanted", "subprotocol", "code"), [(False, b"amqp", 1011), (True, b"", 1002)], ids=["off", "no sub-protocol"]
)
def test_a_websocket_that_ends_at_once(loop: Loop, wanted: bool, subprotocol: bytes, code: int) -> None:
    bench = PortBench(loop, has_websockets=wanted)
    offer = b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol if subprotocol else b""
    answer = bench.say(UPGRADE + offer + b"\r\n")
    head, _, frame = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert frame[0] == 0x88
    assert int.from_bytes(frame[2:4], "big") == code
    assert not bench.websockets


def test_other_upgrades_are_not_heard(loop: Loop) -> None:
    key = base64.b64encode(b"x" * 16).decode()
    answer = PortBench(loop).get("/", "Upgrade: h2c", f"Sec-WebSocket-Key: {key}")
    assert answer.startswith(b"HTTP/1.1 200")
