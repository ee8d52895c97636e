"""The host of the routing protocol: what it asks of the plane, and what the plane's answers do."""

from __future__ import annotations

import logging

import pytest

from tests.unit.core.ends import Service
from tests.unit.core.engines import ACCEPTED, World, message
from vanrouter.core.control import GRANTS, encode_control
from vanrouter.core.peer import Role
from vanrouter.core.room import C_MAX_ROUTERS
from vanrouter.engine.annotations import Annotations, encode, parse
from vanrouter.engine.messages import decode_message
from vanrouter.routing import messages
from vanrouter.routing.addresses import HELLO_TO, TOPOLOGY_ALL_TO, topology_to
from vanrouter.routing.commands import SendControl


def test_a_c_router_is_told_of_128_routers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The first to come; those for whom it has no room are known to everybody else."""
    first, second = world.chain("A", "B")
    peer = world.client(first, role=Role.INTER_ROUTER, container="C")
    out = peer.sender(None, capabilities=("qd.router",))
    heard = peer.receiver(None, capabilities=("qd.router",), credit=1000)
    out.send(
        encode(0, None, "0/C", ("0/C",))
        + encode_control(SendControl(opcode="HELLO", to=HELLO_TO, body=messages.hello_body("C", 1, ["A"]))),
        settled=True,
    )
    world.settle()
    flooder = world.client(second, role=Role.INTER_ROUTER, container="F0")
    from_far = flooder.sender(None, capabilities=("qd.router",))
    flooder.receiver(None, capabilities=("qd.router",))

    def origins() -> set[str]:
        found = set()
        for content in heard.contents:
            annotations = parse(content, 0, len(content))
            assert isinstance(annotations, Annotations)
            body = decode_message(content[annotations.length :]).body
            assert isinstance(body, dict)
            found.add(body["id"])
        return found

    def say(opcode: str, to: str, body: dict[str, object], number: int = 0) -> None:
        way = (f"0/F{number}", "0/F0") if number else ("0/F0",)
        content = encode_control(SendControl(opcode=opcode, to=to, body=body))
        from_far.send(encode(0, None, way[0], way) + content, settled=True)
        world.settle()

    caplog.set_level(logging.WARNING)
    far = {f"F{number}": 1 for number in range(1, 200)}
    say("HELLO", HELLO_TO, messages.hello_body("F0", 1, ["B"]))
    say("LSU", topology_to("B"), messages.link_state_update_body("F0", 1, 1, {"B": 1, **far}))
    say("LSU", topology_to("A"), messages.link_state_update_body("F0", 1, 1, {"B": 1, **far}))
    world.advance(1.0)
    for number in range(200):
        say("RA", TOPOLOGY_ALL_TO, messages.advertisement_body(f"F{number}", 1, 1, 0), number)
    assert first.control.plane.routers_refused == second.control.plane.routers_refused == 0
    assert len(first.nodes) == 202
    assert len(origins() | {"A", "C"}) == C_MAX_ROUTERS
    assert first.control.withheld == 200 - (C_MAX_ROUTERS - 3)  # for A, B and C are among them
    assert sum("knows 128 routers at most" in record.getMessage() for record in caplog.records) == 1


def test_a_changed_cost_reaches_the_others(world: World) -> None:
    first, _, third = world.chain("A", "B", "C")
    connection = first.nodes["B"].connection
    assert connection is not None
    before = third.nodes["A"].cost
    connection.cost = 7
    first.control.on_cost_changed(connection)
    world.until(lambda: first.nodes["C"].cost == 8)
    assert third.nodes["A"].cost == before  # the neighbour's direction keeps its value


def test_addresses_come_and_go_with_their_routers(world: World) -> None:
    first, _, third = world.chain("A", "B", "C")
    rx = world.client(third).receiver("a", auto=ACCEPTED)
    tx = world.client(first).sender("a")
    world.until(lambda: tx.credit == 250)
    sent = tx.send(message())
    world.settle()
    assert sent.state == ACCEPTED
    assert len(rx.contents) == 1
    for connection in list(third.amqp_connections.values()):
        if connection.role is Role.INTER_ROUTER:
            connection.engine.drop(None)
    world.until(lambda: not first.table.addresses["Ma"].is_reachable)
    world.until(lambda: "C" not in first.nodes)


def test_weights_reach_the_others(world: World) -> None:
    first, _, third = world.chain("A", "B", "C")
    light = third.subscribe_stream("svc", Service(), weight=1)
    heavy = third.subscribe_stream("svc", Service(), weight=8)

    def known() -> dict[str, int]:
        address = first.table.get("Msvc")
        return {} if address is None else dict(address.remote_weights)

    world.until(lambda: known() == {"C": 9})
    light.cancel()
    world.until(lambda: known() == {"C": 8})
    heavy.cancel()
    world.until(lambda: first.table.get("Msvc") is None)


def test_a_calm_network_decodes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each HELLO and each RA is known by its octets, is counted, and keeps the neighbours."""
    routers = world.chain("A", "B", "C")
    world.advance(70.0)
    counters = [router.control.plane.counters for router in routers]
    before = [dict(each.received) for each in counters]

    def unexpected(octets: bytes) -> object:
        raise AssertionError(octets)

    monkeypatch.setattr("vanrouter.core.control.decode_message", unexpected)
    world.advance(20.0)
    for each, earlier, neighbours in zip(counters, before, (1, 2, 1), strict=True):
        assert 19 * neighbours <= each.received["HELLO"] - earlier["HELLO"] <= 21 * neighbours
    assert [len(router.nodes) for router in routers] == [2, 2, 2]


