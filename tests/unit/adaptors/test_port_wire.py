"""What a socket refuses is kept in order and written later, with and without TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from tests.system.pki import Pki
from vanrouter.adaptors.port_wire import Wire
from vanrouter.net.tls import Tls, TlsFiles, listener_context


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


def drain(sock: socket.socket | ssl.SSLSocket) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
        while part := sock.recv(1 << 20):
            data += part
    return data


def test_what_waits_goes_first() -> None:
    ours, theirs = pair()
    wire = Wire(ours)
    pieces = [bytes((number,)) * 100_000 for number in range(50)]
    taken = [wire.write(piece) for piece in pieces]
    assert not all(taken)
    got = drain(theirs)
    while not wire.flush():
        got += drain(theirs)
    assert got + drain(theirs) == b"".join(pieces)
    theirs.sendall(b"hello")
    assert wire.receive() == b"hello"
    with pytest.raises(BlockingIOError):
        wire.receive()
    wire.end_output()
    assert theirs.recv(1) == b""
    theirs.close()
    assert wire.receive() == b""
    assert wire.fileno() == ours.fileno()
    wire.close()
    assert ours.fileno() == -1


def test_over_tls(tmp_path: Path) -> None:
    made = Pki(tmp_path).issue("wire")
    files = TlsFiles(ca_file=str(made.ca), cert_file=str(made.cert), key_file=str(made.key))
    ours, theirs = pair()
    tls = Tls(ours, listener_context(files, False), None)
    context = ssl.create_default_context(cafile=str(made.ca))
    client = context.wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
    is_done = False
    while not is_done:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        is_done = tls.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    wire = Wire(ours)
    assert wire.tls is None
    wire.secure(tls)
    assert wire.tls is tls
    client.send(b"hello")
    assert wire.receive() == b"hello"
    pieces = [bytes((number,)) * 100_000 for number in range(50)]
    taken = [wire.write(piece) for piece in pieces]
    assert not all(taken)
    got = drain(client)
    while not wire.flush():
        got += drain(client)
    assert got + drain(client) == b"".join(pieces)
    wire.end_output()
    assert client.recv(1) == b""
    wire.close()
    client.close()
