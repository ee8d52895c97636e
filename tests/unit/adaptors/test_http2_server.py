"""Our server with the client of h2, an independent implementation."""

import gc
import weakref

import h2.events
import pytest

from tests.unit.adaptors.http2_peers import BLOCK, Line, OtherClient, RawClient, Service, frame, frames
from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_frames import ErrorCode
from vanrouter.adaptors.http2_server import Http2Server
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, ResponseHead


def test_a_request_and_its_answer() -> None:
    client = OtherClient()
    client.request((b"x-a", b"1"))
    exchange = client.service.last
    assert (exchange.head.method, exchange.head.length, exchange.head.headers) == (b"GET", 0, [(b"x-a", b"1")])
    assert exchange.trailers is None  # it ended with its head
    exchange.answer(200, b"hello", [(b"Content-Type", b"text/plain")])
    client.settle()
    (answer,) = client.of(h2.events.ResponseReceived)
    assert answer.headers == [(b":status", b"200"), (b"content-type", b"text/plain")]
    assert client.of(h2.events.DataReceived)[0].data == b"hello"
    assert client.of(h2.events.StreamEnded)
    assert client.server.is_idle


def test_a_body_with_trailers_both_ways() -> None:
    client = OtherClient()
    stream_id = client.request(method=b"POST", end=False)
    exchange = client.service.last
    assert exchange.head.length is None
    client.h2.send_data(stream_id, b"question", pad_length=7)
    client.h2.send_headers(stream_id, [(b"x-sum", b"1")], end_stream=True)
    client.settle()
    assert (exchange.body, exchange.trailers) == (b"question", ((b"x-sum", b"1"),))
    exchange.requester.on_response(ResponseHead(200, [], length=None))
    exchange.requester.on_data(b"answer")
    exchange.requester.on_end([(b"Grpc-Status", b"0")])
    client.settle()
    assert client.of(h2.events.TrailersReceived)[0].headers == [(b"grpc-status", b"0")]


def test_informational_heads_come_first() -> None:
    client = OtherClient()
    client.request((b"expect", b"100-continue"), method=b"POST", end=False)
    requester = client.service.last.requester
    requester.on_informational(ResponseHead(100, []))
    requester.on_informational(ResponseHead(103, [(b"link", b"</a>")]))
    client.settle()
    assert [event.headers[0][1] for event in client.of(h2.events.InformationalResponseReceived)] == [b"100", b"103"]


def test_an_answer_before_the_request_is_whole() -> None:
    client = OtherClient()
    stream_id = client.request(method=b"POST", end=False)
    client.service.last.answer(413, b"too much")
    client.settle()
    (reset,) = client.of(h2.events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (stream_id, ErrorCode.NO_ERROR)
    assert client.service.last.cancelled is None
    assert client.server.is_idle


def test_a_client_that_gives_up() -> None:
    client = OtherClient()
    stream_id = client.request()
    client.h2.reset_stream(stream_id, ErrorCode.CANCEL)
    client.settle()
    exchange = client.service.last
    assert exchange.cancelled is Failure.CANCELLED
    exchange.answer(200, b"late")  # nobody minds
    client.request()
    assert len(client.service.exchanges) == 2


@pytest.mark.parametrize("failure", [Failure.NO_SERVICE, Failure.UNANSWERED, Failure.TIMED_OUT])
def test_a_failure_before_the_answer_is_one(failure: Failure) -> None:
    client = OtherClient()
    client.request()
    client.service.last.requester.on_failure(failure)
    client.settle()
    assert client.of(h2.events.ResponseReceived)[0].headers[0] == (b":status", b"%d" % failure.status)
    assert client.of(h2.events.DataReceived)[0].data == failure.reason.encode() + b"\n"


def test_a_failure_in_the_answer_is_a_reset() -> None:
    client = OtherClient()
    client.request()
    client.service.last.requester.on_response(ResponseHead(200, [], length=None))
    client.service.last.requester.on_failure(Failure.BROKEN)
    client.settle()
    assert client.of(h2.events.StreamReset)[0].error_code == ErrorCode.INTERNAL_ERROR


def test_lengths_are_held_to() -> None:
    client = OtherClient()
    client.request((b"content-length", b"0"), method=b"POST", end=False)
    assert client.service.last.head.length == 0
    raw = RawClient()
    five = BLOCK + b"\x0f\x0d\x015"  # content-length: 5
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, five) + frame(wire.DATA, wire.END_STREAM, 1, b"1234"))
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 3, five) + frame(wire.DATA, wire.END_STREAM, 3, b"123456"))
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 5, five))
    assert raw.resets == [(stream_id, ErrorCode.PROTOCOL_ERROR) for stream_id in (1, 3, 5)]
    assert [exchange.cancelled for exchange in raw.service.exchanges] == [Failure.BAD_REQUEST] * 2


