"""Messages of services in this process, sections and all: what an adaptor sends and takes that writes its own messages.

Layer: 3. Beside streams (`endpoints`), whose octets are a body with a window of its own. A message goes out whole, on
the link of its priority, or piece by piece on a streaming link in a session of its own; one that comes in is handed on
as it comes, and reading pauses while its taker asks for silence. Source: HTTP over AMQP, sections 2 and 3; router
protocol, sections 2.5, 7.4 and 7.5.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from vanrouter.core.buffer import VIEW
from vanrouter.core.endpoints import Inlet, LocalProducer, LocalSink, NoSink, Outlet
from vanrouter.core.fanout import MAX_COPY_BYTES, STRENGTH, CompleteFanout, multicast_targets
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import ENDPOINT, Delivery, Receiver, Sender
from vanrouter.core.settlement import TERMINAL
from vanrouter.core.stream import REJECTED, RELEASED, Producer, Sink, StreamHead
from vanrouter.core.table import CLOSEST, MULTICAST, UNAVAILABLE, Address, LocalService, Node
from vanrouter.core.treatment import Destination, choose
from vanrouter.engine import proton
from vanrouter.engine.annotations import Annotations, originated
from vanrouter.engine.messages import priority_of

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder
    from vanrouter.core.router import Router

MESSAGE_CAPACITY = 250
"""Messages of one service here that are open, beyond which others are preferred (router protocol, section 7.3)."""


class DeliveryConsumer(Protocol):
    """What takes messages at an address."""

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """A message begins: its sections follow, from the first one behind the router annotations on."""


class DeliveryService:
    """A consumer of messages at an address, as the table of addresses has it."""

    __slots__ = ("capacity", "consumer", "is_stream", "open_count", "takes_sections", "weight")

    def __init__(self, consumer: DeliveryConsumer, weight: int = 1) -> None:
        self.consumer = consumer
        self.weight = weight
        self.is_stream = True
        self.takes_sections = True
        self.open_count = 0
        self.capacity = MESSAGE_CAPACITY

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """Streams come with their sections, as everything does."""
        raise NotImplementedError

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """A message begins."""
        return self.consumer.on_delivery(annotations, producer)

    def on_message(self, annotations: Annotations, content: bytes, receiver: Receiver | None) -> None:
        """A whole message that nobody waits for."""
        sink = self.consumer.on_delivery(annotations, NOBODY)
        sink.push(content)
        sink.finish(True)


class Nobody:
    """The producer of a message that nobody waits for."""

    __slots__ = ()

    def received(self, total: int) -> None:
        """Nobody asked."""

    def outcome(self, state: int, settled: bool) -> None:
        """Nobody asked."""

    def writable(self) -> None:
        """It is whole already."""


NOBODY = Nobody()


# --- in ---------------------------------------------------------------------------------------------------------------


class DeliveryInlet(Inlet):
    """A message that comes in on a link, for a service here."""

    __slots__ = ("_is_paused",)

    def begin_delivery(self, service: LocalService, annotations: Annotations, first: bytes) -> None:
        """Hand on what has come, then what comes."""
        self._is_paused = False
        self._service = service
        service.open_count += 1
        self._sink = service.on_delivery(annotations, self)
        if first and not self._sink.push(first):
            self._pause()
        if self.is_complete:
            self.end()
        else:
            self.more()

    def octets(self, count: int) -> bool:
        """Hand octets to the service; stop reading when it asks for silence."""
        if self._sink is None or self._sink.push(VIEW[:count]):
            return True
        self._pause()
        return not self._is_paused

    def _pause(self) -> None:
        if self._sink is None or self.is_complete:  # it may have been ended meanwhile
            return
        self._is_paused = True
        if not self.receiver.is_bounded:
            self.bound_window()

    def more(self) -> None:
        """Read on, unless the service has asked for silence."""
        if not self._is_paused or proton.delivery_aborted(self.pn):
            super().more()

    def writable(self) -> None:
        """The service takes octets again."""
        self._go_on()

    def outcome(self, state: int, settled: bool) -> None:
        """The service's outcome; the rest is read and thrown away."""
        super().outcome(state, settled)
        self._go_on()

    def _go_on(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self.is_complete:
                self.forwarder.router.reactor.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.is_complete and self.receiver.current is self and not self.receiver.connection.engine.lost:
            self.more()
            self.forwarder.dirty.add(self.receiver.connection.engine)


class CopyProducer:
    """Answers one copy of a multicast that went to a service here."""

    __slots__ = ("_copy", "_fanout")

    def __init__(self, fanout: CompleteFanout, copy: Delivery) -> None:
        self._fanout: CompleteFanout | None = fanout
        self._copy = copy

    def received(self, total: int) -> None:
        """It was whole."""

    def outcome(self, state: int, settled: bool) -> None:
        """The service has an outcome."""
        fanout, self._fanout = self._fanout, None
        if fanout is not None and self._copy.origin is fanout:
            fanout.on_copy_outcome(self._copy, state, True, None)

    def writable(self) -> None:
        """It was whole."""


def give_copy(service: LocalService, annotations: Annotations, content: bytes, fanout: CompleteFanout) -> None:
    """Give a copy of a complete multicast to a service here, whose outcome counts as any other's."""
    copy = Delivery(None, None, None, fanout)  # type: ignore[arg-type]  # it goes out on no link
    fanout.add(copy)
    sink = service.on_delivery(annotations, CopyProducer(fanout, copy))
    sink.push(content)
    sink.finish()


class CollectedMulticast(Incoming):
    """A multicast that comes in pieces, one copy of which is for a service here: read whole, then copied."""

    __slots__ = ("_address", "_annotations", "_content")

    def __init__(
        self, forwarder: Forwarder, receiver: Receiver, pn: Any, annotations: Annotations, address: Address
    ) -> None:
        super().__init__(forwarder, receiver, pn)
        self._annotations = annotations
        self._address = address
        self._content = bytearray()

    def begin(self, content: bytes) -> None:
        """Take what has come so far."""
        self._content += content
        self.more()

    def octets(self, count: int) -> bool:
        """Keep them, up to the bound."""
        self._content += VIEW[:count]
        if len(self._content) > MAX_COPY_BYTES:
            error = ("amqp:link:message-size-exceeded", f"longer than {MAX_COPY_BYTES} octets")
            self.forwarder.discard(self.receiver, self.pn, REJECTED, error)
            return False
        return True

    def ended(self) -> None:
        """It is whole: the copies go out."""
        receiver = self.receiver
        is_settled = self.is_given_up
        self.is_settled = True  # what follows is the fanout's
        receiver.connection.incoming.pop(self.pn, None)
        receiver.unsettled -= 1
        self.forwarder.forward_multicast(
            receiver,
            self.pn,
            is_settled,
            bytes(self._content),
            self._annotations,
            self._address,
            is_granted=receiver.replenishes_at_once,
        )

    def lost(self) -> None:
        """Nothing was sent on."""


# --- out --------------------------------------------------------------------------------------------------------------


class Awaited:
    """A message that was sent whole, to one consumer or several: who waits for its outcome."""

    __slots__ = ("_best", "_left", "_producer")

    def __init__(self, producer: Producer) -> None:
        self._producer: Producer | None = producer
        self._left = 1
        self._best = -1

    def add(self) -> None:
        """One more copy is on its way."""
        self._left += 1

    def forget(self) -> None:
        """Nobody waits any more."""
        self._producer = None

    def waits_for_settlement(self, delivery: Delivery, state: int) -> bool:
        """The first word is enough, and is settled."""
        return False

    def on_copy_outcome(self, delivery: Delivery | None, state: int, settled: bool, pn: Any) -> None:
        """One copy has come to its end; the last one tells."""
        if state not in TERMINAL and not settled:
            return
        if STRENGTH.get(state, 0) >= STRENGTH.get(self._best, -1):
            self._best = state
        self._left -= 1
        if not self._left:
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.outcome(max(self._best, 0), True)


class AwaitedCopy:
    """Answers the copy that went to a service here."""

    __slots__ = ("_awaited",)

    def __init__(self, awaited: Awaited) -> None:
        self._awaited: Awaited | None = awaited

    def received(self, total: int) -> None:
        """It was whole."""

    def outcome(self, state: int, settled: bool) -> None:
        """The service has an outcome."""
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.on_copy_outcome(None, state, True, None)

    def writable(self) -> None:
        """It was whole."""


def send_whole(router: Router, to: str, content: bytes, flags: int, producer: Producer) -> Awaited:
    """Send a whole message.

    Args:
        router: the core.
        to: address text.
        content: all sections behind the router annotations.
        flags: of the router annotations.
        producer: is told the outcome, once; not before the end of this call. RELEASED where there is no way.

    Returns:
        What can be told that nobody waits any more.
    """
    awaited = Awaited(producer)
    address = router.address_for(to)
    annotations = originated(flags)
    if address is None or address.treatment == UNAVAILABLE:
        _end_soon(router, awaited, RELEASED)
    elif address.treatment <= MULTICAST:
        _send_copies(router, address, content, annotations, awaited)
    elif not _send_to_one(router, address, content, annotations, awaited):
        _end_soon(router, awaited, RELEASED)
    return awaited


def _end_soon(router: Router, awaited: Awaited, state: int) -> None:
    router.reactor.call_soon(lambda: awaited.on_copy_outcome(None, state, True, None))


def _send_to_one(router: Router, address: Address, content: bytes, annotations: Annotations, awaited: Awaited) -> bool:
    forwarder = router.forwarder
    destination: Destination | None = choose(address, annotations, None, router.may_pass)
    if destination is None:
        return False
    address.deliveries_from_container += 1
    if not isinstance(destination, (Sender, Node)):
        if not destination.takes_sections:
            return False
        address.deliveries_to_container += 1
        local = partial(_give_counted, destination, annotations, content, awaited)
        router.reactor.call_soon(local)
        return True
    sender = forwarder.sender_for(destination, address, priority_of(content, 0, len(content)))
    if sender is None or (not sender.ready and len(sender.queue) >= sender.capacity):
        if sender is not None:
            sender.ease()
        return False
    delivery = Delivery(None, None, sender, awaited)
    delivery.began = router.reactor.now
    if isinstance(destination, Node):
        forwarder.count_outstanding(delivery, address, sender.connection)
    section = forwarder.section_for(None, sender, annotations) if sender.carries_annotations else None
    forwarder.put(delivery, section, content, 0, 0)
    return True


def _give_counted(service: LocalService, annotations: Annotations, content: bytes, awaited: Awaited) -> None:
    sink = LocalMessage(service, annotations, AwaitedCopy(awaited))
    sink.push(content)
    sink.finish()


def _give(service: LocalService, annotations: Annotations, content: bytes, producer: Producer) -> None:
    sink = service.on_delivery(annotations, producer)
    sink.push(content)
    sink.finish()


def _send_copies(router: Router, address: Address, content: bytes, annotations: Annotations, awaited: Awaited) -> None:
    targets = multicast_targets(router, address, annotations, None, is_anonymous=True)
    services = [service for service in targets.services if service.takes_sections]
    senders = [sender for sender in targets.senders(content) if sender.ready or len(sender.queue) < sender.capacity]
    address.deliveries_from_container += 1
    for _ in (*services, *senders):
        awaited.add()
    router.forwarder.send_copies(awaited, senders, None, content, annotations, False, address)
    for service in services:
        _give(service, annotations, content, AwaitedCopy(awaited))
    _end_soon(router, awaited, 0 if services or senders else RELEASED)


class MessageOutlet(Outlet):
    """A message of a service here that goes out piece by piece."""

    __slots__ = ("_early", "_is_ended")

    def __init__(
        self, forwarder: Forwarder, sender: Sender, producer: Producer, moved_from: Sender | None, first: bytes
    ) -> None:
        self._early = bytearray()
        self._is_ended = False
        super().__init__(forwarder, sender, producer, moved_from, is_free=sender.busy is None and not sender.queue)
        if self.pn is None:
            forwarder.wait_for_link(self, sender, first)
        else:
            super().push(first)

    def start(self, first: bytes) -> None:
        """The link is free: begin."""
        self.occupy()
        early, self._early = self._early, bytearray()
        super().push(first + early)
        if self._is_ended:
            super().finish()
        elif self._producer is not None:
            self._producer.writable()

    def push(self, data: memoryview | bytes) -> bool:
        """Send octets, or keep them until the link is free; False asks for silence."""
        if self.pn is None:
            if self._producer is not None:
                self._early += data
            return False
        return super().push(data)

    def finish(self, settled: bool = False) -> None:
        """End the message."""
        self._is_ended = True
        if self.pn is not None:
            super().finish(settled)

    def abort(self) -> None:
        """Break the message off; of one of which nothing has gone out nobody ever hears."""
        if self.pn is None:
            if self._producer is not None:
                self._forwarder.cancel_wait(self, self.sender)
                self._leave()
            return
        self._pushed = -1  # never to be completed: half a message must not look whole
        super().abort()

    def on_sender_lost(self, sent: bool) -> None:
        """The link is gone."""
        if self.pn is None:
            producer = self._producer
            self._leave()
            if producer is not None:
                producer.outcome(RELEASED, True)
            return
        super().on_sender_lost(sent)

    def _leave(self) -> None:
        self._early.clear()
        self.drop_holds()


def open_message(router: Router, to: str, first: bytes, flags: int, producer: Producer) -> Sink:
    """Begin a message that goes out piece by piece.

    Args:
        router: the core.
        to: address text.
        first: the sections so far.
        flags: of the router annotations.
        producer: is told the outcome; RELEASED at the end of the turn where there is no way.
    """
    address = router.address_for(to)
    annotations = originated(flags)
    destination: Destination | None = None
    if address is not None and address.treatment <= MULTICAST:
        return MulticastMessage(router, to, first, flags, producer)
    if address is not None and CLOSEST <= address.treatment != UNAVAILABLE:
        destination = choose(address, annotations, None, router.may_pass)
    if address is None or destination is None:
        return _no_way(router, producer)
    if not isinstance(destination, (Sender, Node)):
        if not destination.takes_sections:
            return _no_way(router, producer)
        address.deliveries_to_container += 1
        sink = LocalMessage(destination, annotations, producer)
        sink.push(first)
        return sink
    sender = router.forwarder.sender_for(destination, address, 4)
    if sender is None:
        return _no_way(router, producer)
    address.deliveries_ingress += 1
    link = router.stream_link(sender)
    if link is sender and len(sender.queue) >= sender.capacity:
        return _no_way(router, producer)
    moved_from = sender if link is not sender and sender.kind is ENDPOINT else None
    section = link.connection.section(annotations, None) if link.carries_annotations else b""
    outlet = MessageOutlet(router.forwarder, link, producer, moved_from, section + first)
    if isinstance(destination, Node):
        outlet.hold_outstanding(address)
    return outlet


def message_limit(address: Address | None) -> int:
    """Return how many octets a message in pieces may have: those beyond are REJECTED; 0: any number."""
    return MAX_COPY_BYTES if address is not None and address.treatment <= MULTICAST else 0


def _no_way(router: Router, producer: Producer) -> Sink:
    router.reactor.call_soon(lambda: producer.outcome(RELEASED, True))
    return NoSink()


class MulticastMessage:
    """A message for many that goes out piece by piece: kept, and sent whole."""

    __slots__ = ("_awaited", "_content", "_flags", "_producer", "_router", "_to")

    takes_early = True

    def __init__(self, router: Router, to: str, first: bytes, flags: int, producer: Producer) -> None:
        self._router = router
        self._to = to
        self._content = bytearray(first)
        self._flags = flags
        self._producer: Producer | None = producer
        self._awaited: Awaited | None = None

    def push(self, data: memoryview | bytes) -> bool:
        """Keep octets, up to the bound."""
        producer = self._producer
        if producer is not None:
            self._content += data
            if len(self._content) > MAX_COPY_BYTES:
                self._producer = None
                self._content.clear()
                self._router.reactor.call_soon(lambda: producer.outcome(REJECTED, True))
        return True

    def finish(self, settled: bool = False) -> None:
        """It is whole."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self._awaited = send_whole(self._router, self._to, bytes(self._content), self._flags, producer)
            self._content.clear()

    def abort(self) -> None:
        """Half of it is sent to nobody."""
        self._producer = None
        self._content.clear()
        if self._awaited is not None:
            self._awaited.forget()


class LocalMessage(LocalSink):
    """A message between two services of this process."""

    __slots__ = ()

    def __init__(self, service: LocalService, annotations: Annotations, producer: Producer) -> None:
        self._service = service
        service.open_count += 1
        self._sink = service.on_delivery(annotations, LocalProducer(self, producer))
