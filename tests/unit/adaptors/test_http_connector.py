import pytest

from tests.system.pki import Pki
from tests.unit.adaptors.http_site import GET, OK, Client, FakeProducer, HttpSite, Server
from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, accepted, listening
from tests.unit.adaptors.test_tcp_tls import files, server_context
from vanrouter.core.stream import REJECTED, RELEASED, StreamHead
from vanrouter.engine.messages import STREAM_CONTENT_TYPE
from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles


def test_the_host_is_replaced_where_configured(loop: Loop) -> None:
    site = HttpSite(loop)
    server = Server()
    site.connect_to(server.port, host_override="inside.example")
    port = site.listen().bound_port or 0
    Client(port).send(GET % 1).answer()
    assert b"Host: inside.example" in server.heads[0].split(b"\r\n")
    assert b"Connection: close" not in server.heads[0].split(b"\r\n")


def test_a_server_that_refuses_is_withdrawn_and_found_again(loop: Loop) -> None:
    site = HttpSite(loop)
    gone = Server()
    gone.close()
    connector = site.connect_to(gone.port)
    listener = site.listen()
    status, _ = Client(listener.bound_port or 0).send(GET % 1).answer()
    assert status == 503
    loop.wait_for(lambda: connector.health.withdrawals == 1)
    assert connector.live_attributes()["operStatus"] == "down"
    assert listener.oper_status == "down"


def test_another_service_takes_over(loop: Loop) -> None:
    site = HttpSite(loop)
    gone = Server()
    gone.close()
    site.connect_to(gone.port)
    site.connect_to(Server().port)
    listener = site.listen()
    client = Client(listener.bound_port or 0)
    for number in range(20):
        assert client.send(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % number).answer()[0] == 200
    assert site.details(listener) == {"POST:200": 20}


def test_a_plain_tcp_listener_in_front(loop: Loop) -> None:
    """What it carries is a whole connection: its requests are taken one by one all the same."""
    http = HttpSite(loop)
    servers = [Server() for _ in range(1)]
    connector = http.connect_to(servers[0].port)
    tcp = Site(loop)
    loop.call(tcp.connector.withdraw)
    client = Client(tcp.port)
    for number in range(5):
        assert client.send(GET % number).answer() == (200, b"ok")
    assert len(servers[0].heads) == 5
    assert http.details(connector) == {"GET:200": 5}
    client.sock.close()
    tcp.loop.wait_for(lambda: not tcp.listener.flows)


def test_a_plain_tcp_connector_behind(loop: Loop) -> None:
    http = HttpSite(loop)
    tcp = Site(loop)
    listener = http.listen()
    client = Client(listener.bound_port or 0)
    for number in range(3):
        client.send(GET % number)
        server = accepted(tcp.server)
        request = b""
        while b"\r\n\r\n" not in request:
            request += server.recv(4096)
        assert request.startswith(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" % number)
        server.sendall(OK)
        assert client.answer() == (200, b"ok")
        assert server.recv(10) == b""
        server.close()
    tcp.loop.wait_for(lambda: not tcp.connector.flows)


def test_what_is_no_stream_of_ours_is_released(loop: Loop) -> None:
    site = HttpSite(loop)
    connector = site.connect_to(Server().port)
    for head, outcome in (
        (StreamHead(to="svc", reply_to="r", content_type=None), RELEASED),
        (StreamHead(to="svc", reply_to="r", content_type=STREAM_CONTENT_TYPE, version=2), RELEASED),
        (StreamHead(to="svc", reply_to="r", content_type=STREAM_CONTENT_TYPE, http="9"), RELEASED),
        (StreamHead(to="svc", content_type=STREAM_CONTENT_TYPE), REJECTED),
    ):
        producer = FakeProducer()
        loop.call(lambda head=head, producer=producer: connector.on_stream(head, producer))
        assert producer.outcomes == [outcome]


def test_tls_to_the_server(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> None:
    pki = Pki(tmp_path_factory.mktemp("pki"))
    good = pki.issue("good")
    site = HttpSite(loop)
    server = listening()
    connector = site.connect_to(server.getsockname()[1], tls=files(good), verify_hostname=False)
    listener = site.listen()
    client = Client(listener.bound_port or 0).send(GET % 1)
    secured = server_context(good, alpn=["http/1.1"]).wrap_socket(accepted(server), server_side=True)
    assert secured.selected_alpn_protocol() == "http/1.1"
    assert secured.recv(1000).startswith(b"GET /1 ")
    secured.sendall(OK)
    assert client.answer() == (200, b"ok")
    row = loop.call(lambda: next(iter(connector.pool.connections)).management_row())
    assert row["isEncrypted"]
    with pytest.raises(ConfigError):
        connector.renewed_tls(TlsFiles())
    loop.call(connector.renewed_tls(files(good)))
    assert secured.recv(10) == b""  # idle connections with the old credentials end
    secured.close()


def test_deleted_when_idle(loop: Loop) -> None:
    site = HttpSite(loop)
    connector = site.connect_to(Server().port)
    listener = site.listen(when_unreachable="503")
    client = Client(listener.bound_port or 0).send(GET % 1)
    assert client.answer()[0] == 200
    loop.call(lambda: connector.delete(False))
    assert client.send(GET % 2).answer()[0] == 503
    loop.wait_for(lambda: not connector.pool.connections)


def test_a_server_under_tls_that_does_not_agree_to_http2(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> None:
    good = Pki(tmp_path_factory.mktemp("pki")).issue("good")
    site = HttpSite(loop)
    server = listening()
    port = server.getsockname()[1]
    connector = site.connect_to(port, tls=files(good), verify_hostname=False, protocol="HTTP2")
    listener = site.listen(protocol="HTTP2", retry="none")
    client = Client(listener.bound_port or 0).send(GET % 1)
    with server_context(good, alpn=["http/1.1"]).wrap_socket(accepted(server), server_side=True) as secured:
        assert secured.selected_alpn_protocol() is None
        assert client.answer()[0] == 503
    assert connector.handshake_failures == 1
    assert not connector.pool.connections
