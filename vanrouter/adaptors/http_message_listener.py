"""The message form at a listener: each request an AMQP message, each answer one or several at a reply address.

Layer: 4. Source: HTTP over AMQP, sections 2, 3 and 5. Over HTTP/1 answers are told apart by correlation-id, at one
address of the listener's (invisible to who answers); over HTTP/2 by their address alone, one for each exchange.

What becomes of a request is told twice: by its outcome, and by its answer, in any order. Released: nobody has taken it,
and it may be tried elsewhere. Modified: whoever took it was lost. Accepted says nothing yet: an application may accept
what it is going to answer. An answer that nobody waits for (any more) is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vanrouter.adaptors.http_exchange import Failure, Header, Requester, RequestHead, ResponseHead
from vanrouter.adaptors.http_message import Fields, decode_response, encode_request
from vanrouter.adaptors.http_message_body import EMPTY_BODIES, BodyReader, OutgoingMessage
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, Producer, Sink
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Head, parse_head
from vanrouter.engine.sections import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.adaptors.http_config import HttpListenerConfig
    from vanrouter.adaptors.http_shared import Shared

MAX_HEAD_BYTES = 1 << 20
"""In front of a body: the core refuses longer ones, too."""

OUTCOMES = {RELEASED: Failure.NO_SERVICE, MODIFIED: Failure.UNANSWERED}
"""Of a request, as far as they fail it (section 2.7). Rejected: see `MessageExchange.on_sent`."""


class AnswerTaker:
    """One message at a reply address: head first, then the body for the exchange that it belongs to."""

    __slots__ = ("_body", "_exchange", "_head", "_is_final", "_owner", "_response", "producer")

    def __init__(self, owner: Answers, producer: Producer) -> None:
        self._owner = owner
        self.producer: Producer | None = producer
        self._head: bytearray | None = bytearray()
        self._exchange: MessageExchange | None = None
        self._body: BodyReader | None = None
        self._is_final = False
        self._response: ResponseHead | None = None
        """A head that waits for what follows it."""

    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        """Take octets; False asks for silence."""
        if self.producer is None:
            return True
        try:
            head = self._head
            if head is None:
                return self._feed(data)
            head += data
            return self._consider(bytes(head), is_complete=False)
        except PeerError:
            self._refuse()
            return True

    def _consider(self, octets: bytes, *, is_complete: bool) -> bool:
        """See whether the head is whole."""
        parsed = parse_head(octets, 0, len(octets), is_complete)
        if parsed is NEED_MORE:
            if len(octets) > MAX_HEAD_BYTES:
                self._refuse()
            return True
        self._head = None
        exchange = self._owner.exchange_of(parsed)
        if exchange is None or exchange.answer is not None:
            self._settle(ACCEPTED)  # late, or a second one: the client's connection is no part of that
            return True
        self._exchange = exchange
        fields = Fields(parsed.application_pairs())
        listener = self._owner
        response = decode_response(
            parsed, fields, is_http2=listener.is_http2, is_head_request=exchange.head.method == b"HEAD"
        )
        if response.status < 200:
            if response.status != 101:
                exchange.requester.on_informational(response)
            return True
        self._is_final = True
        if response.length != 0:
            self._body = BodyReader(
                self._deliver, is_chunked=fields.is_chunked, limits=listener.config.limits, length=response.length
            )
        exchange.answer = self
        rest = octets[parsed.body_offset :]
        self._response = response
        if is_complete and not rest and response.length is None and not fields.is_chunked:
            response.length = 0
        if response.length is None and not fields.is_chunked and rest in EMPTY_BODIES and not is_complete:
            # It may be all there is: gRPC tells errors by heads that end their stream.
            listener.reactor.call_soon(self._begin)
            return True
        self._begin()
        return self._feed(rest) if rest else True

    def _begin(self) -> None:
        """Pass the head on, once."""
        response, self._response = self._response, None
        exchange = self._exchange
        if response is None or exchange is None:
            return
        if response.length == 0:
            self._exchange = None
            exchange.is_answered = True
            exchange.over()
        exchange.requester.on_response(response)

    def _feed(self, data: memoryview | bytes) -> bool:
        self._begin()
        if self._body is None or self._exchange is None:
            return True
        return self._body.feed(data)

    def _deliver(self, data: bytes | memoryview) -> bool:
        exchange = self._exchange
        return True if exchange is None else exchange.requester.on_data(data)

    def finish(self, settled: bool = False) -> None:
        """The message is complete."""
        if self.producer is None:
            return
        try:
            if self._head is not None:
                self._consider(bytes(self._head), is_complete=True)
            if self._response is not None:
                self._response.length = 0
                self._begin()
            if self._body is not None and self._exchange is not None:
                self._body.end()
        except PeerError:
            self._refuse()
            return
        exchange, self._exchange = self._exchange, None
        body = self._body
        self._settle(ACCEPTED)
        if exchange is not None and self._is_final and body is not None:
            exchange.is_answered = True
            exchange.over()
            exchange.requester.on_end(body.trailers)

    def abort(self) -> None:
        """Who answered is lost."""
        exchange, self._exchange = self._exchange, None
        self.producer = None
        if exchange is not None and self._is_final:
            exchange.fail(Failure.BROKEN)

    def _refuse(self) -> None:
        """It is not what HTTP allows."""
        exchange, self._exchange = self._exchange, None
        self._settle(REJECTED)
        if exchange is not None:
            exchange.fail(Failure.BROKEN if self._is_final else Failure.BAD_RESPONSE)

    def drop(self) -> None:
        """Nobody waits for the rest."""
        self._exchange = None

    def _settle(self, state: int) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.outcome(state, True)

    def resume(self) -> None:
        """The client takes octets again."""
        if self.producer is not None:
            self.producer.writable()


class MessageExchange:
    """One request as a message: the responder's end of the exchange."""

    __slots__ = ("_is_over", "_message", "_messages", "answer", "head", "is_answered", "number", "reply", "requester")

    def __init__(self, messages: MessageForm, head: RequestHead, requester: Requester) -> None:
        self._messages = messages
        self.head = head
        self.requester = requester
        self.number = 0
        self.reply: Answers | None = None
        self.answer: AnswerTaker | None = None
        self.is_answered = False
        self._is_over = False
        self._message: OutgoingMessage | None = None

    def send(self, message: OutgoingMessage) -> None:
        """Send the request."""
        self._message = message
        if self.head.length == 0:
            message.end()
        else:
            message.begin()

    # Responder.

    def data(self, data: bytes | memoryview) -> bool:
        """Octets of the request."""
        return self._message.data(data) if self._message is not None else True

    def last(self, data: bytes | memoryview) -> None:
        """The last octets of the request."""
        self.data(data)
        self.end()

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """The request is complete."""
        if self._message is not None:
            self._message.end(trailers)

    def cancel(self, failure: Failure) -> None:
        """The client has gone: what is not complete breaks off, what is will be answered into the void."""
        self.over()

    def resume(self) -> None:
        """The client takes octets again."""
        if self.answer is not None:
            self.answer.resume()

    # Sender of the message.

    def on_sent(self, state: int) -> None:
        """What became of the request."""
        if self._is_over:
            return
        failure = OUTCOMES.get(state)
        if state == REJECTED:
            failure = self.refusal()
        if failure is not None:
            self.fail(Failure.BROKEN if self.answer is not None else failure)
        else:
            self.on_taken()

    def refusal(self) -> Failure:
        """Return why the request was rejected."""
        if self._message is not None and self._message.is_too_long:
            return Failure.TOO_LONG
        return Failure.BAD_REQUEST if self._messages.is_http2 else Failure.BAD_RESPONSE

    def on_taken(self) -> None:
        """Accepted, or settled without a state: the answer comes, or is there already."""

    def on_sendable(self) -> None:
        """The message takes octets again."""
        if not self._is_over:
            self.requester.on_resume()

    # Ends.

    def fail(self, failure: Failure) -> None:
        """There is no (whole) answer."""
        if not self._is_over:
            self.over()
            self.requester.on_failure(failure)

    def over(self) -> None:
        """Nothing is waited for any more."""
        if self._is_over:
            return
        self._is_over = True
        message, self._message = self._message, None
        answer = self.answer
        if message is not None:
            message.abort()
        if answer is not None and not self.is_answered:
            answer.drop()
        self._messages.forget(self)


