import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.system.pki import Credentials, Pki
from vanrouter.errors import ConfigError
from vanrouter.net.tls import Tls, TlsFiles, connector_context, listener_context

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Pki(tmp_path_factory.mktemp("pki")).issue("good")


def files(credentials: Credentials, **more: str | None) -> TlsFiles:
    return TlsFiles(
        **{
            "ca_file": str(credentials.ca),
            "cert_file": str(credentials.cert),
            "key_file": str(credentials.key),
            **more,
        }  # type: ignore[arg-type]
    )


def test_profiles_are_checked(good: Credentials, tmp_path: Path) -> None:
    for make in (
        lambda: listener_context(TlsFiles(), False),
        lambda: listener_context(files(good, ca_file=None), True),
        lambda: listener_context(files(good, cert_file=str(tmp_path / "none")), False),
        lambda: listener_context(files(good, ciphers="no such cipher"), False),
        lambda: connector_context(TlsFiles(), True, None),
        lambda: connector_context(TlsFiles(ca_file=str(good.key)), True, None),
    ):
        with pytest.raises(ConfigError, match="sslProfile"):
            make()


def test_a_key_that_needs_a_password_is_never_asked_for_at_a_terminal(good: Credentials, tmp_path: Path) -> None:
    key = load_pem_private_key(Path(good.key).read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")))
    listener_context(files(good, key_file=str(locked), password="open sesame"), False)
    code = f"from vanrouter.net.tls import *; listener_context({files(good, key_file=str(locked))!r}, False)"
    # A session of its own has no terminal: whoever asks then reads from the standard input, and waits for ever.
    asked = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert asked.wait(PATIENCE_S) == 1
    finally:
        asked.kill()
        _, said = asked.communicate()
    assert b"pass phrase" not in said
    with pytest.raises(ConfigError, match="the password is to open the key"):
        listener_context(files(good, key_file=str(locked)), False)


def pair(good: Credentials, left: socket.socket, right: socket.socket, offered: str | None) -> tuple[Tls, Tls]:
    for sock in (left, right):
        sock.setblocking(False)
    server = Tls(left, listener_context(files(good), False, ["h2", "http/1.1"]), None)
    client = Tls(right, connector_context(files(good), False, offered), "localhost")
    is_done = [False, False]
    while not all(is_done):
        is_done = [done or end.do_handshake() for done, end in zip(is_done, (client, server), strict=True)]
    return server, client


def test_a_full_buffer_says_that_there_may_be_more(good: Credentials) -> None:
    """The session holds what no event of the socket will tell of."""
    left, right = socket.socketpair()
    server, client = pair(good, left, right, None)
    client.send(b"x" * 2500)
    buffer = bytearray(1000)
    counts = [server.recv_into(buffer)]
    while server.has_rest:
        counts.append(server.recv_into(buffer))
    assert counts == [1000, 1000, 500]
    client.send(b"x" * 1000)
    assert server.recv_into(buffer) == 1000
    assert server.has_rest
    with pytest.raises(BlockingIOError):
        server.recv_into(buffer)
    assert not server.has_rest
    left.close()
    right.close()


@pytest.mark.parametrize(("offered", "chosen"), [("h2", "h2"), ("http/1.1", "http/1.1"), (None, None)])
def test_octets_and_protocol_between_two_sessions(good: Credentials, offered: str | None, chosen: str | None) -> None:
    left, right = socket.socketpair()
    server, client = pair(good, left, right, offered)
    assert server.session.selected_alpn_protocol() == chosen
    assert client.send(b"hello") == 5
    buffer = bytearray(10)
    assert server.recv_into(buffer) == 5
    assert buffer[:5] == b"hello"
    with pytest.raises(BlockingIOError):
        server.recv_into(buffer)
    assert client.close_output()
    right.close()
    assert server.recv_into(buffer) == 0
    assert server.has_ended
    left.close()


def test_what_is_no_tls_fails(good: Credentials) -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    server = Tls(left, listener_context(files(good), False), None)
    right.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        server.do_handshake()
    left.close()
    right.close()
