import pytest

from tests.system.pki import Pki
from tests.unit.adaptors.http_site import GET, Client, HttpSite, Server
from tests.unit.adaptors.recorder import Recorder
from tests.unit.adaptors.streams import Loop
from tests.unit.adaptors.test_tcp_tls import client_context, files
from vanrouter.adaptors import http_listener
from vanrouter.adaptors.http_exchange import HTTP_2, RequestHead
from vanrouter.adaptors.http_listener import add_forwarded
from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles


def test_the_port_follows_the_address(loop: Loop) -> None:
    site = HttpSite(loop)
    listener = site.listen()
    assert listener.live_attributes()["operStatus"] == "down"
    connector = site.connect_to(Server().port)
    assert listener.live_attributes()["operStatus"] == "up"
    port = listener.bound_port
    client = Client(port or 0).send(GET % 1)
    assert client.answer() == (200, b"ok")
    loop.call(connector.withdraw)
    assert listener.oper_status == "down"
    loop.call(connector.announce)
    assert (listener.oper_status, listener.bound_port) == ("up", port)
    loop.call(lambda: (connector.withdraw(), connector.announce()))
    assert listener.oper_status == "up", listener.connection_msg
    assert client.send(GET % 2).answer() == (200, b"ok")  # connections outlive it


def test_503_while_there_is_no_service(loop: Loop) -> None:
    site = HttpSite(loop)
    listener = site.listen(when_unreachable="503")
    client = Client(listener.bound_port or 0)
    status, text = client.send(GET % 1).answer()
    assert status == 503
    assert b"no service" in text
    site.connect_to(Server().port)
    assert client.send(GET % 2).answer() == (200, b"ok")
    assert site.details(listener) == {"GET:503": 1, "GET:200": 1}


def test_a_port_in_use_is_told(loop: Loop) -> None:
    site = HttpSite(loop)
    taken = Server()
    listener = site.listen(port=str(taken.port), when_unreachable="503")
    assert listener.oper_status == "down"
    assert "Address already in use" in listener.connection_msg


