"""The edge's side against a model: whatever happens, the links that exist are those that should; meshes agree."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.routing import edge, mesh
from vanrouter.routing.edge import EdgePlane
from vanrouter.routing.mesh import MeshPair, MeshPlane, SendMeshPair, SetMeshId

EVENTS = ("open", "lose", "consumer+", "consumer-", "producer+", "producer-", "true", "false", "refuse", "time")
KEYS = ["Ma", "Mb", "Mc"]

events = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.sampled_from(KEYS)), max_size=40)


class Links:
    """What a host that carries out the commands has; each command must fit what is there."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.fixed: set[int] = set()
        self.bound_uplink: int | None = None
        self.proxies: set[tuple[int, str, str]] = set()
        self.bound: set[str] = set()

    def lose(self, connection_id: int) -> None:
        self.open.discard(connection_id)
        self.fixed.discard(connection_id)
        self.proxies = {proxy for proxy in self.proxies if proxy[0] != connection_id}

    def apply(self, commands: list[edge.EdgeCommand]) -> None:
        for command in commands:
            match command:
                case edge.ActivateUplink():
                    assert command.connection_id in self.open - self.fixed
                    self.fixed.add(command.connection_id)
                case edge.DeactivateUplink():
                    self.fixed.remove(command.connection_id)
                case edge.BindUplink():
                    assert self.bound_uplink is None
                    self.bound_uplink = command.connection_id
                case edge.UnbindUplink():
                    assert self.bound_uplink == command.connection_id
                    self.bound_uplink = None
                case edge.AttachProxyIn() | edge.AttachProxyOut():
                    direction = "in" if isinstance(command, edge.AttachProxyIn) else "out"
                    proxy = (command.connection_id, command.address, direction)
                    assert command.connection_id in self.fixed
                    assert proxy not in self.proxies
                    self.proxies.add(proxy)
                case edge.DetachProxy():
                    self.proxies.discard((command.connection_id, command.address, command.direction))
                case edge.BindProxyOut():
                    assert (self.bound_uplink, command.key[1:], "out") in self.proxies
                    assert command.key not in self.bound
                    self.bound.add(command.key)
                case edge.UnbindProxyOut():
                    self.bound.remove(command.key)


@given(events)
def test_links_are_those_that_should_be(sequence: list[tuple[str, int, str]]) -> None:
    plane, links, now = EdgePlane(), Links(), 0.0
    wanted: dict[str, set[str]] = {"in": set(), "out": set()}
    for event, number, key in sequence:
        now += 1.0
        if event == "open" and number not in links.open:
            links.open.add(number)
            links.apply(plane.on_uplink_opened(number, number % 3 or None))
        elif event == "lose":
            links.lose(number)
            links.apply(plane.on_uplink_lost(number))
        elif event == "consumer+":
            wanted["in"].add(key)
            links.apply(plane.on_consumer_added(key))
        elif event == "consumer-":
            wanted["in"].discard(key)
            links.apply(plane.on_consumer_removed(key))
        elif event == "producer+":
            wanted["out"].add(key)
            links.apply(plane.on_producer_added(key))
        elif event == "producer-":
            wanted["out"].discard(key)
            links.apply(plane.on_producer_removed(key))
        elif event in ("true", "false") and (number, key[1:], "out") in links.proxies:
            links.apply(plane.on_tracking(number, [key, event == "true"]))
        elif event == "refuse" and (number, key[1:], "in") in links.proxies:
            links.proxies.discard((number, key[1:], "in"))
            links.apply(plane.on_proxy_lost(number, key[1:], "in", now))
        elif event == "time":
            links.apply(plane.on_timer(now))
        assert links.fixed == ({plane.active} if links.open else set())
        assert links.bound_uplink == plane.active
    links.apply(plane.on_timer(now + 100))
    should = {(plane.active, key[1:], direction) for direction, keys in wanted.items() for key in keys}
    assert links.proxies == (should if links.open else set())
    assert links.bound <= wanted["out"]


@given(st.lists(st.integers(0, 6), min_size=2, max_size=6), st.integers(0, 5))
def test_mesh_agrees_and_survives_its_winner(ordinals: list[int], dead: int) -> None:
    """Every edge is connected to every other; the network carries pairs in order; one edge dies."""
    counter = 1000
    planes = {index: MeshPlane(MeshPair(ordinal, f"id{index}")) for index, ordinal in enumerate(ordinals)}
    queue: deque[tuple[int, int, MeshPair]] = deque()

    def fresh() -> MeshPair:
        nonlocal counter
        counter += 1
        return MeshPair(counter, f"new{counter}")

    def apply(index: int, commands: list[mesh.MeshCommand]) -> None:
        for command in commands:
            if isinstance(command, SendMeshPair):
                queue.append((index, command.connection_id, command.pair))
            elif isinstance(command, SetMeshId):
                assert planes[index].mesh_id == command.mesh_id

    def settle() -> None:
        while queue:
            sender, receiver, pair = queue.popleft()
            if sender in planes and receiver in planes:
                apply(receiver, planes[receiver].on_pair(sender, pair, fresh()))

    for here, plane in planes.items():
        for there in planes:
            if there != here:
                apply(here, plane.on_peer_up(there, f"E{there}"))
    settle()
    assert len({plane.mesh_id for plane in planes.values()}) == 1
    if dead in planes:
        del planes[dead]
        for here, plane in planes.items():
            apply(here, plane.on_peer_lost(dead, fresh()))
        settle()
        assert len({plane.mesh_id for plane in planes.values()}) == 1
