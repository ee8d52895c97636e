"""Observer of HTTP/2: requests and answers are recognised by their streams; what is no header block is passed over.

Layer: 4, no input or output of its own. Source: RFC 9113, sections 3.4 to 6; TCP over AMQP, section 10.3. Header blocks
have all to be decoded, because each may change the table that the next one is read by; so a connection is observed from
its first octet or not at all, and what cannot be afforded (`Budget`) is left out connection by connection.
"""

from __future__ import annotations

from vanrouter.adaptors.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADER_BYTES,
    HEADER_TABLE_SIZE,
    HEADERS,
    PADDED,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    unpack_header,
)
from vanrouter.adaptors.http2_hpack import BlockReader, Field, SharedBlocks
from vanrouter.adaptors.observer_exchange import (
    MAX_HELD_BYTES,
    MAX_OPEN,
    Exchange,
    Requests,
    UnobservableError,
    first_of,
)

MAX_LIST_BYTES = 256 * 1024
"""Header fields of one block, decoded."""
MAX_TABLE_BYTES = 64 * 1024
"""Largest table that one side may allow the other."""

FRAME_COST, BLOCK_COST = 1, 8
"""What following costs, in units of about a microsecond and a half."""
UNITS_PER_S = 20_000
BURST_UNITS = 10_000
"""What may be spent on all connections: some three hundredths of a processor."""

_WHOLE = frozenset({HEADERS, CONTINUATION, PUSH_PROMISE, SETTINGS, RST_STREAM})
"""Frames that are looked into; of all others the head is enough."""


class Budget:
    """What the observing of all HTTP/2 connections of a process may cost."""

    __slots__ = ("_left", "_since", "left_out")

    def __init__(self) -> None:
        self._left = float(BURST_UNITS)
        self._since = 0.0
        self.left_out = 0
        """Connections that were not observed, or no longer, for what it would have cost."""

    def _refill(self, now: float) -> None:
        self._left = min(BURST_UNITS, self._left + (now - self._since) * UNITS_PER_S)
        self._since = now

    def admits(self, now: float) -> bool:
        """Tell whether another connection can be observed: half of what there may be is left."""
        self._refill(now)
        if self._left < BURST_UNITS / 2:
            self.left_out += 1
            return False
        return True

    def spend(self, units: int, now: float) -> None:
        """Pay for some frames.

        Raises:
            UnobservableError: there is nothing left.
        """
        self._left -= units
        if self._left < 0:
            self._refill(now)
            if self._left < 0:
                self.left_out += 1
                raise UnobservableError("too much to observe")


def _asked(fields: list[Field]) -> tuple[str, bytes, str]:
    """Return method, path and the first of X-Forwarded-For."""
    method, path, forwarded_for = "", b"", ""
    for name, value in fields:
        if name == b":method":
            method = value[:32].decode("latin-1")
        elif name == b":path":
            path = value.partition(b"?")[0]
        elif name == b"x-forwarded-for" and not forwarded_for:
            forwarded_for = first_of(value)
    return method, path, forwarded_for


def _answered(fields: list[Field]) -> str:
    """Return the status; empty in trailers."""
    for name, value in fields:
        if name == b":status":
            return value[:3].decode("latin-1")
    return ""


class Side:
    """One direction: its frames."""

    __slots__ = ("block", "block_flags", "block_stream", "kept", "skip")

    def __init__(self, preface: bytes) -> None:
        self.kept = bytearray()
        """Of a frame that has not come whole."""
        self.skip = len(preface)
        """Octets that are passed over."""
        self.block: bytearray | None = None
        """A header block to which a CONTINUATION belongs."""
        self.block_stream = 0
        self.block_flags = 0


