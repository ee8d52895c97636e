"""Between a client's socket and its flow."""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path

import pytest

from tests.system.pki import Pki
from tests.unit.adaptors.recorder import Recorder
from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, receive_all, receive_exactly
from tests.unit.adaptors.test_observer_http2 import Conversation
from vanrouter.adaptors.observer_http2 import BURST_UNITS
from vanrouter.adaptors.observer_tap import MAX_COUNTS, OTHER
from vanrouter.adaptors.tcp_listener import ListenerFlow
from vanrouter.net.tls import TlsFiles

GET = b"GET /path?secret HTTP/1.1\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n"
OK = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello"


def site(loop: Loop, observer: str = "auto", recorder: Recorder | None = None) -> Site:
    return Site(loop, listener={"observer": observer}, recorder=recorder)


def flow_of(made: Site) -> ListenerFlow:
    (flow,) = made.listener.flows
    assert isinstance(flow, ListenerFlow)
    return flow


def ask(made: Site, client: socket.socket, server: socket.socket, request: bytes = GET, answer: bytes = OK) -> None:
    """Send both ways and see that nothing was changed; what is observed has been told of then."""
    client.sendall(request)
    assert receive_exactly(server, len(request)) == request
    server.sendall(answer)
    assert receive_exactly(client, len(answer)) == answer
    made.loop.call(lambda: None)


@pytest.mark.parametrize("observer", ["auto", "http1"])
def test_requests_are_recorded_and_counted(loop: Loop, observer: str) -> None:
    recorder = Recorder()
    made = site(loop, observer, recorder)
    client, server = made.pair()
    ask(made, client, server)
    ask(made, client, server)
    assert flow_of(made).protocol == "http1"
    first, _ = recorder.requests
    assert (first.protocol, first.method, first.result, first.reason) == ("HTTP/1.1", "GET", "200", "Fine")
    assert (first.host, first.octets, first.octets_reverse) == ("10.1.1.1", 0, 5)
    assert first.latency_us is not None
    assert first.flow is recorder.flows[0]
    assert recorder.ended[:2] == recorder.requests
    assert made.listener.requests == {("HTTP/1.1", "GET", "200"): 2}
    client.sendall(GET)
    assert receive_exactly(server, len(GET)) == GET
    client.close()
    server.close()
    made.wait_until_empty()
    assert made.listener.requests[("HTTP/1.1", "GET", "")] == 1


