"""Outcomes on their way back, and what becomes of deliveries whose link or connection is lost.

Layer: 3. Source: router protocol, section 7.5. Outcomes are end to end: nothing is settled towards a producer before
the consumer's side has settled it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.links import Delivery, Receiver, Sender
from vanrouter.core.stream import ACCEPTED, MODIFIED, RECEIVED, REJECTED, RELEASED
from vanrouter.engine import proton
from vanrouter.engine.proton import (
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    delivery_update,
)

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder

TERMINAL = frozenset((ACCEPTED, REJECTED, RELEASED, MODIFIED))

NO_ADDRESS = ("amqp:precondition-failed", "Routing failure: no address present")
UNAVAILABLE = ("amqp:not-found", "Deliveries cannot be sent to an unavailable address")
"""Sections 4.5 and 7.7."""


def grant(receiver: Receiver, credit: int = 1) -> None:
    """Give credit back at the end of the turn, or with the next ones of this link."""
    connection = receiver.connection
    before = receiver.to_grant
    receiver.to_grant = before + credit
    if before < receiver.grants_at <= receiver.to_grant:
        connection.grants.append(receiver)
    connection.loop.dirty.add(connection.engine)


def hold_credit(delivery: Delivery, receiver: Receiver) -> None:
    """Give the credit of a presettled delivery back when it has gone out to another router, or can go no more.

    So producers send as fast as the way there takes their messages. Credit that came back at once would fetch more of
    them only to drop them.
    """
    delivery.holds = receiver
    receiver.held += 1
    delivery.sender.held += 1


def release_credit(delivery: Delivery, receiver: Receiver) -> None:
    """It has gone out: the producer may send another one."""
    delivery.holds = None
    receiver.held -= 1
    delivery.sender.held -= 1
    if not receiver.closed:
        grant(receiver)


def count_outcome(link: Receiver | Sender, state: int) -> None:
    """Count a settled delivery by its outcome."""
    if state == ACCEPTED:
        link.accepted += 1
    elif state == RELEASED:
        link.released += 1
    elif state == MODIFIED:
        link.modified += 1
    elif state == REJECTED:
        link.rejected += 1


def copy_outcome(pn_from: Any, pn_to: Any, state: int) -> None:
    """Put the remote state of one delivery, details and all, into the local state of another."""
    remote, local = proton.delivery_remote(pn_from), proton.delivery_local(pn_to)
    if state == RECEIVED:
        proton.disposition_set_section_number(local, proton.disposition_get_section_number(remote))
        proton.disposition_set_section_offset(local, proton.disposition_get_section_offset(remote))
    elif state == REJECTED:
        source = proton.disposition_condition(remote)
        if proton.condition_is_set(source):
            target = proton.disposition_condition(local)
            proton.condition_set_name(target, proton.condition_get_name(source))
            proton.condition_set_description(target, proton.condition_get_description(source))
            proton.data_copy(proton.condition_info(target), proton.condition_info(source))
    elif state == MODIFIED:
        proton.disposition_set_failed(local, True)
        proton.disposition_set_undeliverable(local, proton.disposition_is_undeliverable(remote))
        proton.data_copy(proton.disposition_annotations(local), proton.disposition_annotations(remote))
    elif state not in TERMINAL:
        proton.data_copy(proton.disposition_data(local), proton.disposition_data(remote))


def set_outcome(pn: Any, state: int, error: tuple[str, str] | None = None) -> None:
    """Give a delivery an outcome of our own; `error` goes with rejected."""
    if state == MODIFIED:
        proton.disposition_set_failed(proton.delivery_local(pn), True)
    elif error is not None:
        proton.set_condition(proton.disposition_condition(proton.delivery_local(pn)), *error)
    delivery_update(pn, state)


def pass_last_word(pn_in: Any, pn_out: Any) -> None:
    """A producer's side settles early: what it says with it (modified, when it was lost) goes on to the consumer."""
    state = delivery_remote_state(pn_in)
    if state in TERMINAL:
        copy_outcome(pn_in, pn_out, state)
        delivery_update(pn_out, state)


SAMPLED = 63
"""Of links whose credit does not wait for settlement, every 64th delivery is in the histogram of times to settlement;
of others those with which credit goes back."""


