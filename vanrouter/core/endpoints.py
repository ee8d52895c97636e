"""Streams that begin or end in this process: an engine's delivery behind the seam of `core.stream`.

Layer: 3. An `Inlet` is a delivery that comes in on a link, for a service here: the service's sink gets its octets and
answers through it. An `Outlet` is the sink of a service here: its octets go out as a delivery on a streaming link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vanrouter.core.buffer import BUFFER_BYTES, OCTETS, POINTER, VIEW, new_delivery
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import Receiver, Sender
from vanrouter.core.memory_bound import LEAST_BYTES, SMALL_BYTES
from vanrouter.core.settlement import TERMINAL
from vanrouter.core.stream import COPIED_BYTES, MODIFIED, RECEIVED, Producer, Sink, StreamHead
from vanrouter.engine import proton
from vanrouter.engine.proton import (
    delivery_partial,
    delivery_pending,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    delivery_update,
    from_buffer,
    link_advance,
    link_recv,
    link_send,
)

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.forwarder import Forwarder
    from vanrouter.core.table import Address, LocalService


class Inlet(Incoming):
    """A stream that comes in on a link; the producer that a service here answers through."""

    __slots__ = ("_service", "_sink")

    def __init__(self, forwarder: Forwarder, receiver: Receiver, pn: Any, *, is_complete: bool) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self._sink: Sink | None = None
        self._service: LocalService | None = None

    def begin(self, service: LocalService, head: StreamHead, first: bytes) -> None:
        """Offer the stream to its service, with the octets that have come with the header."""
        self._service = service
        service.open_count += 1
        self._sink = service.on_stream(head, self)
        if first:
            self.note_size(len(first))
            self._sink.push(first)
        if self.is_complete:
            self.end()
        else:
            self.more()

    def more(self) -> None:
        """Read what the engine has: nearly always some octets, and nothing behind them."""
        receiver = self.receiver
        sink = self._sink
        if sink is not None and receiver.limit is None and receiver.current is self:
            count = link_recv(receiver.pn, POINTER, BUFFER_BYTES)
            if count > 0:
                if count <= COPIED_BYTES:
                    sink.push(OCTETS[:count])
                else:
                    self.note_size(count)
                    sink.push(VIEW[:count])
                if count < BUFFER_BYTES and receiver.current is self and delivery_partial(self.pn):
                    return
        super().more()

    def octets(self, count: int) -> bool:
        """Hand octets to the service. It takes them all: the window of the stream bounds what it has to keep."""
        if self._sink is not None:
            self._sink.push(VIEW[:count])
        return True

    def ended(self) -> None:
        """The producer has finished."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.finish(self.is_given_up)

    def lost(self) -> None:
        """The producer, or the way to it, is gone."""
        sink, self._sink = self._sink, None
        self._leave()
        if sink is not None:
            sink.abort()

    def _leave(self) -> None:
        if self._service is not None:
            self._service.open_count -= 1
            self._service = None

    def _settle_now(self) -> None:
        self._leave()
        super()._settle_now()

    # What the service says.

    def received(self, total: int) -> None:
        """Report octets handed on, in a disposition that is not terminal (TCP over AMQP, section 7)."""
        if self.is_settled or self.final:
            return
        pn = self.pn
        local = proton.delivery_local(pn)
        proton.disposition_set_section_number(local, 0)
        proton.disposition_set_section_offset(local, total)
        delivery_update(pn, RECEIVED)
        self.forwarder.dirty.add(self.receiver.connection.engine)

    def outcome(self, state: int, settled: bool) -> None:
        """The service's outcome. Whatever still comes in is thrown away."""
        if not self.is_settled and not self.final:
            if state not in (0, 0x24):
                self._sink = None
            self.report(state, settled=settled)
            self.final = state

    def writable(self) -> None:
        """Reading is never paused here."""


