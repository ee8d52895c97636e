"""The receiving half of a delivery that comes in pieces, common to all that can become of it.

Layer: 3. Nothing is settled before the delivery is complete: the engine would go on counting octets that nobody takes
against the session's window. Whoever has no use for the rest reads it and throws it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER_BYTES, POINTER
from vanrouter.core.links import MIN_WINDOW_FRAMES, LinkKind, Receiver
from vanrouter.core.memory_bound import SMALL_BYTES
from vanrouter.core.settlement import count_outcome, grant, set_outcome
from vanrouter.engine import proton
from vanrouter.engine.proton import delivery_partial, delivery_settle, delivery_settled, link_advance, link_recv

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder


class Incoming:
    """Reads one delivery; subclasses say what is done with it (`octets`, `ended`, `lost`)."""

    __slots__ = (
        "began",
        "final",
        "forwarder",
        "is_complete",
        "is_settled",
        "pn",
        "receiver",
        "size",
        "wants_settlement",
    )

    def __init__(self, forwarder: Forwarder, receiver: Receiver, pn: Any, *, is_complete: bool = False) -> None:
        """Take over a delivery. `is_complete`: all of it has been read, and the link has moved on."""
        self.forwarder = forwarder
        self.receiver = receiver
        self.pn = pn
        self.is_complete = is_complete
        self.is_settled = False
        self.wants_settlement = False
        self.final = 0
        self.began = forwarder.reactor.now
        self.size = SMALL_BYTES
        """Of the engine's buffer, as far as it is known."""
        if not is_complete:
            receiver.current = self
        incoming = receiver.connection.incoming
        if pn not in incoming:
            receiver.unsettled += 1
            if receiver.replenishes_streams:
                grant(receiver)
        incoming[pn] = self

    @property
    def is_given_up(self) -> bool:
        """Nobody waits for an outcome (any more). Settled on both sides, the engine's delivery may not be asked."""
        return self.is_settled or bool(delivery_settled(self.pn))

    @property
    def waits_since(self) -> float:
        """When it began, for one that is complete and waits for its outcome; 0 where nothing follows from waiting."""
        return 0.0

    def octets(self, count: int) -> bool:
        """Take `count` octets from the shared buffer; False ends the reading for now."""
        raise NotImplementedError

    def ended(self) -> None:
        """The delivery is complete."""
        raise NotImplementedError

    def lost(self) -> None:
        """The delivery was aborted, or its link is gone."""
        raise NotImplementedError

    def more(self) -> None:
        """Read what the engine has."""
        receiver = self.receiver
        while receiver.current is self:
            count = link_recv(receiver.pn, POINTER, BUFFER_BYTES)
            if count > 0:
                if count > self.size:
                    self.note_size(count)
                limit = receiver.limit
                if limit is not None and limit.is_over(count):
                    self._too_long()
                elif not self.octets(count):
                    return
                elif count < BUFFER_BYTES and receiver.current is self and delivery_partial(self.pn):
                    return  # that was all, and more is to come
            elif count == 0:
                return
            elif count == proton.EOS:
                self._complete()
                return
            else:
                self._aborted()
                return

    def note_size(self, octets: int) -> None:
        """So many octets have waited in the engine."""
        if octets > self.size:
            self.size = self.receiver.connection.streams.note_buffer(self.pn, octets)

    def _too_long(self) -> None:
        """It is longer than policy allows: what was sent on breaks off."""
        self.lost()
        self.is_settled = True
        self.forwarder.refuse_oversize(self.receiver, self.pn)

    def _complete(self) -> None:
        receiver = self.receiver
        self.is_complete = True
        receiver.current = None
        link_advance(receiver.pn)
        self.end()
        self.forwarder.next_delivery(receiver)

    def end(self) -> None:
        """All octets have been handed on: settle what can be settled."""
        is_presettled = not self.is_settled and delivery_settled(self.pn)
        self.ended()
        if is_presettled:
            self.receiver.presettled += 1
            self.settle(0)  # that is what it counts as, whatever becomes of it
        elif self.wants_settlement:
            self._settle_now()

    def _aborted(self) -> None:
        receiver = self.receiver
        receiver.current = None
        link_advance(receiver.pn)
        self.lost()  # it is not complete: what was sent on must not look so
        self.is_complete = True
        self.settle(0)
        self.forwarder.next_delivery(receiver)

    def bound_window(self) -> None:
        """The consumer reads slower than the peer sends: hold less for it from now on.

        A vanrouter gives each stream without a window of its own a session of its own: nobody else is held up.
        """
        receiver = self.receiver
        receiver.is_bounded = True
        connection = receiver.connection
        if connection.is_router and connection.peer.is_vanrouter and receiver.kind is LinkKind.ENDPOINT:
            window = MIN_WINDOW_FRAMES * connection.max_frame_bytes
            proton.session_set_incoming_capacity(receiver.session, window)
            proton.link_flow(receiver.pn, 0)
            self.forwarder.dirty.add(connection.engine)

    def settle(self, state: int) -> None:
        """Settle towards the producer, at the end of the delivery if that has not come."""
        self.final = state
        self.wants_settlement = True
        if self.is_complete:
            self._settle_now()

    def report(self, state: int, *, settled: bool) -> None:
        """Tell the producer a terminal outcome of the router's own."""
        if self.is_settled:
            return
        if delivery_settled(self.pn):
            state = 0  # nobody waits for it
        elif state:
            set_outcome(self.pn, state)
        self.forwarder.dirty.add(self.receiver.connection.engine)
        if settled:
            self.settle(state)

    def _settle_now(self) -> None:
        if self.is_settled:
            return
        self.is_settled = True
        receiver = self.receiver
        receiver.connection.incoming.pop(self.pn, None)
        receiver.unsettled -= 1
        count_outcome(receiver, self.final)
        delivery_settle(self.pn)
        if not receiver.replenishes_streams:
            grant(receiver)
        if receiver.connection.streams.is_retiring:
            self.forwarder.router.reactor.call_soon(receiver.connection.streams.close_if_retired)
        self.forwarder.dirty.add(receiver.connection.engine)

    def on_producer_update(self) -> None:
        """The producer has settled a complete delivery early."""
        if delivery_settled(self.pn):
            self.settle(proton.delivery_local_state(self.pn))

    def on_link_lost(self) -> None:
        """The link it comes in on is gone; the engine frees the delivery with it."""
        if self.is_settled:
            return
        self.is_settled = True
        self.receiver.connection.incoming.pop(self.pn, None)
        self.receiver.unsettled -= 1
        self.receiver.current = None
        self.lost()