def test_rows_and_ends(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(GET % 1)
    client.answer()
    rows = loop.call(lambda: [entry.management_row() for entry in loop.router.connections.values()])
    assert sorted(row["dir"] for row in rows) == ["in", "out"]
    assert {row["protocol"] for row in rows} == {"http1"}
    assert listener.live_attributes()["connectionsOpened"] == 1
    loop.call(lambda: listener.delete(False))
    assert client.rest() == b""
    loop.wait_for(lambda: listener.live_attributes()["connectionsClosed"] == 1)


def test_deleted_with_its_connections(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server(lambda head: b"HTTP/1.1 100 Continue\r\n\r\n").port)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(GET % 1)
    assert client.head().startswith(b"HTTP/1.1 100")
    loop.call(lambda: listener.delete(True))
    assert client.rest() == b""


def test_what_is_no_http(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")
    assert client.answer()[0] == 400
    assert client.rest() == b""


def test_the_first_octets_may_come_one_by_one(loop: Loop) -> None:
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    client = Client(listener.bound_port or 0)
    for octet in b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n":  # begins as the preface of HTTP/2 does
        client.send(bytes([octet]))
    assert client.answer() == (200, b"ok")
    Client(listener.bound_port or 0).send(b"PR").sock.close()
    loop.wait_for(lambda: len(listener.connections) == 1)


def test_idle_connections_and_endless_heads_are_closed(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "CHECK_S", 0.02)
    site = HttpSite(loop)
    site.connect_to(Server().port)
    listener = site.listen()
    idle = Client(listener.bound_port or 0).send(GET % 1)
    assert idle.answer()[0] == 200
    slow = Client(listener.bound_port or 0).send(GET % 1 + b"GET / HTTP/1.1\r\nHo")
    assert slow.answer()[0] == 200
    assert idle.rest() == b""
    assert slow.rest() == b""


def test_a_request_that_takes_long_is_no_idle_connection(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "CHECK_S", 0.01)
    site = HttpSite(loop)
    server = Server()
    release = []

    def answer(head: bytes) -> bytes:
        loop.wait_for(lambda: release)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    server.answer = answer
    site.connect_to(server.port)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(GET % 1)
    turns = loop.call(lambda: loop.reactor.turns)
    loop.wait_for(lambda: loop.reactor.turns > turns + 30)
    release.append(True)
    assert client.answer()[0] == 200


def test_forwarded_fields(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server()
    site.connect_to(server.port)
    listener = site.listen(forwarded_headers=True)
    Client(listener.bound_port or 0).send(GET % 1).answer()
    fields = server.heads[0].split(b"\r\n")
    assert b"X-Forwarded-For: 127.0.0.1" in fields
    assert b"X-Forwarded-Proto: http" in fields
    assert b"X-Forwarded-Host: a" in fields
    head = RequestHead(b"GET", b"/", [(b"x-forwarded-for", b"10.0.0.1"), (b"X-Forwarded-Proto", b"https")])
    add_forwarded(head, "10.0.0.2")
    assert head.headers == [(b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-For", b"10.0.0.1, 10.0.0.2")]
    head = RequestHead(b"GET", b"/", [], authority=b"a", version=HTTP_2)
    add_forwarded(head, "10.0.0.2")
    assert [name for name, _ in head.headers] == [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"]


def test_tls_with_and_without_alpn(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> None:
    good = Pki(tmp_path_factory.mktemp("pki")).issue("good")
    site = HttpSite(loop)
    server = Server()
    site.connect_to(server.port)
    listener = site.listen(tls=files(good), forwarded_headers=True)
    for alpn in (["http/1.1"], None):
        client = Client(listener.bound_port or 0)
        context = client_context(good, alpn=alpn)
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        assert client.sock.selected_alpn_protocol() == (alpn[0] if alpn else None)
        for number in range(3):
            assert client.send(GET % number).answer() == (200, b"ok")
        client.sock.close()
    assert b"X-Forwarded-Proto: https" in server.heads[0].split(b"\r\n")
    other = Pki(tmp_path_factory.mktemp("other")).issue("other")
    with pytest.raises(ConfigError):
        listener.renewed_tls(TlsFiles(cert_file="/nowhere"))
    loop.call(listener.renewed_tls(files(other)))
    renewed = Client(listener.bound_port or 0)
    renewed.sock = client_context(other).wrap_socket(renewed.sock, server_hostname="localhost")
    assert renewed.send(GET % 1).answer() == (200, b"ok")
    renewed.sock.close()
    plain = Client(listener.bound_port or 0).send(GET % 1)
    assert b"HTTP" not in plain.rest()
    loop.wait_for(lambda: listener.handshake_failures == 1)


def test_drained_when_all_is_answered(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server(lambda head: b"HTTP/1.1 100 Continue\r\n\r\n")
    site.connect_to(server.port)
    listener = site.listen()
    idle = Client(listener.bound_port or 0)
    busy = Client(listener.bound_port or 0).send(GET % 1)
    assert busy.head().startswith(b"HTTP/1.1 100")
    loop.call(listener.shut_down)
    assert idle.rest() == b""
    (sock,) = server._open
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert busy.answer() == (200, b"ok")
    assert busy.rest() == b""
    loop.wait_for(lambda: not listener.connections)


def test_records_of_services_connections_and_requests(loop: Loop) -> None:
    recorder = Recorder()
    site = HttpSite(loop, recorder)
    site.connect_to(Server().port)
    listener = site.listen(retry="none")
    assert [(record.kind.value, record.protocol) for record in recorder.services] == [
        ("connector", "http1"), ("listener", "http1"),
    ]  # fmt: skip
    client = Client(listener.bound_port or 0)
    client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.9, 10.0.0.8\r\nContent-Length: 3\r\n\r\nabc")
    assert client.answer()[0] == 200
    (flow,) = recorder.flows
    loop.call(lambda: next(iter(listener.connections)).tell_next())
    assert client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer()[0] == 200
    loop.wait_for(lambda: recorder.octets == [("flow", True), ("flow", False)])
    assert flow.host == "127.0.0.1"
    assert flow.owner is not None
    assert flow.owner.sent > 60
    client.sock.close()
    loop.wait_for(lambda: flow in recorder.ended)
    one, two = recorder.requests
    assert (one.protocol, one.method, one.result, one.octets, one.octets_reverse) == ("HTTP/1.1", "PUT", "200", 3, 2)
    assert (one.host, two.host, two.protocol) == ("10.0.0.9", "", "HTTP/1.0")
    assert one.flow is two.flow is flow
    assert one.latency_us is not None
    assert recorder.ended == [one, two, flow]
    loop.call(lambda: listener.delete(True))
    assert [record.kind.value for record in recorder.services] == ["connector"]


def test_a_request_without_answer_has_its_record(loop: Loop) -> None:
    recorder = Recorder()
    site = HttpSite(loop, recorder)
    site.connect_to(Server(lambda head: b"").port)
    client = Client(site.listen(retry="none").bound_port or 0).send(GET % 1)
    assert client.answer()[0] == 502
    assert [record.result for record in recorder.requests] == ["502"]
    assert recorder.ended == recorder.requests


def test_a_request_of_http_1_0_without_a_host_gets_one(loop: Loop) -> None:
    heads: list[bytes] = []

    def answer(head: bytes) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    site = HttpSite(loop)
    site.connect_to(Server(answer).port)
    client = Client(site.listen().bound_port or 0)
    assert client.send(b"GET / HTTP/1.0\r\n\r\n").answer()[0] == 200
    assert heads[0].split(b"\r\n")[1] == b"Host: localhost"
