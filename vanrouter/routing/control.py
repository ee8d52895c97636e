"""The engine of the routing protocol: told what happens and when, it returns what to send and what changed. Layer: 2.

Source: router protocol section 5. Where the C router waits for its next tick this acts at once, and then holds the
next ones back for a moment: RAs, path computations and differential MAUs each have a least distance. Nothing runs
between deadlines, and a calm router has one deadline a second, for its own HELLO.

A message takes this way: `on_message` → `messages.parse_control` → `_on_<opcode>` changes a record → `_finish` computes
paths, asks routers that became reachable, advertises → the commands are returned, routes before what needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vanrouter.errors import PeerError
from vanrouter.routing import messages
from vanrouter.routing.asking import Asker
from vanrouter.routing.causes import Causes
from vanrouter.routing.commands import Command, ControlSettings, RouteChanged, SetRadius
from vanrouter.routing.complaints import Complaints
from vanrouter.routing.deadlines import Deadlines, beat_after
from vanrouter.routing.linkstate import InstalledRoute, Node, NodeTable
from vanrouter.routing.messages import ControlMessage, Descriptor
from vanrouter.routing.mobile import OwnAddresses
from vanrouter.routing.neighbours import Adjacency, Link, Neighbours
from vanrouter.routing.origins import Origins
from vanrouter.routing.outbox import Outbox
from vanrouter.routing.pacing import Pacing
from vanrouter.routing.paths import PathMap, Peers, Route
from vanrouter.routing.views import ControlCounters, NodeView, view_of, view_of_self

MAU_REPEAT_S = 0.5
"""The same absolute MAU is sent to the same router no sooner than this."""

FORGET_S = 3.0
"""A router without link state that nobody names is deleted after three ticks (section 5.7)."""

FORGET_AGAIN_S = 30.0
"""Distance of the further looks at an unreachable router that is still named."""


class ControlPlane(Origins):
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
        self._outbox = Outbox(router_id, instance, self.counters)
        self._asker = Asker(self.settings, self._deadlines, self._outbox)
        self._paths = PathMap(router_id, {router_id: {}})
        self._installed: dict[str, Route] = {}
        self._installed_ways = self._adjacent_routes
        """What the routes of the reachable routers were installed from last."""
        self._radius = 0
        self._causes = Causes()
        self._is_dirty = False
        self._newest = None
        self._is_urgent = False
        self._is_own_changed = False
        self._wants_ra = False
        self._greet: list[Node] = []
        self._pacing = Pacing(router_id, self.settings)
        self._complaints = Complaints(self.counters)

    # -- told: links ---------------------------------------------------------------------------------------------------

    def on_link_up(self, connection_id: int, cost: int, now: float, container: str | None = None) -> list[Command]:
        """Take in a connection whose control links are both attached; `container`: who the peer's OPEN says it is."""
        link = self._neighbours.add(connection_id, cost, container)
        self._send_hello([link], now)
        return self._finish(now)

    def on_link_lost(self, connection_id: int, now: float) -> list[Command]:
        """Give up a connection whose control link or transport is gone: its neighbour is lost at once."""
        link = self._neighbours.links.pop(connection_id, None)
        if link is not None:
            self._deadlines.cancel(("expire", connection_id), ("hold", connection_id))
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
        self._deadlines.cancel(("expire", old_connection_id), ("hold", old_connection_id))
        new = links.get(new_connection_id)
        if new is None:
            new = self._neighbours.add(new_connection_id, 1 if old is None else old.cost)
        if old is not None and old.peer_id:
            new.inherit(old)
            self._deadlines.set(("expire", new_connection_id), self._neighbours.expires_at(new))
            if new.state is Adjacency.HELD:
                self._deadlines.set(("hold", new_connection_id), now)
        self._send_hello([new], now)
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
            self._complaints.malformed(name, error, connection_id, now)
            return []
        return self._take_in(name, message, connection_id, now)

    def on_parsed(self, opcode: str, message: ControlMessage, connection_id: int, now: float) -> list[Command]:
        """Take in a message that was parsed for several planes at once; a `MobileUpdate` becomes this plane's own."""
        self.counters.received[opcode] += 1
        return self._take_in(opcode, message, connection_id, now)

    def _take_in(self, opcode: str, message: ControlMessage, connection_id: int, now: float) -> list[Command]:
        if not self._dispatch(message, connection_id, now):
            self.counters.ignored[opcode] += 1
        return self._finish(now)

    def on_repeated_hello(self, connection_id: int, now: float) -> bool:
        """Take in a HELLO that says what the last one on its connection said; False: give it to `on_message`."""
        link = self._neighbours.links.get(connection_id)
        node = None if link is None else self._nodes.get(link.peer_id)
        if link is None or node is None or not self._neighbours.hear_again(link, node.instance, now):
            return False
        self.counters.received["HELLO"] += 1
        return True

    def on_undecodable(self, error: PeerError, connection_id: int, now: float) -> None:
        """Note a control message that cannot even be decoded."""
        self.counters.received["other"] += 1
        self._complaints.malformed("other", error, connection_id, now)

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
                self._on_node_timer(kind, self._nodes[subject], now)
            elif kind == "hello" and self._neighbours.links:
                self._send_hello(self._neighbours.links.values(), now)
                for link in self._neighbours.links.values():  # a calm router wakes up for its own HELLO alone
                    self._deadlines.move(("expire", link.connection_id), self._neighbours.expires_at(link))
            elif kind == "ra":
                self._wants_ra = True
            elif kind == "mau":
                self._publish_soon(now)
            # "path": _finish computes, as the wait is over
        return self._finish(now)

    # -- asked ---------------------------------------------------------------------------------------------------------

    def should_forward(self, opcode: str, body: object, trace_length: int, now: float) -> bool:
        """Whether a flooded message that came in is worth passing on.

        An RA reaches a router once over each loop-free path, more often than anybody can count in a large mesh. Further
        copies within a second that took no shorter way tell nobody anything, nor this router: leave out `on_message`.

        Args:
            opcode, body: as for `on_message`.
            trace_length: entries of its trace as received.
            now: monotonic seconds.
        """
        numbers = messages.advertised_numbers(body) if opcode == "RA" else None
        if numbers is None:
            return True
        node = self._nodes.get(numbers[0])
        if node is None:
            return numbers[0] != self.router_id
        is_repeated = node.is_repeated_flood(*numbers[1:], trace_length, now)
        self.counters.repeated += is_repeated
        return not is_repeated

    def neighbour_connections(self) -> dict[str, int]:
        """Return each neighbour and the connection used for it: the ways of a flood.

        A neighbour's route may begin with another neighbour, when that way is cheaper; its own connection is here.
        """
        return {router_id: link.connection_id for router_id, link in self._adjacent.items()}

    @property
    def routers_refused(self) -> int:
        """How often a router was left out because there were too many."""
        return self._nodes.refused

    def nodes(self) -> Iterator[NodeView]:
        """Return views of this router and all known ones, for management."""
        numbers = (self.instance, self.ls_seq, self._own.mobile_seq, len(self._own.published))
        yield view_of_self(self.router_id, numbers, self._peers, self._paths, self.last_topology_change)
        for node in self._nodes:
            yield view_of(node, self._paths, self.last_topology_change, is_neighbour=node.id in self._adjacent)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _dispatch(self, message: ControlMessage, connection_id: int, now: float) -> bool:
        """Hand a message on; returns whether it was of use."""
        if message.id == self.router_id:
            if isinstance(message, messages.Hello | messages.Advertisement) and message.instance != self.instance:
                self._complaints.own_id(message.id, message.instance)
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
                self._complaints.newer_version(message.id, message.version)
                return False

    def _on_hello(self, hello: messages.Hello, connection_id: int, now: float) -> bool:
        link = self._neighbours.links.get(connection_id)
        node = None if link is None else self._learn(hello.id, now)
        if link is None or node is None or node.is_late(hello.instance, now):
            return False
        if link.container not in (None, hello.id) and node.is_reachable and link.peer_id != hello.id:
            self._complaints.forged(hello.id, str(link.container), connection_id)
            return False
        is_restart = node.take_instance(hello.instance, now)
        if is_restart:
            self._forget_restarted(node)
        is_news = is_restart or link.peer_id != hello.id or link.heard_at + self.settings.hello_max_age_s <= now
        before = (link.peer_id, link.state)
        hold_s = self._neighbours.hear(link, hello, now)
        if is_restart:
            others = [other.connection_id for other in self._neighbours.expire_others(link)]
            self._deadlines.cancel(*[(kind, other) for other in others for kind in ("expire", "hold")])
        if hold_s > 0:
            self.counters.held_neighbours += 1
            self._complaints.flapping(hello.id, hold_s)
            self._deadlines.set(("hold", connection_id), now + hold_s)
        if link.listed_at == now:
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
        if node.announced_mobile_seq <= node.addresses.mobile_seq:
            node.wants_addresses = False
            if node.addresses.mobile_seq == 0 and node.addresses.by_key:  # given up as not the router's own
                self._outbox.bind(node, messages.empty_set(node.id))
        self._asker.on_advertisement(node, now, is_news=is_news)
        return True

    def _on_link_state_request(self, request: messages.LinkStateRequest, connection_id: int, now: float) -> bool:
        node = self._learn(request.id, now)
        if node is None:
            return False
        if not node.is_reachable:
            node.owes_link_state = True  # the way back may not exist yet: once more when it does
        self._send_link_state(node, None if node.is_reachable else connection_id)
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
        self._asker.on_answer(node)
        return True

    def _on_mobile_request(self, request: messages.MobileRequest, now: float) -> bool:
        node = self._nodes.get(request.id)
        if node is None or request.have_seq == self._own.mobile_seq:
            return False
        if not node.is_reachable:
            node.owes_addresses = True
            return True
        seq, at = node.answered
        if seq == self._own.mobile_seq and now < at + MAU_REPEAT_S:
            return False
        self._send_addresses(node, now)
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
                self._asker.begin(node, now)
            return False
        is_progress = update.mobile_seq > node.addresses.mobile_seq
        node.wants_addresses = False
        self._outbox.bind(node, update)
        self._asker.on_addresses(node, is_progress=is_progress)
        return True

    # -- timers --------------------------------------------------------------------------------------------------------

    def _on_link_timer(self, kind: str, connection_id: int, now: float) -> None:
        link = self._neighbours.links[connection_id]
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
            self._asker.ask(node, now)
        elif kind == "age":
            if node.fresh_until > now:
                self._watch_age(node)
                return
            node.clear_link_state()
            self._deadlines.set_at_most(("forget", node.id), now + FORGET_S)
            self._change_topology(f"link state of {node.id} is too old")
        elif kind == "holdoff":
            self._outbox.remove(node)
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
        node.heard_at, node.fresh_until = now, now + self.settings.remote_ls_max_age_s
        if self._deadlines.at(("age", node.id)) is None:
            self._watch_age(node)

    def _watch_age(self, node: Node) -> None:
        self._deadlines.set(("age", node.id), beat_after(node.fresh_until, self.settings.hello_interval_s))

    def _forget_restarted(self, node: Node) -> None:
        """Empty the record of a router that has started again (section 5.8)."""
        self.counters.restarts_seen += 1
        self._outbox.remove(node)
        node.is_reachable = False  # the computation finds it again, and asks
        self._change_topology(f"restart of {node.id}")

    def _delete(self, node: Node) -> None:
        self._outbox.remove(node)
        self._nodes.delete(node)
        self._deadlines.cancel(*[(kind, node.id) for kind in ("age", "ask", "holdoff", "forget")])

    def _refresh_neighbours(self, cause: str, now: float) -> None:
        """Compare the adjacencies with what is in use; the only writer of the own link state."""
        adjacent = self._neighbours.adjacent()
        routes = {router_id: (link.connection_id, link.cost) for router_id, link in adjacent.items()}
        if routes == self._adjacent_routes:
            return
        for router_id in self._adjacent_routes:
            if router_id not in routes:
                self._neighbours.note_loss(router_id, now)
        gained = [self._learn(router_id, now) for router_id in routes if router_id not in self._adjacent_routes]
        self._greet += [node for node in gained if node is not None]
        self._adjacent, self._adjacent_routes = adjacent, routes
        peers = {router_id: link.cost for router_id, link in sorted(adjacent.items())}
        if peers == self._peers:  # other connections to the same neighbours: ways change, the topology does not
            self._causes.note(cause)
            self._install(now, is_new_topology=False)
            return
        self._peers = peers
        self._is_own_changed = True
        self._change_topology(cause)
        self._is_urgent = True

    def _change_topology(self, cause: str) -> None:
        self._is_dirty = True
        self._newest = None
        self._nodes.note_change()
        self._causes.note(cause)

    def _link_states(self) -> Mapping[str, Peers]:
        return self._nodes.link_states(self._peers)

    # -- what follows from a change ------------------------------------------------------------------------------------

    def _finish(self, now: float) -> list[Command]:
        """Compute, ask and advertise what the event has made due, and hand out the commands."""
        if self._is_own_changed:
            self._is_own_changed = False
            self.ls_seq += 1
            self._wants_ra = True
        if self._is_dirty:
            if self._is_urgent or now >= self._pacing.path_allowed_at:
                self._compute(now)
            else:
                self._deadlines.set_at_most(("path", ""), self._pacing.path_allowed_at)
        if self._wants_ra:
            self._advertise(now)
        return self._outbox.take()

    def _compute(self, now: float) -> None:
        self._is_dirty = self._is_urgent = False
        self._deadlines.cancel(("path", ""))
        self.counters.path_computations += 1
        self.topology_generation += 1
        self.last_topology_change = now
        self._paths, self._newest = PathMap(self.router_id, self._link_states(), self._paths), None
        self._install(now)
        self._pacing.note_paths(now, len(self._nodes))
        if self._peers:
            self._deadlines.set_at_most(("ra", ""), self._pacing.flux_ra_at(now, len(self._nodes)))

    def _install(self, now: float, *, is_new_topology: bool = True) -> None:
        """Hand out the routes that differ from those installed and ask the routers that became reachable."""
        set_count = lost_count = 0
        arrived: list[Node] = []
        routes, before = self._paths.routes, self._installed
        if self._installed_ways is not self._adjacent_routes:
            before = {}
        self._installed, self._installed_ways = routes, self._adjacent_routes
        for node in self._nodes:
            route = routes.get(node.id)
            if route is None:
                if node.is_reachable:
                    lost_count += 1
                    node.is_reachable = False
                    self._asker.end(node)
                    self._deadlines.set(("holdoff", node.id), now + self.settings.unreachable_holdoff_s)
                continue
            if node.is_reachable and route == before.get(node.id):
                continue
            connection_id = self._adjacent_routes[route.next_hop][0]
            installed = InstalledRoute(route.next_hop, connection_id, route.cost, node.id in self._adjacent)
            if self._outbox.install(node, installed):
                set_count += 1
                self._asker.on_route_changed(node, now)
            if not node.is_reachable:
                node.is_reachable = True
                self._deadlines.cancel(("holdoff", node.id))
                arrived.append(node)
        if self._paths.radius != self._radius:
            self._radius = self._paths.radius
            self._outbox.put(SetRadius(hops=self._radius))
        causes = self._causes.take()
        if set_count or lost_count:
            reason = f"{causes}: {set_count} routes set, {lost_count} routers lost, radius {self._radius}"
            self._outbox.put(RouteChanged(reason=reason, is_new_topology=is_new_topology))
        self._welcome(arrived, now)

    def _welcome(self, arrived: list[Node], now: float) -> None:
        """Ask routers that became reachable, or neighbours, for what they have (section 5.4)."""
        greeted, self._greet = self._greet, []
        for node in {node.id: node for node in (*arrived, *greeted)}.values():
            node.is_confirmed = False
            node.wants_addresses = True
            self._asker.begin(node, now)
            self._pay(node, now)

    def _pay(self, node: Node, now: float) -> None:
        """Send the answers for which there was no way when they were asked for."""
        if node.owes_link_state:
            node.owes_link_state = False
            self._send_link_state(node, None)
        if node.owes_addresses:
            node.owes_addresses = False
            self._send_addresses(node, now)

    def _send_link_state(self, node: Node, connection_id: int | None) -> None:
        self._outbox.link_state(node, self.ls_seq, self._peers, connection_id)

    def _send_addresses(self, node: Node, now: float) -> None:
        node.answered = (self._own.mobile_seq, now)
        self._outbox.addresses(node, self._own)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send_hello(self, links: Iterable[Link], now: float) -> None:
        self._outbox.hello([link.connection_id for link in links], self._neighbours.seen(now))
        self._deadlines.set_at_most(("hello", ""), beat_after(now, self.settings.hello_interval_s))

    def _advertise(self, now: float) -> None:
        """Send an RA now, or as soon as the last one is far enough back."""
        self._wants_ra = False
        if now < self._pacing.ra_allowed_at:
            self._deadlines.set_at_most(("ra", ""), self._pacing.ra_allowed_at)
            return
        self._deadlines.cancel(("ra", ""))
        if self._peers:
            self._outbox.advertisement(self.ls_seq, self._own.mobile_seq)
            self._deadlines.set(("ra", ""), self._pacing.note_ra(now, len(self._nodes)))

    def _publish_soon(self, now: float) -> None:
        """Publish the changes of the own addresses, at once after quiet and gathered otherwise (extensions)."""
        if not self._own.has_changes:
            self._deadlines.cancel(("mau", ""))
            return
        if now < self._pacing.mau_allowed_at:
            self._deadlines.set_at_most(("mau", ""), self._pacing.mau_allowed_at)
            return
        publication = self._own.publish()
        if not self._peers:
            return
        self._pacing.note_mau(now)
        self._outbox.publication(publication)
        self._wants_ra = True