def test_without_who_wants_records_requests_are_counted(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    recorder.is_wanted = False
    caplog.set_level(logging.INFO, "vanrouter.adaptors.observer_http1")
    made = site(loop, "auto", recorder)
    client, server = made.pair()
    ask(made, client, server)  # from now on its head is known
    told = len(recorder.requests)
    before = recorder.flows[0].service.requests
    for _ in range(3):
        ask(made, client, server)
    assert made.listener.requests == {("HTTP/1.1", "GET", "200"): 4}
    assert recorder.flows[0].service.requests == before + 3
    assert len(recorder.requests) == told
    caplog.set_level(logging.DEBUG, "vanrouter.adaptors.observer_http1")
    ask(made, client, server)
    assert "GET /path HTTP/1.1: 200 Fine, 0 octets there and 5 back" in caplog.messages[-1]


@pytest.mark.parametrize("observer", ["auto", "http2"])
def test_requests_of_http2_are(loop: Loop, observer: str) -> None:
    recorder = Recorder()
    made = site(loop, observer, recorder)
    client, server = made.pair()
    conversation = Conversation()
    conversation.request(b"question", b"answer")
    pieces = [("c", conversation.pieces[0][1][:10]), ("c", conversation.pieces[0][1][10:]), *conversation.pieces[1:]]
    for side, data in pieces:
        sender, receiver = (client, server) if side == "c" else (server, client)
        sender.sendall(data)
        assert receive_exactly(receiver, len(data)) == data
    loop.call(lambda: None)
    (request,) = recorder.requests
    assert (request.protocol, request.method, request.result, request.stream_id) == ("HTTP/2", "POST", "200", 1)
    assert (request.octets, request.octets_reverse) == (8, 6)
    assert flow_of(made).protocol == "tcp"


@pytest.mark.parametrize(
    ("observer", "request_", "answer"),
    [
        ("auto", b"\x16\x03\x01\x00", b"\x16\x03\x03"),
        ("auto", GET, b"nonsense"),
        ("http1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x"),
        ("http2", GET, OK),
        ("none", GET, OK),
    ],
)
def test_what_is_not_observed_is_not_in_the_way(loop: Loop, observer: str, request_: bytes, answer: bytes) -> None:
    made = site(loop, observer)
    client, server = made.pair()
    ask(made, client, server, request_, answer)
    flow = flow_of(made)
    assert flow.tap is None
    assert flow.sock is not None
    assert (flow.recv_into, flow.send) == (flow.sock.recv_into, flow.sock.send)
    ask(made, client, server)
    assert set(made.listener.requests) <= {("HTTP/1.1", "GET", "")}


@pytest.mark.parametrize("octets", [10, 20_000])
def test_a_server_that_speaks_first(loop: Loop, octets: int) -> None:
    made = site(loop)
    client, server = made.pair()
    greeting = b"x" * octets
    server.sendall(greeting)
    assert receive_exactly(client, octets) == greeting
    loop.call(lambda: None)
    assert (flow_of(made).tap is None) == (octets > 16_384)
    client.sendall(b"EHLO\r\n")
    assert receive_exactly(server, 6) == b"EHLO\r\n"
    loop.call(lambda: None)
    assert flow_of(made).tap is None


def test_the_preface_alone_is_waited_for(loop: Loop) -> None:
    made = site(loop)
    client, server = made.pair()
    ask(made, client, server, b"PRI *", b"x")
    assert flow_of(made).tap is not None
    ask(made, client, server, b" nothing\r\n\r\n", b"x")
    assert flow_of(made).tap is None


def test_what_cannot_be_afforded_is_left_out(loop: Loop) -> None:
    recorder = Recorder()
    made = site(loop, "auto", recorder)
    budget = made.adaptor.shared.observing_budget
    loop.call(lambda: setattr(budget, "_left", -1e12))
    client, server = made.pair()
    conversation = Conversation()
    conversation.request(b"", b"answer")
    ask(made, client, server, conversation.pieces[0][1], conversation.pieces[1][1])
    assert flow_of(made).tap is None
    assert budget.left_out == 1
    assert BURST_UNITS > 0


def test_the_setting_is_for_those_who_come(loop: Loop) -> None:
    made = site(loop, "none")
    before = made.pair()
    assert made.listener.live_attributes()["observer"] == "none"
    loop.call(lambda: setattr(made.listener, "observer", "http1"))
    assert made.listener.live_attributes()["observer"] == "http1"
    after = made.pair()
    for client, server in (before, after):
        ask(made, client, server)
    assert made.listener.requests == {("HTTP/1.1", "GET", "200"): 1}


def test_different_methods_are_bounded(loop: Loop) -> None:
    made = site(loop)
    client, server = made.pair()
    for number in range(MAX_COUNTS + 10):
        ask(made, client, server, GET.replace(b"GET", b"M%d" % number))
    counts = made.listener.requests
    assert len(counts) == MAX_COUNTS + 1
    assert counts[OTHER] == 10


def test_a_terminated_tls_session_is_observed(loop: Loop, tmp_path: Path) -> None:
    files = Pki(tmp_path).issue("good")
    tls = TlsFiles(ca_file=str(files.ca), cert_file=str(files.cert), key_file=str(files.key))
    recorder = Recorder()
    made = Site(loop, listener={"tls": tls}, recorder=recorder)
    context = ssl.create_default_context(cafile=str(files.ca))
    client = context.wrap_socket(made.client(), server_hostname="localhost")
    server, _ = made.server.accept()
    server.settimeout(10)
    ask(made, client, server)
    assert [request.result for request in recorder.requests] == ["200"]
    client.close()
    assert receive_all(server) == b""
    server.close()
    made.wait_until_empty()


def test_each_request_can_be_logged_without_its_query(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vanrouter.adaptors.observer_http1")
    made = site(loop)
    client, server = made.pair()
    ask(made, client, server)
    assert "GET /path HTTP/1.1: 200 Fine, 0 octets there and 5 back" in caplog.text
    assert "secret" not in caplog.text
