"""Networks of control planes in virtual time: a heap of events, links that delay, lose, double and reorder.

Each host does what the core of a router does with control messages and commands (router protocol sections 5.1 and 7.4):
the flood by trace, the tree by valid origins, next hops for what is addressed to one router. Control messages end at a
router where they have been before; the radius limit is for other messages (`networks.broken_ways`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import ceil
from random import Random
from typing import NamedTuple
from zlib import crc32

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
from vanrouter.routing.control import ControlPlane
from vanrouter.routing.messages import ControlMessage, MobileUpdate, parse_control

EPOCH = 1_800_000_000

MAX_HOPS = 1000
"""Where routes disagree for a moment a message goes round: its trace would end that."""


@dataclass(slots=True)
class Wire:
    """A pair of routers that can be connected, and how badly."""

    a: str
    b: str
    cost: int = 1
    delay_s: float = 0.001
    jitter_s: float = 0.0
    loss: float = 0.0
    doubling: float = 0.0
    is_cut: bool = False
    is_mute: bool = False
    """Swallows everything while both ends believe that they are connected."""
    ids: tuple[int, int] | None = None
    """Connection ids of both ends while it is connected."""


@dataclass(slots=True)
class Packet:
    """A control message on its way."""

    opcode: str
    to: str
    body: dict[str, object]
    ingress: str
    trace: tuple[str, ...]


class Hop(NamedTuple):
    """A wire as one end sees it while it is connected."""

    wire: Wire
    ids: tuple[int, int]
    """Those of the wire when this was noted; it has others or none by now if it was cut."""
    there: Host
    connection_id: int
    """At the other end."""


class Host:
    """One router: its control plane and the tables that commands fill."""

    def __init__(self, router_id: str) -> None:
        self.id = router_id
        self.is_up = False
        self.instance = 0
        self.plane = ControlPlane(router_id, 0)
        self.routes: dict[str, SetNode] = {}
        self.bound: dict[str, dict[str, BindAddress]] = {}
        self.radius = 0
        self.ways: dict[int, tuple[Wire, str]] = {}
        self.hops: dict[int, Hop] = {}
        """By connection: what `ways` says, looked up once for express."""
        self.next: dict[str, Hop | None] = {}
        """By router: the hop that its route begins with, looked up once for express."""
        self.flood: tuple[int, list[Hop]] = (-1, [])
        """Number of the own link state, and the ways of a flood under it."""
        self.parsed: dict[str, tuple[dict[str, object], ControlMessage]] = {}
        """By opcode: the last body sent and what it says."""
        self.wanted: dict[str, int] = {}
        self.timer_at: float | None = None
        self.epoch = 0
        self.ahead_s = crc32(router_id.encode()) % 1024 / 1024  # exact in any sum
        """How far its clock is ahead of the network's: routers have their HELLOs at moments of their own."""


