"""An AMQP connection as the core sees it: role, peer, sessions, links, and what happens when they end.

Layer: 3. Source: router protocol, sections 1, 2 and 7.5. The pump (`engine.connection`) calls the `on_*` methods.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from vanrouter.core.attach import Attacher
from vanrouter.core.incoming import Incoming
from vanrouter.core.inspection import SESSION_DENIED, Inspection, LinkPolicy, SizeLimit
from vanrouter.core.links import (
    DEFAULT_CAPACITY,
    MIN_WINDOW_FRAMES,
    PRIORITIES,
    Delivery,
    LinkKind,
    Outgoing,
    Receiver,
    Sender,
)
from vanrouter.core.message_log import MessageLog, log_sent
from vanrouter.core.peer import EDGE, INTER_NETWORK, Peer, Role
from vanrouter.core.stream_links import StreamLinks
from vanrouter.engine import proton, trace
from vanrouter.engine.annotations import Annotations, edge_section, next_hop_section
from vanrouter.engine.connection import EngineConnection
from vanrouter.engine.proton import link_credit, link_drained, link_flow, link_get_drain, session_outgoing_bytes
from vanrouter.engine.security import PeerSecurity

if TYPE_CHECKING:
    from vanrouter.core.router import Router
    from vanrouter.core.table import Address

logger = logging.getLogger(__name__)

NORMAL_WINDOW_BYTES = 8 << 20
ROUTER_WINDOW_BYTES = 128 << 20
"""Session windows towards clients and towards routers (router protocol, section 2.4)."""

SESSION_BYTES = 1 << 20
"""Octets that may wait in a session of a client whose window is shut; it goes on at half of it (section 2.4)."""

RESUMED_IN_A_FLUSH = 256
"""Paused flows looked at after each write, so that its cost does not grow with the flows that stand still."""

TOO_MANY_SESSIONS = ("amqp:resource-limit-exceeded", "too many sessions on this connection")


class Connection:
    """One connection to a client, a broker or another router."""

    def __init__(self, router: Router, role: Role, *, is_outbound: bool, number: int | None = None) -> None:
        """Long because it lists what a connection holds, and does nothing else."""
        self.router = router
        self.loop = router.reactor
        self.id = router.next_connection_id() if number is None else number
        self.role = role
        self.is_outbound = is_outbound
        self.engine: EngineConnection = None  # type: ignore[assignment]  # set by `attach_engine`, before anything runs
        self.peer = Peer()
        self.host = ""
        """Peer as `ip:port`, for management and the log."""
        self.listener_name = ""
        """Name of the listener or connector it was made by."""
        self.cost = 1
        self.correlator = ""
        self.ordinal = 0
        """Group of an outbound connection (section 1.5)."""
        self.capacity = DEFAULT_CAPACITY
        self.max_frame_bytes = 16384
        self.window_frames: int | None = None
        self.annotates_as_edge = router.is_edge or role is INTER_NETWORK
        """What goes out says neither where it entered the network nor which way it came."""
        self.strips_in = True
        self.strips_out = True
        self.opened_at = self.loop.now
        self.last_delivery_at: float | None = None
        self.is_opened = False
        self.is_closed = False
        self.was_ready = False
        """Both control links have been attached once."""
        self.policy: LinkPolicy | None = None
        """What it may do; None where no policy governs it."""
        self.begin: Any = None
        """Takes new deliveries in place of the forwarder, where each is looked at first."""
        self.looks: list[Any] = []
        self.message_log: MessageLog | None = None
        self.admit: Any = None
        """Asked when the peer's OPEN has come: may it connect? None: yes."""
        self.allows_admin_delete = True
        self.receivers: dict[Any, Receiver] = {}
        self.senders: dict[Any, Sender] = {}
        self.recent: Receiver | None = None
        """On which a delivery came in last."""
        self.sessions: set[Any] = set()
        self.incoming: dict[Any, Any] = {}
        """Unsettled deliveries that came in, by the engine's pointer."""
        self.outgoing: dict[Any, Delivery | Outgoing] = {}
        """Unsettled deliveries that went out."""
        self.grants: list[Receiver] = []
        self.outstanding: dict[Address, int] = {}
        """Unsettled deliveries of each address sent to this neighbour (balanced, router protocol, section 7.3)."""
        self.shut_sessions: set[Any] = set()
        """Sessions in which so much waits that nothing more is put there."""
        self.waiting: dict[Sender, None] = {}
        """Links with credit and a queue: they wait for the socket."""
        self.queued = 0
        """Octets that streams of this router have given to the engine since the socket became full."""
        self.paused: deque[Any] = deque()
        """Flows that wait for this connection to write."""
        self.control_in: Receiver | None = None
        self.control_out: Sender | None = None
        self.data_out: list[Sender | None] = [None] * PRIORITIES
        self._data_for: list[Sender | None] = [None] * PRIORITIES
        """Of each priority the link that its messages take."""
        self.data_in_count = 0
        self.data_out_count = 0
        self.streams = StreamLinks(self)
        self.trunks: list[Connection] = []
        """Data connections that belong to this control connection."""
        self.trunk_turn = 0
        self.parent: Connection | None = None
        """Control connection that this data connection belongs to."""
        self.mesh_id: str | None = None
        self.settings: Any = None
        """What the listener or connector that made it says; the adaptor's own."""
        self.security: PeerSecurity | None = None
        self.open_properties: dict[str, Any] = {}
        self.open_capabilities: tuple[str, ...] = ()
        """What our OPEN says."""
        self.on_opened: Any = None
        """Called once when the peer's OPEN has come and the core has dealt with it."""
        self.on_closed: Any = None
        """Called once when the connection is over, by whoever made it."""
        self.attacher = Attacher(self)

    # What it is.

    @property
    def is_router(self) -> bool:
        """The peer is a router: messages carry router annotations."""
        return self.role.is_router

    @property
    def is_edge(self) -> bool:
        """An edge connection, seen from the interior."""
        return self.role is Role.EDGE and not self.router.is_edge

    @property
    def is_interior_link(self) -> bool:
        """Interior to interior."""
        return self.role is Role.INTER_ROUTER or self.role is Role.INTER_ROUTER_DATA

    @property
    def has_echo_rules(self) -> bool:
        """Consumers on it may be excluded for some deliveries (router protocol, section 9.5)."""
        return self.role in (Role.EDGE, Role.INTER_EDGE)

    @property
    def offers_streaming_links(self) -> bool:
        """The peer takes a link for each stream."""
        return self.peer.offers_streaming_links

    def section(self, annotations: Annotations, override: str | None) -> bytes:
        """Return the router annotations for a message that goes out here (section 4.3)."""
        if self.annotates_as_edge:
            mesh = self.router.mesh_id if self.role is EDGE else None
            return edge_section(annotations, override, mesh)
        return next_hop_section(annotations, override, self.router.own)

    def data_sender(self, priority: int) -> Sender | None:
        """Return the link for messages of that priority: the highest one there is up to it (section 2.1)."""
        return self._data_for[priority if priority < PRIORITIES else PRIORITIES - 1]

    def set_data_sender(self, level: int, link: Sender | None) -> None:
        """Take, or lose, the link of a priority."""
        self.data_out[level] = link
        best: Sender | None = None
        for number, found in enumerate(self.data_out):
            best = found or best
            self._data_for[number] = best

    def control_connection(self) -> Connection:
        """Return the connection that stands for the neighbour."""
        return self.parent or self

    def hold(self, address: Address, count: int = 1) -> None:
        """Count more unsettled deliveries of an address towards this neighbour."""
        self.outstanding[address] = self.outstanding.get(address, 0) + count

    def release(self, address: Address, count: int = 1) -> None:
        """Count less."""
        left = self.outstanding.get(address, 0) - count
        if left > 0:
            self.outstanding[address] = left
        else:
            self.outstanding.pop(address, None)

    # Life cycle.

    def attach_engine(self, engine: EngineConnection) -> None:
        """Take the pump; everything else may run from now on."""
        self.engine = engine

    def inspect(self, look: Any) -> None:
        """Look at each delivery from now on (see `Inspection`)."""
        self.looks.append(look)
        inspection = Inspection(self, self.looks)
        self.begin = inspection.begin
        self.on_delivery = inspection.on_delivery
        self.engine.rebind()

    def log_messages(self, log: MessageLog) -> None:
        """Write each message that comes in or goes out to the log."""
        self.message_log = log
        self.inspect(log.received)
        log_sent(self.router.forwarder)

    def open(self) -> None:
        """Send OPEN; the fields have been set."""
        proton.connection_open(self.engine.connection)
        self.loop.dirty.add(self.engine)

    def on_remote_open(self) -> None:
        """The peer's OPEN has come."""
        self.peer = Peer.read(self.engine.connection)
        self.is_opened = True
        self.router.on_connection_opened(self)

    def on_remote_close(self) -> None:
        """The peer's CLOSE has come."""
        self.engine.close()

    def close(self, condition: tuple[str, str] | None = None) -> None:
        """End it with a CLOSE."""
        self.engine.close(condition)

    def on_session_open(self, session: Any) -> None:
        """The peer begins a session."""
        is_denied = self.policy is not None and self.policy.denies_session(len(self.sessions))
        if is_denied or len(self.sessions) >= self.router.max_sessions:
            reason = SESSION_DENIED if is_denied else TOO_MANY_SESSIONS
            self.router.sessions_refused += 1
            proton.set_condition(proton.session_condition(session), *reason)
            proton.session_open(session)
            proton.session_close(session)
            return
        self.sessions.add(session)
        if not proton.session_state(session) & proton.LOCAL_ACTIVE:
            self.prepare_session(session)
            proton.session_open(session)

    def prepare_session(self, session: Any) -> None:
        """Give a session its incoming window (router protocol, section 2.4)."""
        if self.window_frames is not None:
            window = max(2, self.window_frames) * self.max_frame_bytes
        else:
            window = NORMAL_WINDOW_BYTES if self.role is Role.NORMAL else ROUTER_WINDOW_BYTES
            window = max(window, MIN_WINDOW_FRAMES * self.max_frame_bytes)
        proton.session_set_incoming_capacity(session, window)

    def new_session(self) -> Any:
        """Begin a session of our own."""
        session = proton.session_new(self.engine.connection)
        self.prepare_session(session)
        self.sessions.add(session)
        proton.session_open(session)
        return session

    def end_session(self, session: Any) -> None:
        """End a session of our own; it is freed when the peer has answered."""
        if session in self.sessions and not self.is_closed:
            self.sessions.discard(session)
            self.shut_sessions.discard(session)
            proton.session_close(session)
            self.loop.dirty.add(self.engine)

    def on_session_close(self, session: Any) -> None:
        """The peer ends a session, and every link in it."""
        for link in [receiver for receiver in self.receivers.values() if receiver.session == session]:
            self._end_receiver(link)
        for sender in [sender for sender in self.senders.values() if sender.session == session]:
            self.end_sender(sender)
        self.sessions.discard(session)
        self.shut_sessions.discard(session)
        if session == self.streams.session:
            self.streams.session = None
        if self.role is Role.INTER_ROUTER_DATA and self.peer.is_vanrouter and not self.is_outbound:
            self.streams.leave_group()
            self.streams.close_if_retired()
        proton.session_close(session)
        proton.session_free(session)
        self.loop.dirty.add(self.engine)

    def on_link_open(self, link: Any) -> None:
        """The peer attaches, or answers our attach."""
        self.attacher.on_link_open(link)

    def on_link_close(self, link: Any, closed: bool) -> None:
        """The peer detaches."""
        if not closed:
            self.close(("amqp:not-implemented", "Link detach/reattach not supported"))
            return
        receiver = self.receivers.get(link)
        if receiver is not None:
            self._end_receiver(receiver)
        else:
            sender = self.senders.get(link)
            if sender is not None:
                self.end_sender(sender)
        proton.link_close(link)
        proton.link_free(link)
        self.loop.dirty.add(self.engine)

    def detach(self, link: Receiver | Sender, condition: tuple[str, str] | None = None) -> None:
        """End a link from our side; it is freed when the peer has answered."""
        if condition is not None:
            proton.set_condition(proton.link_condition(link.pn), *condition)
        if isinstance(link, Receiver):
            self._end_receiver(link)
        else:
            self.end_sender(link)
        proton.link_close(link.pn)
        self.loop.dirty.add(self.engine)

    def on_lost(self, condition: tuple[str, str] | None) -> None:
        """The connection is over."""
        self.is_closed = True
        self._lose_deliveries()
        for receiver in list(self.receivers.values()):
            self._end_receiver(receiver)
        for sender in list(self.senders.values()):
            self.end_sender(sender)
        self.paused.clear()
        self.shut_sessions.clear()
        self.waiting.clear()
        self.grants.clear()
        self.streams.clear()
        trace.stop(self.engine.transport)
        fault = condition or self.engine.close_condition
        if fault is not None and fault[0]:
            self.router.note_fault(fault[0])
        self.router.on_connection_lost(self, condition)
        if self.on_closed is not None:
            self.on_closed(condition)

    def _lose_deliveries(self) -> None:
        """End everything that is open, in one pass over it: a link at a time would look at all of it for each link."""
        settlement = self.router.forwarder.settlement
        for sender in self.senders.values():
            sender.excluded = True  # nothing is sent again on it
            sender.ready = False
        outgoing, self.outgoing = self.outgoing, {}
        for delivery in outgoing.values():
            if type(delivery) is Delivery:
                settlement.on_sender_lost(delivery, sent=True)
            else:
                delivery.on_sender_lost(True)
        incoming, self.incoming = self.incoming, {}
        for delivery in incoming.values():
            if type(delivery) is Delivery:
                settlement.on_receiver_lost(delivery)
            else:
                delivery.on_link_lost()

    # Links.

    def add_receiver(self, pn: Any, name: str, kind: LinkKind) -> Receiver:
        """Take a link on which the peer sends."""
        receiver = Receiver(self, pn, self.router.next_link_id(), name, kind, self.capacity)
        receiver.session = proton.link_session(pn)
        if self.policy is not None and self.policy.max_message_bytes:
            receiver.limit = SizeLimit(self.policy.max_message_bytes)
            proton.link_set_max_message_size(pn, self.policy.max_message_bytes)
        receiver.is_special = receiver.carries_annotations = self.is_router or not self.strips_in
        receiver.replenishes_at_once = kind in (LinkKind.CONTROL, LinkKind.DATA) or (
            self.is_edge and kind is LinkKind.ENDPOINT
        )
        receiver.replenishes_streams = receiver.replenishes_at_once
        receiver.zero_credit_since = self.loop.now
        self.receivers[pn] = receiver
        self.router.links[receiver.id] = receiver
        self.streams.note_link()
        return receiver

    def add_sender(self, pn: Any, name: str, kind: LinkKind) -> Sender:
        """Take a link on which we send."""
        sender = Sender(self, pn, self.router.next_link_id(), name, kind, self.capacity)
        sender.session = proton.link_session(pn)
        sender.is_shut = sender.session in self.shut_sessions
        sender.carries_annotations = self.is_router or not self.strips_out
        sender.is_guarded = self.has_echo_rules
        sender.is_special = sender.is_guarded or self.message_log is not None
        sender.is_prompt = kind is LinkKind.DATA or (self.role is Role.EDGE and self.router.is_edge)
        sender.zero_credit_since = self.loop.now
        self.senders[pn] = sender
        self.router.links[sender.id] = sender
        self.streams.note_link()
        return sender

    def give_initial_credit(self, receiver: Receiver) -> None:
        """Open the credit window, or open it again after a drain (section 7.8)."""
        if receiver.closed:
            return
        if not receiver.granted:
            receiver.granted = True
            link_flow(receiver.pn, receiver.capacity)
        elif receiver.drained:
            receiver.drained = False
            proton.link_set_drain(receiver.pn, False)
            receiver.to_grant = 0
            if receiver in self.grants:
                self.grants.remove(receiver)
            link_drained(receiver.pn)  # what was given back so far is known: see `_take_late_drain`
            # A delivery that is still coming in takes its credit at its end.
            held = receiver.unsettled - isinstance(receiver.current, Incoming)
            missing = receiver.capacity - link_credit(receiver.pn) - held - receiver.held
            link_flow(receiver.pn, max(0, missing))
        self.loop.dirty.add(self.engine)

    def drain(self, receiver: Receiver) -> None:
        """Ask the peer to use up its credit or give it back: there is no destination (section 7.7)."""
        if not receiver.drained:
            receiver.drained = True
            receiver.zero_credit_since = self.loop.now
            proton.link_set_drain(receiver.pn, True)
            self.loop.dirty.add(self.engine)

    def _end_receiver(self, receiver: Receiver) -> None:
        if receiver.closed:
            return
        receiver.closed = True
        self.recent = None
        self.receivers.pop(receiver.pn, None)
        self.router.links.pop(receiver.id, None)
        if receiver.current is not None and receiver.unsettled == 0:
            receiver.current.on_link_lost()
        if receiver.unsettled:
            for delivery in [found for found in self.incoming.values() if found.receiver is receiver]:
                if type(delivery) is Delivery:
                    self.router.forwarder.settlement.on_receiver_lost(delivery)
                else:
                    delivery.on_link_lost()
            for pn in [pn for pn, found in self.incoming.items() if found.receiver is receiver]:
                del self.incoming[pn]
        address = receiver.address
        if address is not None:
            address.producers.pop(receiver, None)
            self.router.table.drop_if_unused(address)
        self.router.on_link_gone(receiver)

    def end_sender(self, sender: Sender) -> None:
        """A link on which we send is over: nothing of it stays."""
        if sender.closed:
            return
        sender.closed = sender.excluded = True
        sender.ready = False
        self.senders.pop(sender.pn, None)
        self.router.links.pop(sender.id, None)
        if sender.kind is LinkKind.STREAM and sender.source_text is not None:
            proton.session_close(sender.session)  # it had no other link
        self.waiting.pop(sender, None)
        settlement = self.router.forwarder.settlement
        if sender.unsettled:
            for pn, delivery in [item for item in self.outgoing.items() if item[1].sender is sender]:
                self.outgoing.pop(pn, None)
                if type(delivery) is Delivery:
                    settlement.on_sender_lost(delivery, sent=True)
                else:
                    delivery.on_sender_lost(True)
        while sender.queue:
            settlement.on_sender_lost(sender.queue.popleft(), sent=False)
        for level, link in enumerate(self.data_out):
            if link is sender:
                self.set_data_sender(level, None)
        # Only now: with the last consumer of an address an edge router detaches the link its messages came in on.
        address = sender.address
        if address is not None:
            self.router.table.remove_consumer(address, sender)
        self.router.on_link_gone(sender)

    # The pump's calls in each turn.

    def take_delivery(self, pn: Any) -> bool:
        """Something has happened to a delivery. True: its event is gone already, with some after it (`runs`)."""
        out = self.outgoing.get(pn)
        if out is not None:
            if type(out) is Delivery:
                return self.router.forwarder.take_outcome(out, pn)
            out.on_update(pn)
            return False
        begun = self.incoming.get(pn)
        if begun is not None and type(begun) is not Delivery and begun.receiver.current is begun:
            begun.more()  # a stream in the middle: the engine need not be asked what this is
            return False
        return self.router.forwarder.on_other(self, pn, begun)

    on_delivery: Any = take_delivery
    """What the pump calls; another where each delivery is looked at first."""

    def on_flow(self, link: Any) -> None:
        """The peer has given credit, wants it back, or says that it has none to give."""
        sender = self.senders.get(link)
        if sender is None:
            self._take_late_drain(link)
            return
        credit = link_credit(link)
        sender.credit = credit
        if credit > 0:
            sender.zero_credit_since = None
            if sender.queue:
                self.router.forwarder.drain_queue(sender)
            sender.update_ready()
            if link_get_drain(link):
                self.answer_drain(sender)
        else:
            sender.ready = False
            if sender.zero_credit_since is None:
                sender.zero_credit_since = self.loop.now

    def answer_drain(self, sender: Sender) -> None:
        """Give the credit back that a consumer wants to have back, once nothing waits for it (section 7.8).

        Not while the engine waits for the session's window with some of it: it would forget the answer.
        """
        if not sender.queue and sender.busy is None and not sender.closed and link_get_drain(sender.pn):
            if proton.link_queued(sender.pn):
                self.waiting[sender] = None
                return
            link_drained(sender.pn)
            sender.credit = 0
            sender.ready = False
            self.loop.dirty.add(self.engine)

    def _take_late_drain(self, link: Any) -> None:
        """A producer gave credit back when it was not to any more: a destination came while it answered."""
        receiver = self.receivers.get(link)
        if receiver is not None and not receiver.drained:
            returned = link_drained(link)
            if returned > 0:
                link_flow(link, returned)
                self.loop.dirty.add(self.engine)

    def before_flush(self) -> None:
        """Give the credit back that this turn has freed."""
        grants = self.grants
        if grants:
            self.last_delivery_at = self.loop.now
            for receiver in grants:
                if not receiver.closed and not receiver.drained:
                    link_flow(receiver.pn, receiver.to_grant)
                receiver.to_grant = 0
            grants.clear()

    def watch_session(self, session: Any) -> None:
        """Put nothing more into a session whose window the peer keeps shut, once enough waits in it."""
        if not self.is_router and session_outgoing_bytes(session) > SESSION_BYTES and session not in self.shut_sessions:
            self.shut_sessions.add(session)
            for sender in self.senders.values():
                if sender.session == session:
                    sender.is_shut = True
                    sender.ready = False

    def _open_sessions(self) -> None:
        """Go on with the sessions in which less waits by now."""
        for session in [one for one in self.shut_sessions if session_outgoing_bytes(one) <= SESSION_BYTES // 2]:
            self.shut_sessions.discard(session)
            for sender in [sender for sender in self.senders.values() if sender.session == session]:
                sender.is_shut = False
                self.router.forwarder.drain_queue(sender)
                self.answer_drain(sender)

    def on_sent(self) -> None:
        """Deliveries have gone out."""
        self.last_delivery_at = self.loop.now

    def on_writable(self) -> None:
        """All that was queued has been written."""
        if self.queued:
            self.streams.note_buffer(self.engine.transport, self.queued)
            self.queued = 0
        if self.shut_sessions:
            self._open_sessions()
        if self.waiting and not self.engine.blocked:
            for sender in list(self.waiting):
                self.router.forwarder.drain_queue(sender)
                self.answer_drain(sender)
        paused = self.paused
        if paused:
            waiting = len(paused)
            flows = [paused.popleft() for _ in range(min(waiting, RESUMED_IN_A_FLUSH))]
            paused.extend([flow for flow in flows if not flow.resume()])
            if 0 < len(paused) < waiting:  # those that go on may have nothing to say: the others' turn comes as well
                self.engine.flush_later()
