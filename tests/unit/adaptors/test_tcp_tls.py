import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.pki import Credentials, Pki
from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, accepted, receive_all, receive_exactly, reset
from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def good(pki: Pki) -> Credentials:
    return pki.issue("good")


def files(credentials: Credentials, **more: str | None) -> TlsFiles:
    return TlsFiles(
        **{
            "ca_file": str(credentials.ca),
            "cert_file": str(credentials.cert),
            "key_file": str(credentials.key),
            **more,
        }  # type: ignore[arg-type]
    )


def client_context(credentials: Credentials, *, shows: bool = True, alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(credentials.ca))
    if shows:
        context.load_cert_chain(credentials.cert, credentials.key)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def server_context(credentials: Credentials, *, demands: bool = False, alpn: list[str] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.cert, credentials.key)
    if demands:
        context.load_verify_locations(credentials.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Secured:
    """A blocking TLS end that can close one direction, which Python's own socket class cannot."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self.do(self.session.do_handshake)

    def flush(self) -> None:
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    def do(self, work: Callable[[], object]) -> object:
        while True:
            try:
                answer = work()
            except ssl.SSLWantReadError:
                self.flush()
                octets = self.sock.recv(1 << 16)
                if octets:
                    self.incoming.write(octets)
                else:
                    self.incoming.write_eof()
                continue
            finally:
                with contextlib.suppress(OSError):
                    self.flush()
            return answer

    def send(self, data: bytes) -> None:
        self.session.write(data)
        self.flush()

    def receive(self) -> bytes:
        try:
            return bytes(self.do(lambda: self.session.read(1 << 16)))  # type: ignore[arg-type]
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def receive_all(self) -> bytes:
        data = b""
        while piece := self.receive():
            data += piece
        return data

    def receive_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.receive()
            assert piece
            data += piece
        return data

    def finish(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.session.unwrap()
        self.flush()


def secure_client(site: Site, credentials: Credentials, **more: object) -> Secured:
    return Secured(site.client(), client_context(credentials, **more), "localhost")  # type: ignore[arg-type]


def test_a_listener_speaks_tls(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good, shows=False)
    server = accepted(site.server)
    client.send(b"hello")
    assert receive_exactly(server, 5) == b"hello"
    server.sendall(b"world")
    assert client.receive_exactly(5) == b"world"
    rows = loop.call(lambda: [row.management_row() for row in loop.router.connections.values()])
    assert [row["sslProto"] for row in rows if row["isEncrypted"]] == ["TLSv1.3"]
    client.finish()
    assert receive_all(server) == b""
    server.sendall(b"after end of file")
    server.close()
    assert client.receive_all() == b"after end of file"
    client.sock.close()
    site.wait_until_empty()


def test_the_server_may_finish_first(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good)
    server = accepted(site.server)
    server.sendall(b"last words")
    server.shutdown(socket.SHUT_WR)
    assert client.receive_all() == b"last words"
    client.send(b"still speaking")
    assert receive_exactly(server, 14) == b"still speaking"
    client.finish()
    client.sock.close()
    assert receive_all(server) == b""
    server.close()
    site.wait_until_empty()


def test_end_of_file_without_a_notice_is_one(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good)
    server = accepted(site.server)
    client.send(b"x")
    client.sock.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"x"
    server.close()
    site.wait_until_empty()


@pytest.mark.parametrize(
    ("offers", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], "h2"), (None, None), (["h2", "x"], "h2")]
)
def test_the_listeners_choice_of_protocol_travels(
    loop: Loop, good: Credentials, offers: list[str] | None, chosen: str | None
) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good, alpn=offers)
    accepted(site.server)
    assert client.session.selected_alpn_protocol() == chosen
    assert loop.router.heads[0].alpn == chosen


def test_a_client_without_a_certificate_is_refused(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good), "authenticate_peer": True})
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client = secure_client(site, good, shows=False)
        client.do(lambda: client.session.read(10))
    assert loop.router.heads == []
    secure_client(site, good)
    accepted(site.server)
    loop.wait_for(lambda: site.listener.handshake_failures == 1)


def test_garbage_and_silence_leave_no_trace(loop: Loop, good: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.tcp_tls.HANDSHAKE_TIMEOUT_S", 0.2)
    site = Site(loop, listener={"tls": files(good)})
    garbage, silent, short, rude = (site.client() for _ in range(4))
    garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
    short.shutdown(socket.SHUT_WR)
    reset(rude)
    for client in (garbage, silent, short):
        with contextlib.suppress(ConnectionResetError):
            receive_all(client)
    site.wait_until_empty()
    assert loop.router.heads == []


@pytest.mark.parametrize("speaks_tls", [False, True])
def test_the_last_address_is_deleted_during_the_handshake(loop: Loop, good: Credentials, speaks_tls: bool) -> None:
    site = Site(loop, listener={"tls": files(good), "address": None, "strategy": "priority"})
    loop.call(lambda: site.adaptor.add_listener_address("l", "only", "svc", 1))
    client = site.client()
    loop.wait_for(lambda: site.listener.flows)
    loop.call(lambda: site.adaptor.remove_listener_address("l", "only"))
    if speaks_tls:
        with contextlib.suppress(OSError):
            Secured(client, client_context(good), "localhost").receive()
    else:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    site.wait_until_empty()
    assert not loop.reactor.crashes


@pytest.mark.parametrize("is_c_router", [False, True])
def test_a_connector_speaks_tls(loop: Loop, good: Credentials, is_c_router: bool) -> None:
    loop.router.is_c_router = is_c_router
    site = Site(loop, connector={"tls": files(good), "host": "localhost"})
    client = site.client()
    client.sendall(b"early")
    server = Secured(accepted(site.server), server_context(good, demands=True), None)
    assert server.receive_exactly(5) == b"early"
    server.send(b"answer")
    assert receive_exactly(client, 6) == b"answer"
    client.shutdown(socket.SHUT_WR)
    assert server.receive_all() == b""
    server.send(b"after end of file")
    server.finish()
    server.sock.close()
    assert receive_all(client) == b"after end of file"
    client.close()
    site.wait_until_empty()


def test_a_connector_offers_what_the_client_negotiated(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)}, connector={"tls": files(good), "host": "localhost"})
    names: list[str] = []
    context = server_context(good, alpn=["http/1.1", "h2"])
    context.sni_callback = lambda _session, name, _context: names.append(name)  # type: ignore[assignment]
    client = secure_client_later(site, good, ["h2"])
    server = Secured(accepted(site.server), context, None)
    assert server.session.selected_alpn_protocol() == "h2"
    assert names == ["localhost"]
    client().send(b"x")
    assert server.receive_exactly(1) == b"x"


def test_files_that_are_gone_end_the_flow_alone(loop: Loop, pki: Pki) -> None:
    mine = pki.issue("gone")
    site = Site(loop, listener={"tls": files(mine)}, connector={"tls": files(mine), "host": "localhost"})
    trusting = client_context(mine, alpn=["h2"])
    Path(mine.cert).unlink()
    client = Secured(site.client(), trusting, "localhost")
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        assert client.receive_all() == b""
    loop.wait_for(lambda: site.connector.handshake_failures == 1)
    site.wait_until_empty()
    assert not loop.reactor.crashes


def secure_client_later(site: Site, credentials: Credentials, alpn: list[str]) -> Callable[[], Secured]:
    """Connect beside the test, which has to play the server meanwhile."""
    made: list[Secured] = []
    thread = threading.Thread(target=lambda: made.append(secure_client(site, credentials, alpn=alpn)))
    thread.start()

    def get() -> Secured:
        thread.join(10)
        return made[0]

    return get


@pytest.mark.parametrize("fault", ["untrusted", "name", "expired", "plain"])
def test_a_server_that_is_not_who_it_should_be(
    loop: Loop, pki: Pki, good: Credentials, tmp_path: Path, fault: str
) -> None:
    site = Site(loop, connector={"tls": files(good), "host": "localhost"})
    wrong = {
        "untrusted": lambda: Pki(tmp_path / "other").issue("untrusted"),
        "name": lambda: pki.issue("name", host="elsewhere"),
        "expired": lambda: pki.issue("expired", expired=True),
        "plain": lambda: good,
    }[fault]()
    client = site.client()
    raw = accepted(site.server)
    if fault == "plain":
        raw.sendall(b"220 smtp ready\r\n")
    else:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            Secured(raw, server_context(wrong), None).receive()
    with contextlib.suppress(ConnectionResetError):
        assert receive_all(client) == b""
    assert site.connector.handshake_failures == 1
    client.close()
    raw.close()
    site.wait_until_empty()


def test_a_name_need_not_be_verified(loop: Loop, pki: Pki) -> None:
    other = pki.issue("other", host="elsewhere")
    site = Site(loop, connector={"tls": files(other), "host": "localhost", "verify_hostname": False})
    client = site.client()
    server = Secured(accepted(site.server), server_context(other), None)
    client.sendall(b"x")
    assert server.receive_exactly(1) == b"x"


def test_renewed_credentials_are_for_new_connections(loop: Loop, pki: Pki, good: Credentials, tmp_path: Path) -> None:
    site = Site(loop, listener={"tls": files(good)}, connector={"tls": files(good), "host": "localhost"})
    other = Pki(tmp_path / "other").issue("renewed", host="localhost")
    before = secure_client(site, good)
    server = Secured(accepted(site.server), server_context(good), None)
    for service in (site.listener, site.connector):
        with pytest.raises(ConfigError, match="Failed to configure TLS caCertFile /nowhere for sslProfile 'p'"):
            service.renewed_tls(files(other, name="p", ca_file="/nowhere"))
        loop.call(service.renewed_tls(files(other)))
    before.send(b"goes on")
    assert server.receive_exactly(7) == b"goes on"
    with pytest.raises(ssl.SSLCertVerificationError):
        secure_client(site, good)
    after = secure_client(site, other)
    renewed = Secured(accepted(site.server), server_context(other, demands=True), None)
    after.send(b"new")
    assert renewed.receive_exactly(3) == b"new"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bulk_is_exact(loop: Loop, good: Credentials, direction: str) -> None:
    site = Site(loop, listener={"tls": files(good)}, connector={"tls": files(good), "host": "localhost"})
    later = secure_client_later(site, good, ["h2"])
    server = Secured(accepted(site.server), server_context(good), None)
    client = later()
    source, target = (client, server) if direction == "up" else (server, client)
    data = bytes(range(256)) * 4096 * 8

    def send() -> None:
        for offset in range(0, len(data), 100_000):
            source.send(data[offset : offset + 100_000])
        source.finish()

    thread = threading.Thread(target=send)
    thread.start()
    assert target.receive_all() == data
    thread.join(10)
    target.finish()
    for end in (client, server):
        end.sock.close()
    site.wait_until_empty()


def test_a_reader_that_stops_is_waited_for(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good)
    server = accepted(site.server)
    server.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200 * MEBIBYTE:
            sent += server.send(bytes(MEBIBYTE))
    server.close()
    assert len(client.receive_all()) == sent
    client.finish()
    client.sock.close()
    site.wait_until_empty()


def test_a_reset_is_seen_with_much_to_write(loop: Loop, good: Credentials) -> None:
    site = Site(loop, listener={"tls": files(good)})
    client = secure_client(site, good)
    server = accepted(site.server)
    server.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            server.send(bytes(MEBIBYTE))
    reset(client.sock)
    server.settimeout(10)
    with pytest.raises(ConnectionResetError):
        receive_all(server)
    site.wait_until_empty()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("has_notice", [False, True])
def test_who_has_finished_still_gets_its_answer(
    loop: Loop, good: Credentials, version: ssl.TLSVersion, has_notice: bool
) -> None:
    """Many clients shut down their socket without the notice of TLS: their half-close is one all the same."""
    site = Site(loop, listener={"tls": files(good)})
    context = client_context(good)
    context.minimum_version = context.maximum_version = version
    client = Secured(site.client(), context, "localhost")
    server = accepted(site.server)
    client.send(b"question")
    if has_notice:
        client.finish()
    client.sock.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b"question"
    server.sendall(b"answer" * 20_000)
    server.close()
    assert client.receive_all() == b"answer" * 20_000
    site.wait_until_empty()


def test_a_server_of_tls_that_has_finished_still_gets_the_rest(loop: Loop, good: Credentials) -> None:
    site = Site(loop, connector={"tls": files(good), "host": "localhost"})
    client = site.client()
    server = Secured(accepted(site.server), server_context(good), None)
    server.send(b"greeting")
    server.sock.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"greeting"
    client.sendall(b"rest")
    client.shutdown(socket.SHUT_WR)
    assert server.receive_all() == b"rest"
    site.wait_until_empty()