def test_credit_of_control_links_goes_back_in_pieces(world: World) -> None:
    first, _ = world.chain("A", "B")
    (connection,) = first.amqp_connections.values()
    receiver = connection.control_in
    assert receiver is not None
    seen = set()
    for _ in range(3 * receiver.capacity // 2):
        world.advance(1.0)
        seen.add(receiver.to_grant)
    assert max(seen) == pytest.approx(receiver.capacity / GRANTS, abs=2)
    assert receiver.deliveries > receiver.capacity


def test_a_burst_of_control_messages_does_not_wait_for_ours(world: World) -> None:
    """A peer may say much while there is nothing to answer: its credit goes back by the quarter."""
    (first,) = world.chain("A")
    peer = world.client(first, role=Role.INTER_ROUTER, container="X")
    out = peer.sender(None, capabilities=("qd.router",))
    peer.receiver(None, capabilities=("qd.router",))
    received = first.control.plane.counters.received
    for number in range(1000):
        body = messages.advertisement_body("X", 1, number, 0)
        command = SendControl(opcode="RA", to="amqp:/_topo/0/A/qdrouter", body=body)
        out.send(encode(0, None, "0/X", ("0/X",)) + encode_control(command), settled=True)
        world.settle()
    assert received["RA"] == 1000
    connection = first.amqp_connections[next(iter(first.amqp_connections))]
    assert connection.control_in is not None
    assert connection.control_in.to_grant < 250 / 4 + 1


@pytest.mark.parametrize(
    ("claimed", "ingress", "trace", "is_forged"),
    [
        ("X", "0/X", ("0/X",), False),
        ("X", None, (), False),
        ("Y", "0/Y", ("0/Y", "0/X"), False),
        ("A", "0/X", ("0/X",), True),
        ("Y", None, (), True),
        ("A", "0/A", ("0/A",), True),
        ("Y", "0/Y", ("0/Y",), True),
        ("Y", "0/X", ("0/Y", "0/X"), True),
    ],
)
def test_who_said_it(world: World, claimed: str, ingress: str | None, trace: tuple[str, ...], is_forged: bool) -> None:
    """A message is of the router where it began, and came from the peer."""
    (first,) = world.chain("R")
    peer = world.client(first, role=Role.INTER_ROUTER, container="X")
    out = peer.sender(None, capabilities=("qd.router",))
    peer.receiver(None, capabilities=("qd.router",))
    body = messages.advertisement_body(claimed, 1, 1, 0)
    content = encode_control(SendControl(opcode="RA", to="amqp:/_topo/0/all/qdrouter", body=body))
    out.send((encode(0, None, ingress, trace) if trace else b"") + content, settled=True)
    world.settle()
    counters = first.control.plane.counters
    assert (counters.forged, counters.received["RA"]) == ((1, 0) if is_forged else (0, 1))
