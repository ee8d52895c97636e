"""Forwarding: from a delivery on a link to the links where it goes on. The data path of messages.

Layer: 3. Source: router protocol, sections 4, 7 and 8. A complete small message is read into one shared buffer, sent
from there, and leaves one `Delivery` record behind until it is settled. Messages that come in pieces go on in
`transit`, streams that begin or end in this process in `endpoints`, copies for several destinations in `fanout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER, POINTER, VIEW, new_delivery
from vanrouter.core.deliveries import CollectedMulticast, give_copy
from vanrouter.core.fanout import CompleteFanout, StreamFanout, multicast_targets
from vanrouter.core.inspection import refuse_oversize
from vanrouter.core.links import Delivery, Origin, Receiver, Sender
from vanrouter.core.pending import Pending
from vanrouter.core.receiving import Receiving
from vanrouter.core.resending import RetriedTransit
from vanrouter.core.sending import EACH, Sending
from vanrouter.core.settlement import Settlement, grant, hold_credit
from vanrouter.core.stream import ACCEPTED, RELEASED
from vanrouter.core.stream_entry import take_beginning, take_stream
from vanrouter.core.table import BALANCED, MULTICAST, UNAVAILABLE, Address, LocalService, Node
from vanrouter.core.transit import Discard, begin_routed, stream_link
from vanrouter.core.treatment import Destination, choose, next_consumer
from vanrouter.engine.annotations import NO_ANNOTATIONS, RESEND_RELEASED, STREAMING, Annotations, originated
from vanrouter.engine.messages import priority_of, scan
from vanrouter.engine.proton import (
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    link_advance,
    link_send,
)
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router


class Forwarder(Receiving, Sending):
    """Takes deliveries from links and from inside the router, and sends each where it belongs."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.reactor = router.reactor
        self.settlement = Settlement(self)
        self.dirty = router.reactor.dirty
        self.retried = RetriedTransit

    def begin_pieces(self, receiver: Receiver, pn: Any, size: int) -> None:
        """Take a delivery of which only the beginning has come."""
        if not take_beginning(self, receiver, pn, size):
            Pending(self, receiver, pn).first(size)

    def is_for_service(self, receiver: Receiver, pn: Any, size: int, annotations: Annotations) -> bool:
        """Give a complete delivery that is a stream to its service here, if that is all there is to it."""
        return take_stream(self, receiver, pn, size, annotations, is_complete=True)

    def send_directly(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        sender: Sender,
        start: int,
        size: int,
        annotations: Annotations,
        address: Address | None = None,
    ) -> None:
        """The shortest way: from the shared buffer to a link that can take a delivery now.

        `address`: one whose outstanding deliveries are counted where the link leads to another router.
        """
        connection = sender.connection
        link = sender.pn
        pn_out = new_delivery(link)
        if sender.carries_annotations:
            section = self.section_for(receiver, sender, annotations)
            link_send(link, section, len(section))
        link_send(link, POINTER + start if start else POINTER, size - start)
        sender.credit -= 1
        if sender.credit <= 0:
            sender.ready = False
            sender.zero_credit_since = self.reactor.now
        sender.deliveries += 1
        if not sender.deliveries & EACH:
            connection.watch_session(sender.session)
        self.dirty.add(connection.engine)
        if settled:
            delivery_settle(pn_out)
            sender.presettled += 1
            receiver.presettled += 1
            delivery_settle(pn)
            grant(receiver)
            return
        delivery = Delivery(receiver, pn, sender, None)
        delivery.pn_out = pn_out
        delivery.began = self.reactor.now
        receiver.unsettled += 1
        receiver.connection.incoming[pn] = delivery
        if receiver.replenishes_at_once:
            grant(receiver)
        if sender.settles:
            delivery_settle(pn_out)
            sender.ease()
            self.settlement.settle_for_consumer(delivery)
            return
        if address is not None:
            delivery.address, delivery.hop = address, connection
            connection.hold(address)
            address.tracked += 1
        link_advance(link)
        sender.unsettled += 1
        connection.outgoing[pn_out] = delivery

    def forward(
        self, receiver: Receiver, pn: Any, start: int, size: int, annotations: Annotations, address: Address
    ) -> None:
        """Send a complete message in the shared buffer, octets `start` to `size`, to where its address says."""
        settled = delivery_settled(pn)
        destination: Destination | None = address.sole
        treatment = address.treatment
        if destination is None:
            if treatment <= MULTICAST:
                self.forward_multicast(receiver, pn, settled, bytes(VIEW[start:size]), annotations, address)
                return
            if treatment == UNAVAILABLE:
                self.unroutable(receiver, pn, settled, address)
                return
            destination = self._choose(address, annotations, receiver.connection, 0 if settled else 1)
        if type(destination) is Sender:
            address.deliveries_egress += 1
            if self._is_open(destination, annotations):
                self.send_directly(receiver, pn, settled, destination, start, size, annotations)
            else:
                self.send_on(receiver, pn, settled, destination, start, size, annotations, address)
        elif type(destination) is Node:
            self._forward_to_router(receiver, pn, settled, destination, start, size, annotations, address)
        elif destination is None:
            self.unroutable(receiver, pn, settled, address)
        else:
            self._give_to_service(receiver, pn, settled, bytes(VIEW[start:size]), annotations, address, destination)

    @staticmethod
    def _is_open(sender: Sender, annotations: Annotations) -> bool:
        """The shortest way is open: a link that takes a delivery now, and nothing to be kept or logged."""
        return (
            sender.ready
            and annotations.flags <= STREAMING
            and not sender.is_special
            and not sender.connection.engine.blocked
        )

    def _forward_to_router(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        node: Node,
        start: int,
        size: int,
        annotations: Annotations,
        address: Address,
    ) -> None:
        """The destination is behind a neighbour: the message goes on the link of its effective priority."""
        try:
            scanned = scan(BUFFER, start, size, False)
        except PeerError as error:
            self.reject(receiver, pn, (error.condition, error.description))
            return
        sender = self.sender_for(node, address, 4 if scanned is NEED_MORE else scanned[0])
        if sender is None:
            self.unroutable(receiver, pn, settled, address)
            return
        counted = address if address.treatment >= BALANCED else None
        if self._is_open(sender, annotations):
            self.send_directly(receiver, pn, settled, sender, start, size, annotations, counted)
        else:
            self.send_on(receiver, pn, settled, sender, start, size, annotations, address, counted)

    def send_on(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        sender: Sender,
        start: int,
        size: int,
        annotations: Annotations,
        address: Address,
        counted: Address | None = None,
    ) -> None:
        """The way of a delivery that may have to wait for its link, or to be sent again."""
        delivery = Delivery(receiver, pn, sender, None)
        delivery.began = self.reactor.now
        delivery.settled = settled
        if settled and sender.is_prompt and not receiver.replenishes_at_once:
            hold_credit(delivery, receiver)
        elif receiver.replenishes_at_once or settled:
            grant(receiver)
        if settled:
            receiver.presettled += 1
            delivery.receiver = delivery.pn_in = None
        else:
            receiver.unsettled += 1
            receiver.connection.incoming[pn] = delivery
            if counted is not None:
                self.count_outstanding(delivery, counted, sender.connection)
            if annotations.flags & RESEND_RELEASED:
                delivery.annotations = annotations
                delivery.address = address
                delivery.content = bytes(VIEW[start:size])
        section = self.section_for(receiver, sender, annotations) if sender.carries_annotations else None
        self.put(delivery, section, None, start, size)
        if settled:
            delivery_settle(pn)

    def _choose(
        self, address: Address, annotations: Annotations, came_from: Connection, more: int
    ) -> Destination | None:
        """One remote destination is no choice, but the origin has to be asked when the message came from a router."""
        if address.takes_turns:
            sender = next_consumer(address, more)
            if sender is not None:
                return sender
        elif annotations.ingress is None:
            node = address.sole_node
            if node is not None and node.connection is not None:
                return node
        return choose(address, annotations, came_from, self.router.may_pass, (), more)

    def count_outstanding(self, delivery: Delivery, address: Address, hop: Connection) -> None:
        """Note one more unsettled delivery of this address towards a neighbour (section 7.3)."""
        if address.treatment >= BALANCED:
            delivery.address, delivery.hop = address, hop
            hop.hold(address)
            address.tracked += 1

    def sender_for(self, destination: Sender | Node, address: Address, priority: int) -> Sender | None:
        """Return the link that leads to a destination; for a router that of the effective priority."""
        if type(destination) is Node:
            address.deliveries_transit += 1
            connection = destination.connection
            effective = priority if address.priority is None else address.priority
            return None if connection is None else connection.data_sender(effective)
        address.deliveries_egress += 1
        assert isinstance(destination, Sender)
        return destination

    def section_for(self, receiver: Receiver | None, sender: Sender, annotations: Annotations) -> bytes:
        """Return the router annotations for the next hop (sections 4.3 and 4.4): mostly those of the last message."""
        connection = sender.connection
        if receiver is None or connection.annotates_as_edge:
            return connection.section(annotations, None if receiver is None else receiver.target_text)
        if receiver.section_of is not annotations:
            receiver.section = connection.section(annotations, receiver.target_text)
            receiver.section_of = annotations
        return receiver.section

    def resend(self, delivery: Delivery) -> bool:
        """A delivery was released: try the next path. False when none is left (section 7.6)."""
        address, annotations, content = delivery.address, delivery.annotations, delivery.content
        if address is None or annotations is None or content is None:
            return False
        if delivery.tried is None:
            delivery.tried = set()
        delivery.tried.add(delivery.sender if delivery.sender in address.consumers else delivery.sender.connection)
        receiver = delivery.receiver
        came_from = None if receiver is None else receiver.connection
        destination = choose(address, annotations, came_from, self.router.may_pass, delivery.tried)
        if not isinstance(destination, (Sender, Node)):
            return False
        try:
            priority = priority_of(content, 0, len(content))
        except PeerError:  # a consumer here got it as it is; no other router gets what it would have to refuse
            return False
        sender = self.sender_for(destination, address, priority)
        if sender is None:
            return False
        delivery.sender = sender
        section = self.section_for(receiver, sender, annotations) if sender.carries_annotations else None
        self.put(delivery, section, content, 0, 0)
        return True

    def forward_multicast(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        content: bytes,
        annotations: Annotations,
        address: Address,
        *,
        is_granted: bool = False,
    ) -> None:
        """Copy a complete message to all who take it. `is_granted`: its credit has been given back already."""
        try:
            if not settled and delivery_remote_state(pn):  # a state came with the transfer: copies take it along
                begin_routed(self, receiver, pn, content, annotations, 0, address, None, is_complete=True)
                return
            targets = multicast_targets(
                self.router, address, annotations, receiver.connection, is_anonymous=receiver.address is None
            )
            senders = targets.senders(content)
        except PeerError as error:
            self.reject(receiver, pn, (error.condition, error.description))
            return
        if not senders and not targets.services:
            self.unroutable(receiver, pn, settled, address)
            return
        if not is_granted and (receiver.replenishes_at_once or settled):
            grant(receiver)
        fanout = CompleteFanout(self, None if settled else receiver, pn)
        if settled:
            receiver.presettled += 1
            delivery_settle(pn)
        self.send_copies(fanout, senders, receiver.target_text, content, annotations, settled, address)
        for service in targets.services:
            address.deliveries_to_container += 1
            if service.takes_sections:
                give_copy(service, annotations, content, fanout)
            else:
                service.on_message(annotations, content, None)
        fanout.all_sent()

    def begin_multicast(
        self,
        receiver: Receiver,
        pn: Any,
        content: bytes,
        annotations: Annotations,
        address: Address,
        *,
        is_complete: bool,
    ) -> None:
        """Send the beginning of a delivery to all who take copies."""
        targets = multicast_targets(
            self.router, address, annotations, receiver.connection, is_anonymous=receiver.address is None
        )
        services = [service for service in targets.services if not service.is_stream]
        senders = targets.senders(content)
        if any(service.takes_sections for service in targets.services) or (services and not senders):
            if not is_complete:
                CollectedMulticast(self, receiver, pn, annotations, address).begin(content)
                return
            if not delivery_remote_state(pn):
                self.forward_multicast(receiver, pn, delivery_settled(pn), content, annotations, address)
                return
        if not senders:
            self.discard(receiver, pn, RELEASED, is_complete=is_complete)
            return
        links = [stream_link(sender) for sender in senders]
        fanout = StreamFanout(self, receiver, pn, links, services, is_complete=is_complete)
        fanout.begin(content, annotations, receiver.target_text)

    def _give_to_service(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        content: bytes,
        annotations: Annotations,
        address: Address,
        service: LocalService,
    ) -> None:
        """The destination is in this process."""
        address.deliveries_to_container += 1
        if service.is_stream:
            begin_routed(self, receiver, pn, content, annotations, 0, address, service, is_complete=True)
            return
        if receiver.replenishes_at_once or settled:
            grant(receiver)
        if not settled:
            receiver.unsettled += 1
            receiver.connection.incoming[pn] = done = Delivery(receiver, pn, None, None)  # type: ignore[arg-type]
            done.began = self.router.reactor.now
            service.on_message(annotations, content, receiver)
            self.settlement.finish(done, ACCEPTED, None)
        else:
            receiver.presettled += 1
            delivery_settle(pn)
            service.on_message(annotations, content, receiver)

    # Messages that begin in this process.

    def send(
        self, to: str, content: bytes, *, flags: int = 0, origin: Origin | None = None, settled: bool = False
    ) -> bool:
        """Send a message of the router's own. False when nobody consumes `to`.

        Args:
            to: address text.
            content: all sections but the router annotations.
            origin: is told the outcome; None: nobody waits.
        """
        address = self.router.address_for(to)
        if address is None:
            return False
        address.deliveries_from_container += 1
        annotations = originated(flags) if flags else NO_ANNOTATIONS
        if address.treatment <= MULTICAST:
            targets = multicast_targets(self.router, address, annotations, None, is_anonymous=True)
            self.send_copies(None, targets.senders(content), None, content, annotations, settled, address)
            for service in targets.services:
                service.on_message(annotations, content, None)
            return bool(targets.count)
        destination = choose(address, annotations, None, self.router.may_pass, (), 0 if settled else 1)
        if destination is None:
            return False
        if not isinstance(destination, (Sender, Node)):
            destination.on_message(annotations, content, None)
            return True
        sender = self.sender_for(destination, address, 4)
        if sender is None:
            return False
        delivery = Delivery(None, None, sender, origin)
        delivery.settled = settled
        section = sender.connection.section(annotations, None) if sender.carries_annotations else None
        self.put(delivery, section, content, 0, 0)
        return True

    # Deliveries that come in pieces.

    def discard(
        self,
        receiver: Receiver,
        pn: Any,
        state: int,
        error: tuple[str, str] | None = None,
        *,
        is_complete: bool = False,
    ) -> None:
        """Refuse a delivery; what is still to come of it is read and thrown away."""
        if delivery_settled(pn):
            receiver.dropped_presettled += 1
        refused = Discard(self, receiver, pn, state, error, is_complete=is_complete)
        if is_complete:
            refused.end()
        else:
            refused.more()

    def refuse_oversize(self, receiver: Receiver, pn: Any) -> None:
        """A delivery in progress is longer than policy allows."""
        refuse_oversize(self, receiver, pn, is_complete=False)

    def grant(self, receiver: Receiver) -> None:
        """Give one credit back at the end of the turn."""
        grant(receiver)
