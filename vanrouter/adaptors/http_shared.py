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
    Cancellable,
    Producer,
    ReplyAddress,
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


class Waiting(Protocol):
    """A message that was sent, whose outcome somebody waits for."""

    def forget(self) -> None:
        """Nobody waits any more."""


class HttpRouter(StreamRouter, Protocol):
    """What HTTP needs of the core: streams, and messages besides."""

    def subscribe_deliveries(self, address: str, consumer: DeliveryConsumer, weight: int = 1) -> Cancellable:
        """Take messages sent to an address, section by section."""

    def new_delivery_address(self, consumer: DeliveryConsumer) -> ReplyAddress:
        """Take messages sent to an address of one's own."""

    def send_whole(self, to: str, content: bytes, flags: int, producer: Producer) -> Waiting:
        """Send a whole message; `producer` is told its outcome, not before this returns."""

    def open_message(self, to: str, first: bytes, flags: int, producer: Producer) -> Sink:
        """Begin a message that goes out piece by piece; RELEASED at the end of the turn when there is no way."""


class Shared:
    """The loop, the wheel and the counters of all HTTP services."""

    __slots__ = (
        "address_prefix", "flow_source", "flows", "overrun", "reactor", "recorder", "replies", "router", "wheel",
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

    def next_flow_identity(self) -> str:
        """Return the identity of a new flow record, the correlation-id of its client stream."""
        return f"{self.flow_source}:{next(self.flows)}"


class Reply:
    """A reply address, and the stream that uses it now."""

    __slots__ = ("_head", "_head_of", "address", "stream", "subscription")

    def __init__(self, router: HttpRouter) -> None:
        self.subscription = router.new_reply_address(self)
        self.address = self.subscription.address
        self.stream: RequestStream | None = None
        self._head_of: tuple[str, str, int] | None = None
        self._head = (b"", b"")

    def encode_head(self, to: str, protocol: str, identity: str) -> bytes:
        """Encode the header of a client stream that is answered here.

        Args:
            to: the service address.
            protocol: version of HTTP that is spoken in it, "1" or "2".
            identity: of the flow record, the correlation-id: the one thing that differs from the last one here.
        """
        octets = identity.encode()
        if self._head_of != (to, protocol, len(octets)):
            head = encode_stream_head(to, self.address, identity, http=protocol)
            before, _, after = head.rpartition(octets)
            self._head_of, self._head = (to, protocol, len(octets)), (before, after)
        before, after = self._head
        return before + octets + after

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
