"""Ends of HTTP/2 for tests: a wire between two codecs, a handler and a requester that remember, other clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_client import Http2Client
from vanrouter.adaptors.http2_server import Http2Server
from vanrouter.adaptors.http_exchange import (
    Codec,
    Failure,
    Header,
    HeadLimits,
    Requester,
    RequestHead,
    ResponseHead,
)


class Line:
    """One side's transport: what is written stays here until somebody carries it."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.writes = 0
        self.is_open = True
        """What `write` answers."""
        self.ended = ""
        self.failure: Failure | None = None

    def write(self, data: bytes | memoryview) -> bool:
        assert not self.ended, "written after the end"
        self.out += data
        self.writes += 1
        return self.is_open

    def pause(self) -> None:
        raise AssertionError("HTTP/2 has windows for this")

    def resume(self) -> None:
        raise AssertionError("HTTP/2 has windows for this")

    def finish(self) -> None:
        raise AssertionError("HTTP/2 never half-closes")

    def close(self) -> None:
        assert not self.ended
        self.ended = "closed"

    def abort(self, failure: Failure | None = None) -> None:
        assert not self.ended
        self.ended = "aborted"
        self.failure = failure

    def take(self) -> bytes:
        out = bytes(self.out)
        self.out.clear()
        return out


class Exchange:
    """The responder's end of an exchange: remembers the request, answers as it is told."""

    def __init__(self, head: RequestHead, requester: Requester) -> None:
        self.head = head
        self.requester = requester
        self.body = bytearray()
        self.trailers: Sequence[Header] | None = None
        self.is_open = True
        """What `data` answers."""
        self.cancelled: Failure | None = None
        self.resumed = 0

    def data(self, data: bytes | memoryview) -> bool:
        assert self.trailers is None
        assert self.cancelled is None
        self.body += data
        return self.is_open

    def last(self, data: bytes | memoryview) -> None:
        self.data(data)
        self.end()

    def end(self, trailers: Sequence[Header] = ()) -> None:
        assert self.trailers is None
        assert self.cancelled is None
        self.trailers = tuple(trailers)

    def cancel(self, failure: Failure) -> None:
        assert self.cancelled is None
        self.cancelled = failure

    def resume(self) -> None:
        self.resumed += 1

    def answer(self, status: int = 200, body: bytes = b"", headers: Sequence[Header] = ()) -> None:
        """Answer all at once."""
        self.requester.on_response(ResponseHead(status, list(headers), length=len(body)))
        if body:
            self.requester.on_data(body)
            self.requester.on_end()


class Service:
    """A handler that keeps its exchanges; `on_begin` may answer them, after the call as the contract asks."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def begin(self, head: RequestHead, requester: Requester) -> Exchange:
        exchange = Exchange(head, requester)
        self.exchanges.append(exchange)
        return exchange

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]


class Asker:
    """The requester's end of an exchange: remembers the answer."""

    def __init__(self) -> None:
        self.informational: list[ResponseHead] = []
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.trailers: Sequence[Header] | None = None
        self.failure: Failure | None = None
        self.is_open = True
        """What `on_data` answers."""
        self.writable = 0
        self.on_over: Callable[[], Any] = lambda: None

    @property
    def is_over(self) -> bool:
        return self.failure is not None or self.trailers is not None

    def on_informational(self, head: ResponseHead) -> None:
        assert self.head is None
        self.informational.append(head)

    def on_response(self, head: ResponseHead) -> None:
        assert self.head is None
        assert self.failure is None
        self.head = head
        if head.length == 0 and head.status != 101:
            self.trailers = ()
            self.on_over()

    def on_data(self, data: bytes | memoryview) -> bool:
        assert self.head is not None
        assert not self.is_over
        self.body += data
        return self.is_open

    def on_last(self, data: bytes | memoryview) -> None:
        self.on_data(data)
        self.on_end()

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        assert not self.is_over
        self.trailers = tuple(trailers)
        self.on_over()

    def on_failure(self, failure: Failure) -> None:
        assert not self.is_over
        self.failure = failure
        self.on_over()

    def on_resume(self) -> None:
        self.writable += 1


