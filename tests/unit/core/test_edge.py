"""Edge routers and the interior above them, in one process (router protocol, section 9)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, REJECTED, RELEASED, World, message
from vanrouter.core.connection import Connection
from vanrouter.core.edge import (
    MESH_DISCOVERY,
    MESH_NEGOTIATION,
    TOLD_WITHIN_S,
    TRACKING,
    EdgeHost,
    EdgeServer,
    only_properties,
    send,
)
from vanrouter.core.links import Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode, Router
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine.annotations import Annotations, encode, parse
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.engine.sections import Described, ULong
from vanrouter.engine.sections import encode as encode_value
from vanrouter.routing.edge import AttachProxyIn

MESH = "m" * 15


def edge_under(world: World, interior: Router, name: str = "E") -> tuple[Router, Connection, Connection]:
    """An edge router with one uplink."""
    edge = world.router(name, Mode.EDGE)
    return edge, *world.link(edge, interior, role=Role.EDGE)


@pytest.fixture
def pair(world: World) -> tuple[Router, Router]:
    """An edge and its interior."""
    interior = world.interior("I")
    edge, _, _ = edge_under(world, interior)
    world.settle()
    return edge, interior


def addresses(connection: Connection) -> set[str]:
    """What proxies of an edge stand for, seen from the interior."""
    links: list[Receiver | Sender] = [*connection.receivers.values(), *connection.senders.values()]
    return {link.address.key for link in links if link.address is not None}


def spy_on(world: World, router: Router, address: str) -> list[Annotations]:
    """What the router annotations said of all messages for an address, in an in-process service."""
    seen: list[Annotations] = []
    router.subscribe_messages(
        address, lambda annotations, content, receiver: seen.append(annotations), is_announced=True
    )
    world.settle()
    return seen


# Links, proxies and tracking (9.2, 9.3).


def test_fixed_links(world: World) -> None:
    interior = world.interior("I")
    edge, near, far = edge_under(world, interior)
    world.settle()
    assert edge.edge is not None
    assert edge.edge.plane.active == near.id
    assert addresses(far) == {"HE"}
    assert len(near.senders) == 2  # announcement, uplink
    assert len(near.receivers) == 2  # downlink, tracking
    assert far.mesh_id == edge.mesh_id
    assert interior.table.addresses["HE"].mesh_id == edge.mesh_id


@pytest.mark.parametrize("anonymous", [False, True])
def test_messages_up(world: World, pair: tuple[Router, Router], anonymous: bool) -> None:
    edge, interior = pair
    rx = world.client(interior).receiver("a", auto=ACCEPTED)
    tx = world.client(edge).sender(None if anonymous else "a")
    world.settle()
    assert tx.credit == 250
    sent = tx.send(message("a"))
    world.settle()
    assert rx.contents == [message("a")]
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    world.check()


@pytest.mark.parametrize("anonymous", [False, True])
def test_messages_down(world: World, pair: tuple[Router, Router], anonymous: bool) -> None:
    edge, interior = pair
    tx = world.client(interior).sender(None if anonymous else "a")
    rx = world.client(edge).receiver("a", auto=ACCEPTED)
    world.settle()
    sent = tx.send(message("a"))
    world.settle()
    assert rx.contents == [message("a")]
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    world.check()


def test_large_messages_both_ways(world: World, pair: tuple[Router, Router]) -> None:
    content = message("a", "x" * 700_000)
    for here, there in (pair, pair[::-1]):
        rx = world.client(here).receiver("a", auto=ACCEPTED)
        sent = world.client(there).sender("a").send(content)
        world.settle()
        assert rx.contents == [content]
        assert sent.state == ACCEPTED
        rx.detach()


def test_credit_follows_tracking(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    tx = world.client(edge).sender("a")
    world.settle()
    assert tx.credit == 0
    rx = world.client(interior).receiver("a")
    assert tx.credit == 250
    assert edge.table.addresses["Ma"].is_reachable
    rx.detach()
    assert not edge.table.addresses["Ma"].is_reachable


def test_a_proxy_for_each_address_while_somebody_is_there(world: World) -> None:
    interior = world.interior("I")
    edge, _, far = edge_under(world, interior)
    client = world.client(edge)
    first, second = client.receiver("a"), client.receiver("a")
    tx = client.sender("b")
    assert addresses(far) == {"HE", "Ma", "Mb"}
    first.detach()
    assert addresses(far) == {"HE", "Ma", "Mb"}
    second.detach()
    tx.detach()
    assert addresses(far) == {"HE"}


def test_a_watch_is_a_producer(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    seen: list[bool] = []
    watch = edge.watch("a", seen.append)
    rx = world.client(interior).receiver("a")
    rx.detach()
    world.settle()
    assert seen == [False, True, False]
    watch.cancel()
    world.settle()
    assert "Ma" not in interior.table.addresses


def test_a_service_is_a_consumer(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    seen = spy_on(world, edge, "a")
    world.client(interior).sender("a").send(message())
    world.settle()
    assert [(found.ingress, found.trace) for found in seen] == [("0/I", ("0/I",))]


def test_internal_addresses_have_no_proxy(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    edge.subscribe_messages("hidden", lambda *_: None, is_announced=False)
    world.client(edge).receiver(None, dynamic=True)
    world.settle()
    assert [key for key in interior.table.addresses if key[0] == "M"] == []


def test_what_goes_up_carries_the_mesh_and_no_ingress(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    seen = spy_on(world, interior, "a")
    client = world.client(edge)
    client.sender("a").send(message())
    client.sender(None).send(message("a"))
    world.settle()
    assert [(found.to_override, found.ingress, found.trace, found.mesh) for found in seen] == [
        ("a", None, (), edge.mesh_id),
        (None, None, (), edge.mesh_id),
    ]


def test_a_refused_proxy_is_attached_again(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    rule = AddressRule(pattern="a", treatment=Treatment.UNAVAILABLE)
    interior.table.rules.add(rule)
    world.client(edge).receiver("a")
    world.settle()
    assert "Ma" not in interior.table.addresses
    interior.table.rules.remove("a")
    world.until(lambda: "Ma" in interior.table.addresses, 10)


def test_a_bug_of_one_proxy_keeps_no_other_from_being_attached(
    world: World, pair: tuple[Router, Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, interior = pair
    client = world.client(edge)
    for address in "ab":
        interior.table.rules.add(AddressRule(pattern=address, treatment=Treatment.UNAVAILABLE))
        client.receiver(address)
        world.advance(0.5)
        interior.table.rules.remove(address)
    host = edge.edge
    assert host is not None
    attach = host._handlers[AttachProxyIn]

    def broken(command: AttachProxyIn) -> None:
        if command.address == "a":
            raise RuntimeError("a bug")
        attach(command)

    monkeypatch.setitem(host._handlers, AttachProxyIn, broken)
    world.allows_crashes = True
    world.until(lambda: "Mb" in interior.table.addresses, 10)
    assert "Ma" not in interior.table.addresses


# Requests and replies (8).


@pytest.mark.parametrize("up", [True, False])
def test_replies_to_dynamic_addresses(world: World, pair: tuple[Router, Router], up: bool) -> None:
    here, there = pair if up else pair[::-1]
    rx = world.client(here).receiver(None, dynamic=True, auto=ACCEPTED)
    assert rx.address is not None
    assert rx.address.startswith("amqp:/_edge/E/temp." if up else "amqp:/_topo/0/I/temp.")
    sent = world.client(there).sender(None).send(message(rx.address))
    world.settle()
    assert rx.contents == [message(rx.address)]
    assert sent.state == ACCEPTED
    targeted = world.client(there).sender(rx.address)
    assert targeted.credit == 250


@pytest.mark.parametrize("to", ["_edge/E/gone", "_local/gone", "nobody", "_topo/0/X/gone"])
def test_what_nobody_takes_is_released(world: World, pair: tuple[Router, Router], to: str) -> None:
    for router in pair:
        sent = world.client(router).sender(None).send(message(to))
        world.settle()
        assert (sent.state, sent.is_settled) == (RELEASED, True)


# Multicast and echoes (9.5).


def multicast(*routers: Router) -> None:
    for router in routers:
        router.table.rules.add(AddressRule(pattern="mc/#", treatment=Treatment.MULTICAST))


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("content", [message("mc/a"), message("mc/a", "x" * 600_000)], ids=["small", "big"])
def test_multicast_reaches_each_consumer_once(world: World, anonymous: bool, content: bytes) -> None:
    interior = world.interior("I")
    edge, _, _ = edge_under(world, interior)
    other, _, _ = edge_under(world, interior, "F")
    multicast(interior, edge, other)
    receivers = [world.client(router).receiver("mc/a", auto=ACCEPTED) for router in (interior, edge, edge, other)]
    tx = world.client(edge).sender(None if anonymous else "mc/a")
    world.settle()
    sent = tx.send(content)
    world.settle()
    assert [receiver.contents for receiver in receivers] == [[content]] * 4
    assert sent.state == ACCEPTED
    world.check()


@pytest.mark.parametrize("size", [10, 600_000])
def test_an_anonymous_multicast_goes_up_past_a_single_consumer(world: World, size: int) -> None:
    """The one consumer at the sender's own edge is not all there are."""
    interior = world.interior("I")
    edges = [world.router(name, Mode.EDGE) for name in ("E", "F")]
    for router in (interior, *edges):
        router.table.rules.add(AddressRule(pattern="m/#", treatment=Treatment.MULTICAST))
    for edge in edges:
        world.link(edge, interior, role=Role.EDGE)
    world.advance(2.0)
    takers = [world.client(router).receiver("m/x", auto=ACCEPTED) for router in (*edges, edges[1], interior)]
    tx = world.client(edges[0]).sender(None)
    world.advance(2.0)
    sent = tx.send(message(to="m/x", body="x" * size))
    world.advance(2.0)
    assert sent.state == ACCEPTED
    assert [len(taker.contents) for taker in takers] == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [10, 600_000])
