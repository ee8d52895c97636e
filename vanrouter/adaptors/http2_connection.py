"""An HTTP/2 connection, either side: frames in, frames out, settings, windows, faults, and the patience with a peer.

Layer: 4, no input or output of its own: `http_exchange.Transport` carries the octets. Source: RFC 9113. Both sides are
one class but for who opens streams; `http2_server` and `http2_client` say what a header block means. All that is
written while octets are being received goes out in one `write`.

    receive -> frame -> Stream.take_data, take_end, take_reset       out: Stream.send_* -> emit -> transport.write

What a peer may make us do is bounded: `MAX_STREAMS` at a time, frames of 16 KiB, blocks of header fields within
`HeadLimits` (CONTINUATION included), streams' windows, and for frames that bring nothing forward (PING, SETTINGS,
RST_STREAM, empty DATA, faults) a `Patience` that progress and time renew. Priorities are read and ignored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hyperframe.frame import GoAwayFrame, RstStreamFrame

from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_flow import FIRST_WINDOW_BYTES, Stream
from vanrouter.adaptors.http2_frames import (
    DATA,
    END_STREAM,
    HEADER_BYTES,
    HEADERS,
    MAX_FRAME_BYTES,
    PADDED,
    ErrorCode,
    GoAwayError,
    ResetError,
)
from vanrouter.adaptors.http2_hpack import (
    STATELESS,
    TABLE_BYTES,
    BlockReader,
    BlockWriter,
    Field,
    SharedBlocks,
    StatelessWriter,
)
from vanrouter.adaptors.http2_patience import FAULT_COST, FRAME_COST, Patience
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, Transport

MAX_STREAMS = 100
"""Streams a client may have open at a time; also what a server is taken to allow before it says."""
CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024
"""Above what all streams' windows can hold, so that it never is what stops a stream. It is opened with the first octets
that need it."""
GATHER_BYTES = 256 * 1024
"""Octets gathered for one `write` at most."""
MAX_UNREAD_BYTES = 1024 * 1024
"""What may wait for a peer that reads nothing, of all that no window holds back: heads, and answers to its frames."""
BLOCK_SLACK_BYTES = 64 * 1024
"""A header block so far beyond the limits is still decoded and answered with 431; a larger one ends the connection."""


class Connection:
    """What both sides have in common.

    Args:
        transport: carries the octets.
        limits: of heads and trailers.
        blocks: what the header blocks of this side mean.
        is_single: the transport carries one exchange, which ends it.
    """

    is_client = False

    def __init__(self, transport: Transport, limits: HeadLimits, blocks: SharedBlocks[Any], *, is_single: bool) -> None:
        self.transport = transport
        self.limits = limits
        self.is_single = is_single
        self.streams: dict[int, Stream] = {}
        self.last_id = 0
        """The highest stream that was opened."""
        self.is_over = False
        self.patience = Patience()
        # In.
        self._blocks = blocks
        self._reader: BlockReader[Any] | None = None
        self._first_added: list[Field] | None = None
        """What the first block has added to the table, when that was known before: one that is all needs no reader."""
        self._partial = bytearray()
        """The beginning of a frame that has not come whole."""
        self._block: bytearray | None = None
        self._block_stream = 0
        self._block_flags = 0
        self._receive_window = FIRST_WINDOW_BYTES
        self._low_mark = FIRST_WINDOW_BYTES >> 1
        """Window at which it is given back; the first time it is made large."""
        self._has_peer_settings = False
        self.extra_bytes = 0
        """Window that streams have earned beyond their first."""
        # Out.
        self._writer: BlockWriter | StatelessWriter = STATELESS if is_single else BlockWriter()
        self._gathered: bytearray | None = None
        self._preamble = self.first_octets()
        """What stands in front of all else, until it has been said."""
        self._waiting: deque[Stream] = deque()
        self.is_blocked = False
        """The transport takes no more for now."""
        self._unread = 0
        """Octets given to it all the same since then."""
        self.send_window = FIRST_WINDOW_BYTES
        self.peer_window = FIRST_WINDOW_BYTES
        """What each stream may send to begin with."""
        self.peer_frame_bytes = wire.MAX_FRAME_BYTES
        self.peer_streams = MAX_STREAMS

    # --- octets in ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Take octets."""
        if self.is_over:
            return
        self._gathered = bytearray()
        try:
            if self._preamble and not self.is_single:
                self.emit(b"")
            self._split(data)
        except GoAwayError as fault:
            self.fail(fault.code, fault.description)
        self._write_gathered()
        if self._unread > MAX_UNREAD_BYTES and not self.is_over:
            self.abort(Failure.CANCELLED)

    def first_octets(self) -> bytes:
        """Return what this side says first."""
        raise NotImplementedError

    def _split(self, data: bytes | memoryview) -> None:
        """Split octets into frames; keep what is not whole."""
        if self._partial:
            self._partial += data
            data = bytes(self._partial)
        view = memoryview(data)
        offset = 0 if self._has_peer_settings else self.skip_preface(view)
        end = len(view)
        if offset < 0:
            self._partial = bytearray(view)
            return
        unpack = wire.unpack_header
        while end - offset >= HEADER_BYTES and not self.is_over:
            high, low, kind, flags, stream_id = unpack(view, offset)
            size = high << 8 | low
            if size > MAX_FRAME_BYTES:
                raise GoAwayError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} octets")
            begin = offset + HEADER_BYTES
            if begin + size > end:
                break
            offset = begin + size
            try:
                self._take(kind, flags, stream_id & 0x7FFF_FFFF, view[begin:offset])
            except ResetError as fault:
                self.reset_faulty(stream_id & 0x7FFF_FFFF, fault)
        if self._partial or offset < end:
            self._partial = bytearray(view[offset:])

    def skip_preface(self, view: memoryview) -> int:
        """Return where frames begin, as long as the peer has not told its settings; -1 while that has not come."""
        return 0

    def _take(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """Take one frame."""
        if self._block is not None and (kind != wire.CONTINUATION or stream_id != self._block_stream):
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "a header block was not continued")
        if not self._has_peer_settings and (kind != wire.SETTINGS or flags & wire.ACK):
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "the first frame was not SETTINGS")
        if kind == DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == wire.CONTINUATION:
            self._on_continuation(flags, payload)
        else:
            taker = _TAKERS.get(kind)
            if taker is not None:
                taker(self, flags, stream_id, payload)
            else:
                self.patience.spend(FRAME_COST)  # an extension that we do not know

    def reset_faulty(self, stream_id: int, fault: ResetError) -> None:
        """Reset a stream whose protocol was broken.

        Raises:
            GoAwayError: this was one too many, or there is no such stream.
        """
        if stream_id == 0:
            raise GoAwayError(fault.code, fault.description)
        self.patience.spend(FAULT_COST)
        stream = self.streams.get(stream_id)
        self.emit(wire.rst_stream(stream_id, fault.code))
        if stream is not None:
            self.forget(stream)
            stream.take_fault(fault)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _on_data(self, flags: int, stream_id: int, payload: memoryview) -> None:
        octets = len(payload)
        self._charge(octets)
        stream = self.streams.get(stream_id)
        if stream is None:
            self.check_not_idle(stream_id)
            self.patience.spend(FRAME_COST)  # of a stream that we have ended: it may not know yet
            return
        if stream.is_remote_ended:
            raise ResetError(ErrorCode.STREAM_CLOSED, "DATA behind the end of the stream")
        data: bytes | memoryview = payload
        if flags & PADDED:
            data = wire.unpad_data(flags, stream_id, payload)
        size = len(data)
        stream.charge(octets, size)
        if flags & END_STREAM:
            stream.is_remote_ended = True
            stream.check_complete()
            if size:
                stream.take_last(data)
            else:
                stream.take_end(())
        elif size:
            self.patience.earn(1 + (size >> 9))
            stream.take_data(data, octets)
        else:
            self.patience.spend(FRAME_COST)
            stream.credit(octets)

    def _charge(self, octets: int) -> None:
        """Count octets against the connection's window, and give them back when half of it is gone."""
        self._receive_window -= octets
        if self._receive_window < 0:
            raise GoAwayError(ErrorCode.FLOW_CONTROL_ERROR, "more octets than the connection's window")
        if self._receive_window < self._low_mark:
            increment = CONNECTION_WINDOW_BYTES - self._receive_window
            self._receive_window = CONNECTION_WINDOW_BYTES
            self._low_mark = CONNECTION_WINDOW_BYTES >> 1
            self.emit(wire.window_update(0, increment))

    def check_not_idle(self, stream_id: int) -> None:
        """Hold the peer to streams that have been opened.

        Raises:
            GoAwayError: this one has not.
        """
        if stream_id == 0 or stream_id > self.last_id or not stream_id & 1:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, f"a frame on stream {stream_id}, which is idle")

    def _on_headers(self, flags: int, stream_id: int, payload: memoryview) -> None:
        block: bytes | memoryview = payload
        if flags & (wire.PADDED | wire.HAS_PRIORITY):
            block = wire.unpad_headers(flags, stream_id, payload)
        if stream_id == 0:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & wire.END_HEADERS:
            self.on_block(stream_id, bytes(block), bool(flags & wire.END_STREAM))
        else:
            self._block = bytearray(block)
            self._block_stream = stream_id
            self._block_flags = flags

    def _on_continuation(self, flags: int, payload: memoryview) -> None:
        block = self._block
        if block is None:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self.patience.spend(FRAME_COST if len(payload) >= 1024 else 10 * FRAME_COST)
        block += payload
        if len(block) > self.limits.max_bytes + BLOCK_SLACK_BYTES:
            raise GoAwayError(ErrorCode.ENHANCE_YOUR_CALM, "a header block beyond any limit")
        if flags & wire.END_HEADERS:
            self._block = None
            self.on_block(self._block_stream, bytes(block), bool(self._block_flags & wire.END_STREAM))

    def know_settings(self) -> None:
        """The peer has told its settings, and is told that they count."""
        self._has_peer_settings = True
        if self._preamble:
            self._preamble += wire.SETTINGS_ACK
        else:
            self.emit(wire.SETTINGS_ACK)

    def on_block(self, stream_id: int, block: bytes, is_end: bool) -> None:
        """A whole header block has come.

        Raises:
            ResetError: what it says is malformed.
            GoAwayError: it cannot be decoded, or stands where none may.
        """
        raise NotImplementedError

    def read_block(self, block: bytes) -> Any:
        """Decode and parse."""
        reader = self._reader
        if reader is None:
            first = self._first_added
            if first is None:
                found = self._blocks.get(block)
                if found is not None:
                    parsed, self._first_added = found
                    return parsed
            limits = self.limits
            most_bytes = limits.max_bytes + 32 * limits.max_fields + BLOCK_SLACK_BYTES
            reader = self._reader = BlockReader(self._blocks, most_bytes, first or ())
        return reader.read(block)

    def _on_priority(self, flags: int, stream_id: int, payload: memoryview) -> None:
        self.patience.spend(FRAME_COST)
        if len(payload) != 5:
            raise ResetError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        if stream_id == 0:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")

    def _on_rst_stream(self, flags: int, stream_id: int, payload: memoryview) -> None:
        frame = wire.parse_frame(wire.RST_STREAM, flags, stream_id, payload)
        assert isinstance(frame, RstStreamFrame)
        stream = self.streams.get(stream_id)
        if stream is None:
            self.check_not_idle(stream_id)
            self.patience.spend(FRAME_COST)
            return
        self.patience.spend(FAULT_COST)
        self.forget(stream)
        stream.take_reset(frame.error_code)

    def _on_settings(self, flags: int, stream_id: int, payload: memoryview) -> None:
        settings = wire.parse_settings(flags, stream_id, payload)
        self.patience.spend(FRAME_COST)
        if flags & wire.ACK:
            return
        for key, value in settings:
            self._on_setting(key, value)
        self.know_settings()
        self.on_settings()

    def _on_setting(self, key: int, value: int) -> None:
        if key == wire.INITIAL_WINDOW_SIZE:
            if value > wire.MAX_WINDOW:
                raise GoAwayError(ErrorCode.FLOW_CONTROL_ERROR, "an initial window beyond 2^31 - 1")
            difference, self.peer_window = value - self.peer_window, value
            self.patience.spend(len(self.streams) // 10)
            for stream in list(self.streams.values()):
                try:
                    stream.enlarge(difference)
                except ResetError as fault:
                    raise GoAwayError(fault.code, fault.description) from fault
            self._pump()
        elif key == wire.MAX_FRAME_SIZE:
            if not wire.MAX_FRAME_BYTES <= value < 1 << 24:
                raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "a frame size that is not allowed")
            self.peer_frame_bytes = min(value, 65_536)
        elif key == wire.HEADER_TABLE_SIZE:
            if value < TABLE_BYTES and self._writer is STATELESS:
                self._writer = BlockWriter()
            self._writer.limit_table(value)
        elif key == wire.MAX_CONCURRENT_STREAMS:
            self.peer_streams = min(value, 1 << 16)
        elif key in (wire.ENABLE_PUSH, wire.ENABLE_CONNECT_PROTOCOL):
            if value > 1:
                raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "a setting that is neither 0 nor 1")
            self.on_switch(key, value)

    def on_settings(self) -> None:
        """The peer has said how it wants things."""

    def on_switch(self, key: int, value: int) -> None:
        """The peer allows something, or does not.

        Raises:
            GoAwayError: its side may not say that.
        """

    def _on_push_promise(self, flags: int, stream_id: int, payload: memoryview) -> None:
        raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody has allowed")

    def _on_ping(self, flags: int, stream_id: int, payload: memoryview) -> None:
        wire.parse_frame(wire.PING, flags, stream_id, payload)
        self.patience.spend(FRAME_COST)
        if flags & wire.ACK:
            self.on_pong()
        else:
            self.emit(wire.ping(bytes(payload), is_answer=True))

    def on_pong(self) -> None:
        """The peer has answered a PING of ours."""

    def _on_goaway(self, flags: int, stream_id: int, payload: memoryview) -> None:
        frame = wire.parse_frame(wire.GOAWAY, flags, stream_id, payload)
        assert isinstance(frame, GoAwayFrame)
        self.patience.spend(FRAME_COST)
        self.on_goaway(frame.last_stream_id)

    def on_goaway(self, last_stream_id: int) -> None:
        """The peer takes no new streams, and has not looked at those above `last_stream_id`."""

    def _on_window_update(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if len(payload) != 4:
            raise GoAwayError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        self.patience.spend(FRAME_COST)
        increment = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if increment == 0:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if stream_id == 0:
            self.send_window += increment
            if self.send_window > wire.MAX_WINDOW:
                raise GoAwayError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                self.check_not_idle(stream_id)
                return
            stream.enlarge(increment)
        if self._waiting:
            self._pump()

    # --- octets out ---------------------------------------------------------------------------------------------------

    def emit(self, octets: bytes) -> None:
        """Send whole frames, or gather them.

        On a transport of one exchange our settings wait for the first of them: as long as nothing was said, somebody
        else can still take the exchange.
        """
        if self._preamble:
            octets, self._preamble = self._preamble + octets, b""
        if self._gathered is None:
            self._write(octets)
            return
        self._gathered += octets
        if len(self._gathered) >= GATHER_BYTES:
            self._write_gathered()
            self._gathered = bytearray()

    def _write_gathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            self._write(bytes(gathered))

    def _write(self, octets: bytes) -> None:
        if self.is_over:
            return
        if self.is_blocked:
            self._unread += len(octets)
        if not self.transport.write(octets):
            self.is_blocked = True

    @property
    def sendable(self) -> int:
        """Octets of one DATA frame that the connection has room for."""
        return min(self.send_window, self.peer_frame_bytes)

    def send_data_frame(self, stream_id: int, data: bytes | bytearray | memoryview, flags: int = 0) -> None:
        """Send a DATA frame that all windows have room for. `flags`: END_STREAM or 0."""
        size = len(data)
        self.patience.earn(1 + (size >> 9))
        self.emit(b"".join((wire.frame_header(size, DATA, flags, stream_id), data)))

    def send_headers(self, stream_id: int, fields: Sequence[Field], flags: int) -> None:
        """Send a header block.

        Args:
            stream_id: of the stream.
            fields: names in lower case.
            flags: END_STREAM or 0.
        """
        block = self._writer.write(fields if type(fields) is list else list(fields))
        self.emit(wire.headers(stream_id, block, flags, self.peer_frame_bytes))

    def wait(self, stream: Stream) -> None:
        """Have a stream go on when octets can be sent again."""
        if not stream.is_waiting:
            stream.is_waiting = True
            self._waiting.append(stream)

    def on_writable(self) -> None:
        """The transport takes octets again."""
        self.is_blocked = False
        self._unread = 0
        if self._gathered is None and self._waiting:
            self._gathered = bytearray()
            self._pump()
            self._write_gathered()

    def _pump(self) -> None:
        """Serve the streams that wait, a frame each in turn."""
        waiting = self._waiting
        while waiting and not self.is_blocked:
            stream = waiting[0]
            if stream.pending and stream.is_open and self.send_window <= 0:
                return
            waiting.popleft()
            stream.is_waiting = False
            if stream.is_open:
                stream.go_on()

    # --- ends ---------------------------------------------------------------------------------------------------------

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        stream.is_open = False
        stream.pending = None
        self.extra_bytes -= stream.window - FIRST_WINDOW_BYTES
        self.streams.pop(stream.id, None)

    def fail(self, code: ErrorCode, text: str) -> None:
        """End the connection for a fault of the peer: say why, then close."""
        if self.is_over:
            return
        self.emit(wire.goaway(self.last_id if not self.is_client else 0, code, text))
        self._write_gathered()
        self.close()

    def close(self) -> None:
        """End the connection; streams that are open are lost."""
        if self.is_over:
            return
        self._write_gathered()
        self.is_over = True
        self.transport.close()
        self.lose_streams(is_refused=False)

    def on_lost(self, is_refused: bool) -> None:
        """The transport is gone."""
        if self.is_over:
            return
        self.is_over = True
        self.lose_streams(is_refused)

    @property
    def has_spoken(self) -> bool:
        """Whether the other end has been told anything."""
        return not self._preamble

    @property
    def is_waiting_for_head(self) -> bool:
        """Whether part of something has come that no exchange has begun with yet."""
        return self._block is not None or (bool(self._partial) and not self.streams)

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is in progress."""
        return not self.streams

    def abort(self, failure: Failure) -> None:
        """End the transport in the middle; streams that are open are lost."""
        self.is_over = True
        self._gathered = None
        self.transport.abort(failure)
        self.lose_streams(is_refused=False)

    def lose_streams(self, is_refused: bool) -> None:
        """Tell all streams that they are over."""
        if self.streams:
            for stream in list(self.streams.values()):
                if stream.is_open:
                    self.forget(stream)
                    stream.take_loss(is_refused)
        self._waiting.clear()


_TAKERS: dict[int, Callable[[Connection, int, int, memoryview], None]] = {
    wire.PRIORITY: Connection._on_priority,
    wire.RST_STREAM: Connection._on_rst_stream,
    wire.SETTINGS: Connection._on_settings,
    wire.PUSH_PROMISE: Connection._on_push_promise,
    wire.PING: Connection._on_ping,
    wire.GOAWAY: Connection._on_goaway,
    wire.WINDOW_UPDATE: Connection._on_window_update,
}
