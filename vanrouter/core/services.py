"""Services of this process as destinations: stream consumers, message takers, and the subscriptions that hold them.

Layer: 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vanrouter.core.stream import Producer, Sink, StreamConsumer, StreamHead
from vanrouter.engine.annotations import Annotations

if TYPE_CHECKING:
    from vanrouter.core.links import Receiver
    from vanrouter.core.router import Router
    from vanrouter.core.table import Address

STREAM_CAPACITY = 250
"""Streams of one local service beyond which others are preferred (router protocol, section 7.3)."""

MessageTaker = Callable[[Annotations, bytes, "Receiver | None"], object]
"""Told of a message: its annotations, its sections, and the link it came on (None: from inside the router)."""


class StreamService:
    """A consumer of streams at an address."""

    __slots__ = ("capacity", "consumer", "is_stream", "open_count", "takes_sections", "weight")

    def __init__(self, consumer: StreamConsumer, weight: int = 1) -> None:
        self.consumer = consumer
        self.weight = weight
        self.is_stream = True
        self.takes_sections = False
        self.open_count = 0
        self.capacity = STREAM_CAPACITY

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A stream begins."""
        return self.consumer.on_stream(head, producer)

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """Sections are parsed before a stream begins."""
        raise NotImplementedError

    def on_message(self, annotations: Annotations, content: bytes, receiver: Receiver | None) -> None:
        """A copy of a multicast: streams have no use for it."""


class MessageService:
    """A taker of whole messages at an address."""

    __slots__ = ("_take", "capacity", "is_stream", "open_count", "takes_sections", "weight")

    def __init__(self, take: MessageTaker) -> None:
        self._take = take
        self.weight = 1
        self.is_stream = False
        self.takes_sections = False
        self.open_count = 0
        self.capacity = STREAM_CAPACITY

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """Streams are not taken: a message service gets its messages whole."""
        raise NotImplementedError

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """Nor are messages that come in pieces."""
        raise NotImplementedError

    def on_message(self, annotations: Annotations, content: bytes, receiver: Receiver | None) -> None:
        """Hand a message over."""
        self._take(annotations, content, receiver)


class Subscription:
    """A service at an address, until `cancel()`."""

    __slots__ = ("_router", "_service", "_table_address", "address")

    def __init__(self, router: Router, table_address: Address, service: Any, text: str) -> None:
        self._router = router
        self._table_address = table_address
        self._service = service
        self.address = text
        """The address text, as clients write it."""
        router.table.add_service(table_address, service)

    @property
    def is_last(self) -> bool:
        """Whether nobody else serves the address, as far as this router sees: an edge cannot tell, and says no."""
        address = self._table_address
        is_alone = address.services == [self._service] and not address.consumers and not address.remotes
        return is_alone and self._router.edge is None

    def cancel(self) -> None:
        """Serve the address no longer. Streams that are open go on."""
        self._router.table.remove_service(self._table_address, self._service)
