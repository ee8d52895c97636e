"""HTTP/1.1 towards clients: requests are read, handed to a handler one after the other, and answered.

Layer: 4, no input or output of its own. Source: RFC 9112; the contract of the seam in `http_exchange`. Used on client
sockets, where one connection carries many requests, pipelined or not, and on the streams that come to a connector,
where it carries one (`is_single`) or, from a listener that knows nothing of HTTP, many.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from vanrouter.adaptors.http1_chunks import ChunkedBody
from vanrouter.adaptors.http1_encode import (
    encode_error,
    encode_response,
    encode_trailers,
    write_chunk,
    write_last_chunk,
)
from vanrouter.adaptors.http1_head import END_OF_HEAD, MessageError, RequestParser
from vanrouter.adaptors.http_exchange import (
    HTTP_1_1,
    Failure,
    Handler,
    Header,
    HeadLimits,
    RequestHead,
    Responder,
    ResponseHead,
    Transport,
)

MAX_HELD_BYTES = 65536
"""Octets of further requests that are read while one is being answered; beyond, reading pauses."""


class Reading(Enum):
    """What the octets that come are."""

    HEAD = "the head of a request, or nothing yet"
    LENGTH = "a body of known length"
    CHUNKS = "a body in chunks"
    HELD = "of a later request: kept until this one is answered"
    TUNNEL = "of a tunnel"
    NOTHING = "of no interest any more"


HEAD, LENGTH, CHUNKS, HELD, TUNNEL, NOTHING = Reading
"""Bound once: in CPython 3.11 each look at a member of the class costs .2 to .5 us, and a request has twenty."""


class Http1Server:
    """One connection of a client. It is the requester of the one exchange that is in progress."""

    __slots__ = (
        "_chunks",
        "_drains",
        "_handler",
        "_head",
        "_held",
        "_input_ended",
        "_is_answering",
        "_is_chunked_out",
        "_is_full",
        "_is_paused",
        "_is_processing",
        "_is_single",
        "_keeps_alive",
        "_limits",
        "_output_ended",
        "_parser",
        "_reading",
        "_remaining",
        "_responder",
        "_scheme",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        handler: Handler,
        limits: HeadLimits,
        *,
        scheme: bytes = b"http",
        is_single: bool = False,
    ) -> None:
        self.transport = transport
        self._handler = handler
        self._limits = limits
        self._scheme = scheme
        self._is_single = is_single
        self._parser = RequestParser(limits)
        self._reading = HEAD
        self._held = b""
        self._remaining = 0
        self._chunks: ChunkedBody | None = None
        self._head: RequestHead | None = None
        self._responder: Responder | None = None
        self._is_answering = False
        """The final head of the answer has been written."""
        self._is_chunked_out = False
        self._keeps_alive = True
        self._is_full = False
        """The transport has asked for silence: no further request is answered until it takes octets again."""
        self._is_paused = False
        self._is_processing = False
        self._drains = False
        self._input_ended = False
        self._output_ended = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self._head is None

    @property
    def is_waiting_for_head(self) -> bool:
        """Whether a part of a head has come, and no more."""
        return self._reading is HEAD and bool(self._held)

    # --- from the transport -------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Octets have come."""
        reading = self._reading
        if reading is LENGTH and len(data) < self._remaining:
            self._remaining -= len(data)
            self._pass(data)
        elif reading is TUNNEL:
            self._pass(data)
        elif reading is not NOTHING:
            self._held = self._held + data if self._held else bytes(data)
            self._process()

    def _process(self) -> None:
        """Go on with what has come; requests that wait behind one another are no recursion."""
        if self._is_processing:
            return
        self._is_processing = True
        try:
            while self._held and self._step():
                pass
        except MessageError as error:
            self._refuse(error)
        finally:
            self._is_processing = False
        if self._input_ended and self._head is None and self._reading is HEAD:
            self._close()

    def _step(self) -> bool:
        """Take one piece off what is held; False when nothing more can be done now."""
        reading = self._reading
        if reading is HEAD:
            return not self._is_full and self._read_head()
        held, self._held = self._held, b""
        if reading is LENGTH:
            remaining = self._remaining
            if len(held) < remaining:
                self._remaining -= len(held)
                self._pass(held)
                return False
            self._held = held[remaining:]
            self._reading = HELD
            if self._responder is not None:  # not answered before its end
                self._responder.last(held[:remaining])
            return True
        if reading is CHUNKS:
            chunks = self._chunks
            assert chunks is not None
            taken = chunks.feed(held)
            if not chunks.is_complete:
                return False
            self._held = held[taken:]
            self._end_request(chunks.trailers)
            return True
        if reading is TUNNEL:
            self._pass(held)
        elif reading is HELD:
            self._held = held
            if len(held) > MAX_HELD_BYTES:
                self._pause()
        return False

    def _read_head(self) -> bool:
        held = self._held
        if held[:1] in b"\r\n":
            # An empty line before a request is overlooked (RFC 9112, section 2.2).
            if held[:2] == b"\r\n":
                self._held = held[2:]
                return True
            if held == b"\r":
                return False
            raise MessageError(400, "not a request line")
        end = held.find(END_OF_HEAD)
        if end < 0:
            if len(held) > self._limits.max_bytes:
                raise MessageError(431, "the head of the request is too long")
            if not held[:1].isalpha():  # TLS, or anything: it may never come to an end of the head
                raise MessageError(400, "not a request line")
            if b"\n" in held and b"\n\n" in held.replace(b"\r", b""):
                raise MessageError(400, "a bare CR or LF")
            return False
        end += 4
        if end > self._limits.max_bytes:
            raise MessageError(431, "the head of the request is too long")
        head = self._parser.parse(held[:end], self._scheme)
        self._held = held[end:]
        self._begin(head)
        return True

    def _begin(self, head: RequestHead) -> None:
        self._head = head
        self._is_answering = False
        self._keeps_alive = self._parser.keeps_alive and not self._is_single and not self._drains
        length = head.length
        if self._parser.is_chunked:
            self._reading = CHUNKS
            self._chunks = ChunkedBody(self._pass, self._limits)
        elif length is None or length == 0:
            self._reading = HELD
        else:
            self._reading = LENGTH
            self._remaining = length
        self._responder = self._handler.begin(head, self)

    def _pass(self, data: bytes | memoryview) -> None:
        responder = self._responder
        if responder is not None and len(data) and not responder.data(data):
            self._pause()

    def _end_request(self, trailers: Sequence[Header]) -> None:
        self._chunks = None
        if self._head is None:  # answered before its end: nothing more is taken
            return
        self._reading = HELD
        if self._responder is not None:
            self._responder.end(trailers)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.transport.pause()

    def _go_on(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.transport.resume()

    def receive_end(self) -> None:
        """The client sends no more. What it has asked for is answered."""
        self._input_ended = True
        reading, responder = self._reading, self._responder
        if reading is TUNNEL:
            if responder is not None:
                responder.end()
            if self._output_ended:
                self._close()
        elif reading in (LENGTH, CHUNKS):
            self._cancel(Failure.CANCELLED)
            self.transport.abort()
        elif self._head is None:
            self._close()
        elif not self._held:
            self._keeps_alive = False

    def on_lost(self, is_refused: bool) -> None:
        """The client has gone."""
        self._reading = NOTHING
        self._cancel(Failure.CANCELLED)

    def on_writable(self) -> None:
        """The client takes octets again."""
        was_full, self._is_full = self._is_full, False
        if self._responder is not None:
            self._responder.resume()
        elif was_full and self._reading is HEAD:
            self._next_request()

    def drain(self) -> None:
        """Close after the answer in progress, or now."""
        self._drains = True
        self._keeps_alive = False
        if self._head is None:
            self._close()

    def _cancel(self, failure: Failure) -> None:
        responder, self._responder, self._head = self._responder, None, None
        if responder is not None:
            responder.cancel(failure)

    def _close(self) -> None:
        self._reading = NOTHING
        self._held = b""
        self.transport.close()

    def _refuse(self, error: MessageError) -> None:
        """What came is not taken: say so, if an answer can still be given, and close."""
        if self._is_answering:
            self._cancel(Failure.BAD_REQUEST)
            self._reading = NOTHING
            self.transport.abort()
            return
        is_head = self._head is not None and self._head.method == b"HEAD"
        self._cancel(Failure.BAD_REQUEST)
        self.transport.write(encode_error(error.status, error.reason, is_head=is_head, connection=b"close"))
        self._close()

    # --- from the responder -------------------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx answer: clients of HTTP/1.0 would not understand it."""
        if self._head is not None and self._head.version >= HTTP_1_1:
            self.transport.write(encode_response(head, connection=None, is_chunked=False))

    def on_response(self, head: ResponseHead) -> None:
        """The answer begins, or a tunnel."""
        request = self._head
        assert request is not None
        self._is_answering = True
        is_tunnel = head.status == 101 or (request.method == b"CONNECT" and head.status < 300)
        if is_tunnel:
            self.transport.write(encode_response(head, connection=None, is_chunked=False))
            self._reading = TUNNEL
            self._is_chunked_out = False
            self._go_on()
            self._process()
            if self._input_ended and self._responder is not None:
                self._responder.end()
            return
        if request.length is None and self._reading is HELD and request.method == b"CONNECT":
            self._keeps_alive = False  # refused; what it has sent ahead is no request
        chunked = False
        if head.length is None:
            chunked = request.version >= HTTP_1_1
            if not chunked:
                self._keeps_alive = False
        elif self._reading in (LENGTH, CHUNKS) and head.length == 0:
            self._keeps_alive = False
        if head.is_last:
            self._keeps_alive = False
        self._is_chunked_out = chunked
        connection = None
        if self._is_single:
            pass  # the end of the stream says it
        elif not self._keeps_alive:
            connection = b"close"
        elif request.version < HTTP_1_1:
            connection = b"keep-alive"
        if not self.transport.write(encode_response(head, connection=connection, is_chunked=chunked)):
            self._is_full = True
        if head.length == 0:
            self._answered()

    def on_data(self, data: bytes | memoryview) -> bool:
        """Octets of the answer."""
        write = self.transport.write
        is_open = write_chunk(write, data) if self._is_chunked_out else write(data)
        if not is_open:
            self._is_full = True
        return is_open

    def on_last(self, data: bytes | memoryview) -> None:
        """The last octets of the answer."""
        write = self.transport.write
        if not (write_last_chunk(write, data) if self._is_chunked_out else write(data)):
            self._is_full = True
        self._answered()

    def on_resume(self) -> None:
        """The handler takes octets of the request again."""
        self._go_on()

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        """The answer is complete."""
        if self._reading is TUNNEL:
            self._output_ended = True
            if self._input_ended:
                self._close()
            else:
                self.transport.finish()
            return
        if self._is_chunked_out and not self.transport.write(encode_trailers(trailers)):
            self._is_full = True
        self._answered()

    def _answered(self) -> None:
        """The exchange is over: close, or go on with the next request."""
        is_read = self._reading is HELD
        self._head = self._responder = self._chunks = None
        if not self._keeps_alive or not is_read:
            self._close()
            return
        self._reading = HEAD
        if self._is_full:
            self._pause()
        else:
            self._next_request()

    def _next_request(self) -> None:
        self._go_on()
        if self._held or self._input_ended:
            self._process()

    def on_failure(self, failure: Failure) -> None:
        """No answer comes: tell the client, if nothing of one has gone out."""
        request = self._head
        self._responder = None
        if self._is_answering or request is None:
            self._head = None
            self._reading = NOTHING
            self.transport.abort()
            return
        if self._is_single and failure in (Failure.NO_SERVICE, Failure.UNANSWERED):
            # The listener decides: it may try elsewhere.
            self._head = None
            self._reading = NOTHING
            self.transport.abort(failure)
            return
        is_read = self._reading is HELD and request.length is not None
        if not is_read:
            self._keeps_alive = False
        connection = b"close" if not self._keeps_alive else b"keep-alive" if request.version < HTTP_1_1 else None
        answer = encode_error(failure.status, failure.reason, is_head=request.method == b"HEAD", connection=connection)
        if not self.transport.write(answer):
            self._is_full = True
        self._answered()
