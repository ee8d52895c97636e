"""HTTP/2 towards clients: streams become exchanges at a handler, their answers become streams.

Layer: 4, no input or output of its own. Source: RFC 9113; RFC 8441 (websockets over HTTP/2). `http2_connection` does
the framing, `http2_flow` the windows.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from functools import partial

from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_connection import MAX_STREAMS, Connection
from vanrouter.adaptors.http2_fields import (
    HeadTooLargeError,
    Trailers,
    check_size,
    copy_request,
    lower,
    parse_request,
    parse_trailers,
    response_fields,
)
from vanrouter.adaptors.http2_flow import Stream
from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError, ResetError
from vanrouter.adaptors.http2_hpack import Field, SharedBlocks
from vanrouter.adaptors.http2_patience import EXCHANGE_GAIN, FAULT_COST, FRAME_COST
from vanrouter.adaptors.http_exchange import (
    Failure,
    Handler,
    Header,
    HeadLimits,
    RequestHead,
    Responder,
    ResponseHead,
    Transport,
)

SWITCHING_PROTOCOLS = 101
TRIED_ELSEWHERE = (Failure.NO_SERVICE, Failure.UNANSWERED)
"""On a stream through the router the other end decides what to make of these."""
LAST_PING = b"draining"
"""Octets of the PING between the two GOAWAY of a graceful end: what was on its way has come when it is answered."""


def parse_block(scheme: bytes | None, limits: HeadLimits, fields: list[Field]) -> RequestHead | Trailers:
    """Return what a block from a client means: with pseudo header fields it is a request's head, without trailers.

    Raises:
        ResetError: it is malformed, or too large.
    """
    check_size(fields, limits)
    if fields and fields[0][0][:1] == b":":
        return parse_request(fields, scheme)
    return parse_trailers(fields)


_blocks: dict[tuple[bytes | None, int, int], SharedBlocks[RequestHead | Trailers]] = {}


def blocks_for(scheme: bytes | None, limits: HeadLimits) -> SharedBlocks[RequestHead | Trailers]:
    """Return the memory that all connections with this scheme and these limits share."""
    key = scheme, limits.max_bytes, limits.max_fields
    found = _blocks.get(key)
    if found is None:
        found = _blocks[key] = SharedBlocks(partial(parse_block, scheme, limits))
    return found


class ServerStream(Stream):
    """One exchange of a client: the requester's end."""

    __slots__ = ("has_body", "has_head", "is_connect", "is_tunnel", "responder")

    connection: Http2Server
    responder: Responder

    def __init__(self, connection: Http2Server, stream_id: int, *, is_connect: bool, has_body: bool) -> None:
        super().__init__(connection, stream_id)
        self.is_connect = is_connect
        """It asks for a tunnel, and has one once it is told 2xx."""
        self.is_tunnel = False
        self.has_body = has_body
        self.has_head = False
        """The final answer's head has been sent."""

    # --- requester: what is answered ----------------------------------------------------------------------------------

    def on_informational(self, head: ResponseHead) -> None:
        if self.is_open and not self.has_head:
            self.connection.send_headers(self.id, response_fields(head), 0)

    def on_response(self, head: ResponseHead) -> None:
        if not self.is_open or self.has_head:
            return
        self.has_head = True
        if head.status == SWITCHING_PROTOCOLS:
            headers = [header for header in head.headers if header[0].lower() != b"sec-websocket-accept"]
            head = ResponseHead(200, headers, length=None)
            self.is_tunnel = True
        elif self.is_connect and 200 <= head.status < 300:
            self.is_tunnel = True
        is_end = head.length == 0 and not self.is_tunnel
        self.connection.send_headers(self.id, response_fields(head), wire.END_STREAM if is_end else 0)
        if is_end:
            self.is_local_ended = True
            self.on_local_end()

    def on_data(self, data: bytes | memoryview) -> bool:
        return self.send_data(data) if self.is_open else True

    def on_last(self, data: bytes | memoryview) -> None:
        if self.is_open and not self.is_local_ended and self.pending_end is None:
            self.send_last(data)

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        if self.is_open and not self.is_local_ended and self.pending_end is None:
            self.send_end(lower(trailers))

    def on_failure(self, failure: Failure) -> None:
        if not self.is_open:
            return
        connection = self.connection
        if self.has_head:
            connection.emit(wire.rst_stream(self.id, failure.error_code))
            connection.done(self)
            return
        if connection.is_single and not connection.has_spoken and failure in TRIED_ELSEWHERE:
            connection.forget(self)
            self.part()
            connection.abort(failure)
            return
        text = failure.reason.encode() + b"\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
        self.on_response(ResponseHead(failure.status, headers, length=len(text)))
        self.on_data(text)
        self.on_end()

    def on_resume(self) -> None:
        if self.is_open:
            self.credit_held()

    # --- what the windows tell ----------------------------------------------------------------------------------------

    def on_sendable(self) -> None:
        self.responder.resume()

    def on_local_end(self) -> None:
        connection = self.connection
        if not self.is_remote_ended:
            if self.is_tunnel:
                return
            # Answered before the request was whole: the client may stop sending it.
            connection.emit(wire.rst_stream(self.id, ErrorCode.NO_ERROR))
        connection.done(self)

    # --- what the client tells ----------------------------------------------------------------------------------------

    def take_data(self, data: bytes | memoryview, octets: int) -> None:
        if self.responder.data(data):
            self.credit(octets)
        else:
            self.held += octets

    def take_last(self, data: bytes | memoryview) -> None:
        if self.is_tunnel or not self.has_body:
            self.responder.data(data)
            self.take_end(())
            return
        self.responder.last(data)
        if self.is_local_ended and self.is_open:
            self.connection.done(self)

    def take_end(self, trailers: Sequence[Header]) -> None:
        if self.has_body:
            self.responder.end(trailers)
        if self.is_local_ended and self.is_open:
            self.connection.done(self)

    def take_reset(self, code: int) -> None:
        self._cancel(Failure.CANCELLED)

    def take_fault(self, fault: ResetError) -> None:
        self._cancel(Failure.BAD_REQUEST)

    def take_loss(self, is_refused: bool) -> None:
        self._cancel(Failure.CANCELLED)

    def _cancel(self, failure: Failure) -> None:
        responder = self.responder
        self.part()
        responder.cancel(failure)

    def part(self) -> None:
        """The exchange is over. The responder knows this stream: a circle would wait for the collector."""
        del self.responder


