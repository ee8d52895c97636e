"""The seam between any two ends of a flow of octets, one direction of it.

Layer: 3. A socket, a delivery on a link, an HTTP exchange and an in-process service stand behind the same two small
protocols, so that a listener and a connector of one router are joined without AMQP between them (TCP over AMQP,
sections 1, 7 and 9).

    octets ->   end A --push, finish, abort-->  Sink      (made by the end the octets go to)
    answers ->  end A <--received, outcome, writable--    Producer (the end the octets come from)

Contract, for both sides of the seam:

* `push` takes all octets during the call: what it cannot pass on it copies. False asks for silence until `writable()`.
* After `finish` or `abort` nothing more is pushed. After a terminal `outcome` the producer pushes nothing more and
  ends the stream with `finish(settled=True)`.
* `writable` and `received` may be called from within `push`; `outcome` too. None of them calls `push` before returning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vanrouter.core.memory_bound import MemoryBound
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import (
    STREAM_CONTENT_TYPE,
    StreamProperties,
    parse_head,
    scan_stream_head,
    skip_stream_marker,
)
from vanrouter.engine.sections import NEED_MORE, NeedMore
from vanrouter.net.memory import Trimmer
from vanrouter.net.reactor import Reactor

RECEIVED = 0x23
"""Not terminal: so many octets were handed on (AMQP 1.0 part 3, section 3.4)."""
ACCEPTED = 0x24
REJECTED = 0x25
RELEASED = 0x26
MODIFIED = 0x27

RESEND_RELEASED = 0x2
"""Flag of the router annotations: a released stream is tried on another path (router protocol, section 7.6)."""
COPIED_BYTES = 4096
"""So many octets are pushed as a copy, more as a view of the buffer that they were read into: the view alone costs an
engine or a socket more than to copy these does."""

STREAM_FLAGS = 0x5
"""Flags of the router annotations on every TCP stream: streaming, no limit on the octets of the message held."""


@dataclass(slots=True)
class StreamHead:
    """What the header of a stream says (TCP over AMQP, section 5). Not frozen: one is made for each stream."""

    to: str
    reply_to: str | None = None
    correlation_id: str | None = None
    content_type: str | None = None
    version: int | None = None
    """Application property `V`; None when absent."""
    alpn: str | None = None
    is_vanrouter: bool = False
    """Application property `vr`: the producer is vanrouter (extensions)."""
    http: str | None = None
    """Application property `vr.http`: the octets are one exchange of HTTP of this version, complete in itself (HTTP
    over AMQP, section 6)."""
    flags: int = STREAM_FLAGS
    ingress: str | None = None
    trace: tuple[str, ...] = ()


class Producer(Protocol):
    """The end that octets come from; what a consumer answers through."""

    def received(self, total: int) -> None:
        """The consumer has handed on `total` octets of this stream so far, the header not counted."""

    def outcome(self, state: int, settled: bool) -> None:
        """The consumer's terminal outcome; 0: settled without a state."""

    def writable(self) -> None:
        """The sink takes octets again, after a push that answered False."""


class Sink(Protocol):
    """The end that octets go to."""

    takes_early: bool
    """The consumer is known to take octets before it has answered. A C router's connector now and then keeps an
    answer that comes at once: 12 of 1,500 answers to early octets stayed in it until the flow ended."""

    def push(self, data: memoryview | bytes) -> bool:
        """Take all of `data` during this call; False: push no more until `Producer.writable()`."""

    def finish(self, settled: bool = False) -> None:
        """No more octets. `settled`: the producer does not wait for an outcome."""

    def abort(self) -> None:
        """The stream ends in the middle; the producer does not wait for an outcome."""


class StreamConsumer(Protocol):
    """What is subscribed at an address."""

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A stream begins; what is answered goes to `producer`."""


class Nowhere:
    """Sink of a stream that nobody waits for, or that was refused."""

    __slots__ = ()

    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        """Throw away."""
        return True

    def finish(self, settled: bool = False) -> None:
        """Nothing was kept."""

    def abort(self) -> None:
        """Nothing was kept."""


NOWHERE = Nowhere()


class Cancellable(Protocol):
    """A subscription or a watch."""

    def cancel(self) -> None:
        """End it."""


class Serving(Cancellable, Protocol):
    """A subscription of a service that the network may have several of."""

    @property
    def is_last(self) -> bool:
        """Whether nobody else serves the address, as far as this router sees: an edge cannot tell, and says no."""


class ReplyAddress(Cancellable, Protocol):
    """A subscription at an address of its own."""

    @property
    def address(self) -> str:
        """Text for `reply-to`."""


class StreamRouter(Protocol):
    """What adaptors that carry streams need of the core."""

    reactor: Reactor
    connections: dict[int, Any]
    trimmer: Trimmer
    memory: MemoryBound

    def next_connection_id(self) -> int:
        """Return the number of a new connection."""

    def open_stream(self, to: str, head: bytes, flags: int, producer: Producer) -> Sink:
        """Begin a stream; without a route `producer.outcome(RELEASED, True)` follows at the end of the turn."""

    def subscribe_stream(self, address: str, consumer: StreamConsumer, weight: int = 1) -> Serving:
        """Take streams sent to an address."""

    def new_reply_address(self, consumer: StreamConsumer) -> ReplyAddress:
        """Take streams sent to an address of one's own."""

    def watch(self, address: str, callback: Callable[[bool], None]) -> Cancellable:
        """Be told whether an address can be reached, now and at each change."""


def parse_stream_head(
    buffer: bytes | bytearray | memoryview, start: int, end: int, annotations: Annotations, *, is_complete: bool = False
) -> tuple[StreamHead, int] | NeedMore:
    """Parse the sections in front of the octets of a stream.

    Args:
        buffer: holds the beginning of the delivery.
        start: where its router annotations end.
        end: where the octets that have come so far end.
        annotations: what the annotations said.
        is_complete: no more octets will come: a message of another kind may have no body.

    Returns:
        The head and the offset of the first octet of the stream; NEED_MORE while that is not known. The body of a
        stream in another encapsulation (another content type) is left where it is, marker and all.

    Raises:
        PeerError: the sections are broken.
    """
    texts: Sequence[str | None]
    scanned = scan_stream_head(buffer, start, end)
    if scanned is not None:
        texts, properties, offset = scanned
    else:
        parsed = parse_head(buffer, start, end, is_complete)
        if parsed is NEED_MORE:
            return NEED_MORE
        texts = (None, None, parsed.to, None, parsed.reply_to, _text(parsed.correlation_id), parsed.content_type)
        properties, offset = StreamProperties(parsed.application_properties()), parsed.body_offset
    if texts[6] == STREAM_CONTENT_TYPE:
        behind_marker = skip_stream_marker(buffer, offset, end)
        if behind_marker is NEED_MORE:
            return NEED_MORE
        offset = behind_marker
    elif scanned is not None and offset == end and not is_complete:
        return NEED_MORE  # another section in front of the body may follow
    return make_head(texts, properties, annotations), offset


def make_head(texts: Sequence[str | None], properties: StreamProperties, annotations: Annotations) -> StreamHead:
    """Put together what `scan_stream_head` and the router annotations say."""
    return StreamHead(
        annotations.to_override or texts[2] or "",
        texts[4],
        texts[5],
        texts[6],
        properties.version,
        properties.alpn,
        properties.is_vanrouter,
        properties.http,
        annotations.flags,
        annotations.ingress,
        annotations.trace,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
