"""Frames: what goes out is what hyperframe reads; what comes in broken has the code that RFC 9113 asks for."""

import pytest
from hyperframe.frame import ContinuationFrame, Frame, GoAwayFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError


def parse(octets: bytes) -> list[Frame]:
    found = []
    while octets:
        frame, size = Frame.parse_frame_header(memoryview(octets[:9]), strict=True)
        frame.parse_body(memoryview(octets[9 : 9 + size]))
        found.append(frame)
        octets = octets[9 + size :]
    return found


def test_numbers() -> None:
    (frame,) = parse(wire.window_update(7, 1000))
    assert isinstance(frame, WindowUpdateFrame)
    assert (frame.stream_id, frame.window_increment) == (7, 1000)
    (frame,) = parse(wire.rst_stream(3, ErrorCode.CANCEL))
    assert (frame.stream_id, frame.error_code) == (3, 8)
    (frame,) = parse(wire.goaway(5, ErrorCode.NO_ERROR, "so long"))
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.additional_data) == (5, b"so long")
    (frame,) = parse(wire.settings({wire.ENABLE_PUSH: 0}))
    assert isinstance(frame, SettingsFrame)
    assert frame.settings == {2: 0}


def test_a_long_block_is_continued() -> None:
    block = bytes(range(256)) * 10
    first, *rest = parse(wire.headers(9, block, wire.END_STREAM, 1000))
    assert isinstance(first, HeadersFrame)
    assert first.flags == {"END_STREAM"}
    assert all(isinstance(frame, ContinuationFrame) for frame in rest)
    assert [frame.flags for frame in rest] == [set(), {"END_HEADERS"}]
    assert first.data + b"".join(frame.data for frame in rest) == block


def test_a_block_of_exactly_one_frame() -> None:
    (frame,) = parse(wire.headers(1, bytes(16384), 0, 16384))
    assert frame.flags == {"END_HEADERS"}


def test_padding_and_priority_are_taken_off() -> None:
    padded = HeadersFrame(1, b"block", pad_length=3, flags=("PADDED", "PRIORITY", "END_HEADERS"), depends_on=0)
    octets = padded.serialize()
    assert wire.unpad_headers(octets[4], 1, memoryview(octets[9:])) == b"block"
    assert wire.unpad_data(wire.PADDED, 1, memoryview(b"\x02abc\0\0")) == b"abc"


@pytest.mark.parametrize(
    ("kind", "flags", "stream_id", "payload", "code"),
    [
        (wire.DATA, wire.PADDED, 1, b"\xff", ErrorCode.PROTOCOL_ERROR),
        (wire.HEADERS, wire.PADDED, 1, b"", ErrorCode.PROTOCOL_ERROR),
        (wire.HEADERS, wire.HAS_PRIORITY, 1, b"abc", ErrorCode.PROTOCOL_ERROR),
        (wire.SETTINGS, 0, 0, b"12345", ErrorCode.FRAME_SIZE_ERROR),
        (wire.SETTINGS, wire.ACK, 0, b"123456", ErrorCode.FRAME_SIZE_ERROR),
        (wire.SETTINGS, 0, 1, b"", ErrorCode.PROTOCOL_ERROR),
        (wire.PING, 0, 0, b"1234567", ErrorCode.FRAME_SIZE_ERROR),
        (wire.PING, 0, 3, b"12345678", ErrorCode.PROTOCOL_ERROR),
        (wire.RST_STREAM, 0, 1, b"123", ErrorCode.FRAME_SIZE_ERROR),
        (wire.GOAWAY, 0, 0, b"1234567", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_broken_frames(kind: int, flags: int, stream_id: int, payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(GoAwayError) as caught:
        wire.parse_frame(kind, flags, stream_id, memoryview(payload))
    assert caught.value.code == code