class Settlement:
    """Passes outcomes from consumers to producers."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._loop = forwarder.router.reactor

    def on_outcome(self, delivery: Delivery, pn: Any, state: int, settled: bool) -> None:
        """The consumer's side has said something about a delivery; `pn` is its outgoing half."""
        sender = delivery.sender
        resend = delivery.content is not None
        if resend and state == RELEASED:
            self._settle_out(delivery, pn, state)
            if self._forwarder.resend(delivery):
                return
            self.finish(delivery, RELEASED, None)
            return
        if resend and state:
            delivery.content = None
        origin = delivery.origin
        if origin is not None:
            if settled or (state in TERMINAL and not origin.waits_for_settlement(delivery, state)):
                self._settle_out(delivery, pn, state, settle=False)
                origin.on_copy_outcome(delivery, state, settled, pn)
                delivery_settle(pn)
                self._loop.dirty.add(sender.connection.engine)
            return
        if delivery.receiver is None:
            if settled or state in TERMINAL:
                self._settle_out(delivery, pn, state)
            return
        if state:
            copy_outcome(pn, delivery.pn_in, state)
            delivery_update(delivery.pn_in, state)
        if settled:
            self._settle_out(delivery, pn, state, settle=False)
            self._settle_in(delivery, state)
            delivery_settle(pn)
            self._loop.dirty.add(sender.connection.engine)
        self._loop.dirty.add(delivery.receiver.connection.engine)

    def _settle_out(self, delivery: Delivery, pn: Any, state: int, settle: bool = True) -> None:
        sender = delivery.sender
        sender.connection.outgoing.pop(pn, None)
        sender.unsettled -= 1
        sender.ease()
        count_outcome(sender, state)
        delivery.pn_out = None
        if delivery.hop is not None:
            self._one_less(delivery)
        if settle:
            delivery_settle(pn)
            self._loop.dirty.add(sender.connection.engine)

    def _one_less(self, delivery: Delivery) -> None:
        address, hop = delivery.address, delivery.hop
        delivery.hop = None
        if address is not None and hop is not None:
            hop.release(address)

    def count_delay(self, delivery: Delivery) -> None:
        """Note on both links a delivery that has taken a second or more."""
        waited = self._loop.now - delivery.began
        for link in (delivery.receiver, delivery.sender):
            if link is not None:
                if waited >= 10.0:
                    link.delayed_10s += 1
                elif waited >= 1.0:
                    link.delayed_1s += 1

    def _settle_in(self, delivery: Delivery, state: int) -> None:
        """Settle towards the producer; the state has been put there already."""
        receiver, pn_in = delivery.receiver, delivery.pn_in
        if receiver is None or pn_in is None:
            return
        delivery.pn_in = None
        connection = receiver.connection
        connection.incoming.pop(pn_in, None)
        self.count_delay(delivery)
        delivery_settle(pn_in)
        count_outcome(receiver, state)
        self.give_back(receiver, 1, delivery.began)

    def give_back(self, receiver: Receiver, count: int, began: float) -> None:
        """So many deliveries of a link have been settled and counted, the last one of which came at `began`."""
        receiver.unsettled -= count
        if not receiver.replenishes_at_once:
            is_sample = receiver.to_grant < receiver.grants_at <= receiver.to_grant + count
            grant(receiver, count)
        else:
            after = receiver.accepted
            is_sample = ((after - count) ^ after) > SAMPLED
            self._loop.dirty.add(receiver.connection.engine)
        if is_sample:
            self._forwarder.router.time_to_settlement.observe(self._loop.now - began)

    def finish(self, delivery: Delivery, state: int, error: tuple[str, str] | None) -> None:
        """End a delivery with an outcome of the router's own (nothing is open on the sender's side any more)."""
        if delivery.origin is not None:
            delivery.origin.on_copy_outcome(delivery, state, True, None)
        elif delivery.pn_in is not None:
            set_outcome(delivery.pn_in, state, error)
            self._settle_in(delivery, state)

    def settle_for_consumer(self, delivery: Delivery) -> None:
        """A consumer that asked for settled deliveries has been sent one (section 7.5)."""
        self.finish(delivery, ACCEPTED, None)

    def on_producer_update(self, delivery: Delivery, pn_in: Any) -> None:
        """The producer has changed something about a complete delivery: it may have settled it early."""
        if not delivery_settled(pn_in) or delivery.receiver is None:
            return
        pn = delivery.pn_out
        if pn is not None:
            pass_last_word(pn_in, pn)
            self._settle_out(delivery, pn, delivery_remote_state(pn))
        self.forget_producer(delivery)

    def abandon(self, delivery: Delivery) -> None:
        """Settle a copy on its way out; nobody waits for it any more."""
        pn = delivery.pn_out
        if pn is not None:
            self._settle_out(delivery, pn, delivery_remote_state(pn))

    def forget_producer(self, delivery: Delivery) -> None:
        """Nobody waits for the outcome any more."""
        pn_in = delivery.pn_in
        if pn_in is not None:
            self._settle_in(delivery, proton.delivery_local_state(pn_in))
        delivery.receiver = None
        delivery.settled = True
        if delivery.hop is not None:
            self._one_less(delivery)

    def on_receiver_lost(self, delivery: Delivery) -> None:
        """The producer's link is gone: the consumer gets modified, settled (section 7.5)."""
        receiver, pn_in = delivery.receiver, delivery.pn_in
        if receiver is not None and pn_in is not None:
            receiver.connection.incoming.pop(pn_in, None)
            receiver.unsettled -= 1
            if not receiver.connection.is_closed:  # a link that this router detaches: its peer waits for an outcome
                set_outcome(pn_in, MODIFIED)
            delivery_settle(pn_in)
        delivery.receiver = delivery.pn_in = None
        delivery.settled = True
        if delivery.hop is not None:
            self._one_less(delivery)
        pn = delivery.pn_out
        if pn is not None:
            set_outcome(pn, MODIFIED)
            self._settle_out(delivery, pn, MODIFIED)

    def on_sender_lost(self, delivery: Delivery, *, sent: bool) -> None:
        """The consumer's link is gone: modified for what was sent, released for what was not (section 7.5)."""
        pn = delivery.pn_out
        if pn is not None:
            self._settle_out(delivery, pn, MODIFIED)
        elif delivery.hop is not None:
            self._one_less(delivery)
        if delivery.settled:
            if delivery.holds is not None:
                release_credit(delivery, delivery.holds)
            return
        if not sent and delivery.annotations is not None and delivery.content is not None:
            if self._forwarder.resend(delivery):
                return
        self.finish(delivery, MODIFIED if sent else RELEASED, None)
