"""The connection: frames where none may stand, and the patience with a peer that brings nothing forward."""

import pytest

from tests.unit.adaptors.http2_peers import BLOCK, Line, Pair, RawClient, Service, frame
from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_connection import MAX_STREAMS, MAX_UNREAD_BYTES
from vanrouter.adaptors.http2_frames import ErrorCode
from vanrouter.adaptors.http2_server import Http2Server
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, RequestHead

OPEN = frame(wire.HEADERS, wire.END_HEADERS, 1, BLOCK)
GET = frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, BLOCK)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(wire.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.HEADERS, wire.END_HEADERS, 0, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.HEADERS, wire.END_HEADERS, 2, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.HEADERS, wire.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(wire.HEADERS, 0, 1, BLOCK) + frame(wire.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.HEADERS, 0, 1, BLOCK) + frame(wire.CONTINUATION, 4, 3, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.CONTINUATION, wire.END_HEADERS, 1, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (OPEN + frame(wire.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(wire.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(wire.SETTINGS, 0, 0, b"\0\2\0\0\0\2"), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(wire.SETTINGS, 0, 0, b"\0\5\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + BLOCK), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (frame(wire.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
        (frame(wire.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (b"\x00\x40\x01\0\0\0\0\0\1", ErrorCode.FRAME_SIZE_ERROR),
        (OPEN + frame(wire.DATA, wire.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_ends_the_connection(octets: bytes, code: ErrorCode) -> None:
    raw = RawClient()
    raw.say(octets)
    assert raw.goaway == code
    assert raw.line.ended == "closed"
    raw.say(OPEN)  # nobody listens any more
    assert all(exchange.cancelled is Failure.CANCELLED for exchange in raw.service.exchanges)


def test_settings_come_first() -> None:
    line = Line()
    Http2Server(line, Service(), HeadLimits()).receive(wire.PREFACE + frame(wire.PING, 0, 0, bytes(8)))
    assert line.ended == "closed"


@pytest.mark.parametrize(
    "octets",
    [
        frame(wire.PRIORITY, 0, 5, bytes(5)),
        frame(0x77, 0xFF, 9, b"whatever"),
        frame(wire.SETTINGS, 0, 0, b"\x99\x99\0\0\0\1"),
        frame(wire.SETTINGS, wire.ACK, 0),
        frame(wire.PING, wire.ACK, 0, bytes(8)),
        frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM | wire.HAS_PRIORITY, 1, b"\x80\0\0\1\xff" + BLOCK),
    ],
)
def test_what_is_read_and_ignored(octets: bytes) -> None:
    raw = RawClient()
    raw.say(octets)
    raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 11, BLOCK))
    assert raw.goaway is None
    assert raw.service.last.head.target == b"/"


def test_a_ping_is_answered() -> None:
    raw = RawClient()
    raw.say(frame(wire.PING, 0, 0, b"12345678"))
    assert raw.heard[-1] == (wire.PING, wire.ACK, 0, b"12345678")


def test_a_block_in_many_frames() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, wire.END_STREAM, 1, BLOCK[:1]))
    for octet in BLOCK[1:-1]:
        raw.say(frame(wire.CONTINUATION, 0, 1, bytes([octet])))
    assert not raw.service.exchanges
    raw.say(frame(wire.CONTINUATION, wire.END_HEADERS, 1, BLOCK[-1:]))
    assert raw.service.last.head.authority == b"svc"


FLOODS = {
    "ping": frame(wire.PING, 0, 0, bytes(8)),
    "settings": frame(wire.SETTINGS, 0, 0),
    "empty data": frame(wire.DATA, 0, 1),
    "priority": frame(wire.PRIORITY, 0, 3, bytes(5)),
    "unknown": frame(0x55, 0, 0),
    "window": wire.window_update(0, 1),
    "stale data": frame(wire.DATA, 0, 1, b""),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_ended(flood: str) -> None:
    raw = RawClient()
    raw.say(OPEN)
    for _ in range(100):
        raw.say(FLOODS[flood] * 20)
        if raw.line.ended:
            break
    assert raw.goaway == ErrorCode.ENHANCE_YOUR_CALM


def test_rapid_resets_are_ended() -> None:
    raw = RawClient()
    for stream_id in range(1, 4000, 2):
        raw.say(
            frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream_id, BLOCK) + wire.rst_stream(stream_id, 8)
        )
        if raw.line.ended:
            break
    assert raw.goaway == ErrorCode.ENHANCE_YOUR_CALM
    assert len(raw.service.exchanges) < 300
    assert all(exchange.cancelled for exchange in raw.service.exchanges)


def test_making_us_reset_is_ended_too() -> None:
    raw = RawClient()
    for stream_id in range(1, 4000, 2):
        raw.say(frame(wire.HEADERS, wire.END_HEADERS, stream_id, BLOCK) + wire.window_update(stream_id, 0))
        if raw.line.ended:
            break
    assert raw.goaway == ErrorCode.ENHANCE_YOUR_CALM


def test_continuations_without_end_are_ended() -> None:
    raw = RawClient()
    raw.say(frame(wire.HEADERS, 0, 1, BLOCK))
    for _ in range(100):
        raw.say(frame(wire.CONTINUATION, 0, 1, bytes(16000)))
        if raw.line.ended:
            break
    assert raw.goaway == ErrorCode.ENHANCE_YOUR_CALM
    raw = RawClient()
    raw.say(frame(wire.HEADERS, 0, 1, BLOCK) + frame(wire.CONTINUATION, 0, 1) * 2000)
    assert raw.goaway == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("flood", ["pings beside an upload", "answers of a head"])
def test_a_peer_that_reads_nothing_is_ended(flood: str) -> None:
    raw = RawClient()
    raw.line.is_open = False
    raw.say(OPEN)
    for number in range(60_000):
        if flood == "answers of a head":
            raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 3 + 2 * number, BLOCK))
            if not raw.line.ended:
                raw.service.exchanges[-1].answer(204, headers=[(b"x", b"%050d" % number)])
        else:
            raw.say(frame(wire.DATA, 0, 1, b"x" * 600) + frame(wire.PING, 0, 0, bytes(8)) * 2)
        if raw.line.ended:
            break
    assert raw.line.ended == "aborted"
    assert len(raw.line.out) < MAX_UNREAD_BYTES + 1000


def test_those_who_get_on_with_it_are_not_held_up() -> None:
    raw = RawClient()
    for stream_id in range(1, 20_000, 2):
        raw.say(frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream_id, BLOCK) + wire.window_update(0, 5))
        raw.service.last.answer(200, b"hello")
        raw.service.exchanges.clear()
    assert raw.goaway is None


def test_no_more_streams_than_announced() -> None:
    raw = RawClient()
    for number in range(MAX_STREAMS + 1):
        raw.say(frame(wire.HEADERS, wire.END_HEADERS, 1 + 2 * number, BLOCK))
    assert raw.resets == [(1 + 2 * MAX_STREAMS, ErrorCode.REFUSED_STREAM)]
    assert len(raw.service.exchanges) == MAX_STREAMS


def test_all_that_one_receive_causes_is_one_write() -> None:
    pair = Pair()
    for _ in range(5):
        pair.ask(RequestHead(b"GET", b"/", [], authority=b"svc"))
    said = pair.client_line.take()
    assert pair.client_line.writes == 5
    pair.server.receive(said)
    assert pair.server_line.writes == 1


def test_octets_one_by_one() -> None:
    pair = Pair()
    asker, responder = pair.ask(RequestHead(b"POST", b"/", [], authority=b"svc", length=None))
    responder.data(b"question")
    responder.end([(b"x-sum", b"1")])
    pair.settle(1)
    assert pair.service.last.body == b"question"
    pair.service.last.answer(201, b"answer")
    pair.settle(1)
    assert asker.body == b"answer"
    assert asker.trailers == ()
