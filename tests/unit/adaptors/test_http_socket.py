import socket
import ssl
from typing import Any

import pytest

from tests.system.pki import Credentials, Pki
from tests.unit.adaptors.streams import Loop, connected, listening, opened, receive_all, receive_exactly, reset
from tests.unit.adaptors.test_tcp_tls import client_context, files
from vanrouter.adaptors.http_socket import HIGH_BYTES, SocketTransport
from vanrouter.net.dial import Address
from vanrouter.net.tls import listener_context
from vanrouter.net.wheel import Wheel

MEBIBYTE = 1 << 20


class Codec:
    def __init__(self) -> None:
        self.octets = bytearray()
        self.calls: list[str] = []

    def receive(self, data: bytes | memoryview) -> None:
        self.octets += data

    def receive_end(self) -> None:
        self.calls.append("end")

    def on_lost(self, is_refused: bool) -> None:
        self.calls.append("refused" if is_refused else "lost")

    def on_writable(self) -> None:
        self.calls.append("writable")


class Transport(SocketTransport):
    closed = 0

    def on_closed(self) -> None:
        self.closed += 1


class Pair:
    """A transport in the loop, and a blocking socket at its other end."""

    def __init__(self, loop: Loop, context: ssl.SSLContext | None = None) -> None:
        self.loop = loop
        self.codec = Codec()
        self.wheel = Wheel(loop.reactor)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.sock = opened(theirs)
        self.transport = Transport(loop.reactor, self.wheel, "there")
        self.transport.codec = self.codec
        loop.at_end.append(self.transport.abort)
        if context is not None:
            self.transport.secure(context, None)
        loop.call(lambda: self.transport.take(ours))

    def do(self, work: Any) -> Any:
        return self.loop.call(lambda: work(self.transport))

    def wait(self, call: str) -> None:
        self.loop.wait_for(lambda: call in self.codec.calls)


def test_octets_both_ways(loop: Loop) -> None:
    pair = Pair(loop)
    pair.sock.sendall(b"ask")
    loop.wait_for(lambda: pair.codec.octets == b"ask")
    pair.do(lambda end: [end.write(b"an"), end.write(b"swer")])
    assert receive_exactly(pair.sock, 6) == b"answer"
    loop.wait_for(lambda: (pair.transport.bytes_in, pair.transport.bytes_out) == (3, 6))


@pytest.mark.parametrize("sizes", [[10 * MEBIBYTE], [5, 10 * MEBIBYTE, 5], [1000] * 2000, [5, 20_000, 5, 20_000]])
def test_what_the_socket_refuses_is_kept_in_order(loop: Loop, sizes: list[int]) -> None:
    pair = Pair(loop)
    octets = b"".join(bytes([index % 256]) * size for index, size in enumerate(sizes))
    pair.do(lambda end: [end.write(bytes([index % 256]) * size) for index, size in enumerate(sizes)])
    pair.do(lambda end: end.finish())
    assert receive_all(pair.sock) == octets


