"""Deliveries that come in pieces: passing through, being thrown away. How they begin is in `pending`.

Layer: 3. Source: router protocol, sections 2.5, 7.5 and 7.9. A delivery is read as it comes and sent as it is read; it
is never held whole once it has been routed. Reading pauses while the way on is blocked, except for streams that bring
a window of their own (annotation flag 0x04): those are always drained, because their link shares its session.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import POINTER, VIEW, new_delivery
from vanrouter.core.control_message import ControlMessage
from vanrouter.core.deliveries import DeliveryInlet
from vanrouter.core.endpoints import Inlet
from vanrouter.core.groups import trunk_of
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import CONTROL, DATA, ENDPOINT, Delivery, Receiver, Sender
from vanrouter.core.memory_bound import SMALL_BYTES, MemoryBound
from vanrouter.core.settlement import (
    TERMINAL,
    copy_outcome,
    count_outcome,
    pass_last_word,
    set_outcome,
)
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, parse_stream_head
from vanrouter.core.table import MULTICAST, UNAVAILABLE, Address, LocalService, Node
from vanrouter.core.treatment import Destination, Retry, choose
from vanrouter.engine import proton
from vanrouter.engine.annotations import RESEND_RELEASED, UNLIMITED, Annotations
from vanrouter.engine.messages import priority_of
from vanrouter.engine.proton import (
    delivery_pending,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    link_advance,
    link_send,
    session_outgoing_bytes,
)
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.forwarder import Forwarder

logger = logging.getLogger(__name__)

HEAD_BYTES = 1 << 20
"""A delivery whose sections in front of the body are longer is refused."""

MAX_SERVICE_MESSAGE_BYTES = 16 << 20
"""A message for a service of this process is held whole; a longer one is refused."""

UNSENT_BYTES = 256 * 1024
"""Octets of one delivery that may wait in the engine before reading pauses (section 7.9)."""


def begin_routed(
    forwarder: Forwarder,
    receiver: Receiver,
    pn: Any,
    content: bytes,
    annotations: Annotations,
    start: int,
    address: Address | None,
    service: LocalService | None,
    *,
    is_complete: bool,
    tried: Collection[object] = (),
) -> None:
    """Send the beginning of a delivery on its way; what follows goes after it.

    Args:
        content: all octets so far; the message begins at `start`.
        address: None when nobody has to do with it.
        service: the destination, when it has been chosen already.
        is_complete: all octets are in `content`.
        tried: paths that have released it already.

    Raises:
        PeerError: the sections that were not looked at before are broken.
    """
    router = forwarder.router
    if receiver.kind is CONTROL and address is not None:
        ControlMessage(forwarder, receiver, pn, annotations, address, is_complete=is_complete).begin(content)
        return
    if address is None or address.treatment == UNAVAILABLE or router.is_control_key(address.key):
        forwarder.discard(receiver, pn, RELEASED, is_complete=is_complete)
        return
    if service is None:
        address.deliveries_ingress += 1
    if address.treatment <= MULTICAST:
        forwarder.begin_multicast(receiver, pn, content[start:], annotations, address, is_complete=is_complete)
        return
    destination: Destination | None = service or choose(
        address, annotations, receiver.connection, router.may_pass, tried
    )
    if destination is None:
        forwarder.discard(receiver, pn, RELEASED, is_complete=is_complete)
    elif not isinstance(destination, (Sender, Node)):
        begin_at_service(forwarder, receiver, pn, content, annotations, start, destination, is_complete=is_complete)
    else:
        sender = forwarder.sender_for(destination, address, priority_of(content, start, len(content)))
        if sender is None:
            forwarder.discard(receiver, pn, RELEASED, is_complete=is_complete)
            return
        if not is_complete:
            link = stream_link(sender, owns_window=bool(annotations.flags & UNLIMITED))
        else:
            link = sender
        moved_from = None if link is sender or sender.kind is not ENDPOINT else sender
        transit: Transit
        if annotations.flags & RESEND_RELEASED and not delivery_settled(pn):
            path = destination.connection if isinstance(destination, Node) else destination
            retry = Retry(address, annotations, content[start:], (*tried, path))
            transit = forwarder.retried(forwarder, receiver, pn, link, moved_from, retry, is_complete=is_complete)
        else:
            transit = Transit(forwarder, receiver, pn, link, moved_from, is_complete=is_complete)
        if type(destination) is Node and destination.connection is not None and not delivery_settled(pn):
            transit.hold_outstanding(address, destination.connection)
        transit.begin(content, start, annotations)


def stream_link(sender: Sender, *, owns_window: bool = False) -> Sender:
    """Return the link on which a stream for the destination of `sender` goes (section 2.5)."""
    connection = sender.connection
    if sender.kind is DATA or connection.offers_streaming_links:
        return trunk_of(connection).streams.acquire(owns_window=owns_window)
    return sender


def begin_at_service(
    forwarder: Forwarder,
    receiver: Receiver,
    pn: Any,
    content: bytes,
    annotations: Annotations,
    start: int,
    service: LocalService,
    *,
    is_complete: bool,
) -> None:
    """Give the beginning of a delivery to a service of this process."""
    if service.takes_sections:
        inlet = DeliveryInlet(forwarder, receiver, pn, is_complete=is_complete)
        inlet.begin_delivery(service, annotations, content[start:])
        return
    if not service.is_stream:
        Collected(forwarder, receiver, pn, annotations, service, is_complete=is_complete).begin(content[start:])
        return
    try:
        parsed = parse_stream_head(content, start, len(content), annotations, is_complete=is_complete)
    except PeerError as error:
        forwarder.discard(receiver, pn, REJECTED, (error.condition, error.description), is_complete=is_complete)
        return
    if parsed is not NEED_MORE:
        head, offset = parsed
        Inlet(forwarder, receiver, pn, is_complete=is_complete).begin(service, head, content[offset:])
    elif is_complete:
        forwarder.discard(receiver, pn, REJECTED, ("amqp:decode-error", "invalid message format"), is_complete=True)
    else:
        StreamBeginning(forwarder, receiver, pn, content, annotations, start, service).more()


class StreamBeginning(Incoming):
    """A stream for a service here whose header has not come whole yet."""

    __slots__ = ("_annotations", "_content", "_service", "_start")

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        content: bytes,
        annotations: Annotations,
        start: int,
        service: LocalService,
    ) -> None:
        super().__init__(forwarder, receiver, pn)
        self._content = content
        self._annotations = annotations
        self._start = start
        self._service = service

    def octets(self, count: int) -> bool:
        """Look again whether the header is there."""
        self._content += VIEW[:count]
        if len(self._content) > HEAD_BYTES:
            self.forwarder.discard(self.receiver, self.pn, REJECTED, ("amqp:decode-error", "header too long"))
            return False
        begin_at_service(
            self.forwarder,
            self.receiver,
            self.pn,
            self._content,
            self._annotations,
            self._start,
            self._service,
            is_complete=False,
        )
        return False

    def ended(self) -> None:
        """The stream ended inside its header."""
        error = ("amqp:decode-error", "invalid message format")
        self.forwarder.discard(self.receiver, self.pn, REJECTED, error, is_complete=True)
        self.is_settled = True

    def lost(self) -> None:
        """Nobody was told of it yet."""


class Collected(Incoming):
    """A message for a service of this process, read whole."""

    __slots__ = ("_annotations", "_content", "_service")

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        annotations: Annotations,
        service: LocalService,
        *,
        is_complete: bool,
    ) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self._annotations = annotations
        self._service = service
        self._content = bytearray()

    def begin(self, content: bytes) -> None:
        """Take what has come so far."""
        self._content += content
        if self.is_complete:
            self.end()
        else:
            self.more()

    def octets(self, count: int) -> bool:
        """Keep them, up to the bound."""
        self._content += VIEW[:count]
        if len(self._content) > MAX_SERVICE_MESSAGE_BYTES:
            error = ("amqp:link:message-size-exceeded", f"longer than {MAX_SERVICE_MESSAGE_BYTES} octets")
            self.forwarder.discard(self.receiver, self.pn, REJECTED, error)
            return False
        return True

    def ended(self) -> None:
        """It is whole: hand it over."""
        self.report(ACCEPTED, settled=True)
        self._service.on_message(self._annotations, bytes(self._content), self.receiver)

    def lost(self) -> None:
        """Nobody was told of it yet."""


class Discard(Incoming):
    """The rest of a delivery that is refused: read, thrown away, and answered at its end."""

    __slots__ = ()

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        state: int,
        error: tuple[str, str] | None,
        *,
        is_complete: bool,
    ) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        if not delivery_settled(pn):
            set_outcome(pn, state, error)
            forwarder.dirty.add(receiver.connection.engine)
        self.final = state
        self.wants_settlement = True

    def octets(self, count: int) -> bool:
        """Throw them away."""
        return True

    def ended(self) -> None:
        """Nothing more to do: the outcome is known."""

    def lost(self) -> None:
        """Nobody else has to do with it."""


class Transit(Incoming):
    """A delivery that is read from one link and sent on another as it comes."""

    __slots__ = ("_address", "_bounded", "_hop", "_moved_from", "_out_size", "_paused", "_taken", "pn_out", "sender")

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        sender: Sender,
        moved_from: Sender | None,
        *,
        is_complete: bool,
    ) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self.sender = sender
        self.pn_out: Any = None
        self._moved_from = moved_from
        if moved_from is not None:
            moved_from.moved_streams += 1
        self._bounded = True
        self._paused = False
        self._taken = 0
        """Octets given to the engine."""
        self._out_size = SMALL_BYTES
        """Of the engine's buffer for the outgoing delivery, as far as it is known."""
        self._address: Address | None = None
        self._hop: Any = None

    @property
    def waits_since(self) -> float:
        """A stream with a window of its own lasts as long as its flow."""
        return self.began if self._bounded and self.is_complete and not self.is_settled else 0.0

    def hold_outstanding(self, address: Address, hop: Any) -> None:
        """Count as one outstanding delivery towards a neighbour until settled (section 7.3)."""
        self._address, self._hop = address, hop
        hop.hold(address)

    def begin(self, content: bytes, start: int, annotations: Annotations) -> None:
        """Send the first octets, or wait for the link if another delivery occupies it."""
        self._bounded = not annotations.flags & UNLIMITED
        sender = self.sender
        section = b""
        if sender.carries_annotations:
            section = sender.connection.section(annotations, self.receiver.target_text)
        first = section + (content[start:] if start else content)
        if sender.busy is not None or sender.queue:
            self.forwarder.wait_for_link(self, sender, first)
            self._paused = True
            return
        self.start(first)

    def start(self, first: bytes) -> None:
        """The link is free: begin the outgoing delivery."""
        self._paused = False
        sender = self.sender
        sender.busy = self
        sender.ready = False
        self.pn_out = new_delivery(sender.pn)
        sender.connection.outgoing[self.pn_out] = self
        sender.deliveries += 1
        sender.unsettled += 1
        state = delivery_remote_state(self.pn)
        if state:  # given by the producer with its transfer: it travels with ours
            copy_outcome(self.pn, self.pn_out, state)
            proton.delivery_update(self.pn_out, state)
        link_send(sender.pn, first, len(first))
        self._taken = len(first)
        if sender.connection.message_log is not None:
            sender.connection.message_log.sent(sender, first)
        self.forwarder.dirty.add(sender.connection.engine)
        if self.is_complete:
            self.end()
        else:
            super().more()

    def octets(self, count: int) -> bool:
        """Pass octets on."""
        pn = self.pn_out
        if pn is None:
            return not self._paused
        sender = self.sender
        link_send(sender.pn, POINTER, count)
        self._taken += count
        self.forwarder.dirty.add(sender.connection.engine)
        if count > self._out_size or sender.connection.engine.blocked:
            self._note_unsent()
        if self._bounded and delivery_pending(pn) >= UNSENT_BYTES:
            self._paused = True
            sender.connection.paused.append(self)
            if not self.receiver.is_bounded:
                self.bound_window()
            return False
        return True

    def _note_unsent(self) -> None:
        """Count what waits in the engine; where the window of a stream is all that bounds it, the worst may end."""
        pending = delivery_pending(self.pn_out)
        connection = self.sender.connection
        if pending > self._out_size:
            self._out_size = connection.streams.note_buffer(self.pn_out, pending)
        memory = self.forwarder.router.memory
        if not self._bounded and session_outgoing_bytes(self.sender.session) > memory.limit >> 1:
            end_worst(connection, self.sender.session, memory)

    @property
    def unsent(self) -> int:
        """Octets that wait in the engine for a peer that takes none, of a stream whose reading never pauses."""
        return 0 if self._bounded or self.pn_out is None else int(delivery_pending(self.pn_out))

    def end_for_memory(self) -> None:
        """Too much waits on the way on: both ends are told that the stream has failed."""
        self.lost()
        self.report(MODIFIED, settled=True)

    def more(self) -> None:
        """Read on, unless the way on is blocked."""
        if not self._paused or proton.delivery_aborted(self.pn):
            super().more()

    def resume(self) -> bool:
        """The outgoing connection has written something; True when reading goes on."""
        if self.pn_out is not None and delivery_pending(self.pn_out) >= UNSENT_BYTES // 2:
            return False
        self._paused = False
        if not self.is_complete:
            super().more()
            self.forwarder.dirty.add(self.receiver.connection.engine)  # the peer may send again: say so
        return True

    def ended(self) -> None:
        """All octets have come: the outgoing delivery ends as well."""
        pn = self.pn_out
        if pn is None:
            return
        if self.is_given_up:
            self.sender.presettled += 1
            delivery_settle(pn)
            self._forget_out(None)
        else:
            link_advance(self.sender.pn)
        self._free_link()
        self.forwarder.dirty.add(self.sender.connection.engine)

    def _free_link(self) -> None:
        sender = self.sender
        if sender.busy is self:
            sender.busy = None
            self.forwarder.link_freed(sender)

    def _forget_out(self, state: int | None) -> None:
        """The outgoing half is over; `state`: the outcome to be counted, None for none."""
        pn, self.pn_out = self.pn_out, None
        if pn is not None:
            self.sender.connection.outgoing.pop(pn, None)
            self.sender.unsettled -= 1
            self.sender.ease()
            if state is not None:
                count_outcome(self.sender, state)
        if self._moved_from is not None:
            self._moved_from.moved_streams -= 1
            self._moved_from.ease()
            self._moved_from = None
        if self._hop is not None and self._address is not None:
            self._hop.release(self._address)
            self._hop = None

    def on_update(self, pn: Any) -> None:
        """The consumer's side has said something."""
        state = delivery_remote_state(pn)
        settled = delivery_settled(pn)
        if state and not self.is_settled:
            copy_outcome(pn, self.pn, state)
            proton.delivery_update(self.pn, state)
            self.forwarder.dirty.add(self.receiver.connection.engine)
        if settled:
            delivery_settle(pn)  # ends it when it is not complete; what still comes in is thrown away
            self._forget_out(state)
            self._paused = False
            self._free_link()
            self.forwarder.dirty.add(self.sender.connection.engine)
            self.settle(state)
            if not self.is_complete:
                super().more()
                self.forwarder.dirty.add(self.receiver.connection.engine)
        elif state in TERMINAL:
            self.final = state

    def on_producer_update(self) -> None:
        """The producer may have settled a complete delivery early."""
        if delivery_settled(self.pn):
            pn = self.pn_out
            if pn is not None:
                pass_last_word(self.pn, pn)
                state = delivery_remote_state(pn)
                delivery_settle(pn)
                self._forget_out(state)
                self.forwarder.dirty.add(self.sender.connection.engine)
            self.settle(proton.delivery_local_state(self.pn))

    def lost(self) -> None:
        """What comes in broke off: so does what goes out (section 7.5)."""
        pn = self.pn_out
        self._paused = False
        if pn is not None:
            if self.is_complete:
                set_outcome(pn, MODIFIED)
                delivery_settle(pn)
            else:
                proton.delivery_abort(pn)
            self._forget_out(MODIFIED)
            self._free_link()
            self.forwarder.dirty.add(self.sender.connection.engine)
        else:
            self.forwarder.cancel_wait(self, self.sender)
            self._forget_out(None)

    def on_sender_lost(self, sent: bool) -> None:
        """The link it goes out on is gone."""
        pn = self.pn_out
        if pn is not None:
            sent = delivery_pending(pn) < self._taken  # without credit all of it waits in the engine
            if self.sender.busy is self:
                proton.delivery_abort(pn)  # or the engine would end it, and what was sent would look whole
        state = MODIFIED if sent else RELEASED
        self._forget_out(state)
        self._paused = False
        if not self.is_settled:
            set_outcome(self.pn, state)
            self.forwarder.dirty.add(self.receiver.connection.engine)
        self.settle(state)
        if not self.is_complete:
            super().more()


def end_worst(connection: Connection, session: Any, memory: MemoryBound) -> None:
    """End the streams of which most waits in a session that the peer does not take octets from.

    Such streams bring windows of their own, share their session and are never paused, so that none holds up another;
    this is what bounds all of them together. One eighth goes at a time, so that each visit is paid for by as many ends.
    """
    waiting = [one for one in connection.outgoing.values() if type(one) is not Delivery and isinstance(one, Transit)]
    waiting = [one for one in waiting if one.sender.session == session]
    waiting.sort(key=lambda one: one.unsent, reverse=True)
    goal = (memory.limit >> 1) - (memory.limit >> 4)
    for worst in waiting:
        if session_outgoing_bytes(session) <= goal or not worst.unsent:
            break
        memory.ended += 1
        logger.warning("[C%d] Stream ended: %d octets wait in its session", connection.id, memory.limit >> 1)
        worst.end_for_memory()
