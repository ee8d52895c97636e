"""A pair of streams through the router as the transport of a codec, at either end.

Layer: 4. Source: TCP over AMQP, sections 5, 7 and 9; HTTP over AMQP, section 6 (design notes A and B); extensions.

One exchange is one client stream, to the service address, and one server stream, to a reply address of the listener's.
The client stream carries the application property `vr.http`: a connector that knows it takes the conversation apart and
uses connections to its server that it has already; any other carries the octets to a new one. What goes wrong is told
as for TCP, with this difference: a connector begins the server stream with the first octet of the answer, so that a
listener can try again, elsewhere, whatever has not been answered.

    at the listener    RequestStream   opens the client stream, takes the server stream at its reply address
    at the connector   AnswerStream    is offered the client stream, opens the server stream

What comes in is never held up in the router: a paused codec's octets are kept here, bounded by the window, and not
reported until they are handed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vanrouter.adaptors.http_exchange import Failure
from vanrouter.core.stream import (
    ACCEPTED,
    MODIFIED,
    NOWHERE,
    REJECTED,
    RELEASED,
    STREAM_FLAGS,
    Producer,
    Sink,
    StreamHead,
)
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, STREAM_VERSION, encode_stream_head

if TYPE_CHECKING:
    from vanrouter.adaptors.http_exchange import Codec
    from vanrouter.adaptors.http_shared import ReplyAddresses, Shared

WINDOW_BYTES = 1_042_432
"""Octets in flight towards any consumer (TCP over AMQP, section 7); every router reports within it."""
REPORT_BYTES = 128 * 1024
"""Octets handed on from one report to the next."""
MAX_HELD_BYTES = 16 * 1024
"""Of an answer that has just begun, held until the end of the turn."""
MAX_KEPT_BYTES = 5 << 20
"""Kept for a codec that has paused: the largest window of a vanrouter's TCP flow, and what may be sent beyond it."""


class Arrivals:
    """The incoming half: sink of the stream that the other end sends."""

    __slots__ = ("_has_finished", "_is_paused", "_kept", "_report_at", "_stream", "_total", "producer")

    takes_early = True

    def __init__(self, stream: StreamTransport, producer: Producer) -> None:
        self._stream: StreamTransport | None = stream
        self.producer: Producer | None = producer
        self._total = 0
        self._report_at = REPORT_BYTES
        self._is_paused = False
        self._kept = bytearray()
        self._has_finished = False

    def push(self, data: memoryview | bytes) -> bool:
        """Hand octets to the codec, or keep them while it has paused."""
        stream = self._stream
        if stream is None:
            return True
        if self._is_paused or self._kept:  # resumed, and not handed on yet: nothing overtakes what is kept
            self._kept += data
            if len(self._kept) > MAX_KEPT_BYTES:
                stream.overrun()
            return False
        self._total += len(data)
        codec = stream.codec
        if codec is not None:
            codec.receive(data)
        if self._total >= self._report_at and not self._is_paused:
            self._report()
        return not self._is_paused

    @property
    def has_begun(self) -> bool:
        """Whether octets have come."""
        return self._total > 0 or bool(self._kept)

    def _report(self) -> None:
        self._report_at = self._total + REPORT_BYTES
        if self.producer is not None:
            self.producer.received(self._total)

    def pause(self) -> None:
        """Keep what comes."""
        self._is_paused = True

    def resume(self) -> None:
        """Hand on what was kept; not from within a call of the codec, which may be in the middle of something."""
        if self._is_paused and self._stream is not None:
            self._is_paused = False
            self._stream.shared.reactor.call_soon(self._hand_on)

    def _hand_on(self) -> None:
        if self._is_paused or self._stream is None:
            return
        kept, self._kept = self._kept, bytearray()
        if kept:
            self._total += len(kept)
            if self._stream.codec is not None:
                self._stream.codec.receive(bytes(kept))
        if not self._is_paused:
            self._go_on()

    def _go_on(self) -> None:
        """All that was kept has been handed on."""
        if self._total >= self._report_at:
            self._report()
        if self._has_finished:
            self._end()
        elif self.producer is not None:
            self.producer.writable()

    def finish(self, settled: bool = False) -> None:
        """The producer has no more octets."""
        self._has_finished = True
        if not (self._is_paused or self._kept):
            self._end()

    def _end(self) -> None:
        stream = self._stream
        self.settle(ACCEPTED)
        if stream is not None:
            stream.incoming_ended()

    def abort(self) -> None:
        """The producer's end, or the way to it, has failed."""
        stream, self._stream = self._stream, None
        self.producer = None
        if stream is not None:
            stream.lost(False)

    def forget(self) -> None:
        """Hand nothing on any more, and accept when the producer finishes."""
        self._is_paused = False
        self._kept = bytearray()
        self._stream = None
        if self._has_finished:
            self.settle(ACCEPTED)

    def settle(self, state: int) -> None:
        """Answer the stream, once; nothing is handed on any more."""
        self._stream = None
        self._kept = bytearray()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.outcome(state, True)


