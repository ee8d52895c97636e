"""HTTP/2 towards servers: exchanges become streams of one connection.

Layer: 4, no input or output of its own. Source: RFC 9113; RFC 8441 (websockets over HTTP/2). `http2_connection` does
the framing, `http2_flow` the windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_connection import Connection
from vanrouter.adaptors.http2_fields import (
    WEBSOCKET,
    Trailers,
    check_size,
    copy_response,
    lower,
    parse_response,
    parse_trailers,
    request_fields,
)
from vanrouter.adaptors.http2_flow import Stream
from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError, ResetError
from vanrouter.adaptors.http2_hpack import Field, SharedBlocks
from vanrouter.adaptors.http2_patience import EXCHANGE_GAIN, FRAME_COST
from vanrouter.adaptors.http_exchange import (
    HTTP_2,
    ClientOwner,
    Failure,
    Header,
    HeadLimits,
    Requester,
    RequestHead,
    ResponseHead,
    Transport,
)

WITHOUT_BODY = (204, 304)
LAST_STREAM = 2**31 - 1


def parse_block(limits: HeadLimits, fields: list[Field]) -> ResponseHead | Trailers:
    """Return what a block from a server means: with pseudo header fields it is a response's head, without trailers.

    Raises:
        ResetError: it is malformed, or too large.
    """
    check_size(fields, limits)
    if fields and fields[0][0][:1] == b":":
        return parse_response(fields)
    return parse_trailers(fields)


_blocks: dict[tuple[int, int], SharedBlocks[ResponseHead | Trailers]] = {}


def blocks_for(limits: HeadLimits) -> SharedBlocks[ResponseHead | Trailers]:
    """Return the memory that all connections with these limits share."""
    key = limits.max_bytes, limits.max_fields
    found = _blocks.get(key)
    if found is None:
        found = _blocks[key] = SharedBlocks(partial(parse_block, limits))
    return found


class ClientStream(Stream):
    """One exchange with a server: the responder's end."""

    __slots__ = ("has_head", "is_answered", "is_connect", "is_head_request", "is_tunnel", "requester")

    connection: Http2Client

    def __init__(self, connection: Http2Client, stream_id: int, requester: Requester, head: RequestHead) -> None:
        super().__init__(connection, stream_id)
        self.requester = requester
        self.is_head_request = head.method == b"HEAD"
        self.is_connect = head.method == b"CONNECT" or head.upgrade is not None
        """It asks for a tunnel, and has one once it is told 2xx."""
        self.is_tunnel = False
        self.has_head = False
        self.is_answered = False
        """The exchange is over for the requester; the server has not ended the stream yet."""

    # --- responder: the request ---------------------------------------------------------------------------------------

    def data(self, data: bytes | memoryview) -> bool:
        return self.send_data(data) if self.is_open and not self.is_local_ended else True

    def last(self, data: bytes | memoryview) -> None:
        if self.is_open and not self.is_local_ended and self.pending_end is None:
            self.send_last(data)

    def end(self, trailers: Sequence[Header] = ()) -> None:
        if self.is_open and not self.is_local_ended and self.pending_end is None:
            self.send_end(lower(trailers))

    def cancel(self, failure: Failure) -> None:
        if self.is_open:
            self.connection.emit(wire.rst_stream(self.id, failure.error_code))
            self.connection.done(self)

    def resume(self) -> None:
        if self.is_open:
            self.credit_held()

    # --- what the windows tell ----------------------------------------------------------------------------------------

    def on_sendable(self) -> None:
        if not self.is_answered:
            self.requester.on_resume()

    def on_local_end(self) -> None:
        if self.is_remote_ended:
            self.connection.done(self)

    # --- what the server tells ----------------------------------------------------------------------------------------

    def take_head(self, parsed: ResponseHead, is_end: bool) -> None:
        """A response's head, informational or final.

        Raises:
            ResetError: it stands where none may.
        """
        if self.has_head:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "a second head")
        status = parsed.status
        if status < 200:
            if is_end or status == 101:
                raise ResetError(ErrorCode.PROTOCOL_ERROR, "an informational head that ends the answer")
            self.connection.patience.spend(FRAME_COST)
            self.requester.on_informational(copy_response(parsed, 0))
            return
        self.has_head = True
        self.is_remote_ended = is_end
        if self.is_connect and status < 300:
            self._open_tunnel(parsed, is_end)
            return
        length = parsed.length
        if self.is_head_request or status in WITHOUT_BODY:
            length = 0
        elif is_end:
            if length:
                raise ResetError(ErrorCode.PROTOCOL_ERROR, "content-length without a body")
            length = 0
        if length is not None:
            self.expected = length
        self.requester.on_response(copy_response(parsed, length))
        if length == 0:
            self.is_answered = True
            if is_end:
                self.end_of_answer()

    def _open_tunnel(self, parsed: ResponseHead, is_end: bool) -> None:
        self.is_tunnel = True
        head = copy_response(parsed, None)
        if self.connection.is_extended(self):
            head = ResponseHead(101, head.headers, length=None, upgrade=WEBSOCKET, version=HTTP_2)
        self.requester.on_response(head)
        if is_end and self.is_open:
            self.take_end(())

    def end_of_answer(self) -> None:
        """The server has ended its direction."""
        if not self.is_open:
            return
        if not self.is_local_ended:
            if self.is_tunnel:
                return
            # Answered before the request was whole: nobody reads the rest of it.
            self.connection.emit(wire.rst_stream(self.id, ErrorCode.CANCEL))
        else:
            self.connection.is_answered = True
        self.connection.done(self)

    def take_data(self, data: bytes | memoryview, octets: int) -> None:
        if not self.has_head:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "DATA before the head")
        if self.requester.on_data(data):
            self.credit(octets)
        else:
            self.held += octets

    def take_last(self, data: bytes | memoryview) -> None:
        if not self.has_head:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "DATA before the head")
        if self.is_tunnel or self.is_answered:
            self.requester.on_data(data)
            self.take_end(())
            return
        self.is_answered = True
        self.requester.on_last(data)
        self.end_of_answer()

    def take_end(self, trailers: Sequence[Header]) -> None:
        if not self.has_head:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "an end before the head")
        if not self.is_answered:
            self.is_answered = not self.is_tunnel
            self.requester.on_end(trailers)
        self.end_of_answer()

    def take_reset(self, code: int) -> None:
        self.connection.after_exchange()
        if self.is_answered:
            return
        if self.has_head:
            self.requester.on_failure(Failure.BROKEN)
        elif code == ErrorCode.REFUSED_STREAM:
            self.requester.on_failure(Failure.NO_SERVICE)
        else:
            self.requester.on_failure(Failure.UNANSWERED)

    def take_fault(self, fault: ResetError) -> None:
        self.connection.after_exchange()
        if not self.is_answered:
            self.requester.on_failure(Failure.BAD_RESPONSE)

    def take_loss(self, is_refused: bool) -> None:
        if self.is_answered:
            return
        if self.has_head:
            self.requester.on_failure(Failure.BROKEN)
        else:
            self.requester.on_failure(Failure.NO_SERVICE if is_refused else Failure.UNANSWERED)