def test_malformed_requests_are_reset_and_the_others_go_on() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, b"\x82\x86\x84\x00\x0aconnection\x05close"))
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 3, b""))
    assert raw.resets == [(1, ErrorCode.PROTOCOL_ERROR), (3, ErrorCode.PROTOCOL_ERROR)]
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 5, BLOCK))
    assert len(raw.service.exchanges) == 1
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 3, BLOCK))
    assert raw.resets[-1] == (3, ErrorCode.STREAM_CLOSED)


def test_a_head_beyond_the_limits_is_answered() -> None:
    client = OtherClient(HeadLimits(1000, 10))
    client.request((b"x", b"y" * 2000))
    client.request(*[(b"x", b"y")] * 20)
    client.request()
    statuses = [event.headers[0][1] for event in client.of(h2.events.ResponseReceived)]
    assert statuses == [b"431", b"431"]
    assert len(client.service.exchanges) == 1


def test_frames_behind_the_end() -> None:
    for late in (frame(wire.DATA, 0, 1, b"x"), frame(wire.HEADERS, 5, 1, b"\x00\x01a\x01b")):
        raw = RawClient()
        raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK) + late)
        assert raw.resets == [(1, ErrorCode.STREAM_CLOSED)]
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, BLOCK) * 2)
    assert raw.resets == [(1, ErrorCode.PROTOCOL_ERROR)]


def test_a_preface_of_something_else() -> None:
    raw = RawClient.__new__(RawClient)
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX"):
        RawClient.__init__(raw)
        line = raw.line
        assert not line.ended
        server = type(raw.server)(line, raw.service, HeadLimits())
        server.receive(text)
        assert line.ended == "closed"


def test_a_tunnel() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x02\x07CONNECT\x01\x06far:22"))
    exchange = raw.service.last
    assert (exchange.head.method, exchange.head.target) == (b"CONNECT", b"far:22")
    exchange.requester.on_response(ResponseHead(200, [], length=None))
    exchange.requester.on_data(b"hello")
    raw.say(frame(wire.DATA, 0, 1, b"you too"))
    exchange.requester.on_end()
    raw.say(frame(wire.DATA, wire.END_STREAM, 1, b", bye"))
    assert (exchange.body, exchange.trailers) == (b"you too, bye", ())
    assert raw.server.is_idle
    assert not raw.resets


def test_a_websocket() -> None:
    raw = RawClient()
    assert b"\0\x08\0\0\0\1" in raw.heard[0][3]  # SETTINGS_ENABLE_CONNECT_PROTOCOL
    raw.say(
        frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x02\x07CONNECT\x00\x09:protocol\x09websocket\x86\x84\x41\x03svc")
    )
    exchange = raw.service.last
    assert (exchange.head.method, exchange.head.upgrade, exchange.head.length) == (b"GET", b"websocket", None)
    assert [name for name, _ in exchange.head.headers] == [b"sec-websocket-key"]
    answer = ResponseHead(101, [(b"Sec-WebSocket-Accept", b"x")], upgrade=b"websocket", length=None)
    exchange.requester.on_response(answer)
    exchange.requester.on_data(b"frame")
    raw.say(b"")
    assert raw.heard[-2][3] == b"\x88"  # :status 200 alone
    assert raw.heard[-1] == (wire.DATA, 0, 1, b"frame")


def test_a_graceful_end() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK))
    raw.server.drain()
    raw.server.drain()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 3, BLOCK))  # it was on its way
    goaways = [body[:4] for kind, _, _, body in raw.heard if kind == wire.GOAWAY]
    assert goaways == [b"\x7f\xff\xff\xff"]
    raw.say(frame(wire.PING, wire.ACK, 0, b"draining"))
    assert raw.heard[-1] == (wire.GOAWAY, 0, 0, b"\0\0\0\3\0\0\0\0")
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 5, BLOCK))  # too late
    assert len(raw.service.exchanges) == 2
    for exchange in raw.service.exchanges:
        assert not raw.line.ended
        exchange.answer()
    assert raw.line.ended == "closed"


def test_the_end_of_one_that_never_spoke() -> None:
    raw = RawClient()
    server = type(raw.server)(raw.line, raw.service, HeadLimits())
    server.drain()
    assert raw.line.ended == "closed"


def test_a_client_that_is_gone() -> None:
    client = OtherClient()
    client.request()
    client.server.on_lost(False)
    assert client.service.last.cancelled is Failure.CANCELLED
    client.service.last.requester.on_data(b"late")
    assert not client.line.ended