class StreamTransport:
    """What both ends have in common: the outgoing half, and the ends."""

    __slots__ = ("_acked", "_arrivals", "_is_blocked", "_is_limited", "_out", "_sent", "codec", "shared")

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.codec: Codec | None = None
        self._arrivals: Arrivals | None = None
        self._out: Sink | None = None
        self._sent = 0
        self._acked = 0
        self._is_blocked = False
        self._is_limited = False

    @property
    def is_lost(self) -> bool:
        """Whether there is no codec (any more)."""
        return self.codec is None

    # From the codec.

    def write(self, data: bytes | memoryview) -> bool:
        """Take octets; False: please no more for now."""
        out = self._out
        if out is None:
            return self._write_early(data)
        self._sent += len(data)
        if not out.push(data):
            self._is_blocked = True
        if self._sent - self._acked >= WINDOW_BYTES:
            self._is_limited = True
        return not (self._is_blocked or self._is_limited)

    def _write_early(self, data: bytes | memoryview) -> bool:
        """Octets before there is a stream, or after its end."""
        return True

    def pause(self) -> None:
        """Hand nothing to the codec for now."""
        if self._arrivals is not None:
            self._arrivals.pause()

    def resume(self) -> None:
        """Go on."""
        if self._arrivals is not None:
            self._arrivals.resume()

    def finish(self) -> None:
        """No more octets go out."""
        out, self._out = self._out, None
        if out is not None:
            out.finish()

    # What the consumer of the own stream answers.

    def received(self, total: int) -> None:
        """The consumer has handed on so many octets."""
        if total > self._acked:
            self._acked = min(total, self._sent)
            if self._is_limited and self._sent - self._acked <= WINDOW_BYTES // 2:
                self._is_limited = False
                self._go_on()

    def writable(self) -> None:
        """The sink takes octets again."""
        self._is_blocked = False
        self._go_on()

    def _go_on(self) -> None:
        if not (self._is_blocked or self._is_limited) and self.codec is not None:
            self.codec.on_writable()

    # Ends.

    def incoming_ended(self) -> None:
        """All octets of the other end have been handed on."""
        if self.codec is not None:
            self.codec.receive_end()

    def lost(self, is_refused: bool) -> None:
        """There will be no more of either direction."""
        codec, self.codec = self.codec, None
        self.release(MODIFIED, is_broken=True)
        if codec is not None:
            codec.on_lost(is_refused)

    def overrun(self) -> None:
        """The producer ignores the window."""
        self.shared.overrun += 1
        self.lost(False)

    def release(self, state: int, *, is_broken: bool) -> None:
        """Let go of both streams.

        Args:
            state: outcome of the incoming one, if it has none.
            is_broken: the outgoing one ends in the middle.
        """
        self.codec = None
        arrivals, self._arrivals = self._arrivals, None
        out, self._out = self._out, None
        if out is not None:
            if is_broken:
                out.abort()
            else:
                out.finish(True)
        if arrivals is not None:
            arrivals.settle(state)