class Http2Server(Connection):
    """Speaks HTTP/2 with one client. `http_exchange.ServerCodec` describes it.

    Args:
        transport: carries the octets.
        handler: where exchanges begin.
        limits: of heads.
        scheme: of the requests: `https` under TLS.
        is_single: one exchange, which ends the connection.
    """

    def __init__(
        self,
        transport: Transport,
        handler: Handler,
        limits: HeadLimits,
        *,
        scheme: bytes = b"http",
        is_single: bool = False,
    ) -> None:
        super().__init__(transport, limits, blocks_for(None if is_single else scheme, limits), is_single=is_single)
        self.handler = handler
        self._preface_left = len(wire.PREFACE)
        self._goaway_id: int | None = None
        """Streams above it are not taken any more; None: all are."""

    def first_octets(self) -> bytes:
        if self.is_single:
            return wire.SINGLE_SETTINGS
        return wire.settings(
            {
                wire.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                wire.MAX_HEADER_LIST_SIZE: self.limits.max_bytes,
                wire.ENABLE_CONNECT_PROTOCOL: 1,
            }
        )

    def skip_preface(self, view: memoryview) -> int:
        if not self._preface_left:
            return 0
        if self.is_single and view[: len(wire.SINGLE_REQUEST)] == wire.SINGLE_REQUEST:
            self._preface_left = 0
            self.know_settings()
            return len(wire.SINGLE_REQUEST)
        size = min(len(view), len(wire.PREFACE))
        if view[:size] != wire.PREFACE[:size]:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
        if size < len(wire.PREFACE):
            return -1
        self._preface_left = 0
        return size

    def on_switch(self, key: int, value: int) -> None:
        """A client may say whether it takes pushes: there are none."""

    # --- requests -----------------------------------------------------------------------------------------------------

    def on_block(self, stream_id: int, block: bytes, is_end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, self.read_block(block), is_end)
            return
        if not stream_id & 1:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "a client opened a stream with an even number")
        if stream_id <= self.last_id:
            self.read_block(block)  # the table goes on
            raise ResetError(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is over")
        self.last_id = stream_id
        try:
            head = self.read_block(block)
        except HeadTooLargeError:
            self.patience.spend(FAULT_COST)
            self.send_headers(stream_id, [(b":status", b"431"), (b"content-length", b"0")], wire.END_STREAM)
            if not is_end:
                self.emit(wire.rst_stream(stream_id, ErrorCode.NO_ERROR))
            return
        if self._goaway_id is not None and stream_id > self._goaway_id:
            self.patience.spend(FRAME_COST)
            return
        if len(self.streams) >= MAX_STREAMS or (self.is_single and stream_id != 1):
            raise ResetError(ErrorCode.REFUSED_STREAM, "too many streams")
        if type(head) is tuple:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "a request without a method")
        self._open(stream_id, head, is_end)

    def _open(self, stream_id: int, parsed: RequestHead, is_end: bool) -> None:
        """Begin an exchange."""
        is_tunnel = parsed.method == b"CONNECT" or parsed.upgrade is not None
        length = parsed.length
        if is_end and not is_tunnel:
            if length:
                raise ResetError(ErrorCode.PROTOCOL_ERROR, "content-length without a body")
            length = 0
        head = copy_request(parsed, length)
        if head.upgrade is not None:
            # What a websocket server of HTTP/1.1 insists on; over HTTP/2 there is none (RFC 8441, section 5).
            head.headers.append((b"sec-websocket-key", base64.b64encode(secrets.token_bytes(16))))
        stream = ServerStream(self, stream_id, is_connect=is_tunnel, has_body=length != 0)
        if length is not None:
            stream.expected = length
        stream.is_remote_ended = is_end
        self.streams[stream_id] = stream
        stream.responder = self.handler.begin(head, stream)
        if is_end and is_tunnel:
            stream.responder.end()

    def _on_trailers(self, stream: Stream, parsed: RequestHead | Trailers, is_end: bool) -> None:
        if stream.is_remote_ended:
            raise ResetError(ErrorCode.STREAM_CLOSED, "HEADERS behind the end of the stream")
        if not isinstance(parsed, tuple) or not is_end:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "a second head, or trailers that do not end the stream")
        stream.is_remote_ended = True
        stream.check_complete()
        stream.take_end(parsed)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def done(self, stream: ServerStream) -> None:
        """An exchange is over."""
        self.forget(stream)
        stream.part()
        if self.is_single:
            self.close()
            return
        self.patience.earn(EXCHANGE_GAIN)
        if not self.streams and self._is_drained:
            self.close()

    @property
    def _is_drained(self) -> bool:
        return self._goaway_id is not None and self._goaway_id < wire.MAX_WINDOW

    def drain(self) -> None:
        """Take no new requests, but those that are on their way; close when all are answered."""
        if self.is_over or self._goaway_id is not None:
            return
        self._goaway_id = wire.MAX_WINDOW
        if self._preface_left:
            self.close()
            return
        self.emit(wire.goaway(wire.MAX_WINDOW, ErrorCode.NO_ERROR) + wire.ping(LAST_PING))

    def on_pong(self) -> None:
        if self._goaway_id == wire.MAX_WINDOW:
            self._end_of_requests()

    def _end_of_requests(self) -> None:
        self._goaway_id = self.last_id
        self.emit(wire.goaway(self.last_id, ErrorCode.NO_ERROR))
        if not self.streams:
            self.close()

    def on_goaway(self, last_stream_id: int) -> None:
        """The client begins no more streams: it may as well be gone when the last is answered."""
        if self._goaway_id is None or not self._is_drained:
            self._end_of_requests()

    def receive_end(self) -> None:
        """The client sends no more: what it has asked for is answered, what it had begun to ask for is over."""
        for stream in list(self.streams.values()):
            if not stream.is_remote_ended and stream.is_open:
                self.forget(stream)
                stream.take_loss(False)
        if not self.streams:
            self.close()
        elif not self._is_drained:
            self._goaway_id = self.last_id
