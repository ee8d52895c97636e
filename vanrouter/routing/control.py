"""The engine of the routing protocol: told what happens and when, it returns what to send and what changed. Layer: 2.

Source: router protocol section 5. Where the C router waits for its next tick this acts at once, and then holds the
next ones back for a moment: RAs, path computations and differential MAUs each have a least distance. Nothing runs
between deadlines, and a calm router has one deadline a second, for its own HELLO.

A message takes this way: `on_message` → `messages.parse_control` → `_on_<opcode>` changes a record → `_finish` computes
paths, asks routers that became reachable, advertises → the commands are returned, routes before what needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from zlib import crc32

from vanrouter.errors import PeerError
from vanrouter.routing import messages
from vanrouter.routing.addresses import HELLO_TO, MOBILE_ALL_TO, TOPOLOGY_ALL_TO, bare_id, mobile_to, topology_to
from vanrouter.routing.commands import (
    BindAddress,
    Command,
    ControlSettings,
    RemoveNode,
    RouteChanged,
    SendControl,
    SetNode,
    SetRadius,
    UnbindAddress,
)
from vanrouter.routing.deadlines import Deadlines
from vanrouter.routing.linkstate import InstalledRoute, Node, NodeTable
from vanrouter.routing.messages import Descriptor
from vanrouter.routing.mobile import OwnAddresses
from vanrouter.routing.neighbours import Adjacency, Link, Neighbours
from vanrouter.routing.paths import PathMap
from vanrouter.routing.views import ControlCounters, NodeView

_log = logging.getLogger(__name__)

MAR_DELAY_S = 0.2
"""An RA that names a newer address set may have overtaken the MAU: so long is waited before it is asked for."""

MAU_REPEAT_S = 0.5
"""The same absolute MAU is sent to the same router no sooner than this."""

FORGET_S = 3.0
"""A router without link state that nobody names is deleted after three ticks (section 5.7)."""

FORGET_AGAIN_S = 30.0
"""Distance of the further looks at an unreachable router that is still named."""

MAX_ATTEMPTS = 8
"""An LSR or MAR is repeated so often; after that the next RA starts it again."""

FLUX_S_PER_ROUTER = 0.02
"""The flux interval grows with the network, so that all RAs together stay under 50 a second."""

MALFORMED_LOG_S = 60.0
WARNED_LIMIT = 256
MAX_CAUSES = 3


class ControlPlane:
    """The routing protocol of one interior router.

    Args:
        router_id: own id.
        instance: boot id: start time in whole seconds since the epoch.
        settings: intervals and bounds.
    """

    def __init__(self, router_id: str, instance: int, settings: ControlSettings | None = None) -> None:
        self.router_id = router_id
        self.instance = instance
        self.settings = settings or ControlSettings()
        self.counters = ControlCounters()
        self.ls_seq = 0
        self.last_topology_change = 0.0
        self.topology_generation = 0
        self._deadlines = Deadlines()
        self._neighbours = Neighbours(router_id, self.settings)
        self._adjacent: dict[str, Link] = {}
        self._adjacent_routes: dict[str, tuple[int, int]] = {}
        self._peers: dict[str, int] = {}
        self._nodes = NodeTable(router_id, self.settings.max_routers)
        self._own = OwnAddresses()
        self._paths = PathMap(router_id, {router_id: {}})
        self._radius = 0
        self._out: list[Command] = []
        self._causes: list[str] = []
        self._cause_count = 0
        self._is_dirty = False
        self._is_urgent = False
        self._is_own_changed = False
        self._wants_ra = False
        self._greet: list[str] = []
        self._path_allowed_at = 0.0
        self._path_wait_s = self.settings.path_wait_s
        self._flux_until = 0.0
        self._last_ra = -1e9
        self._last_mau = -1e9
        self._spread = 0.85 + 0.15 * (crc32(router_id.encode()) % 1000) / 1000
        self._warned: set[str] = set()
        self._malformed_logged_at = -1e9

    # -- told: links ---------------------------------------------------------------------------------------------------

    def on_link_up(self, connection_id: int, cost: int, now: float) -> list[Command]:
        """Take in a connection whose control links are both attached."""
        link = self._neighbours.add(connection_id, cost)
        self._send_hello([link], now)
        self._deadlines.set_at_most(("hello", ""), now + self.settings.hello_interval_s)
        return self._finish(now)

    def on_link_lost(self, connection_id: int, now: float) -> list[Command]:
        """Give up a connection whose control link or transport is gone: its neighbour is lost at once."""
        link = self._neighbours.links.pop(connection_id, None)
        if link is not None:
            self._cancel_link(connection_id)
            self._refresh_neighbours(f"connection {connection_id} lost", now)
        return self._finish(now)

    def on_cost_changed(self, connection_id: int, cost: int, now: float) -> list[Command]:
        """Take in another cost of a connection: the own link state carries it at once (extensions)."""
        link = self._neighbours.links.get(connection_id)
        if link is not None and link.cost != cost:
            link.cost = cost
            self._refresh_neighbours(f"cost of connection {connection_id} is {cost}", now)
        return self._finish(now)

    def on_link_replaced(self, old_connection_id: int, new_connection_id: int, now: float) -> list[Command]:
        """Let a connection inherit the neighbour of an older one (connection upgrade, section 1.6).

        The new one may have been told as up before; if not, it inherits the cost too.
        """
        links = self._neighbours.links
        old = links.pop(old_connection_id, None)
        self._cancel_link(old_connection_id)
        new = links.get(new_connection_id)
        if new is None:
            new = self._neighbours.add(new_connection_id, 1 if old is None else old.cost)
        if old is not None and old.peer_id:
            new.peer_id, new.state = old.peer_id, old.state
            new.heard_at, new.listed_at = old.heard_at, old.listed_at
            self._deadlines.set(("expire", new_connection_id), self._neighbours.expires_at(new))
            if new.state is Adjacency.HELD:
                self._deadlines.set(("hold", new_connection_id), now)
        self._send_hello([new], now)
        self._deadlines.set_at_most(("hello", ""), now + self.settings.hello_interval_s)
        self._refresh_neighbours(f"connection {new_connection_id} replaces {old_connection_id}", now)
        return self._finish(now)

    # -- told: own addresses -------------------------------------------------------------------------------------------

    def on_address_added(
        self, key: str, hint: int, now: float, mesh_id: str | None = None, weight: int | None = None
    ) -> list[Command]:
        """Advertise an address of class M, H or N that has a local destination, or its changed attributes."""
        self._own.add(Descriptor(key, hint, mesh_id, weight))
        self._publish_soon(now)
        return self._finish(now)

    def on_address_removed(self, key: str, now: float) -> list[Command]:
        """Withdraw an address whose last local destination is gone."""
        self._own.remove(key)
        self._publish_soon(now)
        return self._finish(now)

    # -- told: messages and time ---------------------------------------------------------------------------------------

    def on_message(self, opcode: str, body: object, connection_id: int, now: float) -> list[Command]:
        """Take in a control message that is addressed to this router or to all.

        Args:
            opcode: its application property.
            body: its decoded body, whatever the peer made of it.
            connection_id: where it came in.
            now: monotonic seconds.
        """
        name = opcode if opcode in messages.OPCODES else "other"
        self.counters.received[name] += 1
        try:
            message = messages.parse_control(opcode, body, self.settings.max_addresses_per_router)
        except PeerError as error:
            self._count_malformed(name, error, connection_id, now)
            return []
        if not self._dispatch(message, connection_id, now):
            self.counters.ignored[name] += 1
        return self._finish(now)

    def next_deadline(self) -> float | None:
        """Return when `on_timer` is to be called next; None: not before something else happens."""
        return self._deadlines.next()

    def on_timer(self, now: float) -> list[Command]:
        """Do what is due."""
        while (due := self._deadlines.pop_due(now)) is not None:
            kind, subject = due
            if isinstance(subject, int):
                self._on_link_timer(kind, subject, now)
            elif subject:
                node = self._nodes.get(subject)
                if node is not None:
                    self._on_node_timer(kind, node, now)
            elif kind == "hello":
                if self._neighbours.links:
                    self._send_hello(self._neighbours.links.values(), now)
                    self._deadlines.set(("hello", ""), now + self.settings.hello_interval_s)
            elif kind == "ra":
                self._wants_ra = True
            elif kind == "mau":
                self._publish_soon(now)
            # "path": _finish computes, as the wait is over
        return self._finish(now)

    # -- asked ---------------------------------------------------------------------------------------------------------

    def is_valid_origin(self, router_id: str, origin: str | None) -> bool:
        """Whether a message that entered the network at `origin` may be passed on towards `router_id` (section 6.3).

        No origin, the own id and, as anycast has it, an id that is not known count as this router itself. Multicast
        blocks the latter two: ask `is_known_origin` first. `origin` may be a bare id or in the form of the annotations.
        """
        if origin is None:
            return True
        forwarded = self._paths.forwarded_for(origin)
        if forwarded is None:
            origin = bare_id(origin)
            forwarded = self._paths.forwarded_for(origin)
        return forwarded is None or origin == self.router_id or router_id in forwarded

    def is_known_origin(self, origin: str) -> bool:
        """Whether an ingress is another router that is known here, so that its multicast may be passed on."""
        origin = bare_id(origin)
        return origin != self.router_id and origin in self._paths

    def should_forward(self, opcode: str, body: object, trace_length: int, now: float) -> bool:
        """Whether a flooded message that came in is worth passing on.

        An RA reaches a router once over each loop-free path, more often than anybody can count in a large mesh. Further
        copies within a second that took no shorter way tell nobody anything. Other messages are always passed on.

        Args:
            opcode: its application property.
            body: its decoded body.
            trace_length: entries of its trace as received.
            now: monotonic seconds.
        """
        if opcode != "RA":
            return True
        try:
            message = messages.parse_control(opcode, body, 0)
        except PeerError:
            return True
        node = self._nodes.get(message.id)
        if node is None or not isinstance(message, messages.Advertisement):
            return message.id != self.router_id
        return not node.is_repeated_flood((message.instance, message.ls_seq, message.mobile_seq), trace_length, now)

    @property
    def radius(self) -> int:
        """The largest hop count to a reachable router."""
        return self._radius

    @property
    def mobile_seq(self) -> int:
        """The number of the own address set as last published."""
        return self._own.mobile_seq

    def set_max_routers(self, max_routers: int) -> None:
        """Change the bound of the network: 128 while a C router is in it."""
        self._nodes.max_routers = max_routers

    def nodes(self) -> Iterator[NodeView]:
        """Return views of this router and all known ones, for management."""
        yield NodeView(
            id=self.router_id,
            instance=self.instance,
            neighbours=tuple(self._peers),
            next_hop=None,
            cost=0,
            is_neighbour=False,
            connection_id=None,
            ls_seq=self.ls_seq,
            mobile_seq=self._own.mobile_seq,
            address_count=len(self._own.published),
            last_topology_change=self.last_topology_change,
            paths=self._paths,
        )
        for node in self._nodes:
            route = node.installed
            yield NodeView(
                id=node.id,
                instance=node.instance,
                neighbours=tuple(node.peers),
                next_hop=None if route is None else route.next_hop,
                cost=None if route is None else route.cost,
                is_neighbour=node.id in self._adjacent,
                connection_id=None if route is None else route.connection_id,
                ls_seq=node.ls_seq,
                mobile_seq=node.addresses.mobile_seq,
                address_count=len(node.addresses.by_key),
                last_topology_change=self.last_topology_change,
                paths=self._paths,
            )

    # -- messages ------------------------------------------------------------------------------------------------------

    def _dispatch(self, message: messages.ControlMessage, connection_id: int, now: float) -> bool:
        """Hand a message on; returns whether it was of use."""
        if message.id == self.router_id:
            self._notice_own_id(message)
            return False
        match message:
            case messages.Hello():
                return self._on_hello(message, connection_id, now)
            case messages.Advertisement():
                return self._on_advertisement(message, now)
            case messages.LinkStateRequest():
                return self._on_link_state_request(message, connection_id, now)
            case messages.LinkStateUpdate():
                return self._on_link_state_update(message, now)
            case messages.MobileRequest():
                return self._on_mobile_request(message, now)
            case messages.MobileUpdate():
                return self._on_mobile_update(message, now)
            case messages.NewerVersion():
                self._warn_once(message.id, "router=%s speaks version %d of the protocol, ignored", message.version)
                return False

    def _notice_own_id(self, message: messages.ControlMessage) -> None:
        if isinstance(message, messages.Hello | messages.Advertisement) and message.instance != self.instance:
            self._warn_once(message.id, "another router has the own id=%s, instance=%d", message.instance)

    def _on_hello(self, hello: messages.Hello, connection_id: int, now: float) -> bool:
        link = self._neighbours.links.get(connection_id)
        node = self._learn(hello.id, now)
        if link is None or node is None or node.is_late(hello.instance, now):
            return False
        is_restart = node.take_instance(hello.instance, now)
        if is_restart:
            self._forget_restarted(node)
        is_news = is_restart or link.peer_id != hello.id or link.heard_at + self.settings.hello_max_age_s <= now
        before = (link.peer_id, link.state)
        lists_us = self.router_id in hello.seen
        hold_s = self._neighbours.hear(link, hello.id, lists_us=lists_us, now=now)
        if hold_s > 0:
            self.counters.held_neighbours += 1
            self._deadlines.set(("hold", connection_id), now + hold_s)
        if lists_us:
            self._deadlines.set_at_most(("expire", connection_id), self._neighbours.expires_at(link))
        if is_news:
            self._send_hello([link], now)
        if before != (link.peer_id, link.state):
            self._refresh_neighbours(f"HELLO on connection {connection_id}", now)
        return True

    def _on_advertisement(self, advertisement: messages.Advertisement, now: float) -> bool:
        node = self._learn(advertisement.id, now)
        if node is None or node.is_late(advertisement.instance, now):
            return False
        if node.take_instance(advertisement.instance, now):
            self._forget_restarted(node)
        self._refresh_age(node, now)
        is_news = node.take_numbers(advertisement, now)
        if node.asked_count > (1 if is_news else MAX_ATTEMPTS - 1):
            node.asked_count = 0  # news end the growing waits; a first question that is out will be answered
        if advertisement.mobile_seq <= node.addresses.mobile_seq:
            node.wants_addresses = False
            if advertisement.mobile_seq == 0 and node.addresses.by_key:
                self._apply_addresses(node, messages.empty_set(node.id))
        if node.is_reachable and node.asked_count == 0:
            if node.lacks_link_state or (node.lacks_addresses and node.addresses.mobile_seq == 0):
                self._ask(node, now)
            elif node.lacks_addresses:
                self._deadlines.set_at_most(("ask", node.id), now + MAR_DELAY_S)
        return True

    def _on_link_state_request(self, request: messages.LinkStateRequest, connection_id: int, now: float) -> bool:
        node = self._learn(request.id, now)
        if node is None:
            return False
        body = messages.link_state_update_body(self.router_id, self.instance, self.ls_seq, self._peers)
        way = None if node.is_reachable else connection_id
        self._send("LSU", topology_to(node.id), body, way)
        return True

    def _on_link_state_update(self, update: messages.LinkStateUpdate, now: float) -> bool:
        node = self._learn(update.id, now)
        if node is None:
            return False
        before = node.peers
        if not node.take_link_state(update):
            return False
        self._refresh_age(node, now)
        if node.peers != before:
            for peer in node.peers:
                self._learn(peer, now)
            self._change_topology(f"link state {node.ls_seq} of {node.id}")
        if node.lacks_link_state and node.is_reachable:
            self._send_request(node)  # the answer was older than what has been announced since
        self._end_asking(node)
        return True

    def _on_mobile_request(self, request: messages.MobileRequest, now: float) -> bool:
        node = self._nodes.get(request.id)
        if node is None or request.have_seq == self._own.mobile_seq:
            return False
        seq, at = node.answered
        if seq == self._own.mobile_seq and now < at + MAU_REPEAT_S:
            return False
        node.answered = (self._own.mobile_seq, now)
        body = messages.absolute_body(self.router_id, self._own.mobile_seq, self._own.published.values())
        self._send("MAU", mobile_to(node.id), body)
        return True

    def _on_mobile_update(self, update: messages.MobileUpdate, now: float) -> bool:
        node = self._nodes.get(update.id)
        if node is None or not node.is_reachable or node.addresses.is_stale(update):
            return False
        if node.addresses.size_after(update) > self.settings.max_addresses_per_router:
            self.counters.oversized_updates += 1
            return False
        if node.addresses.is_gap(update):
            node.announced_mobile_seq = max(node.announced_mobile_seq, update.mobile_seq)
            if not node.wants_addresses:
                node.wants_addresses = True
                node.asked_count = 0
                self._ask(node, now)
            return False
        is_progress = update.mobile_seq > node.addresses.mobile_seq
        node.wants_addresses = False
        self._apply_addresses(node, update)
        if node.lacks_addresses and is_progress:
            self._send_mobile_request(node)
        self._end_asking(node)
        return True

    def _apply_addresses(self, node: Node, update: messages.MobileUpdate) -> None:
        for key, new in node.addresses.apply(update):
            if new is None:
                self._out.append(UnbindAddress(router_id=node.id, key=key))
            else:
                self._out.append(
                    BindAddress(router_id=node.id, key=key, hint=new.hint, mesh_id=new.mesh_id, weight=new.weight)
                )

    # -- timers --------------------------------------------------------------------------------------------------------

    def _on_link_timer(self, kind: str, connection_id: int, now: float) -> None:
        link = self._neighbours.links.get(connection_id)
        if link is None:
            return
        if kind == "hold":
            self._neighbours.end_hold(link)
            self._refresh_neighbours(f"neighbour {link.peer_id} is calm", now)
        elif self._neighbours.expires_at(link) > now:
            self._deadlines.set(("expire", connection_id), self._neighbours.expires_at(link))
        else:
            self._neighbours.expire(link)
            self._deadlines.cancel(("hold", connection_id))
            self._refresh_neighbours(f"no HELLO from {link.peer_id}", now)

    def _on_node_timer(self, kind: str, node: Node, now: float) -> None:
        if kind == "ask":
            if node.is_reachable and (node.lacks_link_state or node.lacks_addresses):
                self._ask(node, now)
        elif kind == "age":
            if node.fresh_until > now:
                self._deadlines.set(("age", node.id), node.fresh_until)
                return
            node.clear_link_state()
            self._deadlines.set_at_most(("forget", node.id), now + FORGET_S)
            self._change_topology(f"link state of {node.id} is too old")
        elif kind == "holdoff":
            if node.installed is not None:
                self._remove(node)
            self._deadlines.set_at_most(("forget", node.id), now + FORGET_S)
        elif not node.is_reachable:  # "forget"
            if node.peers or node.id in self._adjacent or self._nodes.is_named(node.id):
                self._deadlines.set(("forget", node.id), now + FORGET_AGAIN_S)
            else:
                self._delete(node)

    # -- records -------------------------------------------------------------------------------------------------------

    def _learn(self, router_id: str, now: float) -> Node | None:
        node = self._nodes.get(router_id)
        if node is None:
            node = self._nodes.learn(router_id)
            if node is not None:
                self._deadlines.set(("forget", router_id), now + FORGET_S)
        return node

    def _refresh_age(self, node: Node, now: float) -> None:
        node.fresh_until = now + self.settings.remote_ls_max_age_s
        self._deadlines.set_at_most(("age", node.id), node.fresh_until)

    def _forget_restarted(self, node: Node) -> None:
        """Empty the record of a router that has started again (section 5.8)."""
        self.counters.restarts_seen += 1
        self._remove(node)
        node.is_reachable = False  # the computation finds it again, and asks
        self._change_topology(f"restart of {node.id}")

    def _remove(self, node: Node) -> None:
        node.addresses.clear()
        node.announced_mobile_seq = 0
        if node.installed is not None:
            node.installed = None
            self._out.append(RemoveNode(router_id=node.id))

    def _delete(self, node: Node) -> None:
        self._remove(node)
        self._nodes.delete(node)
        for kind in ("age", "ask", "holdoff", "forget"):
            self._deadlines.cancel((kind, node.id))

    def _cancel_link(self, connection_id: int) -> None:
        self._deadlines.cancel(("expire", connection_id))
        self._deadlines.cancel(("hold", connection_id))

    def _refresh_neighbours(self, cause: str, now: float) -> None:
        """Compare the adjacencies with what is in use; the only writer of the own link state."""
        adjacent = self._neighbours.adjacent()
        routes = {router_id: (link.connection_id, link.cost) for router_id, link in adjacent.items()}
        if routes == self._adjacent_routes:
            return
        for router_id in self._adjacent_routes:
            if router_id not in routes:
                self._neighbours.note_loss(router_id, now)
        self._greet += [router_id for router_id in routes if router_id not in self._adjacent_routes]
        self._adjacent, self._adjacent_routes = adjacent, routes
        peers = {router_id: link.cost for router_id, link in sorted(adjacent.items())}
        if peers != self._peers:
            self._peers = peers
            self._is_own_changed = True
        self._change_topology(cause)
        self._is_urgent = True

    def _change_topology(self, cause: str) -> None:
        self._is_dirty = True
        self._cause_count += 1
        if len(self._causes) < MAX_CAUSES:
            self._causes.append(cause)

    # -- what follows from a change ------------------------------------------------------------------------------------

    def _finish(self, now: float) -> list[Command]:
        """Compute, ask and advertise what the event has made due, and hand out the commands."""
        if self._is_own_changed:
            self._is_own_changed = False
            self.ls_seq += 1
            self._wants_ra = True
        if self._is_dirty:
            if self._is_urgent or now >= self._path_allowed_at:
                self._compute(now)
            else:
                self._deadlines.set_at_most(("path", ""), self._path_allowed_at)
        if self._wants_ra:
            self._advertise(now)
        out, self._out = self._out, []
        return out

    def _compute(self, now: float) -> None:
        self._is_dirty = self._is_urgent = False
        self._deadlines.cancel(("path", ""))
        if now >= self._path_allowed_at + 2 * self._path_wait_s:
            self._path_wait_s = self.settings.path_wait_s
        self._path_allowed_at = now + self._path_wait_s
        self._path_wait_s = min(2 * self._path_wait_s, self.settings.path_wait_max_s)
        self.counters.path_computations += 1
        self.topology_generation += 1
        self.last_topology_change = now
        self._paths = PathMap(self.router_id, self._nodes.link_states(self._peers))
        self._install(now)
        self._flux_until = now + 2 * self._flux_interval_s()
        if self._peers:
            self._deadlines.set_at_most(("ra", ""), max(now, self._last_ra) + self._flux_interval_s())

    def _install(self, now: float) -> None:
        """Hand out the routes that differ from those installed and ask the routers that became reachable."""
        set_count = lost_count = 0
        arrived: list[Node] = []
        routes = self._paths.routes
        for node in self._nodes:
            route = routes.get(node.id)
            if route is None:
                if node.is_reachable:
                    lost_count += 1
                    node.is_reachable = False
                    self._deadlines.cancel(("ask", node.id))
                    self._deadlines.set(("holdoff", node.id), now + self.settings.unreachable_holdoff_s)
                continue
            connection_id = self._adjacent_routes[route.next_hop][0]
            installed = InstalledRoute(route.next_hop, connection_id, route.cost, node.id in self._adjacent)
            if node.installed != installed:
                set_count += 1
                node.installed = installed
                self._out.append(SetNode(router_id=node.id, **installed._asdict()))
            if not node.is_reachable:
                node.is_reachable = True
                self._deadlines.cancel(("holdoff", node.id))
                arrived.append(node)
        if self._paths.radius != self._radius:
            self._radius = self._paths.radius
            self._out.append(SetRadius(hops=self._radius))
        if set_count or lost_count:
            self._out.append(RouteChanged(reason=self._reason(set_count, lost_count)))
        self._causes, self._cause_count = [], 0
        self._welcome(arrived, now)

    def _reason(self, set_count: int, lost_count: int) -> str:
        more = self._cause_count - len(self._causes)
        causes = "; ".join(self._causes) + (f"; {more} more" if more else "")
        return f"{causes}: {set_count} routes set, {lost_count} routers lost, radius {self._radius}"

    def _welcome(self, arrived: list[Node], now: float) -> None:
        """Ask routers that became reachable, or neighbours, for what they have (section 5.4)."""
        greeted = [node for router_id in self._greet if (node := self._nodes.get(router_id)) is not None]
        self._greet = []
        for node in {node.id: node for node in (*arrived, *greeted)}.values():
            node.is_confirmed = False
            node.wants_addresses = True
            node.asked_count = 0
            if node.is_reachable:
                self._ask(node, now)

    def _ask(self, node: Node, now: float) -> None:
        """Send what is lacking of LSR and MAR, to be repeated with growing waits until it is answered."""
        if node.lacks_link_state:
            self._send_request(node)
        if node.lacks_addresses:
            self._send_mobile_request(node)
        if node.asked_count < MAX_ATTEMPTS:
            self._deadlines.set(("ask", node.id), now + self.settings.retry_s * 2**node.asked_count)
            node.asked_count += 1

    def _end_asking(self, node: Node) -> None:
        if not node.lacks_link_state and not node.lacks_addresses:
            node.asked_count = 0
            self._deadlines.cancel(("ask", node.id))

    def _send_request(self, node: Node) -> None:
        self._send("LSR", topology_to(node.id), messages.link_state_request_body(self.router_id))

    def _send_mobile_request(self, node: Node) -> None:
        have = node.addresses.mobile_seq
        self._send("MAR", mobile_to(node.id), messages.mobile_request_body(self.router_id, have))

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send(self, opcode: str, to: str, body: dict[str, object], connection_id: int | None = None) -> None:
        self.counters.sent[opcode] += 1
        self._out.append(SendControl(opcode=opcode, to=to, body=body, connection_id=connection_id))

    def _send_hello(self, links: Iterable[Link], now: float) -> None:
        body = messages.hello_body(self.router_id, self.instance, self._neighbours.seen(now))
        for link in links:
            self._send("HELLO", HELLO_TO, body, link.connection_id)

    def _flux_interval_s(self) -> float:
        least = max(self.settings.ra_interval_flux_s, FLUX_S_PER_ROUTER * len(self._nodes))
        return self._spread * min(least, self.settings.ra_interval_s)

    def _advertise(self, now: float) -> None:
        """Send an RA now, or as soon as the last one is far enough back."""
        earliest = self._last_ra + self.settings.ra_min_gap_s
        if now < earliest:
            self._deadlines.set_at_most(("ra", ""), earliest)
            self._wants_ra = False
            return
        self._wants_ra = False
        self._deadlines.cancel(("ra", ""))
        if not self._peers:
            return
        body = messages.advertisement_body(self.router_id, self.instance, self.ls_seq, self._own.mobile_seq)
        self._send("RA", TOPOLOGY_ALL_TO, body)
        self._last_ra = now
        interval = self._flux_interval_s() if now < self._flux_until else self._spread * self.settings.ra_interval_s
        self._deadlines.set(("ra", ""), now + interval)

    def _publish_soon(self, now: float) -> None:
        """Publish the changes of the own addresses, at once after quiet and gathered otherwise (extensions)."""
        if not self._own.has_changes:
            self._deadlines.cancel(("mau", ""))
            return
        if now < self._last_mau + self.settings.mau_interval_s:
            self._deadlines.set_at_most(("mau", ""), self._last_mau + self.settings.mau_interval_s)
            return
        mobile_seq, added, removed = self._own.publish()
        if not self._peers:
            return
        self._last_mau = now
        body = messages.differential_body(self.router_id, mobile_seq, added, removed)
        self._send("MAU", MOBILE_ALL_TO, body)
        self._wants_ra = True

    # -- log and counters ----------------------------------------------------------------------------------------------

    def _count_malformed(self, opcode: str, error: PeerError, connection_id: int, now: float) -> None:
        self.counters.malformed[opcode] += 1
        if now >= self._malformed_logged_at + MALFORMED_LOG_S:
            self._malformed_logged_at = now
            _log.warning("connection=%d sent a malformed %s, ignored: %s", connection_id, opcode, error.description)

    def _warn_once(self, router_id: str, text: str, value: int) -> None:
        if router_id not in self._warned and len(self._warned) < WARNED_LIMIT:
            self._warned.add(router_id)
            _log.warning(text, router_id, value)
