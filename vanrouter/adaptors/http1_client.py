"""HTTP/1.1 towards servers: requests are written one after the other, and their answers read.

Layer: 4, no input or output of its own. Source: RFC 9112; the contract of the seam in `http_exchange`. Used on the
pooled connections of a connector, and on the stream that a listener opens for one request (`is_single`): there the
request says `Connection: close`, so that a plain TCP connector may carry it to its server.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from vanrouter.adaptors.http1_chunks import ChunkedBody
from vanrouter.adaptors.http1_encode import (
    encode_request,
    encode_trailers,
    is_chunked_request,
    write_chunk,
    write_last_chunk,
)
from vanrouter.adaptors.http1_head import END_OF_HEAD, MessageError, ResponseParser
from vanrouter.adaptors.http_exchange import (
    ClientOwner,
    Failure,
    Header,
    HeadLimits,
    Requester,
    RequestHead,
    Responder,
    Transport,
)

MAX_INFORMATIONAL = 16
"""1xx answers to one request."""


class Reading(Enum):
    """What the octets that come are."""

    HEAD = "the head of an answer"
    LENGTH = "a body of known length"
    CHUNKS = "a body in chunks"
    TO_END = "a body that ends with the connection"
    TUNNEL = "of a tunnel"
    IDLE = "of nothing: no request waits for an answer"
    NOTHING = "of no interest any more"


HEAD, LENGTH, CHUNKS, TO_END, TUNNEL, IDLE, NOTHING = Reading
"""Bound once: in CPython 3.11 each look at a member of the class costs .2 to .5 us, and a request has twenty."""


class Http1Client:
    """One connection to a server. It is the responder of the one exchange that is in progress."""

    __slots__ = (
        "_chunks",
        "_head",
        "_held",
        "_informational",
        "_input_ended",
        "_is_chunked_out",
        "_is_paused",
        "_is_sent",
        "_is_single",
        "_keeps_alive",
        "_limits",
        "_output_ended",
        "_parser",
        "_reading",
        "_remaining",
        "_requester",
        "owner",
        "room",
        "transport",
    )

    alpn = "http/1.1"

    def __init__(
        self, transport: Transport, owner: ClientOwner, limits: HeadLimits, *, is_single: bool = False
    ) -> None:
        self.transport = transport
        self.owner = owner
        self.room = 1
        self._limits = limits
        self._is_single = is_single
        self._parser = ResponseParser(limits)
        self._reading = IDLE
        self._held = b""
        self._remaining = 0
        self._informational = 0
        self._chunks: ChunkedBody | None = None
        self._head: RequestHead | None = None
        self._requester: Requester | None = None
        self._is_chunked_out = False
        self._is_sent = True
        """The request is written to its end."""
        self._keeps_alive = True
        self._is_paused = False
        self._input_ended = False
        self._output_ended = False

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is in progress."""
        return self._reading is IDLE

    # --- from the requester -------------------------------------------------------------------------------------------

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """Send a request."""
        self.room = 0
        self._head = head
        self._requester = requester
        self._reading = HEAD
        self._informational = 0
        self._is_sent = head.length == 0
        self._is_chunked_out = is_chunked_request(head)
        self.transport.write(encode_request(head, is_last=self._is_single))
        return self

    def data(self, data: bytes | memoryview) -> bool:
        """Octets of the request."""
        write = self.transport.write
        if not self._is_chunked_out:
            return write(data)
        return write_chunk(write, data)

    def last(self, data: bytes | memoryview) -> None:
        """The last octets of the request."""
        self._is_sent = True
        if self._is_chunked_out:
            write_last_chunk(self.transport.write, data)
        else:
            self.transport.write(data)

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """The request is complete."""
        self._is_sent = True
        if self._is_chunked_out:
            self.transport.write(encode_trailers(trailers))
        elif self._reading is TUNNEL:
            self._output_ended = True
            if self._input_ended:
                self._retire()
                self.transport.close()
            else:
                self.transport.finish()

    def cancel(self, failure: Failure) -> None:
        """The answer is not wanted any more: HTTP/1.1 has no other way to say so than to end the connection."""
        self._requester = None
        self._give_up()

    def resume(self) -> None:
        """The requester takes octets again."""
        if self._is_paused:
            self._is_paused = False
            self.transport.resume()

    # --- from the transport -------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Octets have come."""
        reading = self._reading
        if reading is LENGTH:
            if len(data) < self._remaining:
                self._remaining -= len(data)
                self._pass(data)
                return
        elif reading is TUNNEL or reading is TO_END:
            self._pass(data)
            return
        elif reading is NOTHING:
            return
        self._held = self._held + data if self._held else bytes(data)
        try:
            while self._held and self._step():
                pass
        except MessageError:
            self._fail(Failure.BAD_RESPONSE)

    def _step(self) -> bool:
        """Take one piece off what is held; False when nothing more can be done now."""
        reading = self._reading
        if reading is HEAD:
            return self._read_head()
        held, self._held = self._held, b""
        if reading is LENGTH:
            remaining = self._remaining
            if len(held) < remaining:
                self._remaining -= len(held)
                self._pass(held)
                return False
            if len(held) > remaining:
                self._keeps_alive = False  # nobody has asked for what follows
                held = held[:remaining]
            requester = self._requester
            self._finish_exchange()
            if requester is not None:
                requester.on_last(held)
            self._make_room()
        elif reading is CHUNKS:
            chunks = self._chunks
            assert chunks is not None
            taken = chunks.feed(held)
            if chunks.is_complete:
                if taken < len(held):
                    self._keeps_alive = False
                self._answered(chunks.trailers)
        elif reading is TUNNEL or reading is TO_END:
            self._pass(held)
        elif reading is IDLE:
            self._give_up()
        return False

    def _read_head(self) -> bool:
        held = self._held
        end = held.find(END_OF_HEAD)
        if end < 0:
            if len(held) > self._limits.max_bytes:
                raise MessageError(502, "the head of the answer is too long")
            return False
        end += 4
        request, requester = self._head, self._requester
        assert request is not None
        head = self._parser.parse(held[:end], request.method)
        self._held = held[end:]
        status = head.status
        if status < 200 and status != 101:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise MessageError(502, "too many 1xx answers")
            if requester is not None:
                requester.on_informational(head)
            return True
        if status == 101 and request.upgrade is None:
            raise MessageError(502, "101 without a request to upgrade")
        self._keeps_alive = self._parser.keeps_alive and not self._is_single
        is_tunnel = status == 101 or (request.method == b"CONNECT" and status < 300)
        if is_tunnel:
            self._reading = TUNNEL
            self._keeps_alive = False
            self._is_chunked_out = False
            self._is_sent = False
        elif self._parser.is_chunked:
            self._reading = CHUNKS
            self._chunks = ChunkedBody(self._pass, self._limits)
        elif head.length is None:
            self._reading = TO_END
            self._keeps_alive = False
        elif head.length:
            self._reading = LENGTH
            self._remaining = head.length
        if request.length is None and not is_tunnel and not self._is_chunked_out:
            self._is_sent = True  # a tunnel that was declined: nothing was sent but the head
        if head.length == 0:
            if self._held:
                self._keeps_alive = False
            self._finish_exchange()
        if requester is not None:
            requester.on_response(head)
        if head.length == 0:
            self._make_room()
            return False
        return True

    def _pass(self, data: bytes | memoryview) -> None:
        requester = self._requester
        if requester is not None and len(data) and not requester.on_data(data) and not self._is_paused:
            self._is_paused = True
            self.transport.pause()

    def _answered(self, trailers: Sequence[Header]) -> None:
        requester = self._requester
        self._finish_exchange()
        if requester is not None:
            requester.on_end(trailers)
        self._make_room()

    def _finish_exchange(self) -> None:
        """The answer is complete: no call of this exchange follows from here."""
        self._requester = self._head = self._chunks = None
        if self._is_sent and self._keeps_alive:
            self._reading = IDLE
        else:
            self._reading = NOTHING

    def _make_room(self) -> None:
        """Offer the connection for the next exchange, or end it."""
        if self._reading is IDLE:
            self.resume()
            self.room = 1
            self.owner.on_room(self)
        elif self._reading is NOTHING:
            self._held = b""
            self.owner.on_gone(self)
            self.transport.close()

    def _retire(self) -> None:
        self._reading = NOTHING
        self._requester = self._head = self._chunks = None
        self._held = b""
        self.room = 0
        self.owner.on_gone(self)

    def _give_up(self) -> None:
        if self._reading is not NOTHING:
            self._retire()
            self.transport.abort()

    def _fail(self, failure: Failure) -> None:
        requester = self._requester
        self._give_up()
        if requester is not None:
            requester.on_failure(failure)

    def receive_end(self) -> None:
        """The server sends no more."""
        self._input_ended = True
        reading, requester = self._reading, self._requester
        if reading is TUNNEL:
            if self._output_ended:
                self._retire()
            if requester is not None:
                requester.on_end()
            if self._output_ended:
                self.transport.close()
        elif reading is TO_END:
            self._answered(())
        elif reading is not NOTHING:
            self._retire()
            self.transport.abort()
            if requester is not None:
                requester.on_failure(_what_is_missing(reading))

    def on_lost(self, is_refused: bool) -> None:
        """The connection is gone."""
        reading, requester = self._reading, self._requester
        failure = Failure.NO_SERVICE if is_refused else _what_is_missing(reading)
        if reading is not NOTHING:
            self._retire()
        if requester is not None:
            requester.on_failure(failure)

    def on_writable(self) -> None:
        """The server takes octets again."""
        if self._requester is not None:
            self._requester.on_resume()


def _what_is_missing(reading: Reading) -> Failure:
    """Say what a lost connection means: a head of which a part has come is no answer yet."""
    return Failure.UNANSWERED if reading is HEAD else Failure.BROKEN
