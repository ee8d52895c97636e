"""The router: joins the address table, the forwarder, the connections and the routing protocol.

Layer: 3. What adaptors use of the core is here: streams, services, watches, messages.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from vanrouter.core.auto_links import AutoLinks
from vanrouter.core.connection import Connection
from vanrouter.core.control import CONTROL_KEYS, ControlHost
from vanrouter.core.deliveries import (
    Awaited,
    DeliveryConsumer,
    DeliveryService,
    message_limit,
    open_message,
    send_whole,
)
from vanrouter.core.edge import EdgeHost, EdgeServer
from vanrouter.core.endpoints import LocalSink, NoSink, Outlet
from vanrouter.core.groups import Groups
from vanrouter.core.guarding import Guard
from vanrouter.core.links import DEFAULT_PRIORITY, ENDPOINT, Delivery, LinkKind, Receiver, Sender
from vanrouter.core.memory_bound import MemoryBound
from vanrouter.core.peer import Role
from vanrouter.core.runs import Runs
from vanrouter.core.services import MessageService, MessageTaker, StreamService, Subscription
from vanrouter.core.stream import RELEASED, Producer, Sink, StreamConsumer, parse_stream_head
from vanrouter.core.table import CLOSEST, UNAVAILABLE, Address, AddressTable, Node, Treatment, Watch
from vanrouter.core.transit import stream_link
from vanrouter.core.treatment import Destination, choose
from vanrouter.engine.annotations import Annotations, originated
from vanrouter.engine.values import NEED_MORE
from vanrouter.histogram import Histogram
from vanrouter.ids import random_suffix
from vanrouter.net.memory import Trimmer
from vanrouter.net.reactor import Reactor
from vanrouter.routing.addresses import AddressSpace, annotation_id
from vanrouter.routing.commands import ControlSettings

logger = logging.getLogger(__name__)

SCRUB_INTERVAL_S = 5.0
SCRUB_KEPT = 128
SCRUB_AT_ONCE = 64
SCRUB_PAUSE_S = 0.05
"""Idle streaming links of a connection: looked at after so long, kept, and detached at a time, and the pause until the
next ones. The C router detaches 10 in 30 s (router protocol, section 2.5): memory would come back in hours."""

MAX_FAULTS = 32
"""Different conditions of broken connections that are counted apart."""
NO_RADIUS = 1 << 30
"""Only interior routers know how far a message may have come (router protocol, section 4.4)."""


COUNTED_IN = (
    "accepted", "rejected", "released", "modified", "presettled", "delayed_1s", "delayed_10s", "dropped_presettled",
)  # fmt: skip
COUNTED_OUT = ("dropped_presettled",)
"""Counts of links that the router as a whole has as well, each delivery once."""

CONTAINER_ROLES = frozenset((Role.ROUTE_CONTAINER, Role.INTER_NETWORK))
"""Connections whose deliveries are counted apart (management.md section 8, routerMetrics)."""


class Mode:
    """Modes of a router; the words of the configuration."""

    STANDALONE = "standalone"
    INTERIOR = "interior"
    EDGE = "edge"


class Router:
    """One router."""

    def __init__(
        self,
        reactor: Reactor,
        router_id: str,
        mode: str = Mode.STANDALONE,
        *,
        instance: int = 0,
        network_id: str | None = None,
        tenant_id: str | None = None,
        default_treatment: Treatment = Treatment.BALANCED,
        control_settings: ControlSettings | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Long because it lists what a router holds, and does nothing else."""
        self.reactor = reactor
        self.router_id = router_id
        self.mode = mode
        self.is_edge = mode == Mode.EDGE
        self.is_interior = mode == Mode.INTERIOR
        self.own = annotation_id(router_id)
        self.wall_clock = wall_clock
        self.instance = instance
        self.mesh_id: str | None = None
        """Edge mesh that an edge router belongs to."""
        self.space = AddressSpace(router_id, is_edge=self.is_edge, network_id=network_id, tenant_id=tenant_id)
        self.max_sessions = 32768
        self.max_links = 100_000
        self.links_refused = 0
        self.sessions_refused = 0
        self.faults: dict[str, int] = {}
        """Connections that ended with an error of the AMQP layer, ours or the engine's, by condition."""
        self.radius = 0 if self.is_interior else NO_RADIUS
        self.nodes: dict[str, Node] = {}
        self.connections: dict[int, Any] = {}
        """Everything that management shows as a connection, by its number; AMQP connections and adaptors' flows."""
        self.amqp_connections: dict[int, Connection] = {}
        self.links: dict[int, Receiver | Sender] = {}
        self.queue_wait = Histogram()
        """Seconds that deliveries have waited for credit, of those that had to."""
        self.time_to_settlement = Histogram()
        """Seconds from a delivery's arrival to its settlement, of a sample (`settlement`)."""
        self.totals: dict[str, int] = {}
        """Counters of links that are gone."""
        self._connection_numbers = count(1)
        self._link_numbers = count(1)
        self.table = AddressTable(default_treatment, self._on_local_change)
        self.table.on_reachable = self._on_reachable
        self.memory = MemoryBound()
        self.forwarder = Runs(self)
        self.groups = Groups(self)
        self.auto_links = AutoLinks(self)
        self._all_routers = Address("T", Treatment.MULTICAST, None)
        self.control = ControlHost(self, instance, control_settings)
        self._scrubbing: dict[Connection, Any] = {}
        self.idle_streams_kept = SCRUB_KEPT
        """Idle streaming links of a connection that are not detached."""
        self.trimmer = Trimmer(reactor, self.connections, self.links)
        self.trimmer.watch(reactor.tables)
        self.trimmer.watch(self.tables)
        self.internal_targets: dict[str, Any] = {}
        self.internal_sources: dict[str, Any] = {}
        self.guard: Guard | None = None
        """Judges what clients ask of the management of other routers."""
        self.edge: EdgeHost | None = None
        """What makes this an edge router."""
        self.edges: EdgeHost | EdgeServer | None = None
        """What has to do with edge connections here."""
        if self.is_edge:
            self.edge = self.edges = EdgeHost(self)
            self.address_for = self.edge.address_for  # type: ignore[method-assign]  # no question for other modes
        elif self.is_interior:
            self.edges = EdgeServer(self)

    def tables(self) -> Iterator[dict[Any, Any]]:
        """Yield what may have been large."""
        yield from (self.connections, self.amqp_connections, self.links, self.table.addresses)
        for connection in self.amqp_connections.values():
            yield from (connection.receivers, connection.senders, connection.incoming, connection.outgoing)

    # Numbers.

    def next_connection_id(self) -> int:
        """Return the next number of a connection."""
        return next(self._connection_numbers)

    def next_link_id(self) -> int:
        """Return the next number; links, configured addresses and auto-links share it (management.md section 7)."""
        return next(self._link_numbers)

    # What adaptors use.

    def open_stream(self, to: str, head: bytes, flags: int, producer: Producer) -> Sink:
        """Begin a stream; returns at once where its octets go.

        Args:
            to: address text.
            head: encoded properties, application properties and body marker.
            flags: router annotation flags.
            producer: told what the consumer says; RELEASED at the end of the turn when there is no way.
        """
        address = self.address_for(to)
        annotations = originated(flags)
        destination: Destination | None = None
        if address is not None and CLOSEST <= address.treatment != UNAVAILABLE:
            destination = address.sole_node  # it begins here: nobody's origin has to be asked
            if destination is None or destination.connection is None:
                destination = choose(address, annotations, None, self.may_pass)
        if address is None or destination is None:
            return self._no_way(producer)
        if not isinstance(destination, (Sender, Node)):
            address.deliveries_to_container += 1
            parsed = parse_stream_head(head, 0, len(head), annotations)
            if parsed is NEED_MORE or not destination.is_stream or destination.takes_sections:
                return self._no_way(producer)
            return LocalSink(destination, parsed[0], producer)
        sender = self.forwarder.sender_for(destination, address, 4)
        if sender is None:
            return self._no_way(producer)
        link = stream_link(sender, owns_window=True)
        if link.busy is not None or link.queue:
            return self._no_way(producer)
        address.deliveries_ingress += 1
        moved_from = sender if link is not sender and sender.kind is ENDPOINT else None
        outlet = Outlet(self.forwarder, link, producer, moved_from)
        if isinstance(destination, Node):
            outlet.hold_outstanding(address)
            outlet.takes_early = destination.is_neighbour and link.connection.peer.is_vanrouter
        section = link.connection.section(annotations, None) if link.carries_annotations else b""
        outlet.push(section + head)
        return outlet

    def send_stream(self, to: str, octets: bytes, flags: int, producer: Producer) -> bool:
        """Send a short stream that is whole already to a vanrouter next to this one, as one message.

        So it costs no link of its own and no credit of one, and its outcome shares a frame with others.

        Args:
            to: address text, of a stream that the other router waits for.
            octets: header and content.
            flags: router annotation flags.
            producer: told the outcome, once; not before the end of this call.

        Returns:
            False: there is no such way, or no room on it now; nothing has been done, `open_stream` may know more.
        """
        address = self.address_for(to)
        node = None if address is None else address.sole_node
        if address is None or node is None or not node.is_neighbour or node.connection is None:
            return False
        sender = node.connection.data_sender(DEFAULT_PRIORITY)
        if sender is None or not sender.ready or sender.is_special or not sender.connection.peer.is_vanrouter:
            return False
        if sender.connection.engine.blocked:
            return False
        address.deliveries_ingress += 1
        delivery = Delivery(None, None, sender, Awaited(producer))
        section = sender.connection.section(originated(flags), None)
        self.forwarder.put(delivery, section, octets, 0, 0)
        return True

    def _no_way(self, producer: Producer) -> Sink:
        self.reactor.call_soon(lambda: producer.outcome(RELEASED, True))
        return NoSink()

    def subscribe_stream(self, address: str, consumer: StreamConsumer, weight: int = 1) -> Subscription:
        """Serve the streams of an address; it is announced to the network."""
        text = self.space.service_address(address)
        return Subscription(self, self._ensure(text), StreamService(consumer, weight), text)

    def new_reply_address(self, consumer: StreamConsumer) -> Subscription:
        """Make a dynamic address whose streams come to `consumer`; its text is the subscription's `address`."""
        text = self.space.dynamic_source(random_suffix())
        address = self._ensure(text)
        address.is_internal = True
        return Subscription(self, address, StreamService(consumer), text)

    def subscribe_deliveries(self, address: str, consumer: DeliveryConsumer, weight: int = 1) -> Subscription:
        """Take the messages of an address, section by section; it is announced to the network."""
        text = self.space.service_address(address)
        return Subscription(self, self._ensure(text), DeliveryService(consumer, weight), text)

    def new_delivery_address(self, consumer: DeliveryConsumer) -> Subscription:
        """Make a dynamic address whose messages come to `consumer`; its text is the subscription's `address`."""
        text = self.space.dynamic_source(random_suffix())
        address = self._ensure(text)
        address.is_internal = True
        return Subscription(self, address, DeliveryService(consumer), text)

    def send_whole(self, to: str, content: bytes, flags: int, producer: Producer) -> Awaited:
        """Send a whole message; `producer` is told its outcome, not before this returns."""
        return send_whole(self, to, content, flags, producer)

    def open_message(self, to: str, first: bytes, flags: int, producer: Producer) -> Sink:
        """Begin a message that goes out piece by piece; RELEASED at the end of the turn when there is no way."""
        return open_message(self, to, first, flags, producer)

    def message_limit(self, to: str) -> int:
        """Return how many octets a message in pieces may have there: a multicast is kept whole; 0: any number."""
        return message_limit(self.address_for(to))

    def stream_link(self, sender: Sender) -> Sender:
        """Return the link of a message that goes where `sender` leads, and brings no window of its own."""
        return stream_link(sender)

    def subscribe_messages(self, address: str, take: MessageTaker, *, is_announced: bool) -> Subscription:
        """Take the messages of an address, whole."""
        entry = self._ensure(address)
        if not is_announced:
            entry.is_internal = True
            entry.treatment = Treatment.CLOSEST
        return Subscription(self, entry, MessageService(take), address)

    def watch(self, address: str, callback: Callable[[bool], object]) -> Watch:
        """Tell whether somebody in the network consumes an address: now, and whenever it changes."""
        return self.table.watch(self._ensure(self.space.service_address(address)), callback)

    def watch_plain(self, address: str, callback: Callable[[bool], object]) -> Watch:
        """The same for an address that no tenant's name is put in front of."""
        return self.table.watch(self._ensure(address), callback)

    def send_message(self, to: str, content: bytes) -> bool:
        """Send a whole message of the router's own, pre-settled; False when nobody consumes `to`."""
        return self.forwarder.send(to, content, settled=True)

    def _ensure(self, text: str) -> Address:
        address = self.table.ensure(self.space.key(text))
        self.refresh_priority(address)
        return address

    # What the core's other rooms ask.

    def address_for(self, text: str) -> Address | None:
        """Return the address that a text leads to, or None when nobody here or elsewhere has to do with it."""
        key = self.space.key(text)
        address = self.table.get(key)
        if address is None and key[0] == "T":
            return self._all_routers
        return address

    def is_unavailable(self, address: Address | None, text: str | None = None) -> bool:
        """Tell whether deliveries to an address are refused by configuration."""
        if address is not None:
            return address.treatment == Treatment.UNAVAILABLE
        if text is None:
            return False
        key = self.space.key(text)
        return key[0] == "M" and self.table.treatment_of(key)[0] == Treatment.UNAVAILABLE

    def is_control_key(self, key: str) -> bool:
        """Tell whether a key belongs to the routing protocol."""
        return key in CONTROL_KEYS

    def is_valid_origin(self, router_id: str, ingress: str | None) -> bool:
        """Tell whether a message of that ingress may go on towards that router (router protocol, section 6.3)."""
        return self.control.plane.is_valid_origin(router_id, ingress)

    def may_pass(self, router_id: str, ingress: str | None) -> bool:
        """Tell whether a message for one destination may, on links besides that only this end has announced so far."""
        return self.control.plane.may_pass(router_id, ingress)

    def is_plausible(self, annotations: Annotations) -> bool:
        """Tell whether a message may have passed that many routers although the radius says no (section 4.4)."""
        ingress = annotations.ingress
        return ingress is not None and self.control.plane.is_plausible_trace(ingress, len(annotations.trace))

    def knows(self, ingress: str) -> bool:
        """Tell whether an ingress names another router that is known."""
        return self.control.plane.is_known_origin(ingress)

    def refresh_priority(self, address: Address) -> None:
        """A link has been attached to the address: a configured priority counts from now on (section 7.1)."""
        if address.key[0] == "M":
            rule = self.table.rules.match(address.key[1:])
            if rule is not None:
                address.priority = rule.priority

    def internal_receiver(self, text: str) -> Any:
        """Return who answers senders to an address of the protocol itself, or None."""
        return self.internal_targets.get(text) if self.internal_targets else None

    def internal_sender(self, text: str) -> Any:
        """Return who answers receivers from an address of the protocol itself, or None."""
        return self.internal_sources.get(text) if self.internal_sources else None

    # Events.

    def on_connection_opened(self, connection: Connection) -> None:
        """The peer's OPEN has come."""
        peer = connection.peer
        if connection.admit is not None and not connection.admit():
            return
        if connection.role is Role.INTER_ROUTER:
            connection.cost = max(connection.cost, peer.cost)
            if peer.is_data_connection and not connection.is_outbound:
                connection.role = Role.INTER_ROUTER_DATA
        if not connection.is_outbound:
            connection.open()
        if connection.role.is_router:
            logger.debug("Remote router annotations version: %s", peer.properties.get("qd.annotations-version", 0))
        self.groups.on_opened(connection)
        if connection.is_closed:
            return
        if connection.is_outbound and connection.role is Role.INTER_ROUTER:
            connection.attacher.attach_router_links()
        if connection.has_echo_rules and self.edges is not None:
            self.edges.on_opened(connection)
        if connection.on_opened is not None:
            connection.on_opened()
        self.auto_links.on_connection_opened(connection)

    def add_connection(self, connection: Connection) -> None:
        """A connection exists from now on."""
        self.connections[connection.id] = connection
        self.amqp_connections[connection.id] = connection

    def note_fault(self, condition: str) -> None:
        """Count a connection that ended with an error condition. The engine has a dozen; more share one count."""
        known = condition if condition in self.faults or len(self.faults) < MAX_FAULTS else "other"
        self.faults[known] = self.faults.get(known, 0) + 1

    def on_connection_lost(self, connection: Connection, condition: tuple[str, str] | None) -> None:
        """A connection is over."""
        self.trimmer.note_cycle()
        self.connections.pop(connection.id, None)
        self.amqp_connections.pop(connection.id, None)
        scrubber = self._scrubbing.pop(connection, None)
        if scrubber is not None:
            scrubber.cancel()
        self.groups.on_lost(connection)
        self.auto_links.on_connection_lost(connection)
        self.control.on_link_lost(connection)
        if connection.has_echo_rules and self.edges is not None:
            self.edges.on_lost(connection)

    def on_control_link(self, connection: Connection) -> None:
        """A control link was attached; with both the peer can be a neighbour."""
        if connection.control_in is not None and connection.control_out is not None:
            connection.was_ready = True
            self.groups.on_control_ready(connection)

    def on_link_gone(self, link: Receiver | Sender) -> None:
        """A link has ended: keep its counts; a control link takes the neighbour with it."""
        self.trimmer.note_ends()
        totals = self.totals
        connection = link.connection
        for name in COUNTED_IN if isinstance(link, Receiver) else COUNTED_OUT:
            value = getattr(link, name)
            if value:
                totals[name] = totals.get(name, 0) + value
        if connection.role in CONTAINER_ROLES:
            name = f"{'in' if isinstance(link, Receiver) else 'out'} {connection.role.value}"
            totals[name] = totals.get(name, 0) + link.deliveries
            if link.address is not None:
                link.address.container_counts[name] = link.address.container_counts.get(name, 0) + link.deliveries
        self.auto_links.on_link_gone(link)
        if self.edge is not None or (self.edges is not None and connection.is_edge):
            self.edges.on_link_gone(link)  # type: ignore[union-attr]  # set with `edge`
        if link.kind is LinkKind.CONTROL:
            if connection.control_out is link:
                connection.control_out = None
            if connection.control_in is link:
                connection.control_in = None
            if not connection.is_closed:
                self.control.on_link_lost(connection)

    def on_own_link_answered(self, link: Receiver | Sender) -> None:
        """The peer has answered an attach of ours that is not the protocol's (auto-links, edge links)."""
        self.auto_links.on_answered(link)

    def on_producer_added(self, address: Address, receiver: Receiver) -> None:
        """A client, or an edge, has attached a sender to an address."""
        if self.edges is not None:
            self.edges.refresh(address)

    def on_consumer_added(self, address: Address, sender: Sender) -> None:
        """A client has attached a receiver to an address."""

    def _on_local_change(self, address: Address) -> None:
        if self.is_interior:
            self.control.on_local_change(address)

    def _on_reachable(self, address: Address) -> None:
        """An address has become reachable, or has ceased to be: producers get their credit (section 7.8)."""
        if address.is_reachable:
            for receiver in address.producers:
                receiver.connection.give_initial_credit(receiver)

    def scrub_later(self, connection: Connection) -> None:
        """Look in a while whether a connection keeps more idle streaming links than it should."""
        if connection.streams.idle <= self.idle_streams_kept and not connection.streams.is_large:
            return
        if connection not in self._scrubbing:
            self._scrubbing[connection] = self.reactor.call_later(SCRUB_INTERVAL_S, lambda: self._scrub(connection))

    def _scrub(self, connection: Connection) -> None:
        self._scrubbing.pop(connection, None)
        streams, kept = connection.streams, self.idle_streams_kept
        if streams.can_retire:
            streams.retire()
        elif not connection.is_closed:
            has_detached = streams.scrub(kept, SCRUB_AT_ONCE)
            if streams.idle > kept or streams.may_retire:  # its last stream may end with an outcome, not with a release
                pause_s = SCRUB_PAUSE_S if has_detached else SCRUB_INTERVAL_S
                self._scrubbing[connection] = self.reactor.call_later(pause_s, lambda: self._scrub(connection))
