"""HTTP/2 frames: numbers, what goes out, and the two faults that a peer can be told of.

Layer: 4, no input or output of its own. Source: RFC 9113, sections 4 to 7. A frame's header is nine octets, and HEADERS
and DATA without padding hold their content as it is: those, and the credit that follows them, are packed here. All
other frames go through hyperframe. For a request and its answer that was 18 µs where hyperframe for everything took 30
and h2 with its state machine 104 (hpack included in each; CPython 3.11).
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from struct import Struct

from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)

from vanrouter.errors import PeerError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4). No request of HTTP/1 can begin so."""

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""Largest frame taken, the least that may be announced: larger ones would only wait longer for their end."""
MAX_WINDOW = 2**31 - 1

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
ENABLE_CONNECT_PROTOCOL = 0x8

unpack_header = Struct(">HBBBL").unpack_from
_pack_header = Struct(">HBBBL").pack
_pack_with_number = Struct(">HBBBLL").pack


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class GoAwayError(PeerError):
    """The peer broke the connection's protocol: GOAWAY, and the end."""

    def __init__(self, code: ErrorCode, description: str) -> None:
        super().__init__(code.name, description)
        self.code = code


class ResetError(PeerError):
    """The peer broke the protocol of one stream: RST_STREAM, the others go on."""

    def __init__(self, code: ErrorCode, description: str) -> None:
        super().__init__(code.name, description)
        self.code = code


def parse_frame(kind: int, flags: int, stream_id: int, payload: memoryview) -> Frame:
    """Parse a frame that is not on the shortest way.

    Raises:
        GoAwayError: it has the wrong size, or stands on the wrong stream.
    """
    length = len(payload)
    try:
        frame, _ = Frame.parse_frame_header(
            memoryview(_pack_header(length >> 8, length & 0xFF, kind, flags, stream_id))
        )
        frame.parse_body(payload)
    except HyperframeError as error:
        name = "FRAME_SIZE_ERROR" if kind in _FIXED_SIZES and length != _FIXED_SIZES[kind] else "PROTOCOL_ERROR"
        if kind == SETTINGS and (length % 6 or flags & ACK):
            name = "FRAME_SIZE_ERROR"
        raise GoAwayError(ErrorCode[name], str(error) or f"frame of type {kind} is broken") from error
    return frame


_FIXED_SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}


def unpad_headers(flags: int, stream_id: int, payload: memoryview) -> bytes:
    """Return the header block fragment of a HEADERS frame with padding or a priority.

    Raises:
        GoAwayError: the padding is longer than the frame.
    """
    frame = parse_frame(HEADERS, flags, stream_id, payload)
    assert isinstance(frame, HeadersFrame)
    return frame.data


def unpad_data(flags: int, stream_id: int, payload: memoryview) -> bytes:
    """Return the content of a padded DATA frame.

    Raises:
        GoAwayError: the padding is longer than the frame.
    """
    frame = parse_frame(DATA, flags, stream_id, payload)
    assert isinstance(frame, DataFrame)
    return frame.data


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the nine octets in front of a frame's payload."""
    return _pack_header(length >> 8, length & 0xFF, kind, flags, stream_id)


def headers(stream_id: int, block: bytes, flags: int, max_frame_bytes: int) -> bytes:
    """Return a header block as HEADERS and as many CONTINUATION frames as it takes.

    Args:
        stream_id: of the stream.
        block: the compressed fields.
        flags: END_STREAM or 0.
        max_frame_bytes: what the peer takes.
    """
    if len(block) <= max_frame_bytes:
        return _pack_header(len(block) >> 8, len(block) & 0xFF, HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [frame_header(max_frame_bytes, HEADERS, flags, stream_id), block[:max_frame_bytes]]
    for offset in range(max_frame_bytes, len(block), max_frame_bytes):
        piece = block[offset : offset + max_frame_bytes]
        is_last = offset + max_frame_bytes >= len(block)
        parts.append(frame_header(len(piece), CONTINUATION, END_HEADERS if is_last else 0, stream_id))
        parts.append(piece)
    return b"".join(parts)


def window_update(stream_id: int, increment: int) -> bytes:
    """Return the frame that lets the peer send `increment` octets more; stream 0: on the connection."""
    return _pack_with_number(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return the frame that ends one stream in the middle."""
    return _pack_with_number(0, 4, RST_STREAM, 0, stream_id, code)


def settings(values: dict[int, int]) -> bytes:
    """Return the frame that announces settings."""
    return _settings(tuple(values.items()))


@lru_cache(64)
def _settings(items: tuple[tuple[int, int], ...]) -> bytes:
    return SettingsFrame(0, dict(items)).serialize()


def parse_settings(flags: int, stream_id: int, payload: memoryview) -> tuple[tuple[int, int], ...]:
    """Return what a SETTINGS frame says. Ends of one kind all say the same: what was parsed is remembered.

    Raises:
        GoAwayError: it is broken.
    """
    return _parse_settings(flags, stream_id, bytes(payload))


@lru_cache(64)
def _parse_settings(flags: int, stream_id: int, payload: bytes) -> tuple[tuple[int, int], ...]:
    frame = parse_frame(SETTINGS, flags, stream_id, memoryview(payload))
    assert isinstance(frame, SettingsFrame)
    return tuple(frame.settings.items())


SETTINGS_ACK = SettingsFrame(0, flags=("ACK",)).serialize()

SINGLE_REQUEST = PREFACE + settings({ENABLE_PUSH: 0})
"""What a vanrouter listener says first on a stream of one exchange."""
SINGLE_SETTINGS = settings({MAX_CONCURRENT_STREAMS: 1})
SINGLE_ANSWER = SINGLE_SETTINGS + SETTINGS_ACK
"""And its connector, to exactly that."""


def ping(payload: bytes, *, is_answer: bool = False) -> bytes:
    """Return a PING with its eight octets."""
    return PingFrame(0, payload, flags=("ACK",) if is_answer else ()).serialize()


def goaway(last_stream_id: int, code: int, text: str = "") -> bytes:
    """Return the frame that ends the connection: streams above `last_stream_id` have not been looked at."""
    return GoAwayFrame(0, last_stream_id, code, text.encode()[:256]).serialize()