class Http2Observer:
    """Follows one connection of HTTP/2."""

    __slots__ = ("_budget", "_client", "_read_answer", "_read_request", "_requests", "_server", "_streams")

    def __init__(self, requests: Requests, budget: Budget) -> None:
        self._requests = requests
        self._budget = budget
        self._streams: dict[int, Exchange] = {}
        self._client = Side(PREFACE)
        self._server = Side(b"")
        self._read_request = BlockReader(_ASKED, MAX_LIST_BYTES)
        self._read_answer = BlockReader(_ANSWERED, MAX_LIST_BYTES)

    def from_client(self, data: memoryview | bytes, now: float) -> None:
        """Octets have come from the client, the preface first.

        Raises:
            PeerError: this is not HTTP/2, or cannot be followed.
        """
        self._feed(self._client, data, now)

    def from_server(self, data: memoryview | bytes, now: float) -> None:
        """Octets have gone to the client.

        Raises:
            PeerError: as above.
        """
        self._feed(self._server, data, now)

    def close(self, now: float) -> None:
        """The connection is over, or is observed no longer: so are its requests."""
        streams, self._streams = self._streams, {}
        for exchange in streams.values():
            self._requests.ended(exchange)

    def _feed(self, side: Side, data: memoryview | bytes, now: float) -> None:
        size = len(data)
        if side.skip >= size:
            side.skip -= size
            return
        at, side.skip = side.skip, 0
        if side.kept:
            side.kept += data[at:]
            data, at = bytes(side.kept), 0
            size = len(data)
            side.kept.clear()
        cost = FRAME_COST + (size >> 13)  # what was kept has been copied
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, stream_id = unpack_header(data, at)
            length = high << 8 | low
            cost += FRAME_COST
            end = at + HEADER_BYTES + length
            if kind == DATA:
                if flags & PADDED and size - at == HEADER_BYTES:
                    break
                padding = data[at + HEADER_BYTES] + 1 if flags & PADDED else 0
                self._data(side, stream_id, flags, length - padding)
            elif kind in _WHOLE:
                if end > size:
                    if length > MAX_HELD_BYTES:
                        raise UnobservableError("a frame beyond any bound")
                    break
                cost += BLOCK_COST
                self._whole(side, kind, flags, stream_id, bytes(data[at + HEADER_BYTES : end]), now)
            at = end
        if at >= size:
            side.skip = at - size
        else:
            side.kept += data[at:]
        self._budget.spend(cost, now)

    def _data(self, side: Side, stream_id: int, flags: int, octets: int) -> None:
        exchange = self._streams.get(stream_id)
        if exchange is None:
            return
        if side is self._client:
            exchange.octets += octets
            return
        exchange.octets_reverse += octets
        if flags & END_STREAM:
            self._ended(stream_id, exchange)

    def _whole(self, side: Side, kind: int, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        if side.block is not None and (kind != CONTINUATION or stream_id != side.block_stream):
            raise UnobservableError("a header block that breaks off")
        if kind == SETTINGS:
            self._settings(side, payload)
        elif kind == RST_STREAM:
            exchange = self._streams.get(stream_id)
            if exchange is not None:
                self._ended(stream_id, exchange)
        elif kind == CONTINUATION:
            if side.block is None:
                raise UnobservableError("the end of a header block that has not begun")
            side.block += payload
            if len(side.block) > MAX_HELD_BYTES:
                raise UnobservableError("a header block beyond any bound")
            if flags & END_HEADERS:
                block, side.block = bytes(side.block), None
                self._block(side, stream_id, side.block_flags, block, now)
        else:
            block = _fragment(kind, flags, payload)
            # What is pushed is no request of the client's, but changes the table.
            side.block_flags = flags if kind == HEADERS else 0
            side.block_stream = stream_id
            number = stream_id if kind == HEADERS else 0
            if flags & END_HEADERS:
                self._block(side, number, side.block_flags, block, now)
            else:
                side.block = bytearray(block)

    def _settings(self, side: Side, payload: bytes) -> None:
        """How large a table one side allows is what the other side's encoder may use."""
        for at in range(0, len(payload) - 5, 6):
            if int.from_bytes(payload[at : at + 2], "big") == HEADER_TABLE_SIZE:
                size = int.from_bytes(payload[at + 2 : at + 6], "big")
                reader = self._read_answer if side is self._client else self._read_request
                reader.allow_table(min(size, MAX_TABLE_BYTES))

    def _block(self, side: Side, stream_id: int, flags: int, block: bytes, now: float) -> None:
        exchange = self._streams.get(stream_id)
        if side is self._client:
            method, path, forwarded_for = self._read_request.read(block)
            if exchange is None and method:
                if len(self._streams) >= MAX_OPEN:
                    raise UnobservableError("too many requests without an answer")
                exchange = Exchange("HTTP/2", method, path, now, stream_id, forwarded_for)
                self._streams[stream_id] = exchange
                self._requests.began(exchange)
            return
        status = self._read_answer.read(block)
        if exchange is None:
            return
        if status and not status.startswith("1"):
            exchange.result = status
            exchange.answered_at = now
        if flags & END_STREAM:
            self._ended(stream_id, exchange)

    def _ended(self, stream_id: int, exchange: Exchange) -> None:
        del self._streams[stream_id]
        self._requests.ended(exchange)


def _fragment(kind: int, flags: int, payload: bytes) -> bytes:
    """Return the header block fragment of HEADERS or PUSH_PROMISE, without padding, priority or promised stream."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        end -= payload[0] if payload else 0
        begin = 1
    if kind == PUSH_PROMISE:
        begin += 4
    elif flags & HAS_PRIORITY:
        begin += 5
    if begin > end:
        raise UnobservableError("padding longer than its frame")
    return payload[begin:end]


_ASKED = SharedBlocks(_asked)
_ANSWERED = SharedBlocks(_answered)
"""Of all observed connections."""