class RequestStream(StreamTransport):
    """A listener's end: one request, or one tunnel.

    Args:
        shared: what the streams of the router share.
        replies: reply addresses that can be used again.
    """

    __slots__ = ("_early", "_has_finished", "_identity", "_may_refuse", "_replies", "_reply", "has_answer")

    def __init__(self, shared: Shared, replies: ReplyAddresses) -> None:
        super().__init__(shared)
        self._replies = replies
        self._reply = replies.take(self)
        self._identity = ""
        self._early: bytearray | None = None
        self._has_finished = False
        self._may_refuse = True
        self.has_answer = False
        """The server stream has come."""

    def open(self, to: str, protocol: str, identity: str) -> None:
        """Begin the client stream.

        Args:
            to: the service address.
            protocol: version of HTTP that is spoken in it, "1" or "2".
            identity: of the request's flow record, the correlation-id.
        """
        self._identity = identity
        head = self.shared.heads.encode(to, self._reply.address, identity, protocol)
        out = self.shared.router.open_stream(to, head, STREAM_FLAGS, self)
        if self.codec is None:  # a service of this router has refused already
            out.finish(True)
            return
        self._out = out
        if not out.takes_early and self._arrivals is None:
            self._early = bytearray()

    def write(self, data: bytes | memoryview) -> bool:
        early = self._early
        if early is None:
            self._may_refuse = False
            return super().write(data)
        early += data
        return len(early) < WINDOW_BYTES // 4

    def finish(self) -> None:
        if self._early is None:
            super().finish()
        else:
            self._has_finished = True

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """The server stream has come."""
        is_other = head.correlation_id is not None and head.correlation_id != self._identity
        if self._arrivals is not None or self.has_answer or self.codec is None or is_other:
            producer.outcome(RELEASED, True)
            return NOWHERE
        if head.content_type != STREAM_CONTENT_TYPE or (head.version or 0) > STREAM_VERSION:
            producer.outcome(REJECTED, True)
            self.lost(False)
            return NOWHERE
        self.has_answer = True
        arrivals = self._arrivals = Arrivals(self, producer)
        early, self._early = self._early, None
        if early is not None and self._out is not None:
            if early:
                self.write(bytes(early))
            if self._has_finished:
                super().finish()
            else:
                self._go_on()
        return arrivals

    def outcome(self, state: int, settled: bool) -> None:
        """The connector, or a router on the way, has ended the client stream."""
        out, self._out = self._out, None
        if out is not None:
            out.finish(True)
        if self.codec is None or state == ACCEPTED or (state == 0 and self.has_answer):
            return
        if self._arrivals is None:
            # RELEASED: nobody has taken it. MODIFIED without an answer is what plain connectors say when there was no
            # connection to the server: what was held back here has not reached it then.
            self.lost(state == RELEASED or self._early is not None or self._may_refuse)
        # With a server stream: that one ends or is aborted as well, and tells how.

    def close(self) -> None:
        """The exchange is complete."""
        is_clean = self.has_answer
        super().release(ACCEPTED, is_broken=False)
        # An answered request is answered once: nothing else will come to the address.
        self._replies.give_back(self._reply, is_clean=is_clean)

    def abort(self, failure: Failure | None = None) -> None:
        """The client has gone."""
        self.release(MODIFIED, is_broken=True)

    def release(self, state: int, *, is_broken: bool) -> None:
        super().release(state, is_broken=is_broken)
        self._replies.give_back(self._reply, is_clean=False)