def test_the_codec_is_asked_for_silence_and_told_when_it_is_over(loop: Loop) -> None:
    pair = Pair(loop)
    assert pair.do(lambda end: end.write(bytes(MEBIBYTE * 10))) is False
    receive_exactly(pair.sock, 10 * MEBIBYTE)
    pair.wait("writable")
    assert pair.do(lambda end: end.write(b"x")) is True
    assert pair.do(lambda end: [end.write(bytes(8192)) for _ in range(HIGH_BYTES // 8192)])[-1] is False


def test_reading_pauses(loop: Loop) -> None:
    pair = Pair(loop)
    pair.do(lambda end: end.pause())
    pair.sock.sendall(b"ask")
    turns = loop.call(lambda: loop.reactor.turns)
    loop.wait_for(lambda: loop.reactor.turns > turns + 5)
    assert not pair.codec.octets
    pair.do(lambda end: end.resume())
    loop.wait_for(lambda: pair.codec.octets == b"ask")


def test_half_closes(loop: Loop) -> None:
    pair = Pair(loop)
    pair.sock.shutdown(socket.SHUT_WR)
    pair.wait("end")
    pair.do(lambda end: [end.write(b"late"), end.close()])
    assert receive_all(pair.sock) == b"late"
    loop.wait_for(lambda: pair.transport.closed == 1)


def test_close_waits_for_the_other_end(loop: Loop) -> None:
    """Octets that come after the last answer must not make a reset of it."""
    pair = Pair(loop)
    pair.do(lambda end: [end.write(b"bye"), end.close()])
    pair.sock.sendall(bytes(MEBIBYTE))
    assert receive_all(pair.sock) == b"bye"
    assert not pair.transport.closed
    pair.sock.close()
    loop.wait_for(lambda: pair.transport.closed == 1)
    assert not pair.codec.octets
    assert not pair.codec.calls


def test_close_does_not_wait_for_ever(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.http_socket.LINGER_S", 0.05)
    pair = Pair(loop)
    pair.do(lambda end: end.close())
    loop.wait_for(lambda: pair.transport.closed == 1)


def test_resets_are_told(loop: Loop) -> None:
    server = listening()
    for is_paused in (False, True):
        client = connected(server.getsockname()[1])
        sock = server.accept()[0]
        sock.setblocking(False)
        codec, transport = Codec(), Transport(loop.reactor, Wheel(loop.reactor), "there")
        transport.codec = codec
        loop.call(lambda transport=transport, sock=sock: transport.take(sock))
        if is_paused:
            loop.call(transport.pause)
        reset(client)
        loop.wait_for(lambda codec=codec: codec.calls == ["lost"])
        assert transport.closed == 1


def test_abort_is_a_reset(loop: Loop) -> None:
    server = listening()
    client = connected(server.getsockname()[1])
    sock = server.accept()[0]
    sock.setblocking(False)
    transport = Transport(loop.reactor, Wheel(loop.reactor), "there")
    transport.codec = Codec()
    loop.call(lambda: transport.take(sock))
    loop.call(transport.abort)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert transport.closed == 1


def test_connecting(loop: Loop) -> None:
    server = listening()
    codec, transport = Codec(), Transport(loop.reactor, Wheel(loop.reactor), "there")
    transport.codec = codec
    loop.at_end.append(transport.abort)
    loop.call(lambda: [transport.write(b"first"), transport.connect([Address(2, server.getsockname())], 5)])
    assert receive_exactly(opened(server.accept()[0]), 5) == b"first"


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_there(loop: Loop, count: int) -> None:
    server = listening()
    target = Address(2, server.getsockname())
    server.close()
    codec, transport = Codec(), Transport(loop.reactor, Wheel(loop.reactor), "there")
    transport.codec = codec
    loop.call(lambda: [transport.write(b"first"), transport.connect([target] * count, 5)])
    loop.wait_for(lambda: codec.calls == ["refused"])
    assert transport.closed == 1


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Pki(tmp_path_factory.mktemp("pki")).issue("good")


def test_tls(loop: Loop, good: Credentials) -> None:
    pair = Pair(loop, listener_context(files(good), False, ["http/1.1"]))
    with client_context(good, alpn=["http/1.1"]).wrap_socket(pair.sock, server_hostname="localhost") as client:
        client.sendall(b"ask")
        loop.wait_for(lambda: pair.codec.octets == b"ask")
        pair.do(lambda end: end.write(bytes(3 * MEBIBYTE)))
        assert receive_exactly(client, 3 * MEBIBYTE) == bytes(3 * MEBIBYTE)
        pair.wait("writable")
        client.sendall(bytes(MEBIBYTE))
        loop.wait_for(lambda: len(pair.codec.octets) == MEBIBYTE + 3)
        assert pair.do(lambda end: end.encryption())["isEncrypted"]
        pair.do(lambda end: [end.write(b"bye"), end.close()])
        assert receive_all(client) == b"bye"
    loop.wait_for(lambda: pair.transport.closed == 1)


def test_tls_with_somebody_who_is_silent(loop: Loop, good: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.http_socket.HANDSHAKE_TIMEOUT_S", 0.05)
    pair = Pair(loop, listener_context(files(good), False))
    pair.wait("refused")
    assert pair.transport.closed == 1