class Owner:
    """The pool of one client codec."""

    def __init__(self) -> None:
        self.rooms = 0
        self.gone = 0

    def on_room(self, codec: Any) -> None:
        assert codec.room > 0
        self.rooms += 1

    def on_gone(self, codec: Any) -> None:
        self.gone += 1


def carry(line: Line, codec: Codec, piece_bytes: int = 1 << 20) -> bool:
    """Carry what was written to the codec at the other end; True if there was something."""
    data = line.take()
    for offset in range(0, len(data), piece_bytes):
        codec.receive(data[offset : offset + piece_bytes])
    return bool(data)


class Pair:
    """Our client and our server, back to back."""

    def __init__(self, *, is_single: bool = False, limits: HeadLimits | None = None) -> None:
        limits = limits or HeadLimits()
        self.client_line, self.server_line = Line(), Line()
        self.service, self.owner = Service(), Owner()
        self.client = Http2Client(self.client_line, self.owner, limits, is_single=is_single)
        self.server = Http2Server(self.server_line, self.service, limits, is_single=is_single)

    def settle(self, piece_bytes: int = 1 << 20) -> None:
        """Carry octets until nothing more is said."""
        while carry(self.client_line, self.server, piece_bytes) | carry(self.server_line, self.client, piece_bytes):
            pass

    def ask(self, head: RequestHead) -> tuple[Asker, Any]:
        asker = Asker()
        return asker, self.client.begin(head, asker)


class OtherClient:
    """The client of h2, an independent implementation, towards our server."""

    def __init__(self, limits: HeadLimits | None = None, **arguments: Any) -> None:
        self.line, self.service = Line(), Service()
        self.server = Http2Server(self.line, self.service, limits or HeadLimits(), **arguments)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.h2.local_settings.enable_push = 0
        self.events: list[h2.events.Event] = []
        self.h2.initiate_connection()
        self.settle()

    def settle(self) -> None:
        while True:
            said = self.h2.data_to_send()
            if said:
                self.server.receive(said)
            heard = self.line.take()
            if heard:
                self.events += self.h2.receive_data(heard)
            if not said and not heard:
                return

    def request(self, *extra: Header, method: bytes = b"GET", end: bool = True, path: bytes = b"/") -> int:
        stream_id = self.h2.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"svc"), *extra]
        self.h2.send_headers(stream_id, fields, end_stream=end)
        self.settle()
        return int(stream_id)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def frames(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    """Split octets into (type, flags, stream, payload)."""
    found = []
    while octets:
        high, low, kind, flags, stream_id = wire.unpack_header(octets)
        size = 9 + (high << 8 | low)
        found.append((kind, flags, stream_id, octets[9:size]))
        octets = octets[size:]
    return found


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return wire.frame_header(len(payload), kind, flags, stream_id) + payload


class RawClient:
    """A client that says what it is told to, frame by frame."""

    def __init__(self, limits: HeadLimits | None = None, **arguments: Any) -> None:
        self.line, self.service = Line(), Service()
        self.server = Http2Server(self.line, self.service, limits or HeadLimits(), **arguments)
        self.heard: list[tuple[int, int, int, bytes]] = []
        self.say(wire.PREFACE + wire.settings({}))

    def say(self, octets: bytes) -> None:
        self.server.receive(octets)
        self.heard += frames(self.line.take())

    @property
    def goaway(self) -> int | None:
        """Error code of the GOAWAY heard."""
        found = [payload for kind, _, _, payload in self.heard if kind == wire.GOAWAY]
        return int.from_bytes(found[-1][4:8], "big") if found else None

    @property
    def resets(self) -> list[tuple[int, int]]:
        """Stream and error code of each RST_STREAM heard."""
        return [(sid, int.from_bytes(body, "big")) for kind, _, sid, body in self.heard if kind == wire.RST_STREAM]


BLOCK = b"\x82\x86\x84\x41\x03svc"
"""GET http://svc/ : three entries of the static table, one literal."""
