"""Runs: deliveries that follow each other on one link and go the same way, passed on in one go, and their outcomes.

Layer: 3. What the general way (`receiving`, `forwarder`, `settlement`) asks for each delivery is mostly answered by the
one before it: which link, which address, which consumer, does it take one more. Here that is a `Way`, found once and
held by the octets that a message begins with; a loop does for each delivery what the engine needs to be told, and what
is counted is added at the end of the run. Whatever is not plain (pieces, other octets in front, no credit, a rule to be
asked, another outcome than accepted and settled) ends the run and takes the general way, which does the same for one.

A run takes the engine's events itself. It ends in the turn of the loop in which it began: nothing else runs meanwhile,
so that a way which was open at its beginning is so until credit ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER, BUFFER_BYTES, POINTER, TAG, TAG_NUMBER
from vanrouter.core.control import CONTROL_KEYS
from vanrouter.core.forwarder import Forwarder
from vanrouter.core.links import CONTROL, Delivery, Receiver, Sender
from vanrouter.core.sending import EACH
from vanrouter.core.settlement import grant
from vanrouter.core.stream import ACCEPTED
from vanrouter.core.table import BALANCED, MULTICAST, Address, Node
from vanrouter.core.treatment import chooser
from vanrouter.engine.annotations import STREAMING, Annotations
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import decides_priority, scan
from vanrouter.engine.proton import (
    collector_peek,
    collector_pop,
    delivery_new,
    delivery_partial,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    delivery_update,
    event_delivery,
    link_advance,
    link_current,
    link_recv,
    link_send,
)
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

PATIENCE = 8
"""Deliveries of a link that take the general way after one for which there was no way, or another one than before: a
link whose messages change all the time pays for the search once in so many."""

LONGEST = 512
"""Deliveries, or outcomes, of a run: a few milliseconds, after which the pump looks what time it is."""

KEPT_RECORDS = 4096
"""Records of settled deliveries kept for the next ones, 0.7 MB of them: to make one costs three times as much, and what
is made and freed by the thousand in each turn brings the garbage collector to look at it."""


class Way:
    """Where messages of a link go that begin with the same octets.

    `head` holds all of them that the choice depends on: router annotations, header where its priority counts, and what
    kind of section comes first. It is good as long as the destinations of its address are what they were.
    """

    __slots__ = (
        "address",
        "annotations",
        "counted",
        "generation",
        "head",
        "hop",
        "node",
        "priority",
        "sender",
        "start",
    )

    def __init__(self, address: Address, annotations: Annotations, start: int) -> None:
        self.address = address
        self.generation = address.generation
        self.annotations = annotations
        self.start = start
        """Octets of the router annotations, which are made anew."""
        self.head = b""
        self.sender: Sender | None = None
        """None: the consumers of the address take turns."""
        self.node: Node | None = None
        self.hop: Connection | None = None
        self.priority = 0
        """Of a way to another router: that, the neighbour before it, and the priority of the link."""
        self.counted: Address | None = None
        """The address, where deliveries outstanding towards the neighbour are counted (section 7.3)."""

    @property
    def is_good(self) -> bool:
        """The choice would be the same again."""
        if self.generation != self.address.generation:
            return False
        hop = self.hop
        return hop is None or (self.node.connection is hop and hop.data_sender(self.priority) is self.sender)  # type: ignore[union-attr]  # set together


class Runs(Forwarder):
    """The forwarder, quicker with what is plain."""

    def __init__(self, router: Router) -> None:
        super().__init__(router)
        self._kept: list[Delivery] = []

    # Deliveries.

    def take(self, receiver: Receiver, pn: Any) -> bool:
        """Take a new delivery, and those after it that go the same way. True: their events are gone."""
        size = link_recv(receiver.pn, POINTER, BUFFER_BYTES)
        if not 0 < size < BUFFER_BYTES or delivery_partial(pn):
            self.begin_read(receiver, pn, size)
            return False
        way = receiver.way
        if way is None or size < len(way.head) or not BUFFER.startswith(way.head) or not way.is_good:
            way = self._look_for_way(receiver, size)
            if way is None:
                self.begin_read(receiver, pn, size)
                return False
        sender = way.sender
        if sender is None:
            return self._take_turns(receiver, pn, size, way)
        if not sender.ready or sender.connection.engine.blocked:
            self.begin_read(receiver, pn, size)
            return False
        return self._pass_on(receiver, pn, size, way, sender)

    def _look_for_way(self, receiver: Receiver, size: int) -> Way | None:
        if receiver.patience:
            receiver.patience -= 1
            return None
        receiver.way = way = self.find_way(receiver, size)
        receiver.patience = PATIENCE
        return way

    def find_way(self, receiver: Receiver, size: int) -> Way | None:
        """Return the way of a complete message in the shared buffer; None: it, or its link, is not plain."""
        annotations, start = receiver.annotations, 0
        address = receiver.address
        if receiver.carries_annotations:
            if receiver.on_message is not None or receiver.kind is CONTROL or receiver.is_guarded:
                return None
            try:
                parsed = parse_annotations(BUFFER, 0, size)
            except PeerError:
                return None
            if parsed is NEED_MORE or not parsed.section or len(parsed.trace) > self.router.radius + 1:
                return None
            annotations, start = parsed, parsed.length
            if address is None and parsed.to_override is not None:
                address = self.router.address_for(parsed.to_override)
                if address is not None and (address.key in CONTROL_KEYS or address.treatment <= MULTICAST):
                    return None
        elif receiver.is_special or (size > 10 and BUFFER[1] == 0x80):
            return None
        if address is None or annotations.flags > STREAMING or size < start + 5:
            return None
        way = Way(address, annotations, start)
        return way if self._find_destination(way, receiver, size) else None

    def _find_destination(self, way: Way, receiver: Receiver, size: int) -> bool:
        address, start = way.address, way.start
        sender = way.sender = address.sole
        end = start + 3
        if sender is None and not address.takes_turns:
            node = way.node = address.sole_node
            if node is None or node.connection is None or way.annotations.ingress is not None:
                return False
            if address.treatment <= MULTICAST:
                return False
            try:
                scanned = scan(BUFFER, start, size, False)
            except PeerError:
                return False
            if scanned is NEED_MORE:
                return False
            hop = way.hop = node.connection
            way.priority = scanned[0] if address.priority is None else address.priority
            sender = way.sender = hop.data_sender(way.priority)
            if sender is None:
                return False
            if address.treatment >= BALANCED:
                way.counted = address
            end = decides_priority(BUFFER, start, size)
        if sender is not None and (sender.is_special or sender.settles):
            return False
        way.head = bytes(BUFFER[:end])
        return True

    def _pass_on(self, receiver: Receiver, pn: Any, size: int, way: Way, sender: Sender) -> bool:
        """Send the message in the shared buffer, and those that follow it on its link as long as they go the same way.

        Long because it is the loop of the data path: one call more for each delivery is a tenth of what it costs.
        """
        out = sender.connection
        link_in, link_out = receiver.pn, sender.pn
        incoming, outgoing = receiver.connection.incoming, out.outgoing
        collector = receiver.connection.engine.collector
        head, start, counted = way.head, way.start, way.counted
        least = len(head)
        section = self.section_for(receiver, sender, way.annotations) if sender.carries_annotations else b""
        section_bytes = len(section)
        rest = POINTER + start
        kept, now, longest = self._kept, self.reactor.now, min(sender.credit, LONGEST)
        sent = presettled = 0
        while True:
            TAG_NUMBER[0] += 1
            pn_out = delivery_new(link_out, TAG)
            if section_bytes:
                link_send(link_out, section, section_bytes)
            link_send(link_out, rest, size - start)
            sent += 1
            if delivery_settled(pn):
                delivery_settle(pn_out)  # both links move on with it
                delivery_settle(pn)
                presettled += 1
            else:
                link_advance(link_in)
                link_advance(link_out)
                delivery = kept.pop() if kept else Delivery(None, None, sender, None)
                delivery.receiver = receiver
                delivery.pn_in = pn
                delivery.sender = sender
                delivery.pn_out = pn_out
                delivery.began = now
                if counted is not None:
                    delivery.address = counted
                    delivery.hop = out
                incoming[pn] = outgoing[pn_out] = delivery
            collector_pop(collector)
            event = collector_peek(collector)
            if not event:
                break
            pn = event_delivery(event)
            if not pn or sent == longest or link_current(link_in) != pn:
                break
            size = link_recv(link_in, POINTER, BUFFER_BYTES)
            if not least <= size < BUFFER_BYTES or delivery_partial(pn) or not BUFFER.startswith(head):
                self._count(receiver, way, sender, sent, presettled)
                self.begin_read(receiver, pn, size)
                return False
        self._count(receiver, way, sender, sent, presettled)
        return True

    def _count(self, receiver: Receiver, way: Way, sender: Sender, sent: int, presettled: int) -> None:
        """Bring what is counted up to date after a run."""
        address, connection = way.address, sender.connection
        unsettled = sent - presettled
        address.deliveries_ingress += sent
        if way.hop is None:
            address.deliveries_egress += sent
        else:
            address.deliveries_transit += sent
        receiver.deliveries += sent
        self._count_taken(receiver, sent, presettled)
        sender.credit -= sent
        if sender.credit <= 0:
            sender.ready = False
            sender.zero_credit_since = self.reactor.now
        sender.presettled += presettled
        sender.unsettled += unsettled
        before = sender.deliveries
        sender.deliveries = before + sent
        if (before ^ sender.deliveries) > EACH:
            connection.watch_session(sender.session)
        if way.counted is not None and unsettled:
            connection.hold(address, unsettled)
            address.tracked += unsettled
        self.dirty.add(connection.engine)

    @staticmethod
    def _count_taken(receiver: Receiver, sent: int, presettled: int) -> None:
        """The half of the producer's link, whose credit may come back at once."""
        receiver.presettled += presettled
        receiver.unsettled += sent - presettled
        credit = sent if receiver.replenishes_at_once else presettled
        if credit:
            grant(receiver, credit)

    def _take_turns(self, receiver: Receiver, pn: Any, size: int, way: Way) -> bool:
        """The same where each message goes to the consumer whose turn it is.

        Long because it is a loop of the data path, too.
        """
        link_in, address = receiver.pn, way.address
        incoming, collector = receiver.connection.incoming, receiver.connection.engine.collector
        head, start = way.head, way.start
        least = len(head)
        rest = POINTER + start
        kept, dirty, now = self._kept, self.dirty, self.reactor.now
        next_consumer = chooser(address)
        taken = sent = presettled = 0
        is_next = False
        while True:
            link_advance(link_in)
            taken += 1
            settled = delivery_settled(pn)
            sender = next_consumer(0 if settled else 1)
            if (
                sender is None
                or not sender.ready
                or sender.settles
                or sender.carries_annotations
                or sender.connection.engine.blocked
            ):
                self._pass_one(receiver, pn, settled, sender, size, way)
            else:
                out, link_out = sender.connection, sender.pn
                TAG_NUMBER[0] += 1
                pn_out = delivery_new(link_out, TAG)
                link_send(link_out, rest, size - start)
                sent += 1
                sender.credit = credit = sender.credit - 1
                if credit <= 0:
                    sender.ready = False
                    sender.zero_credit_since = now
                sender.deliveries = count = sender.deliveries + 1
                if not count & EACH:
                    out.watch_session(sender.session)
                dirty.add(out.engine)
                if settled:
                    delivery_settle(pn_out)
                    delivery_settle(pn)
                    sender.presettled += 1
                    presettled += 1
                else:
                    link_advance(link_out)
                    delivery = kept.pop() if kept else Delivery(None, None, sender, None)
                    delivery.receiver = receiver
                    delivery.pn_in = pn
                    delivery.sender = sender
                    delivery.pn_out = pn_out
                    delivery.began = now
                    sender.unsettled += 1
                    incoming[pn] = out.outgoing[pn_out] = delivery
            collector_pop(collector)
            event = collector_peek(collector)
            if not event:
                break
            pn = event_delivery(event)
            if not pn or taken == LONGEST or link_current(link_in) != pn:
                break
            size = link_recv(link_in, POINTER, BUFFER_BYTES)
            if not least <= size < BUFFER_BYTES or delivery_partial(pn) or not BUFFER.startswith(head):
                is_next = True
                break
        address.deliveries_ingress += taken
        address.deliveries_egress += sent
        receiver.deliveries += taken
        self._count_taken(receiver, sent, presettled)
        if is_next:
            self.begin_read(receiver, pn, size)
        return not is_next

    def _pass_one(self, receiver: Receiver, pn: Any, settled: bool, sender: Sender | None, size: int, way: Way) -> None:
        """Send the message in the shared buffer to the consumer whose turn it is, in the general way."""
        address = way.address
        if sender is None:  # another router may be better
            self.forward(receiver, pn, way.start, size, way.annotations, address)
            return
        address.deliveries_egress += 1
        if sender.ready and not sender.connection.engine.blocked:
            self.send_directly(receiver, pn, settled, sender, way.start, size, way.annotations)
        else:
            self.send_on(receiver, pn, settled, sender, way.start, size, way.annotations, address)

    # Outcomes.

    def take_outcome(self, delivery: Delivery, pn: Any) -> bool:
        """A consumer has said something about a delivery: if it took it, see what it says about those after it.

        True: the events are gone.
        """
        state = delivery_remote_state(pn)
        settled = delivery_settled(pn)
        receiver = delivery.receiver
        if state != ACCEPTED or not settled or receiver is None or delivery.origin is not None:
            self.settlement.on_outcome(delivery, pn, state, settled)
            return False
        sender = delivery.sender
        outgoing, collector = sender.connection.outgoing, sender.connection.engine.collector
        incoming, kept = receiver.connection.incoming, self._kept
        late = self.reactor.now - 1.0
        address = delivery.address
        taken = before = held = 0
        counts: dict[Receiver, int] = {}
        while True:
            del outgoing[pn]
            pn_in = delivery.pn_in
            del incoming[pn_in]
            delivery_update(pn_in, ACCEPTED)
            delivery_settle(pn_in)
            delivery_settle(pn)
            taken += 1
            began = delivery.began
            if began <= late:
                self.settlement.count_delay(delivery)
            if delivery.hop is not None:
                delivery.hop = None
                if delivery.address is not address:
                    self._release(sender, address, held)
                    address, held = delivery.address, 0
                held += 1
            if delivery.section is None and delivery.annotations is None:  # nothing is left in it of another way
                delivery.receiver = delivery.sender = delivery.address = None  # type: ignore[assignment]  # in no table
                kept.append(delivery)
            collector_pop(collector)
            event = collector_peek(collector)
            if not event:
                break
            pn = event_delivery(event)
            if not pn or taken == LONGEST:
                break
            found = outgoing.get(pn)
            if type(found) is not Delivery or found.sender is not sender or found.origin is not None:
                break
            producer = found.receiver
            if producer is None or delivery_remote_state(pn) != ACCEPTED or not delivery_settled(pn):
                break
            delivery = found
            if producer is not receiver:
                counts[receiver] = counts.get(receiver, 0) + taken - before
                before, receiver, incoming = taken, producer, producer.connection.incoming
        counts[receiver] = counts.get(receiver, 0) + taken - before
        del kept[KEPT_RECORDS:]
        self._release(sender, address, held)
        self._count_accepted(sender, taken, counts, began)
        return True

    @staticmethod
    def _release(sender: Sender, address: Address | None, held: int) -> None:
        """So many deliveries of an address are no longer outstanding towards the neighbour."""
        if held and address is not None:
            sender.connection.release(address, held)

    def _count_accepted(self, sender: Sender, taken: int, counts: dict[Receiver, int], began: float) -> None:
        """Bring what is counted up to date after a run of outcomes, the last of a delivery that came at `began`."""
        for receiver, count in counts.items():
            receiver.accepted += count
            self.settlement.give_back(receiver, count, began)
        sender.unsettled -= taken
        sender.accepted += taken
        if sender.rank:
            sender.ease()
        self.dirty.add(sender.connection.engine)