class Http2Client(Connection):
    """Speaks HTTP/2 with one server. `http_exchange.ClientCodec` describes it.

    Args:
        transport: carries the octets.
        owner: is told of room, and of the end.
        limits: of heads.
        is_single: one exchange, which ends the connection.
    """

    is_client = True
    alpn = "h2"

    def __init__(
        self, transport: Transport, owner: ClientOwner, limits: HeadLimits, *, is_single: bool = False
    ) -> None:
        super().__init__(transport, limits, blocks_for(limits), is_single=is_single)
        self.owner = owner
        self.room = 1 if is_single else self.peer_streams
        """Exchanges that may begin now."""
        self._next_id = 1
        self._is_gone = False
        self.is_answered = False
        """The last exchange that ended had a whole answer."""
        self._takes_websockets = False
        self._extended: set[int] = set()
        """Streams that were asked for by extended CONNECT."""

    def first_octets(self) -> bytes:
        if self.is_single:
            return wire.SINGLE_REQUEST
        return wire.PREFACE + wire.settings({wire.ENABLE_PUSH: 0, wire.MAX_HEADER_LIST_SIZE: self.limits.max_bytes})

    def skip_preface(self, view: memoryview) -> int:
        if self.is_single and view[: len(wire.SINGLE_ANSWER)] == wire.SINGLE_ANSWER:
            self.know_settings()
            return len(wire.SINGLE_ANSWER)
        return 0

    def begin(self, head: RequestHead, requester: Requester) -> ClientStream:
        """An exchange begins; `room` must have been above 0."""
        stream_id = self.last_id = self._next_id
        self._next_id += 2
        is_extended = head.upgrade == WEBSOCKET and self._takes_websockets
        stream = ClientStream(self, stream_id, requester, head)
        self.streams[stream_id] = stream
        if is_extended:
            self._extended.add(stream_id)
        elif head.upgrade is not None:
            stream.is_connect = False  # the server need not change the protocol, and will not
        is_end = head.length == 0 or (head.upgrade is not None and not is_extended)
        stream.is_local_ended = is_end
        self.send_headers(stream_id, request_fields(head, is_extended=is_extended), wire.END_STREAM if is_end else 0)
        self._count_room()
        return stream

    def is_extended(self, stream: Stream) -> bool:
        """Whether a stream was asked for by extended CONNECT."""
        return stream.id in self._extended

    def _count_room(self) -> None:
        if self._is_gone or self.is_over or (self.is_single and self.last_id):
            self.room = 0
        else:
            self.room = self.peer_streams - len(self.streams)

    # --- what the server tells ----------------------------------------------------------------------------------------

    def on_block(self, stream_id: int, block: bytes, is_end: bool) -> None:
        self.check_not_idle(stream_id)
        parsed = self.read_block(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            self.patience.spend(FRAME_COST)  # of a stream that we have ended: it may not know yet
            return
        assert isinstance(stream, ClientStream)
        if stream.is_remote_ended:
            raise ResetError(ErrorCode.STREAM_CLOSED, "HEADERS behind the end of the stream")
        if isinstance(parsed, ResponseHead):
            stream.take_head(parsed, is_end)
        elif is_end:
            stream.is_remote_ended = True
            stream.check_complete()
            stream.take_end(parsed)
        else:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")

    def on_switch(self, key: int, value: int) -> None:
        if key == wire.ENABLE_PUSH and value:
            raise GoAwayError(ErrorCode.PROTOCOL_ERROR, "a server cannot ask for pushes")
        if key == wire.ENABLE_CONNECT_PROTOCOL:
            self._takes_websockets = value == 1

    def on_settings(self) -> None:
        had_room = self.room > 0
        self._count_room()
        if not had_room and self.room > 0:
            self.owner.on_room(self)

    def on_goaway(self, last_stream_id: int) -> None:
        self._go()
        for stream in list(self.streams.values()):
            if stream.id > last_stream_id and stream.is_open:
                self.forget(stream)
                stream.take_loss(True)
        self._close_if_idle()

    # --- ends ---------------------------------------------------------------------------------------------------------

    def done(self, stream: Stream) -> None:
        """An exchange is over."""
        self.forget(stream)
        if self.is_single:
            self._close_if_idle()
            return
        self.patience.earn(EXCHANGE_GAIN)
        self.after_exchange()

    def after_exchange(self) -> None:
        """There may be room for the next, or nothing left to do."""
        if self.is_over:
            return
        self._count_room()
        if self.room > 0:
            self.owner.on_room(self)
        if self._next_id > LAST_STREAM:
            self._go()
        self._close_if_idle()

    def forget(self, stream: Stream) -> None:
        if self._extended:
            self._extended.discard(stream.id)
        super().forget(stream)

    def _go(self) -> None:
        """Nothing may begin here any more."""
        if not self._is_gone:
            self._is_gone = True
            self.room = 0
            self.owner.on_gone(self)

    def _close_if_idle(self) -> None:
        if self.streams or not (self._is_gone or self.is_single) or self.is_over:
            return
        if self.is_single and self.is_answered:
            self._gathered = None  # acknowledgements that nobody waits for
        self.close()

    def receive_end(self) -> None:
        """The server sends no more: what it has not answered is lost."""
        self.close()

    def lose_streams(self, is_refused: bool) -> None:
        self._go()
        super().lose_streams(is_refused)
