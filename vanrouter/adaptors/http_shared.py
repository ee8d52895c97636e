"""What all HTTP services of a router share.

Layer: 4.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Protocol

from vanrouter.core.deliveries import DeliveryConsumer
from vanrouter.core.flows import FlowRecorder, NoRecorder
from vanrouter.core.stream import (
    NOWHERE,
    RELEASED,
    Producer,
    ReplyAddress,
    Serving,
    Sink,
    StreamHead,
    StreamRouter,
)
from vanrouter.engine.messages import encode_stream_head
from vanrouter.ids import random_suffix
from vanrouter.net.wheel import Wheel

if TYPE_CHECKING:
    from vanrouter.adaptors.http_stream import RequestStream

MAX_SPARE_REPLIES = 1024
"""Reply addresses kept for the next requests."""
MAX_KNOWN_HEADS = 8192
"""Headers of streams remembered; full: all are forgotten."""

_FILLER = "\x7f"
"""Stands for a correlation-id; nothing behind one in a header has this octet in it."""


class Waiting(Protocol):
    """A message that was sent, whose outcome somebody waits for."""

    def forget(self) -> None:
        """Nobody waits any more."""


class HttpRouter(StreamRouter, Protocol):
    """What HTTP needs of the core: streams, and messages besides."""

    def send_stream(self, to: str, octets: bytes, flags: int, producer: Producer) -> bool:
        """Send a short stream that is whole already; False: there is no such way to its destination now."""

    def subscribe_deliveries(self, address: str, consumer: DeliveryConsumer, weight: int = 1) -> Serving:
        """Take messages sent to an address, section by section."""

    def new_delivery_address(self, consumer: DeliveryConsumer) -> ReplyAddress:
        """Take messages sent to an address of one's own."""

    def send_whole(self, to: str, content: bytes, flags: int, producer: Producer) -> Waiting:
        """Send a whole message; `producer` is told its outcome, not before this returns."""

    def open_message(self, to: str, first: bytes, flags: int, producer: Producer) -> Sink:
        """Begin a message that goes out piece by piece; RELEASED at the end of the turn when there is no way."""

    def message_limit(self, to: str) -> int:
        """Octets that a message in pieces may have to get there: REJECTED beyond; 0: any number."""


class Shared:
    """The loop, the wheel and the counters of all HTTP services."""

    __slots__ = (
        "address_prefix", "flow_source", "flows", "heads", "overrun", "reactor", "recorder", "replies", "router",
        "wheel",
    )  # fmt: skip

    def __init__(self, router: HttpRouter, tenant: str | None = None, recorder: FlowRecorder | None = None) -> None:
        self.router = router
        self.recorder: FlowRecorder = NoRecorder() if recorder is None else recorder
        self.address_prefix = f"{tenant}/" if tenant else ""
        """`network.tenantId` in front of the addresses of streams (TCP over AMQP, section 5.4)."""
        self.reactor = router.reactor
        self.wheel = Wheel(router.reactor)
        self.flow_source = random_suffix(5)
        """First part of the flow identities of this router's requests."""
        self.flows = count(1)
        self.overrun = 0
        """Streams ended because their producer ignored the window."""
        self.replies = ReplyAddresses(router)
        self.heads = StreamHeads()

    def next_flow_identity(self) -> str:
        """Return the identity of a new flow record, the correlation-id of its client stream."""
        return f"{self.flow_source}:{next(self.flows)}"


class StreamHeads:
    """Headers of streams as octets, remembered by where they go: from one exchange to the next of the same addresses
    nothing but the correlation-id differs.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None, str | None, int], tuple[bytes, bytes]] = {}
        """What stands before and behind a correlation-id of so many octets."""

    def encode(self, to: str, reply_to: str | None, identity: str, protocol: str | None = None) -> bytes:
        """Encode the header of a stream of one exchange.

        Args:
            to: where it goes.
            reply_to: where its answer goes; None: it is the answer.
            identity: of the flow record, the correlation-id.
            protocol: version of HTTP that a client stream speaks, "1" or "2".
        """
        octets = identity.encode()
        key = (to, reply_to, protocol, len(octets))
        known = self._known.get(key)
        if known is None:
            filler = _FILLER * len(octets)
            before, _, after = encode_stream_head(to, reply_to, filler, http=protocol).rpartition(filler.encode())
            known = before, after
            if len(self._known) >= MAX_KNOWN_HEADS:
                self._known.clear()
            self._known[key] = known
        return known[0] + octets + known[1]


class Reply:
    """A reply address, and the stream that uses it now."""

    __slots__ = ("address", "stream", "subscription")

    def __init__(self, router: HttpRouter) -> None:
        self.subscription = router.new_reply_address(self)
        self.address = self.subscription.address
        self.stream: RequestStream | None = None

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A server stream has come."""
        if self.stream is None:
            producer.outcome(RELEASED, True)
            return NOWHERE
        return self.stream.on_stream(head, producer)


class ReplyAddresses:
    """Reply addresses that are used again once their exchange has ended well: to make one costs more than a request."""

    __slots__ = ("_router", "_spare")

    def __init__(self, router: HttpRouter) -> None:
        self._router = router
        self._spare: list[Reply] = []

    def take(self, stream: RequestStream) -> Reply:
        """Return an address whose streams come to `stream`."""
        reply = self._spare.pop() if self._spare else Reply(self._router)
        reply.stream = stream
        return reply

    def give_back(self, reply: Reply, *, is_clean: bool) -> None:
        """The exchange is over. `is_clean`: its server stream has come, and so no other will."""
        if reply.stream is None:
            return
        reply.stream = None
        if is_clean and len(self._spare) < MAX_SPARE_REPLIES:
            self._spare.append(reply)
        else:
            reply.subscription.cancel()