class AnswerStream(StreamTransport):
    """A connector's end: one request and its answer (`is_single`), or whatever a plain TCP listener carries.

    Args:
        shared: what the streams of the router share.
        reply_to: where the server stream goes.
        identity: correlation-id of the client stream; goes back with the answer to a request, so that its listener can
            tell it from any other that comes to the same address.
        is_single: one exchange.
    """

    __slots__ = ("_answered", "_has_begun", "_held", "_identity", "_is_single", "_reply_to")

    def __init__(self, shared: Shared, reply_to: str, identity: str | None, *, is_single: bool) -> None:
        super().__init__(shared)
        self._reply_to = reply_to
        self._identity = identity
        self._is_single = is_single
        self._has_begun = False
        self._answered: Sink | None = None
        """The server stream, finished, until its outcome has come."""
        self._held = b""
        """The beginning of the answer, until the end of this turn: most answers are complete by then."""

    def accept(self, producer: Producer) -> Sink:
        """Take the client stream; the codec must be there."""
        arrivals = self._arrivals = Arrivals(self, producer)
        # A listener behind a C router says nothing before it is answered: no octets with the head, so answer.
        self.shared.reactor.call_soon(self._answer_if_silent)
        return arrivals

    def _answer_if_silent(self) -> None:
        arrivals = self._arrivals
        if arrivals is not None and self.codec is not None and not arrivals.has_begun:
            self._begin()

    def _begin(self) -> None:
        """Open the server stream, once: a listener uses its reply address again, and would take another for an answer
        to another request.
        """
        if self._has_begun or self.codec is None:
            return
        self._has_begun = True
        self._out = self.shared.router.open_stream(self._reply_to, self._encode_head(), STREAM_FLAGS, self)
        held, self._held = self._held, b""
        if held:
            self.write(held)

    def _encode_head(self) -> bytes:
        identity = self._identity if self._is_single else None
        if identity:
            return self.shared.heads.encode(self._reply_to, None, identity)
        return encode_stream_head(self._reply_to, None, identity)

    def _write_early(self, data: bytes | memoryview) -> bool:
        if self.codec is None or self._has_begun:
            return True
        held = self._held
        if len(held) + len(data) > MAX_HELD_BYTES:
            self._begin()
            return self.write(data)
        if held:
            self._held = held + data
        else:
            self._held = bytes(data)
            self.shared.reactor.call_soon(self._begin)
        return True

    def finish(self) -> None:
        self._begin()
        super().finish()

    def outcome(self, state: int, settled: bool) -> None:
        """The listener, or a router on the way, has ended the server stream."""
        is_accepted = state == ACCEPTED or state == 0
        if self.codec is not None:
            if not is_accepted:
                self.lost(False)
            return
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.finish(True)
        arrivals, self._arrivals = self._arrivals, None
        if arrivals is None:
            return
        if is_accepted:
            # Its listener has seen that the exchange is complete, and finishes the client stream, too: no word needed.
            arrivals.forget()
        else:
            arrivals.settle(MODIFIED)  # the answer was lost on its way, and nothing else would tell

    def close(self) -> None:
        """The exchange is complete, as soon as its listener has the answer."""
        if not self._is_single:
            self._begin()
            self.release(ACCEPTED, is_broken=False)
        elif self.codec is not None:
            if self._has_begun or not self._is_sent_whole():
                self._begin()
            self.codec = None
            self._answered, self._out = self._out, None
            if self._answered is not None:
                self._answered.finish()

    def _is_sent_whole(self) -> bool:
        """Send a short answer that is complete as one message, if there is such a way."""
        octets = self._encode_head() + self._held
        self._has_begun = self.shared.router.send_stream(self._reply_to, octets, STREAM_FLAGS, self)
        return self._has_begun

    def abort(self, failure: Failure | None = None) -> None:
        """There is no answer, or not all of it."""
        is_untouched = failure is Failure.NO_SERVICE and not self._has_begun
        self.release(RELEASED if is_untouched else MODIFIED, is_broken=True)
