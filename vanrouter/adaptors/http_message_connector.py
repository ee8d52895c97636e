"""The message form at a connector: messages of the address become requests to its server, answers become messages.

Layer: 4. Source: HTTP over AMQP, sections 2, 3, 5 and 6. What would take a real 2.7 listener down is not said: the
answer has annotation flag 1, it breaks off before its request is modified, nothing is said about a request once it is
settled, over HTTP/2 nothing but the final head is sent, and every message of HTTP/2 has a flow id and a subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vanrouter.adaptors.http_exchange import HTTP_1_0, Failure, Header, RequestHead, Responder, ResponseHead
from vanrouter.adaptors.http_message import (
    Encapsulation,
    Fields,
    decode_request,
    encapsulation,
    encode_response,
)
from vanrouter.adaptors.http_message_body import EMPTY_BODIES, BodyReader, OutgoingMessage, Sender
from vanrouter.adaptors.http_message_listener import MAX_HEAD_BYTES
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, Producer, Sink
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Head, parse_head
from vanrouter.engine.sections import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.adaptors.http_connector import HttpConnector

FAILURES = {Failure.NO_SERVICE: RELEASED, Failure.UNANSWERED: MODIFIED, Failure.BROKEN: MODIFIED}
"""Outcomes of requests that were not answered (section 2.7); others are answered with their status."""


class Unheeded:
    """Sender of a message whose fate changes nothing."""

    __slots__ = ()

    def on_sent(self, state: int) -> None:
        """Whatever it is."""

    def on_sendable(self) -> None:
        """It is whole."""


UNHEEDED = Unheeded()


class MessageRequest:
    """One request message: sink of its sections, and requester of the exchange with the server."""

    __slots__ = (
        "_answer",
        "_body",
        "_connector",
        "_head",
        "_is_cut",
        "_is_waiting",
        "_message_id",
        "_producer",
        "_reply_to",
        "_request",
        "_responder",
    )

    takes_early = True

    def __init__(self, connector: HttpConnector, producer: Producer) -> None:
        self._connector = connector
        self._producer: Producer | None = producer
        """Whom the outcome is told; None: it has been, and nothing is said any more."""
        self._head: bytearray | None = bytearray()
        self._body: BodyReader | None = None
        self._responder: Responder | None = None
        self._request: RequestHead | None = None
        self._answer: OutgoingMessage | None = None
        self._message_id: Any = None
        self._reply_to = ""
        self._is_cut = False
        self._is_waiting = False
        """The request waits for what follows its head."""

    # --- sink of the message ------------------------------------------------------------------------------------------

    def push(self, data: memoryview | bytes) -> bool:
        """Take octets; False asks for silence."""
        if self._producer is None:
            return True
        try:
            if self._head is not None:
                self._head += data
                return self._consider(bytes(self._head), is_complete=False)
            self._begin()
            return self._body.feed(data) if self._body is not None and self._responder is not None else True
        except PeerError:
            self._refuse()
            return True

    def _consider(self, octets: bytes, *, is_complete: bool) -> bool:
        """See whether the head is whole; begin the exchange."""
        parsed = parse_head(octets, 0, len(octets), is_complete)
        if parsed is NEED_MORE:
            if len(octets) > MAX_HEAD_BYTES:
                self._refuse()
            return True
        self._head = None
        connector = self._connector
        pairs = parsed.application_pairs()
        wanted = Encapsulation.HTTP2 if connector.speaks_http2 else Encapsulation.HTTP1
        if encapsulation(parsed, pairs) is not wanted:
            self._settle(RELEASED)
            return True
        fields = Fields(pairs)
        request = decode_request(parsed, fields, is_http2=connector.speaks_http2, scheme=connector.scheme)
        self._take_addresses(parsed)
        rest = octets[parsed.body_offset :]
        self._request = request
        if is_complete and not rest and request.length is None and not fields.is_chunked:
            request.length = 0
        if request.length != 0:
            self._body = BodyReader(
                self._deliver, is_chunked=fields.is_chunked, limits=connector.config.limits, length=request.length
            )
        self._is_waiting = True
        if request.length is None and not fields.is_chunked and rest in EMPTY_BODIES and not is_complete:
            connector.shared.reactor.call_soon(self._begin)  # it may be all there is
            return True
        self._begin()
        return self._body.feed(rest) if rest and self._body is not None else True

    def _begin(self) -> None:
        """Pass the request on, once."""
        if self._is_waiting and self._producer is not None:
            assert self._request is not None
            self._is_waiting = False
            self._responder = self._connector.begin(self._request, self)

    def _take_addresses(self, head: Head) -> None:
        """Take what the answer needs.

        Raises:
            PeerError: it is not there.
        """
        connector = self._connector
        self._message_id = head.message_id
        self._reply_to = head.reply_to or ""
        if connector.config.event_channel:
            return
        has_number = isinstance(self._message_id, int) and not isinstance(self._message_id, bool)
        if not self._reply_to or not (has_number or connector.speaks_http2):
            raise PeerError("amqp:precondition-failed", "a request without reply-to or a message-id that is a number")

    def _deliver(self, data: bytes | memoryview) -> bool:
        return self._responder.data(data) if self._responder is not None else True

    def finish(self, settled: bool = False) -> None:
        """The message is complete."""
        if self._producer is None:
            return
        try:
            if self._head is not None:
                self._consider(bytes(self._head), is_complete=True)
            if self._is_waiting and self._request is not None:
                self._request.length = 0
                self._body = None
                self._begin()
            if self._body is not None:
                self._body.end()
        except PeerError:
            self._refuse()
            return
        if self._body is not None and self._responder is not None and self._producer is not None:
            body, self._body = self._body, None
            self._responder.end(body.trailers)

    def abort(self) -> None:
        """The client, or the way to it, is gone."""
        self._producer = None
        self._cancel(Failure.CANCELLED)
        self._break_answer()

    def _refuse(self) -> None:
        """It is not what HTTP allows."""
        self._cancel(Failure.BAD_REQUEST)
        self._break_answer()
        self._settle_soon(REJECTED)

    def _cancel(self, failure: Failure) -> None:
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.cancel(failure)

    def _break_answer(self) -> None:
        answer, self._answer = self._answer, None
        self._is_cut = True
        if answer is not None:
            answer.abort()

    def _settle(self, state: int) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.outcome(state, True)

    def _settle_soon(self, state: int) -> None:
        """Settle when what was said before is on its way: an answer that breaks off does so first."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._connector.shared.reactor.call_soon(lambda: producer.outcome(state, True))

    # --- requester: what the server answers ---------------------------------------------------------------------------

    def _message(self, head: ResponseHead, sender: Sender, *, is_chunked: bool) -> OutgoingMessage:
        connector = self._connector
        assert self._request is not None
        octets = encode_response(
            head,
            is_http2=connector.speaks_http2,
            correlation_id=None if connector.speaks_http2 else self._message_id,
            to=self._reply_to,
            target=self._request.target,
            site_id=connector.config.site_id,
            flow_id=connector.shared.next_flow_identity(),
            is_chunked=is_chunked,
        )
        return OutgoingMessage(
            connector.shared.router,
            self._reply_to,
            octets,
            sender,
            is_http2=connector.speaks_http2,
            is_chunked=is_chunked,
        )

    @property
    def _is_mute(self) -> bool:
        """Whether answers go nowhere: an event channel, or nobody left to hear."""
        return self._producer is None or self._is_cut or self._connector.config.event_channel

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx answer: over HTTP/2 it would take a real 2.7 listener down."""
        if not self._is_mute and not self._connector.speaks_http2:
            self._message(head, UNHEEDED, is_chunked=False).end()

    def on_response(self, head: ResponseHead) -> None:
        """The final answer begins."""
        if not self._is_mute:
            assert self._request is not None
            is_chunked = head.length is None and not self._connector.speaks_http2 and self._request.version != HTTP_1_0
            self._answer = self._message(head, self, is_chunked=is_chunked)
            if head.length != 0:
                self._answer.begin()
        if head.length == 0:
            self._complete(())

    def on_data(self, data: bytes | memoryview) -> bool:
        """Octets of the answer."""
        return self._answer.data(data) if self._answer is not None else True

    def on_last(self, data: bytes | memoryview) -> None:
        """The last octets of the answer."""
        self.on_data(data)
        self._complete(())

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        """The answer is complete."""
        self._complete(trailers)

    def _complete(self, trailers: Sequence[Header]) -> None:
        self._responder = None
        answer = self._answer
        if answer is not None:
            answer.end(trailers)
        if answer is None or self._connector.config.aggregation is None:
            self._settle_soon(ACCEPTED)

    def on_failure(self, failure: Failure) -> None:
        """There is no (whole) answer."""
        self._responder = None
        if self._producer is None:
            return
        if self._answer is not None:
            self._break_answer()
            self._settle_soon(MODIFIED)
        elif failure in FAILURES or self._is_mute:
            self._settle_soon(FAILURES.get(failure, REJECTED))
        else:
            text = failure.reason.encode() + b"\n"
            headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(text))]
            self.on_response(ResponseHead(failure.status, headers, length=len(text)))
            self.on_data(text)
            self._complete(())

    def on_resume(self) -> None:
        """The server takes octets again."""
        if self._producer is not None:
            self._producer.writable()

    # --- sender of the answer -----------------------------------------------------------------------------------------

    def on_sent(self, state: int) -> None:
        """What became of the answer, or of an informational one."""
        if self._answer is None:
            return
        if not self._answer.is_complete:
            # The client is gone: nobody reads what the server goes on to say.
            self._answer = None
            self._cancel(Failure.CANCELLED)
            self._settle_soon(MODIFIED)
        elif self._connector.config.aggregation is not None:
            self._settle_soon(ACCEPTED)

    def on_sendable(self) -> None:
        """The answer takes octets again."""
        if self._responder is not None:
            self._responder.resume()


class MessageRequests:
    """What is subscribed at the address of a connector in the message form."""

    def __init__(self, connector: HttpConnector) -> None:
        self._connector = connector

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """A request has come."""
        return MessageRequest(self._connector, producer)
