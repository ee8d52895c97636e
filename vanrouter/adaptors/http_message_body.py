"""Bodies of HTTP messages: data sections in, as they come; data sections out, at once or piece by piece.

Layer: 4. Source: HTTP over AMQP, sections 2.5 and 3.1. Over HTTP/1 the octets of a chunked body keep the framing of
chunks, trailers and all; over HTTP/2 trailers are a footer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from vanrouter.adaptors.http1_chunks import ChunkedBody
from vanrouter.adaptors.http1_encode import encode_trailers
from vanrouter.adaptors.http1_head import MessageError
from vanrouter.adaptors.http_exchange import Header, HeadLimits
from vanrouter.adaptors.http_message import MESSAGE_FLAGS, decode_footer, encode_data, encode_footer
from vanrouter.core.stream import RELEASED, Sink
from vanrouter.engine.messages import DATA, FOOTER, VALUE, section_at
from vanrouter.engine.sections import NEED_MORE, decode, skip
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.adaptors.http_shared import HttpRouter, Waiting

MAX_SECTION_BYTES = 16 * 1024
"""A data section that goes out: a real 2.7 router gives up beyond 30 of its buffers."""
WHOLE_BYTES = 64 * 1024
"""A message that is complete within a turn of the loop and this size goes out whole."""
MAX_VALUE_BYTES = 1 << 20
"""Of a footer, or of a body that an application has put into a value section."""


EMPTY_BODIES = (b"", encode_data(b""), b"\x00\x53\x75\xb0\x00\x00\x00\x00")
"""What stands behind the head of a message as long as there is no body."""


def _broken(text: str) -> PeerError:
    return PeerError("amqp:decode-error", text)


class BodyReader:
    """Takes the sections behind a head, in pieces of any size.

    Args:
        deliver: takes octets of the body; its answer, False for silence, is that of `feed`.
        is_chunked: the octets have the framing of chunks.
        limits: of the trailers.
        length: octets of the body, as `Content-Length` says; None: its end tells.
    """

    __slots__ = ("_awaited", "_chunks", "_deliver", "_is_open", "_left", "_rest", "trailers")

    def __init__(
        self,
        deliver: Callable[[bytes | memoryview], bool],
        *,
        is_chunked: bool,
        limits: HeadLimits,
        length: int | None = None,
    ) -> None:
        self._deliver = deliver
        self._awaited = length
        self._is_open = True
        self._chunks = ChunkedBody(self._give, limits) if is_chunked else None
        self._left = 0
        """Octets of the data section that is being read."""
        self._rest = b""
        """A section that has not come far enough."""
        self.trailers: Sequence[Header] = ()

    def _give(self, data: bytes | memoryview) -> None:
        if self._awaited is not None:
            self._awaited -= len(data)
            if self._awaited < 0:
                raise _broken("more octets than Content-Length says")
        self._is_open = self._deliver(data)

    def feed(self, octets: bytes | memoryview) -> bool:
        """Take octets; False asks for silence.

        Raises:
            PeerError: they are no body of HTTP.
        """
        self._is_open = True
        if self._rest:
            octets = self._rest + octets
            self._rest = b""
        view = memoryview(octets)
        offset, end = 0, len(view)
        while offset < end:
            if self._left:
                size = min(self._left, end - offset)
                self._left -= size
                self._take(view[offset : offset + size])
                offset += size
                continue
            after = self._begin_section(view, offset, end)
            if after < 0:
                self._rest = bytes(view[offset:])
                if len(self._rest) > MAX_VALUE_BYTES:
                    raise _broken("a section beyond any limit")
                break
            offset = after
        return self._is_open

    def _begin_section(self, view: memoryview, offset: int, end: int) -> int:
        """Return where octets of a body begin, or the next section; -1 when too little has come."""
        section = section_at(view, offset, end)
        if section is NEED_MORE:
            return -1
        code, value = section
        if code == DATA:
            if value + 5 > end and not (value + 2 <= end and view[value] == 0xA0):
                return -1
            if view[value] == 0xA0:
                self._left = view[value + 1]
                return value + 2
            if view[value] != 0xB0:
                raise _broken("a data section that holds no octets")
            self._left = int.from_bytes(view[value + 1 : value + 5], "big")
            return value + 5
        if code not in (VALUE, FOOTER):
            raise _broken("a body that is no data")
        after = skip(view, value, end)
        if after < 0:
            return -1
        if code == FOOTER:
            self.trailers = decode_footer(bytes(view[value:after]))
        else:
            content = decode(bytes(view[value:after]))[0]
            if isinstance(content, str):
                content = content.encode()
            if content is not None and not isinstance(content, bytes):
                raise _broken("a body that is neither text nor octets")
            if content:
                self._take(memoryview(content))
        return after

    def _take(self, data: memoryview) -> None:
        if self._chunks is None:
            self._give(data)
            return
        if self._chunks.is_complete:
            raise _broken("octets behind the last chunk")
        try:
            taken = self._chunks.feed(data)
        except MessageError as error:
            raise _broken(str(error)) from error
        if taken != len(data):
            raise _broken("octets behind the last chunk")

    def end(self) -> None:
        """No more comes.

        Raises:
            PeerError: it ends in the middle.
        """
        if self._left or self._rest:
            raise _broken("a message that ends in the middle of a section")
        if self._awaited:
            raise _broken("fewer octets than Content-Length says")
        if self._chunks is not None:
            if not self._chunks.is_complete:
                raise _broken("a body that ends before its last chunk")
            self.trailers = self._chunks.trailers


class Sender(Protocol):
    """Who sends a message: is told what becomes of it."""

    def on_sent(self, state: int) -> None:
        """Its outcome; 0: settled without a state."""

    def on_sendable(self) -> None:
        """Octets can be sent again, after a `data` that answered False."""


class OutgoingMessage:
    """A message on its way out: whole, when it is complete at the end of the turn and small; otherwise as it comes.

    Args:
        router: the core.
        to: where it goes.
        head: its sections in front of the body.
        sender: who sends it.
        is_http2: trailers are a footer, and there is a data section even without a body.
        is_chunked: over HTTP/1, the body gets the framing of chunks.
    """

    __slots__ = (
        "_awaited",
        "_gathered",
        "_has_data",
        "_is_chunked",
        "_is_complete",
        "_is_http2",
        "_is_over",
        "_octets",
        "_router",
        "_sender",
        "_sink",
        "_to",
    )

    def __init__(
        self, router: HttpRouter, to: str, head: bytes, sender: Sender, *, is_http2: bool, is_chunked: bool
    ) -> None:
        self._router = router
        self._to = to
        self._sender = sender
        self._is_http2 = is_http2
        self._is_chunked = is_chunked
        self._gathered = bytearray(head)
        self._octets = len(head)
        self._sink: Sink | None = None
        self._awaited: Waiting | None = None
        self._has_data = False
        self._is_complete = False
        self._is_over = False

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been given."""
        return self._is_complete

    @property
    def is_too_long(self) -> bool:
        """Whether it has more octets than its destinations can be sent."""
        return 0 < self._router.message_limit(self._to) < self._octets

    def begin(self) -> None:
        """There is a body: send what is there at the end of the turn, if the message is not complete by then."""
        self._router.reactor.call_soon(self._open)

    def _open(self) -> None:
        if self._is_complete or self._is_over or self._sink is not None:
            return
        gathered, self._gathered = self._gathered, bytearray()
        self._sink = self._router.open_message(self._to, bytes(gathered), MESSAGE_FLAGS, self)

    def data(self, data: bytes | memoryview) -> bool:
        """Send octets of the body; False asks for silence until `Sender.on_sendable`."""
        if self._is_over or self._is_complete:
            return True
        self._has_data = True
        octets: bytes | memoryview = data
        if self._is_chunked:
            octets = b"%x\r\n%b\r\n" % (len(data), bytes(data))
        is_open = True
        for offset in range(0, len(octets), MAX_SECTION_BYTES):
            is_open = self._put(encode_data(octets[offset : offset + MAX_SECTION_BYTES]))
        return is_open

    def _put(self, octets: bytes) -> bool:
        self._octets += len(octets)
        if self._sink is not None:
            return self._sink.push(octets)
        self._gathered += octets
        if len(self._gathered) < WHOLE_BYTES:
            return True
        gathered, self._gathered = self._gathered, bytearray()
        self._sink = self._router.open_message(self._to, bytes(gathered[:WHOLE_BYTES]), MESSAGE_FLAGS, self)
        return self._sink.push(bytes(gathered[WHOLE_BYTES:]))

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """The message is complete."""
        if self._is_over or self._is_complete:
            return
        if self._is_chunked:
            self._put(encode_data(encode_trailers(trailers)))
        elif self._is_http2:
            if not self._has_data:
                self._put(encode_data(b""))
            if trailers:
                self._put(encode_footer(trailers))
        self._is_complete = True
        if self._sink is None:
            self._awaited = self._router.send_whole(self._to, bytes(self._gathered), MESSAGE_FLAGS, self)
        else:
            self._sink.finish()

    def abort(self) -> None:
        """Break it off, or wait no longer for what becomes of it."""
        if self._is_over:
            return
        self._is_over = True
        sink, self._sink = self._sink, None
        if self._awaited is not None:
            self._awaited.forget()
        if sink is not None and not self._is_complete:
            sink.abort()

    # Producer: what its consumer says.

    def received(self, total: int) -> None:
        """Nobody reports on messages."""

    def outcome(self, state: int, settled: bool) -> None:
        """Its outcome."""
        if self._is_over:
            return
        self._is_over = True
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.finish(settled=True) if self._is_complete else sink.abort()
        self._sender.on_sent(state or (0 if self._is_complete else RELEASED))

    def writable(self) -> None:
        """The sink takes octets again."""
        if not self._is_over:
            self._sender.on_sendable()