def test_a_client_that_sends_no_more_is_answered() -> None:
    client = OtherClient()
    client.request()
    client.request(method=b"POST", end=False)
    client.server.receive_end()
    whole, broken = client.service.exchanges
    assert (whole.cancelled, broken.cancelled) == (None, Failure.CANCELLED)
    whole.answer()
    assert client.line.ended == "closed"


def test_a_goaway_of_the_client() -> None:
    client = OtherClient()
    client.request()
    client.h2.close_connection()
    client.server.receive(client.h2.data_to_send())
    assert not client.line.ended
    client.service.last.answer()
    assert client.line.ended == "closed"


def test_one_exchange_only() -> None:
    raw = RawClient(is_single=True)
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK))
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 3, BLOCK))
    assert raw.resets == [(3, ErrorCode.REFUSED_STREAM)]
    raw.service.last.answer(200, b"x")
    assert raw.line.ended == "closed"


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_the_first_words_of_a_listener_are_known(pieces: int) -> None:
    """One by one, too; and what is said to them is the same."""
    raw = RawClient(is_single=True)
    line, service = Line(), Service()
    server = Http2Server(line, service, HeadLimits(), is_single=True)
    said = wire.SINGLE_REQUEST + frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK)
    for offset in range(0, len(said), pieces):
        server.receive(said[offset : offset + pieces])
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK))
    for each in (service, raw.service):
        each.last.answer(200, b"x")
    octets = line.take()
    assert octets == raw.line.take()
    assert octets.startswith(wire.SINGLE_ANSWER)


@pytest.mark.parametrize("end", ["answer", "failure", "reset", "loss"])
def test_an_exchange_that_is_over_leaves_no_circle(end: str) -> None:
    """The collector would find it, and hold the loop for that."""
    client = OtherClient()
    stream_id = client.request()
    exchange = weakref.ref(client.service.last)
    gc.disable()
    try:
        if end == "answer":
            client.service.last.answer(200, b"x")
        elif end == "failure":
            client.service.last.requester.on_failure(Failure.TIMED_OUT)
        elif end == "reset":
            client.h2.reset_stream(stream_id, ErrorCode.CANCEL)
            client.settle()
        else:
            client.server.on_lost(False)
        client.service.exchanges.clear()
        assert exchange() is None
    finally:
        gc.enable()


def test_an_answer_whose_end_is_known_is_one_frame_of_data() -> None:
    raw = RawClient()
    for stream_id, body in ((1, b"short"), (3, bytes(40_000))):
        raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream_id, BLOCK))
        requester = raw.service.last.requester
        requester.on_response(ResponseHead(200, [], length=None))
        requester.on_last(body)
        raw.say(b"")
        data = [(flags, payload) for kind, flags, of, payload in raw.heard if kind == wire.DATA and of == stream_id]
        assert b"".join(payload for _, payload in data) == body
        assert [flags for flags, _ in data] == [0] * (len(data) - 1) + [wire.END_STREAM]
    assert len(data) == 4  # no frame may be that long: the end is one of its own
    assert raw.server.is_idle


def test_nothing_is_said_before_the_answer_of_a_single_exchange() -> None:
    raw = RawClient(is_single=True)
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK))
    assert not raw.heard
    raw.service.last.answer()
    raw.say(b"")
    assert [kind for kind, _, _, _ in raw.heard] == [wire.SETTINGS, wire.SETTINGS, wire.HEADERS]


@pytest.mark.parametrize("failure", Failure)
def test_a_single_exchange_that_fails(failure: Failure) -> None:
    raw = RawClient(is_single=True)
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK))
    raw.service.last.requester.on_failure(failure)
    if failure in (Failure.NO_SERVICE, Failure.UNANSWERED):
        assert (raw.line.ended, raw.line.failure, raw.line.out) == ("aborted", failure, b"")
    else:
        assert raw.line.ended == "closed"
        assert wire.HEADERS in [kind for kind, _, _, _ in frames(raw.line.take())]


def test_a_head_that_does_not_come() -> None:
    raw = RawClient()
    assert not raw.server.is_waiting_for_head
    raw.say(frame(wire.HEADERS, wire.END_STREAM, 1, BLOCK)[:5])
    assert raw.server.is_waiting_for_head
    raw.say(frame(wire.HEADERS, wire.END_STREAM, 1, BLOCK)[5:])
    assert raw.server.is_waiting_for_head
    raw.say(frame(wire.CONTINUATION, wire.END_HEADERS, 1))
    assert not raw.server.is_waiting_for_head
