"""Copies of one delivery for several destinations (router protocol, section 7.4).

Layer: 3. The producer gets its outcome when all copies have one; it is the strongest of rejected, accepted, modified,
released. Settlement follows end to end: when all copies are settled the producer's delivery is, and when a producer
settles on hearing the outcome, so are the copies of consumers that wait for it (receiver settle mode second). A
message that comes in pieces is kept once for all its copies, from the slowest copy's place on; reading pauses when that
is too far behind.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import VIEW, new_delivery
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import Delivery, Receiver, Sender
from vanrouter.core.settlement import TERMINAL, copy_outcome, count_outcome, pass_last_word, set_outcome
from vanrouter.core.stream import ACCEPTED, MODIFIED, RECEIVED, REJECTED, RELEASED
from vanrouter.core.table import Address, LocalService, Treatment
from vanrouter.core.treatment import is_echo
from vanrouter.engine import proton
from vanrouter.engine.annotations import NO_ANNOTATIONS, Annotations
from vanrouter.engine.messages import priority_of
from vanrouter.engine.proton import (
    delivery_local_state,
    delivery_pending,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    link_advance,
    link_send,
)

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.forwarder import Forwarder
    from vanrouter.core.router import Router

logger = logging.getLogger(__name__)

STRENGTH = {RELEASED: 1, MODIFIED: 2, ACCEPTED: 3, REJECTED: 4}
"""Which outcome of several copies the producer gets; a transactional or unknown one counts as rejected."""

MAX_COPY_BYTES = 16 << 20
"""A multicast that comes in pieces is held whole for services here; a longer one they do not get."""

UNSENT_BYTES = 128 * 1024
"""Octets of one copy that may wait in the engine."""

BEHIND_BYTES = 512 * 1024
"""How far the slowest copy may be behind before reading pauses."""


def stronger(best: int, state: int) -> int:
    """Return which of two outcomes counts: the best so far (0: none), and that of one copy more.

    A copy that is settled without an outcome (no state, or `received`, which is none) has been taken: accepted.
    """
    outcome = state if state in TERMINAL else ACCEPTED if state in (0, RECEIVED) else REJECTED
    return outcome if STRENGTH[outcome] > STRENGTH.get(best, 0) else best


class Targets:
    """The destinations of one multicast delivery."""

    __slots__ = ("_address", "consumers", "neighbours", "services")

    def __init__(
        self,
        address: Address,
        consumers: list[Sender],
        neighbours: list[Connection],
        services: list[LocalService],
    ) -> None:
        self._address = address
        self.consumers = consumers
        self.neighbours = neighbours
        self.services = services

    @property
    def count(self) -> int:
        """How many copies."""
        return len(self.consumers) + len(self.neighbours) + len(self.services)

    def senders(self, content: bytes) -> list[Sender]:
        """Return the links; towards neighbours those of the message's effective priority.

        Raises:
            PeerError: the message is broken.
        """
        senders = list(self.consumers)
        if self.neighbours:
            priority = self._address.priority
            if priority is None:
                priority = priority_of(content, 0, len(content))
            for connection in self.neighbours:
                link = connection.data_sender(priority)
                if link is not None:
                    senders.append(link)
        return senders


def multicast_targets(
    router: Router,
    address: Address,
    annotations: Annotations,
    came_from: Connection | None,
    *,
    is_anonymous: bool = False,
) -> Targets:
    """Return where copies go: consumers here, one copy for each neighbour that leads to others, services here.

    From an edge router those with an address of their own (`is_anonymous`) go to the interior, too, and those of a new
    producer.
    """
    consumers = [sender for sender in address.consumers if not is_echo(sender, came_from, annotations.mesh)]
    if router.edge is not None and (is_anonymous or router.edge.is_untold(address.key)):
        router.edge.add_uplink(consumers, came_from)
    remotes = router.nodes.values() if address.key[0] == "T" else address.remotes.values()
    neighbours: dict[Connection, None] = {}
    ingress = annotations.ingress
    is_transit = came_from is not None and came_from.is_interior_link
    if not (is_transit and (ingress is None or not router.knows(ingress))):
        for node in remotes:
            connection = node.connection
            if connection is None or connection in neighbours or f"0/{node.next_hop}" in annotations.trace:
                continue
            if (
                address.treatment == Treatment.FLOOD
                or ingress is None
                or router.is_valid_origin(node.router_id, ingress)
            ):
                neighbours[connection] = None
    return Targets(address, consumers, list(neighbours), list(address.services))


class CompleteFanout:
    """The copies of a complete message."""

    __slots__ = ("_best", "_forwarder", "_is_told", "_pn", "_sending", "_unanswered", "began", "copies", "receiver")

    def __init__(self, forwarder: Forwarder, receiver: Receiver | None, pn: Any) -> None:
        """`receiver`: None when the producer does not wait for an outcome."""
        self._forwarder = forwarder
        self.receiver: Receiver | None = receiver
        self._pn = pn
        self.began = forwarder.router.reactor.now
        self._best = 0
        self._sending = True
        self._is_told = False
        self._unanswered = 0
        self.copies: dict[Delivery, bool] = {}
        """Those that are not settled, and whether they have an outcome."""
        if receiver is not None:
            receiver.unsettled += 1
            receiver.connection.incoming[pn] = self

    @property
    def waits_since(self) -> float:
        """When it began, while its producer waits for the outcome; otherwise 0."""
        return 0.0 if self.receiver is None else self.began

    def add(self, copy: Delivery) -> None:
        """One copy more."""
        self.copies[copy] = False
        self._unanswered += 1

    def all_sent(self) -> None:
        """All copies are on their way."""
        self._sending = False
        self._consider()

    def waits_for_settlement(self, delivery: Delivery, state: int) -> bool:
        """A copy has its outcome; its consumer waits for the producer to settle."""
        if not self.copies[delivery]:
            self.copies[delivery] = True
            self._answer(state)
            self._consider()
        return True

    def on_copy_outcome(self, delivery: Delivery, state: int, settled: bool, pn: Any) -> None:
        """One copy has come to its end."""
        if not self.copies.pop(delivery):
            self._answer(state)
        self._consider()

    def _answer(self, state: int) -> None:
        self._unanswered -= 1
        self._best = stronger(self._best, state)

    def _consider(self) -> None:
        receiver = self.receiver
        if self._unanswered or self._sending or receiver is None:
            return
        if self.copies:
            if not self._is_told:
                self._is_told = True
                set_outcome(self._pn, self._best)
                self._forwarder.dirty.add(receiver.connection.engine)
            return
        self.receiver = None
        settlement = self._forwarder.settlement
        whole = Delivery(receiver, self._pn, None, None)  # type: ignore[arg-type]  # only its producer's half is used
        whole.began = self.began
        settlement.finish(whole, self._best or ACCEPTED, None)

    def on_producer_update(self) -> None:
        """The producer has settled early: so are all copies."""
        if delivery_settled(self._pn):
            self._end(MODIFIED if delivery_remote_state(self._pn) == MODIFIED else None)

    def on_link_lost(self) -> None:
        """The producer is gone."""
        self._end(MODIFIED)

    def _end(self, state: int | None) -> None:
        receiver, self.receiver = self.receiver, None
        settlement = self._forwarder.settlement
        for copy in tuple(self.copies):
            copy.origin = None
            pn = copy.pn_out
            if pn is None:
                copy.settled = True
            else:
                if state is not None:
                    set_outcome(pn, state)
                settlement.abandon(copy)
        self.copies.clear()
        if receiver is not None:
            whole = Delivery(receiver, self._pn, None, None)  # type: ignore[arg-type]
            whole.began = self.began
            settlement.forget_producer(whole)


class Copy:
    """One outgoing half of a message that comes in pieces."""

    __slots__ = ("_fanout", "is_answered", "is_paused", "is_waiting", "place", "pn", "sender")

    def __init__(self, fanout: StreamFanout, sender: Sender) -> None:
        self._fanout = fanout
        self.sender = sender
        self.place = 0
        """Octets sent so far."""
        self.is_answered = False
        """It has an outcome, and is not settled."""
        self.is_paused = False
        self.is_waiting = False
        self.pn: Any = None

    @property
    def waits_since(self) -> float:
        """As of the whole."""
        return 0.0 if self.pn is None else self._fanout.waits_since

    def start(self, section: bytes) -> None:
        """Begin the outgoing delivery."""
        sender = self.sender
        sender.busy = self
        sender.ready = False
        sender.deliveries += 1
        sender.unsettled += 1
        self.pn = new_delivery(sender.pn)
        sender.connection.outgoing[self.pn] = self
        state = 0 if self._fanout.is_settled else delivery_remote_state(self._fanout.pn)
        if state:
            copy_outcome(self._fanout.pn, self.pn, state)
            proton.delivery_update(self.pn, state)
        if section:
            link_send(sender.pn, section, len(section))
        if self.is_waiting:
            self.is_waiting = self.is_paused = False
            self._fanout.advance(self)

    def wait(self, section: bytes) -> None:
        """Another delivery occupies the link: begin after it."""
        self.is_waiting = self.is_paused = True
        self._fanout.forwarder.wait_for_link(self, self.sender, section)

    def resume(self) -> bool:
        """The connection has written something."""
        if self.pn is not None and delivery_pending(self.pn) >= UNSENT_BYTES // 2:
            return False
        self.is_paused = False
        self._fanout.advance(self)
        return True

    def on_update(self, pn: Any) -> None:
        """The consumer's side has said something."""
        self._fanout.on_copy_update(self, pn)

    def on_sender_lost(self, sent: bool) -> None:
        """The link is gone."""
        if self.pn is not None and self.sender.busy is self:
            proton.delivery_abort(self.pn)  # or the engine would end it, and what was sent would look whole
        self._fanout.on_copy_lost(self, MODIFIED if sent else RELEASED)