class Answers:
    """A reply address, and who waits there."""

    __slots__ = ("_messages", "address", "config", "is_http2", "only", "pending", "reactor", "subscription")

    def __init__(self, messages: MessageForm) -> None:
        self._messages = messages
        self.config = messages.config
        self.is_http2 = messages.is_http2
        self.reactor = messages.shared.reactor
        self.subscription = messages.shared.router.new_delivery_address(self)
        self.address = self.subscription.address
        self.pending: dict[int, MessageExchange] = {}
        """By message-id, over HTTP/1."""
        self.only: MessageExchange | None = None
        """Over HTTP/2, where the address is for one exchange."""

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """A message has come."""
        return self._messages.take_answer(self, producer)

    def exchange_of(self, head: Head) -> MessageExchange | None:
        """Return who waits for a message."""
        if self.is_http2:
            return self.only
        number: Any = head.correlation_id
        if isinstance(number, str) and number.isdigit():
            number = int(number)
        return self.pending.get(number) if isinstance(number, int) else None


MAX_SPARE_ANSWERS = 256
"""Reply addresses of HTTP/2 kept for the next exchanges."""


class MessageForm:
    """The message form of one listener: begins exchanges and keeps their reply addresses.

    Args:
        shared: the router's HTTP.
        config: the listener's.
        to: service address as messages have it.
    """

    exchange_type: type[MessageExchange] = MessageExchange

    def __init__(self, shared: Shared, config: HttpListenerConfig, to: str) -> None:
        self.shared = shared
        self.config = config
        self.to = to
        self.is_http2 = config.protocol == "HTTP2"
        self._numbers = 0
        self._common: Answers | None = None
        self._spare: list[Answers] = []
        self._is_closed = False

    def begin(self, head: RequestHead, requester: Requester) -> MessageExchange:
        """Send a request on its way."""
        exchange = self.exchange_type(self, head, requester)
        reply = exchange.reply = self._answers_for(exchange)
        octets = encode_request(
            head,
            is_http2=self.is_http2,
            message_id=None if self.is_http2 else exchange.number,
            to=self.to,
            reply_to=None if reply is None else reply.address,
            site_id=self.config.site_id,
            flow_id=self.shared.next_flow_identity(),
        )
        exchange.send(
            OutgoingMessage(
                self.shared.router,
                self.to,
                octets,
                exchange,
                is_http2=self.is_http2,
                is_chunked=not self.is_http2 and head.length is None,
            )
        )
        return exchange

    def take_answer(self, answers: Answers, producer: Producer) -> Sink:
        """A message has come to a reply address."""
        return AnswerTaker(answers, producer)

    def _answers_for(self, exchange: MessageExchange) -> Answers | None:
        """Return where the answer goes."""
        self._numbers += 1
        exchange.number = self._numbers
        if self.is_http2:
            reply = self._spare.pop() if self._spare else Answers(self)
            reply.only = exchange
            return reply
        if self._common is None:
            self._common = Answers(self)
        self._common.pending[exchange.number] = exchange
        return self._common

    def forget(self, exchange: MessageExchange) -> None:
        """An exchange is over."""
        reply, exchange.reply = exchange.reply, None
        if reply is None:
            return
        if not self.is_http2:
            reply.pending.pop(exchange.number, None)
            self._close_common()
            return
        reply.only = None
        if exchange.is_answered and not self._is_closed and len(self._spare) < MAX_SPARE_ANSWERS:
            self._spare.append(reply)  # answered: nothing else will come to it
        else:
            reply.subscription.cancel()

    def _close_common(self) -> None:
        common = self._common
        if self._is_closed and common is not None and not common.pending:
            common.subscription.cancel()
            self._common = None

    def close(self) -> None:
        """Take no more answers than those that are waited for."""
        self._is_closed = True
        self._close_common()
        for reply in self._spare:
            reply.subscription.cancel()
        self._spare.clear()
