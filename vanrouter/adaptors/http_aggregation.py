"""One request to many servers, and one answer made of theirs (`aggregation` json or multipart).

Layer: 4. Source: HTTP over AMQP, section 2.8. The address has multicast treatment; the request is over when all copies
are settled, which each connector does when its own answer has been. Nobody's status is promoted: the answer is 200.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from vanrouter.adaptors.http_exchange import Failure, Header, Requester, RequestHead, ResponseHead
from vanrouter.adaptors.http_message import Fields, decode_response
from vanrouter.adaptors.http_message_body import BodyReader
from vanrouter.adaptors.http_message_listener import MAX_HEAD_BYTES, Answers, MessageExchange, MessageForm
from vanrouter.core.stream import ACCEPTED, REJECTED, RELEASED, Producer, Sink
from vanrouter.engine.messages import parse_head
from vanrouter.engine.sections import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.adaptors.http_config import HttpListenerConfig
    from vanrouter.adaptors.http_shared import Shared

JSON, MULTIPART = "json", "multipart"

MAX_COLLECTED_BYTES = 16 << 20
"""Of all answers to one request; beyond it there is no answer, as one without some of them would not tell."""
BOUNDARY_OCTETS = 15


class Part:
    """One server's answer."""

    __slots__ = ("body", "head", "pairs")

    def __init__(self, head: ResponseHead, pairs: list[tuple[Any, Any]], body: bytes) -> None:
        self.head = head
        self.pairs = pairs
        self.body = body

    def content_type(self) -> bytes | None:
        """Return the value of its Content-Type."""
        return next((value for name, value in self.head.headers if name.lower() == b"content-type"), None)


def as_json(parts: list[Part]) -> tuple[bytes, bytes]:
    """Return content type and body: a list of objects, each with the application properties of an answer."""
    rows = []
    for part in parts:
        row: dict[str, Any] = {str(key): value for key, value in part.pairs}
        row["body"] = part.body.decode(errors="replace")
        kind = part.content_type()
        row["content_type"] = None if kind is None else kind.decode("latin-1")
        rows.append(row)
    return b"application/json", json.dumps(rows, indent=4, default=str).encode()


def as_multipart(parts: list[Part]) -> tuple[bytes, bytes]:
    """Return content type and body: a part for each answer, with its headers."""
    boundary = secrets.token_hex(BOUNDARY_OCTETS)[:BOUNDARY_OCTETS].encode()
    out = bytearray()
    for part in parts:
        out += b"--%b\r\n" % boundary
        for name, value in part.head.headers:
            if name.lower() != b"content-length":
                out += b"%b: %b\r\n" % (name, value)
        out += b"\r\n" + part.body + b"\r\n"
    out += b"--%b--\r\n" % boundary
    return b"multipart/mixed; boundary=" + boundary, bytes(out)


class Collector:
    """One answer, taken whole."""

    __slots__ = ("_answers", "_content", "_producer")

    takes_early = True

    def __init__(self, answers: Answers, producer: Producer) -> None:
        self._answers = answers
        self._producer: Producer | None = producer
        self._content = bytearray()

    def push(self, data: memoryview | bytes) -> bool:
        """Keep octets, up to the bound."""
        if self._producer is not None:
            self._content += data
            if len(self._content) > MAX_COLLECTED_BYTES:
                self._give_up()
        return True

    def _give_up(self) -> None:
        """This answer alone is too long: so is what its request would be answered with."""
        octets = bytes(self._content[:MAX_HEAD_BYTES])
        try:
            parsed = parse_head(octets, 0, len(octets), is_complete=False)
        except PeerError:
            parsed = NEED_MORE
        exchange = None if parsed is NEED_MORE else self._answers.exchange_of(parsed)
        self._settle(REJECTED)
        if exchange is not None:
            exchange.fail(Failure.ANSWERS_TOO_LONG)

    def finish(self, settled: bool = False) -> None:
        """It is whole."""
        if self._producer is None:
            return
        try:
            is_taken = self._hand_over(bytes(self._content))
        except PeerError:
            is_taken = False
        self._settle(ACCEPTED if is_taken else REJECTED)

    def abort(self) -> None:
        """Who answered is lost: its answer is not there."""
        self._producer = None

    def _hand_over(self, octets: bytes) -> bool:
        parsed = parse_head(octets, 0, len(octets), is_complete=True)
        assert parsed is not NEED_MORE
        exchange = self._answers.exchange_of(parsed)
        if not isinstance(exchange, AggregatedExchange):
            return True  # late: dropped
        pairs = parsed.application_pairs()
        fields = Fields(pairs)
        head = decode_response(parsed, fields, is_http2=False, is_head_request=False)
        if head.status < 200:
            return True
        pieces: list[bytes] = []

        def keep(data: bytes | memoryview) -> bool:
            pieces.append(bytes(data))
            return True

        reader = BodyReader(keep, is_chunked=fields.is_chunked, limits=self._answers.config.limits)
        reader.feed(octets[parsed.body_offset :])
        reader.end()
        return exchange.add(Part(head, pairs, b"".join(pieces)))

    def _settle(self, state: int) -> None:
        producer, self._producer = self._producer, None
        self._content.clear()
        if producer is not None:
            producer.outcome(state, True)


class AggregatedExchange(MessageExchange):
    """A request with many answers."""

    __slots__ = ("_mode", "_octets", "_parts")

    def __init__(self, messages: AggregatedForm, head: RequestHead, requester: Requester) -> None:
        super().__init__(messages, head, requester)
        self._mode = messages.mode
        self._parts: list[Part] = []
        self._octets = 0

    def add(self, part: Part) -> bool:
        """Take one answer; False: all together are too long, and the client has been told."""
        self._octets += len(part.body)
        if self._octets > MAX_COLLECTED_BYTES:
            self.fail(Failure.ANSWERS_TOO_LONG)
            return False
        self._parts.append(part)
        return True

    def on_sent(self, state: int) -> None:
        """All copies are settled: answer, whatever the servers said."""
        if state == RELEASED and not self._parts:
            self.fail(Failure.NO_SERVICE)
            return
        if state == REJECTED and self.refusal() is Failure.TOO_LONG:
            self.fail(Failure.TOO_LONG)
            return
        parts = self._parts
        if not parts:
            head, body = ResponseHead(204, [], length=0), b""
        else:
            kind, body = as_json(parts) if self._mode == JSON else as_multipart(parts)
            headers: list[Header] = [(b"Content-Type", kind), (b"Content-Length", b"%d" % len(body))]
            head = ResponseHead(200, headers, length=0 if self.head.method == b"HEAD" else len(body))
        self.is_answered = True
        self.over()
        self.requester.on_response(head)
        if head.length:
            self.requester.on_data(body)
            self.requester.on_end()


class AggregatedForm(MessageForm):
    """The message form of a listener that aggregates."""

    exchange_type = AggregatedExchange

    def __init__(self, shared: Shared, config: HttpListenerConfig, to: str) -> None:
        super().__init__(shared, config, to)
        self.mode = config.aggregation or JSON
        self.is_http2 = False

    def take_answer(self, answers: Answers, producer: Producer) -> Sink:
        return Collector(answers, producer)