class StreamFanout(Incoming):
    """A message that comes in pieces and goes to several links."""

    __slots__ = (
        "_annotations",
        "_base",
        "_best",
        "_chunks",
        "_is_reading",
        "_kept",
        "_services",
        "_size",
        "_unanswered",
        "copies",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        senders: list[Sender],
        services: list[LocalService],
        *,
        is_complete: bool,
    ) -> None:
        """`services`: takers of whole messages here; what is longer than they can have goes to the links alone."""
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self._chunks: deque[bytes] = deque()
        self._base = 0
        """Octets before the first chunk that is kept."""
        self._size = 0
        """Octets of the message so far."""
        self._best = 0
        self._is_reading = True
        self.copies = [Copy(self, sender) for sender in senders]
        self._unanswered = len(senders)
        self._services = services
        self._annotations = NO_ANNOTATIONS
        self._kept: bytearray | None = bytearray() if services else None
        """All octets so far, for the services."""

    @property
    def waits_since(self) -> float:
        """A copy that is slow holds the outcome back."""
        return self.began if self.is_complete and not self.is_settled else 0.0

    def begin(self, first: bytes, annotations: Annotations, override: str | None) -> None:
        """Begin all copies."""
        self._annotations = annotations
        for copy in self.copies:
            sender = copy.sender
            section = sender.connection.section(annotations, override) if sender.carries_annotations else b""
            if sender.busy is None and not sender.queue:
                copy.start(section)
            else:
                copy.wait(section)
        self._append(first)
        if self.is_complete:
            self.end()
        else:
            self.more()

    def octets(self, count: int) -> bool:
        """Keep a piece for all copies; stop when the slowest is too far behind."""
        self._append(bytes(VIEW[:count]))
        self._is_reading = self._size - self._base < BEHIND_BYTES
        if not self._is_reading and not self.receiver.is_bounded:
            self.bound_window()
        return self._is_reading

    def more(self) -> None:
        """Read on, unless the slowest copy is too far behind."""
        if self._is_reading or proton.delivery_aborted(self.pn):
            super().more()

    def _append(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._kept is not None:
            self._kept += chunk
            if len(self._kept) > MAX_COPY_BYTES:
                self._kept = None
                logger.warning("[C%d] Multicast too long for services here", self.receiver.connection.id)
        for copy in tuple(self.copies):
            if not copy.is_paused:
                self._push(copy)
        self._trim()

    def _push(self, copy: Copy) -> None:
        """Send what a copy has not sent yet, up to its share."""
        at = self._base
        for chunk in self._chunks:
            if at + len(chunk) > copy.place:
                offset = copy.place - at
                link_send(copy.sender.pn, chunk[offset:] if offset else chunk, len(chunk) - offset)
                copy.place = at + len(chunk)
                if delivery_pending(copy.pn) >= UNSENT_BYTES:
                    copy.is_paused = True
                    copy.sender.connection.paused.append(copy)
                    break
            at += len(chunk)
        self.forwarder.dirty.add(copy.sender.connection.engine)
        if self.is_complete and copy.place == self._size and copy.sender.busy is copy:
            self._finish_copy(copy)

    def _trim(self) -> None:
        """Forget what all copies have sent."""
        slowest = min((copy.place for copy in self.copies), default=self._size)
        while self._chunks and self._base + len(self._chunks[0]) <= slowest:
            self._base += len(self._chunks.popleft())

    def advance(self, copy: Copy) -> None:
        """A copy can send again."""
        if copy.pn is not None:
            self._push(copy)
        self._trim()
        if not self._is_reading and self._size - self._base < BEHIND_BYTES // 2:
            self._is_reading = True
            if not self.is_complete:
                super().more()
                self.forwarder.dirty.add(self.receiver.connection.engine)  # the peer may send again: say so

    def _finish_copy(self, copy: Copy) -> None:
        if self.is_given_up:
            copy.sender.presettled += 1
            delivery_settle(copy.pn)
            self._drop_copy(copy)
        else:
            link_advance(copy.sender.pn)
            self._free_link(copy)
            self.on_copy_update(copy, copy.pn)  # an outcome may have come before the end

    def _free_link(self, copy: Copy) -> None:
        if copy.sender.busy is copy:
            copy.sender.busy = None
            self.forwarder.link_freed(copy.sender)

    def _drop_copy(self, copy: Copy) -> None:
        pn, copy.pn = copy.pn, None
        if pn is not None:
            copy.sender.connection.outgoing.pop(pn, None)
            copy.sender.unsettled -= 1
            copy.sender.ease()
        if copy in self.copies:
            self.copies.remove(copy)
        self._free_link(copy)

    def ended(self) -> None:
        """All octets have come."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._best = stronger(self._best, ACCEPTED)
            for service in self._services:
                service.on_message(self._annotations, bytes(kept), self.receiver)
        for copy in tuple(self.copies):
            if not copy.is_paused:
                self._push(copy)

    def on_copy_update(self, copy: Copy, pn: Any) -> None:
        """One consumer's side has said something."""
        state = delivery_remote_state(pn)
        if delivery_settled(pn):
            delivery_settle(pn)
            self.forwarder.dirty.add(copy.sender.connection.engine)
            self.on_copy_lost(copy, state)
        elif state in TERMINAL and copy.sender.busy is not copy and not copy.is_answered:
            copy.is_answered = True
            self._answer(state)

    def _answer(self, state: int) -> None:
        self._unanswered -= 1
        self._best = stronger(self._best, state)
        if not self._unanswered and self.copies:
            self.report(self._best, settled=False)

    def on_copy_lost(self, copy: Copy, state: int) -> None:
        """One copy has come to its end; when all have, the producer gets the strongest outcome."""
        count_outcome(copy.sender, state)
        self._drop_copy(copy)
        if not copy.is_answered:
            self._answer(state)
        self._trim()
        if not self.copies and not self.is_settled:
            self._is_reading = True
            self.report(self._best, settled=True)
        if not self.is_complete and not self._is_reading and self._size - self._base < BEHIND_BYTES // 2:
            self._is_reading = True
        if not self.is_complete:
            self.more()
            self.forwarder.dirty.add(self.receiver.connection.engine)

    def lost(self) -> None:
        """The producer is gone: the copies break off, or end as modified when they were complete."""
        for copy in tuple(self.copies):
            pn = copy.pn
            if pn is None:
                self.forwarder.cancel_wait(copy, copy.sender)
                self.copies.remove(copy)
                continue
            if copy.sender.busy is copy:
                proton.delivery_abort(pn)
            else:
                set_outcome(pn, MODIFIED)
                delivery_settle(pn)
            self.forwarder.dirty.add(copy.sender.connection.engine)
            self._drop_copy(copy)

    def on_producer_update(self) -> None:
        """The producer has settled a complete message early."""
        if delivery_settled(self.pn):
            for copy in tuple(self.copies):
                if copy.pn is not None and copy.sender.busy is not copy:
                    pass_last_word(self.pn, copy.pn)
                    count_outcome(copy.sender, delivery_remote_state(copy.pn))
                    delivery_settle(copy.pn)
                    self.forwarder.dirty.add(copy.sender.connection.engine)
                    self._drop_copy(copy)
            self.settle(delivery_local_state(self.pn))
