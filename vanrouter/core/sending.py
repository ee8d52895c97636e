"""The sending half of forwarding: a delivery goes out on its link now, or waits there.

It waits for credit, for the socket, or for the stream that occupies the link.

Layer: 3. Source: router protocol, sections 2.3 and 7.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vanrouter.core.buffer import POINTER, VIEW, new_delivery
from vanrouter.core.fanout import CompleteFanout
from vanrouter.core.links import CONTROL, DATA, STREAM, Delivery, Origin, Sender
from vanrouter.core.settlement import Settlement, release_credit
from vanrouter.engine.proton import delivery_settle, link_advance, link_credit, link_send

if TYPE_CHECKING:
    from vanrouter.core.router import Router
    from vanrouter.core.table import Address
    from vanrouter.engine.annotations import Annotations


EACH = 16 - 1
"""Mask of a link's deliveries: after each sixteenth its session is looked at."""


class Waiting(Protocol):
    """A stream, or one copy of it, that waits for its turn on a link."""

    def start(self, first: bytes) -> None:
        """The link is free: begin, with these octets."""

    def on_sender_lost(self, sent: bool) -> None:
        """The link is gone."""


class StreamTurn:
    """A stream's place in the queue of a link."""

    __slots__ = ("first", "transit")

    def __init__(self, transit: Waiting, first: bytes) -> None:
        self.transit = transit
        self.first = first

    def resume(self) -> None:
        """The link is free now."""
        self.transit.start(self.first)

    def waits_for_settlement(self, delivery: Delivery, state: int) -> bool:
        """It has not been sent: nothing can be said about it."""
        return False

    def on_copy_outcome(self, delivery: Delivery, state: int, settled: bool, pn: Any) -> None:
        """The link is gone before the turn came."""
        self.transit.on_sender_lost(False)


class Sending:
    """Puts deliveries on links, and keeps those that a link cannot take yet."""

    router: Router
    settlement: Settlement
    dirty: set[Any]

    def put(self, delivery: Delivery, section: bytes | None, content: bytes | None, start: int, end: int) -> None:
        """Send a delivery now if its link can take it, otherwise keep it in the link's queue.

        Args:
            delivery: the record; its sender is set.
            section: router annotations to go before it.
            content: the octets; None: those in the shared buffer from `start` to `end`.
        """
        sender = delivery.sender
        if sender.closed:
            self.settlement.on_sender_lost(delivery, sent=False)
            return
        if not sender.ready or sender.connection.engine.blocked:
            delivery.section = section
            delivery.content = bytes(VIEW[start:end]) if content is None else content
            producer = delivery.receiver or delivery.holds
            if producer is not None:
                producer.connection.engine.read_less()
            self._enqueue(sender, delivery)
            return
        link = sender.pn
        pn = new_delivery(link)
        if section is not None:
            link_send(link, section, len(section))
        if content is None:
            link_send(link, POINTER + start, end - start)
        else:
            link_send(link, content, len(content))
        sender.credit -= 1
        if sender.credit <= 0:
            sender.ready = False
            sender.zero_credit_since = self.router.reactor.now
        sender.deliveries += 1
        if not sender.deliveries & EACH:
            sender.connection.watch_session(sender.session)
        self.dirty.add(sender.connection.engine)
        if delivery.settled:
            delivery_settle(pn)
            sender.presettled += 1
            if delivery.holds is not None:
                release_credit(delivery, delivery.holds)
        elif sender.settles:
            delivery_settle(pn)
            sender.ease()
            self.settlement.settle_for_consumer(delivery)
        else:
            link_advance(link)
            delivery.pn_out = pn
            sender.unsettled += 1
            sender.connection.outgoing[pn] = delivery

    def send_copies(
        self,
        origin: Origin | None,
        senders: list[Sender],
        override: str | None,
        content: bytes,
        annotations: Annotations,
        settled: bool,
        address: Address,
    ) -> None:
        """Send one copy of a complete message on each of the links."""
        for sender in senders:
            copy = Delivery(None, None, sender, None if settled else origin)
            copy.settled = settled
            copy.began = self.router.reactor.now
            if not settled and isinstance(origin, CompleteFanout):
                origin.add(copy)
            if sender.kind is DATA or sender.kind is CONTROL:
                address.deliveries_transit += 1
            else:
                address.deliveries_egress += 1
            section = sender.connection.section(annotations, override) if sender.carries_annotations else None
            self.put(copy, section, content, 0, 0)

    def _enqueue(self, sender: Sender, delivery: Delivery) -> None:
        """Keep a delivery until its link has credit; a full queue loses its pre-settled ones (section 2.3).

        But not those that keep their producers' credit: there are no more of them than there is credit.
        """
        queue = sender.queue
        full = len(queue) - sender.held >= sender.capacity
        if not delivery.settled and delivery.receiver is None and delivery.origin is None and full:
            sender.dropped_presettled += 1  # the router's own message, and a consumer that takes none
            return
        if delivery.settled and full and delivery.holds is None:
            kept = [
                waiting
                for index, waiting in enumerate(queue)
                if index == 0 or not waiting.settled or waiting.holds is not None
            ]
            dropped = len(queue) - len(kept)
            sender.dropped_presettled += dropped
            sender.presettled += dropped
            queue.clear()
            queue.extend(kept)
            sender.ease()
        queue.append(delivery)
        sender.ready = False
        if sender.credit > 0 and sender.busy is None and not sender.is_shut:
            sender.connection.waiting[sender] = None

    def drain_queue(self, sender: Sender) -> None:
        """Send what waits, as far as credit and the connection allow."""
        queue = sender.queue
        sender.ease()
        engine = sender.connection.engine
        while queue and sender.credit > 0 and sender.busy is None and not (engine.blocked or sender.is_shut):
            if sender.closed:
                break
            delivery = queue.popleft()
            content, section = delivery.content, delivery.section
            if delivery.annotations is None:
                delivery.content = None
            sender.ready = True
            if content is None:
                sender.is_draining = True
                delivery.origin.resume()  # type: ignore[union-attr]  # only a stream waits without content
                sender.is_draining = False
            else:
                if delivery.began:
                    self.router.queue_wait.observe(self.router.reactor.now - delivery.began)
                self.put(delivery, section, content, 0, 0)
        sender.update_ready()
        if queue and sender.credit > 0 and sender.busy is None and not (sender.closed or sender.is_shut):
            sender.connection.waiting[sender] = None
        else:
            sender.connection.waiting.pop(sender, None)

    def link_freed(self, sender: Sender) -> None:
        """The stream that occupied a link has ended, and took a credit."""
        if sender.closed:
            return
        sender.credit = link_credit(sender.pn)
        if sender.kind is STREAM:
            sender.connection.streams.release(sender)
        else:
            if sender.credit <= 0:
                sender.zero_credit_since = self.router.reactor.now
            sender.update_ready()
            if sender.is_draining:  # it was a stream of the queue, complete already: the loop there goes on
                return
            self.drain_queue(sender)
            sender.connection.answer_drain(sender)

    def wait_for_link(self, transit: Waiting, sender: Sender, first: bytes) -> None:
        """Put a stream in line behind what occupies a consumer's link."""
        sender.queue.append(Delivery(None, None, sender, StreamTurn(transit, first)))
        sender.ready = False

    def cancel_wait(self, transit: Waiting, sender: Sender) -> None:
        """Take a stream out of that line."""
        for turn in sender.queue:
            if isinstance(turn.origin, StreamTurn) and turn.origin.transit is transit:
                sender.queue.remove(turn)
                sender.ease()
                return
