"""Windows: octets go out as far as they allow, in turn; they open only as octets are taken."""

from tests.unit.adaptors.http2_peers import BLOCK, Pair, RawClient, frame
from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_flow import FIRST_WINDOW_BYTES, LARGEST_WINDOW_BYTES
from vanrouter.adaptors.http2_frames import ErrorCode
from vanrouter.adaptors.http_exchange import Failure, RequestHead, ResponseHead

POST = RequestHead(b"POST", b"/", [], authority=b"svc", length=None)


def test_the_window_opens_only_as_the_service_takes() -> None:
    pair = Pair()
    _, responder = pair.ask(POST)
    pair.settle()
    service = pair.service.last
    service.is_open = False
    assert not responder.data(bytes(1 << 20))
    pair.settle()
    assert len(service.body) == FIRST_WINDOW_BYTES
    service.is_open = True
    service.requester.on_resume()
    pair.settle()
    assert len(service.body) == 1 << 20


def test_a_stream_that_stands_holds_up_no_other() -> None:
    pair = Pair()
    _, stuck = pair.ask(POST)
    pair.settle()
    pair.service.last.is_open = False
    stuck.data(bytes(1 << 20))
    pair.settle()
    _, free = pair.ask(POST)
    pair.settle()
    free.data(bytes(3 << 20))
    free.end()
    pair.settle()
    assert len(pair.service.last.body) == 3 << 20
    assert pair.service.last.trailers == ()


def test_the_requester_is_told_that_it_may_go_on() -> None:
    pair = Pair()
    asker, responder = pair.ask(POST)
    pair.settle()
    pair.service.last.is_open = False
    assert not responder.data(bytes(FIRST_WINDOW_BYTES + 1))
    pair.settle()
    assert asker.writable == 0
    pair.service.last.requester.on_resume()
    pair.settle()
    assert asker.writable == 1


def test_a_transport_that_is_full_stops_the_streams_and_wakes_them() -> None:
    pair = Pair()
    _, responder = pair.ask(POST)
    pair.settle()
    pair.client_line.is_open = False
    assert not responder.data(b"first")  # written, and the line says it is full
    assert not responder.data(b"second")
    written = pair.client_line.take()
    assert b"first" in written
    assert b"second" not in written
    pair.server.receive(written)
    responder.end([(b"x", b"y")])
    pair.client_line.is_open = True
    pair.client.on_writable()
    pair.settle()
    assert pair.service.last.body == b"firstsecond"
    assert pair.service.last.trailers == ((b"x", b"y"),)


def test_answers_wait_for_the_clients_window() -> None:
    raw = RawClient()
    raw.say(frame(wire.SETTINGS, 0, 0, b"\0\4\0\0\0\5"))  # five octets for each stream
    raw.say(frame(wire.HEADERS, wire.END_STREAM | wire.END_HEADERS, 1, BLOCK))
    service = raw.service.last
    service.requester.on_response(ResponseHead(200, [], length=12))
    assert not service.requester.on_data(b"hello, world")
    service.requester.on_end()
    raw.say(b"")
    assert raw.heard[-1] == (wire.DATA, 0, 1, b"hello")
    raw.say(wire.window_update(1, 1))
    assert raw.heard[-1] == (wire.DATA, 0, 1, b",")
    raw.say(frame(wire.SETTINGS, 0, 0, b"\0\4\0\0\0\3"))  # two less: below nothing
    raw.say(wire.window_update(1, 2))
    assert raw.heard[-1][0] == wire.SETTINGS
    raw.say(frame(wire.SETTINGS, 0, 0, b"\0\4\0\0\x10\0"))
    assert raw.heard[-3:] == [
        (wire.DATA, 0, 1, b" world"),
        (wire.DATA, wire.END_STREAM, 1, b""),
        (wire.SETTINGS, wire.ACK, 0, b""),
    ]
    assert service.resumed == 0  # it had ended


def test_streams_share_the_connections_window_in_turn() -> None:
    raw = RawClient()
    raw.say(frame(wire.SETTINGS, 0, 0, b"\0\4\x7f\xff\xff\xff"))
    for stream_id in (1, 3):
        raw.say(frame(wire.HEADERS, wire.END_STREAM | wire.END_HEADERS, stream_id, BLOCK))
        raw.service.last.requester.on_response(ResponseHead(200, [], length=None))
        raw.service.last.requester.on_data(bytes(200_000))
    raw.say(b"")
    sent = [(sid, len(body)) for kind, _, sid, body in raw.heard if kind == wire.DATA]
    assert sum(size for _, size in sent) == FIRST_WINDOW_BYTES
    raw.heard.clear()
    raw.say(wire.window_update(0, 65536))
    assert [(sid, len(body)) for kind, _, sid, body in raw.heard] == [(1, 16384), (3, 16384)] * 2


def test_windows_grow_while_octets_are_taken_and_shrink_with_the_stream() -> None:
    pair = Pair()
    _, responder = pair.ask(POST)
    pair.settle()
    for _ in range(64):
        responder.data(bytes(1 << 16))
        pair.settle()
    (stream,) = pair.server.streams.values()
    assert stream.window == LARGEST_WINDOW_BYTES + stream.window % LARGEST_WINDOW_BYTES > LARGEST_WINDOW_BYTES // 2
    assert pair.server.extra_bytes == stream.window - FIRST_WINDOW_BYTES
    responder.cancel(Failure.CANCELLED)
    pair.settle()
    assert pair.server.extra_bytes == 0


def test_more_than_the_window_resets_the_stream() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, BLOCK))
    raw.service.last.is_open = False
    for _ in range(4):
        raw.say(frame(wire.DATA, 0, 1, bytes(16384)))
    assert raw.resets == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert raw.service.last.cancelled is Failure.BAD_REQUEST


def test_padding_counts_and_is_given_back() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, BLOCK))
    for _ in range(300):
        raw.say(frame(wire.DATA, wire.PADDED, 1, b"\xff" + b"x" + bytes(255)))
    assert raw.service.last.body == b"x" * 300
    assert not raw.resets


def test_windows_cannot_overflow() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1, BLOCK))
    raw.say(wire.window_update(1, 2**31 - 1))
    assert raw.resets == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
    raw.say(wire.window_update(0, 2**31 - 1))
    assert raw.goaway == ErrorCode.FLOW_CONTROL_ERROR