class Network:
    """A network and its clock.

    Args:
        seed: of the randomness of links.
        settings: of every control plane.
    """

    def __init__(self, seed: int = 0, settings: ControlSettings | None = None) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.settings = settings or ControlSettings()
        self.hosts: dict[str, Host] = {}
        self.wires: list[Wire] = []
        self.is_express = False
        """For large networks with whole links, one for each pair: a message to one router goes all the way in one
        event, of a flood only the first copy at each router is an event, bodies that are one object are parsed once,
        and what arrives within a millisecond arrives together at its end."""
        self.sent = 0
        self.delivered = 0
        self._moments: list[float] = []
        self._events: dict[float, list[tuple[Callable[..., None], tuple[object, ...]]]] = {}
        """By moment, each of which is in the heap once."""
        self._next_connection = 0

    # -- building and breaking -----------------------------------------------------------------------------------------

    def add_router(self, router_id: str) -> Host:
        host = self.hosts[router_id] = Host(router_id)
        self._boot(host)
        return host

    def add_wire(self, a: str, b: str, **options: object) -> Wire:
        wire = Wire(a, b, **options)  # type: ignore[arg-type]  # names are checked by the call
        self.wires.append(wire)
        self.connect(wire)
        return wire

    def _boot(self, host: Host) -> None:
        host.instance = max(EPOCH + int(self.now), host.instance + 1)  # nobody starts twice in a second
        host.plane = ControlPlane(host.id, host.instance, self.settings)
        host.is_up = True
        host.epoch += 1
        host.routes, host.bound, host.radius, host.ways, host.timer_at = {}, {}, 0, {}, None
        host.hops, host.next, host.flood, host.parsed = {}, {}, (-1, []), {}
        for key, hint in host.wanted.items():
            self.apply(host, host.plane.on_address_added(key, hint, self.clock(host)))

    def connect(self, wire: Wire) -> None:
        """Connect a wire if both ends are up and it is whole; both ends see it within its delay."""
        if wire.is_cut or wire.ids or not self.hosts[wire.a].is_up or not self.hosts[wire.b].is_up:
            return
        self._next_connection += 2
        wire.ids = (self._next_connection - 1, self._next_connection)
        for name, connection_id in zip((wire.a, wire.b), wire.ids, strict=True):
            self.at(self.now + self.random.uniform(0, wire.delay_s), self._attached, wire, name, connection_id)

    def _attached(self, wire: Wire, name: str, connection_id: int) -> None:
        if wire.ids and connection_id in wire.ids:
            host = self.hosts[name]
            host.ways[connection_id] = (wire, name)
            is_a = connection_id == wire.ids[0]
            there = self.hosts[wire.b if is_a else wire.a]
            host.hops[connection_id] = Hop(wire, wire.ids, there, wire.ids[is_a])
            self.apply(host, host.plane.on_link_up(connection_id, wire.cost, self.clock(host)))

    def disconnect(self, *wires: Wire) -> None:
        """Disconnect wires, all in one moment: nothing that the loss of one causes goes over another of them."""
        told: list[tuple[Host, int]] = []
        for wire in wires:
            for name, connection_id in zip((wire.a, wire.b), wire.ids or (), strict=False):
                host = self.hosts[name]
                host.hops.pop(connection_id, None)
                if host.ways.pop(connection_id, None) and host.is_up:
                    told.append((host, connection_id))
            wire.ids = None
        for host, connection_id in told:
            self.apply(host, host.plane.on_link_lost(connection_id, self.clock(host)))

    def cut(self, wire: Wire) -> None:
        wire.is_cut = True
        self.disconnect(wire)

    def heal(self, wire: Wire) -> None:
        wire.is_cut = wire.is_mute = False
        self.connect(wire)

    def kill(self, host: Host) -> None:
        host.is_up = False
        host.epoch += 1
        self.disconnect(*self.wires_of(host))

    def restart(self, host: Host) -> None:
        if host.is_up:
            self.kill(host)
        self._boot(host)
        for wire in self.wires_of(host):
            self.connect(wire)

    def set_cost(self, wire: Wire, cost: int) -> None:
        wire.cost = cost
        for name, connection_id in zip((wire.a, wire.b), wire.ids or (), strict=False):
            host = self.hosts[name]
            self.apply(host, host.plane.on_cost_changed(connection_id, cost, self.clock(host)))

    def add_address(self, host: Host, key: str, hint: int = 3) -> None:
        host.wanted[key] = hint
        if host.is_up:
            self.apply(host, host.plane.on_address_added(key, hint, self.clock(host)))

    def remove_address(self, host: Host, key: str) -> None:
        if host.wanted.pop(key, None) is not None and host.is_up:
            self.apply(host, host.plane.on_address_removed(key, self.clock(host)))

    def wires_of(self, host: Host) -> Iterator[Wire]:
        return (wire for wire in self.wires if host.id in (wire.a, wire.b))

    # -- time ----------------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[..., None], *arguments: object) -> None:
        if self.is_express:
            when = max(when, ceil(when * 1000) / 1000)  # the product of a timer may be rounded down
        present = self._events.get(when)
        if present is None:
            self._events[when] = [(what, arguments)]
            heappush(self._moments, when)
        else:
            present.append((what, arguments))

    def clock(self, host: Host) -> float:
        """Return what a router's clock shows now."""
        return self.now + host.ahead_s

    def run_until(self, until: float) -> None:
        moments = self._moments
        while moments and moments[0] <= until:
            self.now = heappop(moments)
            for what, arguments in self._events.pop(self.now):
                what(*arguments)
        self.now = until

    def _timer(self, host: Host, epoch: int) -> None:
        if host.epoch == epoch and host.timer_at is not None and self.now >= host.timer_at:
            host.timer_at = None
            self.apply(host, host.plane.on_timer(self.clock(host)))

    # -- the core of a router ------------------------------------------------------------------------------------------

    def apply(self, host: Host, commands: list[Command]) -> None:
        for command in commands:
            kind = type(command)
            if kind is SendControl:
                self._send(host, command)
            elif kind is SetNode:
                host.routes[command.router_id] = command
                host.next[command.router_id] = host.hops.get(command.connection_id)
            elif kind is RemoveNode:
                del host.routes[command.router_id], host.next[command.router_id]
                host.bound.pop(command.router_id, None)
            elif kind is BindAddress:
                assert command.router_id in host.routes
                host.bound.setdefault(command.router_id, {})[command.key] = command
            elif kind is UnbindAddress:
                del host.bound[command.router_id][command.key]
            elif kind is SetRadius:
                host.radius = command.hops
            else:
                assert kind is RouteChanged
        deadline = host.plane.next_deadline()
        due = None if deadline is None else deadline - host.ahead_s
        if due is not None and (host.timer_at is None or due < host.timer_at):
            host.timer_at = due
            self.at(max(due, self.now), self._timer, host, host.epoch)

    def _send(self, host: Host, command: SendControl) -> None:
        if self.is_express and command.connection_id is None and command.to != "_topo/0/all/qdrouter.ma":
            self._express(host, command)
            return
        packet = Packet(command.opcode, command.to, command.body, host.id, (host.id,))
        if command.connection_id is not None:
            self._transmit(host, command.connection_id, packet)
        else:
            self._route(host, packet)

    def _route(self, host: Host, packet: Packet) -> None:
        plane = host.plane
        if packet.to == "amqp:/_topo/0/all/qdrouter":
            for router_id, connection_id in plane.neighbour_connections().items():
                if router_id not in packet.trace:
                    self._transmit(host, connection_id, packet)
        elif packet.to == "_topo/0/all/qdrouter.ma":
            origin = None if packet.ingress == host.id else packet.ingress
            if origin is not None and not plane.is_known_origin(origin):
                return
            ways = {}
            for route in host.routes.values():
                if plane.is_valid_origin(route.router_id, origin):
                    ways[route.next_hop] = route.connection_id
            for next_hop, connection_id in ways.items():
                if next_hop not in packet.trace:
                    self._transmit(host, connection_id, packet)
        else:
            route = host.routes.get(packet.to.split("/")[3])
            if route is not None:  # no look at the origin: see ControlPlane.is_valid_origin
                self._transmit(host, route.connection_id, packet)

    def _express(self, host: Host, command: SendControl) -> None:
        body, message = host.parsed.get(command.opcode, (None, None))
        if body is not command.body or message is None:
            message = parse_control(command.opcode, command.body, self.settings.max_addresses_per_router)
            host.parsed[command.opcode] = (command.body, message)
        if command.to == "amqp:/_topo/0/all/qdrouter":
            self._flood(host, command.opcode, message)
        else:
            self._hurry(host, command, message)

    def _flood(self, origin: Host, opcode: str, message: ControlMessage) -> None:
        """Find the first arrival at every router, by delay, over the neighbours of this moment."""
        arrived = set()
        heap: list[tuple[float, int, Host, int]] = [(0.0, 0, origin, 0)]
        count = 0
        while heap:
            delay, _, here, connection_id = heappop(heap)
            if here in arrived:
                continue
            arrived.add(here)
            if here is not origin:
                self.at(self.now + delay, self._take, here, connection_id, opcode, message)
            if here.flood[0] != here.plane.ls_seq:
                ways = [here.hops.get(number) for number in here.plane.neighbour_connections().values()]
                here.flood = (here.plane.ls_seq, [hop for hop in ways if hop is not None])
            for wire, ids, there, number in here.flood[1]:
                if there not in arrived and wire.ids is ids:
                    count += 1
                    heappush(heap, (delay + wire.delay_s, count, there, number))
        self.sent += count

    def _hurry(self, host: Host, command: SendControl, message: ControlMessage) -> None:
        """Take a message to one router all the way in one event, by the routes of this moment."""
        end = command.to.split("/")[3]
        here, delay, hops = host, 0.0, 0
        while here.id != end:
            hop = here.next.get(end)
            if hop is None or hop[0].ids is not hop[1] or hops == MAX_HOPS:
                return
            delay += hop[0].delay_s
            here = hop[2]
            hops += 1
        self.sent += hops
        if isinstance(message, MobileUpdate) and message.exist is not None:
            message = replace(message, exist=message.exist.copy())  # its receiver keeps it, and changes it
        self.at(self.now + delay, self._take, here, hop.connection_id, command.opcode, message)

    def _take(self, host: Host, connection_id: int, opcode: str, message: ControlMessage) -> None:
        if connection_id in host.ways:
            self.delivered += 1
            self.apply(host, host.plane.on_parsed(opcode, message, connection_id, self.clock(host)))

    def _transmit(self, host: Host, connection_id: int, packet: Packet) -> None:
        way = host.ways.get(connection_id)
        if way is None:
            return
        wire = way[0]
        self.sent += 1
        if wire.is_mute or (wire.loss and self.random.random() < wire.loss):
            return
        ids = wire.ids
        assert ids is not None
        there, there_id = (wire.b, ids[1]) if connection_id == ids[0] else (wire.a, ids[0])
        copies = 2 if wire.doubling and self.random.random() < wire.doubling else 1
        for _ in range(copies):
            delay = wire.delay_s + (self.random.random() * wire.jitter_s if wire.jitter_s else 0.0)
            self.at(self.now + delay, self._receive, self.hosts[there], there_id, packet)

    def _receive(self, host: Host, connection_id: int, packet: Packet) -> None:
        if connection_id not in host.ways or host.id in packet.trace:
            return
        self.delivered += 1
        to = packet.to
        if to == "amqp:/_local/qdhello" or to.startswith(f"amqp:/_topo/0/{host.id}/"):
            self.apply(host, host.plane.on_message(packet.opcode, packet.body, connection_id, self.clock(host)))
            return
        onward = Packet(packet.opcode, to, packet.body, packet.ingress, (*packet.trace, host.id))
        if "/all/" in to:
            if host.plane.should_forward(packet.opcode, packet.body, len(packet.trace), self.clock(host)):
                self._route(host, onward)
                self.apply(host, host.plane.on_message(packet.opcode, packet.body, connection_id, self.clock(host)))
        else:
            self._route(host, onward)

    # -- the truth -----------------------------------------------------------------------------------------------------

    def true_graph(self) -> dict[str, dict[str, int]]:
        graph: dict[str, dict[str, int]] = {host.id: {} for host in self.hosts.values() if host.is_up}
        for wire in self.wires:
            if wire.ids and not wire.is_mute:
                for here, there in ((wire.a, wire.b), (wire.b, wire.a)):
                    graph[here][there] = min(wire.cost, graph[here].get(there, wire.cost))
        return graph