def test_a_multicast_goes_up_before_the_interior_has_told(
    world: World, pair: tuple[Router, Router], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer has its credit from a consumer at its edge; what the interior has is not known yet."""
    edge, interior = pair
    multicast(edge, interior)
    assert edge.edge is not None
    on_tracking, told = edge.edge.plane.on_tracking, []
    monkeypatch.setattr(edge.edge.plane, "on_tracking", lambda *what: told.append(what) or [])
    takers = [world.client(router).receiver("mc/a", auto=ACCEPTED) for router in (edge, interior)]
    world.settle()
    tx = world.client(edge).sender("mc/a")
    world.settle()
    sent = tx.send(message("mc/a", "x" * size))
    world.settle()
    assert sent.state == ACCEPTED
    assert [len(taker.contents) for taker in takers] == [1, 1]
    world.advance(TOLD_WITHIN_S)  # it would have said so by now
    tx.send(message("mc/a", "x" * size))
    world.settle()
    assert [len(taker.contents) for taker in takers] == [2, 1]
    edge.edge._execute(on_tracking(*told[0]))
    sent = tx.send(message("mc/a", "x" * size))
    world.settle()
    assert [len(taker.contents) for taker in takers] == [3, 2]
    assert sent.state == ACCEPTED
    world.check()


def test_an_edge_does_not_get_its_own_back(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    multicast(edge, interior)
    client = world.client(edge)
    rx = client.receiver("mc/a", auto=ACCEPTED)
    tx = client.sender("mc/a")
    world.settle()
    assert not edge.table.addresses["Mmc/a"].consumers[1:]  # the interior has no other destination
    tx.send(message())
    world.settle()
    assert len(rx.contents) == 1


def test_a_message_of_the_own_mesh_does_not_come_down(world: World, pair: tuple[Router, Router]) -> None:
    edge, interior = pair
    multicast(edge, interior)
    rx = world.client(edge).receiver("mc/a", auto=ACCEPTED)
    twin = world.unopened(interior, role=Role.EDGE, container="T")
    twin.open()
    world.settle()
    for mesh, count in ((edge.mesh_id, 0), ("n" * 15, 1)):
        twin.sender(None).send(encode(0, "mc/a", None, (), mesh) + message())
        world.settle()
        assert len(rx.contents) == count


def test_what_came_from_the_interior_does_not_go_up_again(world: World) -> None:
    interior = world.interior("I")
    edge, _, _ = edge_under(world, interior)
    rx = world.client(edge).receiver("a", auto=RELEASED)
    tx = world.client(interior).sender("a")
    sent = tx.send(message())
    rx_above = world.client(interior).receiver("a", auto=ACCEPTED)
    world.settle()
    assert (len(rx.contents), sent.state) == (1, RELEASED)
    assert rx_above.contents == []


# Failover (9.1).


def test_the_next_uplink_takes_over(world: World) -> None:
    first, second = world.chain("I", "J")
    edge, near, _ = edge_under(world, first)
    world.settle()
    spare, spare_far = world.link(edge, second, role=Role.EDGE)
    rx = world.client(edge).receiver("a", auto=ACCEPTED)
    tx = world.client(edge).sender("b")
    world.settle()
    assert not spare.senders
    assert not spare.receivers
    assert edge.edge is not None
    assert (edge.edge.is_active(near), edge.edge.is_active(spare)) == (True, False)
    assert second.edge is None
    below = world.client(second).receiver("b", auto=ACCEPTED)
    world.until(lambda: tx.credit == 250)
    near.engine.drop(None)
    world.until(lambda: edge.table.addresses["Mb"].is_reachable)
    assert addresses(spare_far) == {"HE", "Ma", "Mb"}
    assert edge.edge.is_active(spare)
    up, down = tx.send(message()), world.client(second).sender("a").send(message())
    world.settle()
    assert (up.state, down.state) == (ACCEPTED, ACCEPTED)
    assert (len(rx.contents), len(below.contents)) == (1, 1)


def test_a_lost_uplink_leaves_nothing(world: World) -> None:
    interior = world.interior("I")
    edge, near, _ = edge_under(world, interior)
    tx = world.client(edge).sender("a")
    world.client(interior).receiver("a")
    held = tx.send(message())
    world.settle()
    world.client(edge).sender("untold")
    world.settle()
    assert edge.edge is not None
    assert [edge.edge.is_untold(key) for key in ("Ma", "Muntold")] == [False, True]
    near.engine.drop(None)
    world.settle()
    assert held.is_settled
    assert not edge.table.addresses["Ma"].is_reachable
    assert not edge.edge.is_untold("Muntold")
    sent = world.client(edge).sender(None).send(message("x"))
    world.settle()
    assert sent.state == RELEASED


# The interior's side, against a peer that is no vanrouter.


@pytest.mark.parametrize("body", [None, {"meshid": 1}, {"meshid": ""}, {"meshid": "x" * 100}, {"other": MESH}])
def test_a_broken_announcement_is_rejected(world: World, body: dict[str, object] | None) -> None:
    interior = world.interior("I")
    peer = world.unopened(interior, role=Role.EDGE, container="E")
    peer.open()
    world.settle()
    tx = peer.sender(MESH_DISCOVERY)
    assert tx.credit == 3
    broken = tx.send(encode(0, None, None, ()) + (b"\x00\x53\x74\x45" if body is None else only_properties(body)))
    world.settle()
    assert broken.state == REJECTED
    ids = [peer.there.mesh_id]
    tx.send(encode(0, None, None, ()) + only_properties({"meshid": MESH}))
    world.settle()
    ids.append(peer.there.mesh_id)
    assert ids == [None, MESH]
    assert tx.credit == 3


def test_termini_of_the_protocol_are_for_edges_only(world: World) -> None:
    interior = world.interior("I")
    client = world.client(interior)
    for link in (client.sender(MESH_DISCOVERY), client.receiver(TRACKING)):
        assert link.condition is not None
        assert link.condition[0] == "qd:connection-role"
    link = world.client(interior, role=Role.EDGE, container="X").sender(TRACKING)
    assert link.condition is not None
    assert link.condition[0] == "amqp:not-implemented"
    edge = world.router("E", Mode.EDGE)
    link = world.client(edge).sender(MESH_NEGOTIATION)
    assert link.condition is not None
    assert link.condition[0] == "qd:connection-role"


def test_the_interior_tells_what_is_reachable(world: World) -> None:
    interior, far = world.chain("I", "J")
    peer = world.unopened(interior, role=Role.EDGE, container="E")
    peer.open()
    world.settle()
    tracking = peer.receiver(TRACKING, auto=ACCEPTED)
    announcer = peer.sender(MESH_DISCOVERY)
    proxy = peer.sender("a")
    assert tracking.contents == []
    announcer.send(encode(0, None, None, ()) + only_properties({"meshid": MESH}))
    own = peer.receiver("a")  # a proxy in of the same edge does not count
    world.settle()
    assert tracking.contents == []
    twin = world.unopened(far, role=Role.EDGE, container="F")
    twin.open()
    world.settle()
    other = twin.receiver("a")
    told = twin.sender(MESH_DISCOVERY)
    world.until(lambda: len(tracking.contents) == 1)
    told.send(encode(0, None, None, ()) + only_properties({"meshid": MESH}))  # the same mesh: does not count either
    world.until(lambda: len(tracking.contents) == 2)
    consumer = world.client(far).receiver("a")
    world.until(lambda: len(tracking.contents) == 3)
    consumer.detach()
    world.until(lambda: len(tracking.contents) == 4)
    states = [body_of(content) for content in tracking.contents]
    assert states == [["Ma", True], ["Ma", False], ["Ma", True], ["Ma", False]]
    for link in (own, other, proxy):
        link.detach()


def body_of(content: bytes) -> object:
    found = parse(content, 0, len(content))
    assert isinstance(found, Annotations)
    rest = content[found.length :]
    prefix = encode_value(Described(ULong(0x70), [False]))
    assert rest.startswith(prefix)
    return decode_message(rest).body


def test_tracking_attached_late_tells_all(world: World) -> None:
    interior = world.interior("I")
    world.client(interior).receiver("a")
    peer = world.unopened(interior, role=Role.EDGE, container="E")
    peer.open()
    world.settle()
    peer.sender("a")
    tracking = peer.receiver(TRACKING, auto=ACCEPTED)
    world.settle()
    assert [body_of(content) for content in tracking.contents] == [["Ma", True]]
    tracking.detach()
    world.client(interior).receiver("b")
    peer.sender("b")
    world.settle()


@pytest.mark.parametrize("body", [None, "Ma", ["Ma"], ["Ma", 1], [1, True]])
def test_broken_tracking_is_rejected_by_the_edge(world: World, body: object) -> None:
    edge = world.router("E", Mode.EDGE)
    host = edge.edge
    assert isinstance(host, EdgeHost)
    interior = world.interior("I")
    near, far = world.link(edge, interior, role=Role.EDGE)
    world.client(edge).sender("a")
    world.settle()
    server = interior.edges
    assert isinstance(server, EdgeServer)
    tracking = server._edges[far].tracking
    assert tracking is not None
    send(interior, tracking, encode_message(Message(body=body)))
    world.settle()
    assert tracking.rejected == 1
    assert not near.is_closed


# Edge meshes (9.6).


def mesh(world: World, *names: str) -> list[Router]:
    """Edges that are all connected to each other."""
    edges = [world.router(name, Mode.EDGE) for name in names]
    for index, edge in enumerate(edges):
        for other in edges[index + 1 :]:
            world.link(edge, other, role=Role.INTER_EDGE)
    world.settle()
    return edges


def test_a_mesh_has_one_id(world: World) -> None:
    interior = world.interior("I")
    edges = mesh(world, "E", "F", "G")
    assert len({edge.mesh_id for edge in edges}) == 1
    far = [world.link(edge, interior, role=Role.EDGE)[1] for edge in edges]
    world.settle()
    assert {connection.mesh_id for connection in far} == {edges[0].mesh_id}


def test_consumers_of_a_mesh_reach_each_other(world: World) -> None:
    first, second, third = mesh(world, "E", "F", "G")
    rx = world.client(second).receiver("a", auto=ACCEPTED)
    tx = world.client(first).sender("a")
    assert tx.credit == 250
    sent = [tx.send(message()), world.client(third).sender(None).send(message("a"))]
    world.settle()
    assert [found.state for found in sent] == [ACCEPTED] * 2
    assert len(rx.contents) == 2
    rx.detach()
    assert not first.table.addresses["Ma"].is_reachable


def test_replies_within_a_mesh_take_the_short_way(world: World) -> None:
    first, second = mesh(world, "E", "F")
    rx = world.client(second).receiver(None, dynamic=True, auto=ACCEPTED)
    sent = world.client(first).sender(None).send(message(rx.address))
    world.settle()
    assert sent.state == ACCEPTED
    assert len(rx.contents) == 1


def test_multicast_in_a_mesh_under_one_interior(world: World) -> None:
    interior = world.interior("I")
    edges = mesh(world, "E", "F")
    for edge in edges:
        world.link(edge, interior, role=Role.EDGE)
    multicast(interior, *edges)
    world.settle()
    receivers = [world.client(router).receiver("mc/a", auto=ACCEPTED) for router in (*edges, interior)]
    for tx in (
        world.client(edges[0]).sender("mc/a"),
        world.client(edges[0]).sender(None),
        world.client(interior).sender("mc/a"),
    ):
        before = [len(receiver.contents) for receiver in receivers]
        world.settle()
        tx.send(message("mc/a"))
        world.settle()
        assert [len(receiver.contents) - had for receiver, had in zip(receivers, before, strict=True)] == [1, 1, 1]


def test_the_peer_of_a_mesh_goes(world: World) -> None:
    first, second = mesh(world, "E", "F")
    spare, _ = world.link(first, second, role=Role.INTER_EDGE)
    world.settle()
    used = next(each for each in first.amqp_connections.values() if each is not spare)
    world.client(second).receiver("a")
    tx = world.client(first).sender("a")
    assert not spare.receivers
    used.engine.drop(None)
    world.settle()
    assert tx.credit == 250
    states = [first.table.addresses["Ma"].is_reachable]
    spare.engine.drop(None)
    world.settle()
    states.append(first.table.addresses["Ma"].is_reachable)
    assert states == [True, False]
    assert first.space.key("_edge/F/x") == "L_edge"