class NoSink:
    """Where the octets of a stream go that has no destination."""

    __slots__ = ()

    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        """Throw them away."""
        return True

    def finish(self, settled: bool = False) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to abort."""


class LocalSink:
    """Counts a stream between two services of this process for as long as it is open."""

    __slots__ = ("_service", "_sink")

    takes_early = True

    def __init__(self, service: LocalService, head: StreamHead, producer: Producer) -> None:
        self._service: LocalService | None = service
        service.open_count += 1
        self._sink = service.on_stream(head, LocalProducer(self, producer))

    def push(self, data: memoryview | bytes) -> bool:
        """Hand octets on."""
        return self._sink.push(data)

    def finish(self, settled: bool = False) -> None:
        """The producer has finished."""
        self._sink.finish(settled)
        if settled:
            self.leave()

    def abort(self) -> None:
        """The producer is gone."""
        self._sink.abort()
        self.leave()

    def leave(self) -> None:
        """The stream is over."""
        if self._service is not None:
            self._service.open_count -= 1
            self._service = None


class Left(Protocol):
    """What counts a stream between two services."""

    def leave(self) -> None:
        """The stream is over."""


class LocalProducer:
    """Passes answers on and notices the end."""

    __slots__ = ("_producer", "_sink", "received", "writable")

    def __init__(self, sink: Left, producer: Producer) -> None:
        self._sink = sink
        self._producer = producer
        self.received = producer.received
        self.writable = producer.writable

    def outcome(self, state: int, settled: bool) -> None:
        """Pass the outcome on."""
        self._producer.outcome(state, settled)
        if settled or state in TERMINAL:
            self._sink.leave()


class Outlet:
    """A stream of a service here that goes out on a streaming link."""

    __slots__ = (
        "_address",
        "_asks_at",
        "_connection",
        "_dirty",
        "_forwarder",
        "_hop",
        "_is_finished",
        "_is_paused",
        "_link",
        "_memory",
        "_moved_from",
        "_noted",
        "_producer",
        "_pushed",
        "_size",
        "pn",
        "sender",
        "takes_early",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        sender: Sender,
        producer: Producer,
        moved_from: Sender | None,
        *,
        is_free: bool = True,
    ) -> None:
        self._pushed = 0
        self._asks_at = LEAST_BYTES
        """With so many octets pushed, as many may wait in the engine as everyone may have waiting there."""
        self._noted = 0
        """Octets pushed when the engine was last asked."""
        self._size = SMALL_BYTES
        """Of the engine's buffer, as far as it is known."""
        self._forwarder = forwarder
        self._dirty = forwarder.dirty
        self._memory = forwarder.router.memory
        self.sender = sender
        self._connection = sender.connection
        self._link = sender.pn
        self._producer: Producer | None = producer
        self._is_paused = False
        self._is_finished = False
        self.takes_early = False
        self._address: Address | None = None
        self._hop: Connection | None = None
        self._moved_from = moved_from
        if moved_from is not None:
            moved_from.moved_streams += 1
        self.pn: Any = None
        if is_free:
            self.occupy()

    def occupy(self) -> None:
        """Begin the delivery on the link."""
        sender = self.sender
        self.pn = new_delivery(sender.pn)
        sender.busy = self
        sender.ready = False
        sender.deliveries += 1
        sender.unsettled += 1
        sender.connection.outgoing[self.pn] = self

    def hold_outstanding(self, address: Address) -> None:
        """Count as one outstanding delivery towards the neighbour until the end (router protocol, section 7.3)."""
        self._address = address
        self._hop = self._connection.control_connection()
        self._hop.hold(address)

    def push(self, data: memoryview | bytes) -> bool:
        """Send octets; False when enough of them wait in the engine."""
        if self.pn is None:
            return True
        size = len(data)
        self._pushed = pushed = self._pushed + size
        link_send(self._link, data if type(data) is bytes else from_buffer(data), size)
        self._dirty.add(self._connection.engine)
        return pushed < self._asks_at or self._has_room()

    def _has_room(self) -> bool:
        """Ask the engine how much waits."""
        pending = delivery_pending(self.pn)
        pushed = self._pushed
        self._asks_at = pushed + LEAST_BYTES - pending
        since, self._noted = pushed - self._noted, pushed
        connection = self._connection
        if pending > self._size:
            self._size = connection.streams.note_buffer(self.pn, pending)
        memory = self._memory
        if connection.engine.blocked:
            connection.queued += since
            is_full = pending >= memory.unsent_bytes or connection.queued >= memory.queued_bytes
        else:  # the flush of this turn will empty the engine: no need to pause for that
            is_full = pending >= memory.unflushed_bytes
        if is_full:
            if not self._is_paused:
                self._is_paused = True
                connection.paused.append(self)
            return False
        return True

    def resume(self) -> bool:
        """The connection has written something; True when this stream may go on."""
        if self.pn is not None and delivery_pending(self.pn) >= self._memory.unsent_bytes >> 1:
            return False
        self._is_paused = False
        if self._producer is not None and not self._is_finished:
            self._producer.writable()
        return True

    def finish(self, settled: bool = False) -> None:
        """End the delivery."""
        pn = self.pn
        if pn is None:
            return
        self._forwarder.dirty.add(self._connection.engine)
        if self._is_finished:
            if settled:  # an outcome has come that its consumer has not settled
                delivery_settle(pn)
                self._forget()
            return
        self._is_finished = True
        if settled or delivery_settled(pn):
            delivery_settle(pn)
            self._forget()
        else:
            link_advance(self._link)
        self._free_link()

    def abort(self) -> None:
        """Break the delivery off.

        One of which nothing has gone out yet (no credit, or all in this turn) is completed instead: the engine would
        drop it without a word, and the other end would wait for it for ever.
        """
        pn = self.pn
        if pn is None:
            return
        if not self._is_finished and delivery_pending(pn) == self._pushed:
            self.finish(settled=True)
            return
        if self._is_finished:
            delivery_settle(pn)
        else:
            self._is_finished = True
            proton.delivery_abort(pn)
        self._forget()
        self._free_link()
        self._forwarder.dirty.add(self._connection.engine)

    def _free_link(self) -> None:
        if self.sender.busy is self:
            self.sender.busy = None
            self._forwarder.link_freed(self.sender)

    def _forget(self) -> None:
        pn, self.pn = self.pn, None
        self._connection.outgoing.pop(pn, None)
        self.sender.unsettled -= 1
        self.sender.ease()
        self.drop_holds()

    def drop_holds(self) -> None:
        """Nobody is told anything any more, and nothing counts any more."""
        self._producer = None
        if self._moved_from is not None:
            self._moved_from.moved_streams -= 1
            self._moved_from.ease()
            self._moved_from = None
        if self._address is not None:
            assert self._hop is not None
            self._hop.release(self._address)
            self._address = None

    def on_update(self, pn: Any) -> None:
        """The consumer's side has said something."""
        state = delivery_remote_state(pn)
        settled = delivery_settled(pn)
        producer = self._producer
        if state == RECEIVED and not settled:
            if producer is not None:
                producer.received(proton.disposition_get_section_offset(proton.delivery_remote(pn)))
            return
        if not settled and state not in TERMINAL:
            return
        if settled and self._is_finished:
            delivery_settle(pn)
            self._forget()
            self._forwarder.dirty.add(self._connection.engine)
        if producer is not None:
            producer.outcome(state, settled)

    def on_sender_lost(self, sent: bool) -> None:
        """The connection is gone."""
        producer = self._producer
        if self.pn is not None and not self._is_finished:
            proton.delivery_abort(self.pn)  # or the engine would end it, and what was sent would look whole
        self._is_finished = True
        self._forget()
        self.sender.busy = None
        if producer is not None:
            producer.outcome(MODIFIED, True)
