"""The router as a whole: networks of routers, watches, totals."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, RELEASED, World, message
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode
from vanrouter.core.table import AddressRule, Treatment


@pytest.mark.parametrize("mode", [Mode.STANDALONE, Mode.INTERIOR])
def test_an_idle_router_is_quiet(world: World, mode: str) -> None:
    router = world.router("R", mode)
    world.advance(60)
    assert not router.connections
    assert not world.reactor.crashes


def test_a_chain_of_four(world: World) -> None:
    routers = world.chain("A", "B", "C", "D")
    rx = world.client(routers[3]).receiver("a", auto=ACCEPTED)
    tx = world.client(routers[0]).sender("a")
    world.until(lambda: tx.credit)
    sent = [tx.send(message(body="x" * size)) for size in (1, 1000, 100_000, 600_000)]
    world.settle()
    world.check()
    assert all(one.state == ACCEPTED for one in sent)
    assert len(rx.contents) == 4
    assert [node.cost for node in routers[0].nodes.values()] == [1, 2, 3]


def test_a_ring_heals(world: World) -> None:
    routers = world.chain("A", "B", "C")
    world.link(routers[2], routers[0])
    world.advance(5)
    world.client(routers[2]).receiver("a", auto=ACCEPTED)
    tx = world.client(routers[0]).sender("a")
    world.until(lambda: tx.credit)
    assert routers[0].nodes["C"].cost == 1
    direct = routers[0].nodes["C"].connection
    assert direct is not None
    direct.engine.drop(None)
    world.until(lambda: routers[0].nodes.get("C") and routers[0].nodes["C"].cost == 2)
    sent = tx.send(message())
    world.settle()
    assert sent.state == ACCEPTED
    world.check()


def test_costs_add_up(world: World) -> None:
    near, far = world.interior("A"), world.interior("B")
    world.link(near, far, cost=7)
    world.until(lambda: near.nodes and far.nodes)
    assert near.nodes["B"].cost == far.nodes["A"].cost == 7


def test_watches_follow_the_network(world: World) -> None:
    near, far = world.chain("A", "B")
    seen: list[bool] = []
    watch = near.watch("svc", seen.append)
    assert seen == [False]
    rx = world.client(far).receiver("svc")
    world.until(lambda: len(seen) == 2)
    rx.detach()
    world.until(lambda: len(seen) == 3)
    assert seen == [False, True, False]
    watch.cancel()
    world.client(far).receiver("svc")
    world.advance(5)
    assert len(seen) == 3


def test_totals_survive_their_links(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a")
    tx = world.client(router).sender("a")
    tx.send(b"1")
    tx.send(b"2")
    tx.send(b"3", settled=True)
    world.settle()
    rx.got[0].accept()
    rx.got[1].settle(RELEASED)
    world.settle()
    tx.detach()
    assert (router.totals["accepted"], router.totals["released"], router.totals["presettled"]) == (1, 1, 1)


def test_numbers_never_repeat(world: World) -> None:
    router = world.router()
    first, second = world.client(router), world.client(router)
    assert first.there.id != second.there.id
    assert first.sender("a").here.id != second.receiver("a").here.id


def test_priorities(world: World) -> None:
    """A configured priority counts once a link was attached to the address (section 7.1)."""
    near, far = world.chain("A", "B")
    near.table.rules.add(AddressRule(pattern="fast", treatment=Treatment.BALANCED, priority=9))
    world.client(far).receiver("fast", auto=ACCEPTED)
    world.client(far).receiver("slow", auto=ACCEPTED)
    client = world.client(near)
    connection = next(found for found in near.amqp_connections.values() if found.is_router)

    def used(address: str, priority: int | None) -> int:
        tx = client.sender(None)
        before = [link.deliveries if link else 0 for link in connection.data_out]
        tx.send(message(address, priority=priority) if priority is not None else message(address))
        world.settle()
        after = [link.deliveries if link else 0 for link in connection.data_out]
        (found,) = [index for index in range(10) if after[index] != before[index]]
        return found

    world.advance(5)
    assert used("slow", None) == 4
    assert used("slow", 7) == 7
    tx = client.sender("fast")
    assert used("fast", 2) == 9
    assert tx.credit


def test_an_unknown_topological_address(world: World) -> None:
    near, _far = world.chain("A", "B")
    tx = world.client(near).sender(None)
    for to in ("amqp:/_topo/0/X/a", "amqp:/_topo/1/B/a", "amqp:/_local/x", "", "/", "amqp://"):
        sent = tx.send(message(to))
        world.settle()
        world.check()
        assert sent.is_settled
    assert tx.credit == 250


def test_control_addresses_are_not_for_clients(world: World) -> None:
    near, _far = world.chain("A", "B")
    tx = world.client(near).sender(None)
    for to in ("amqp:/_local/qdhello", "amqp:/_topo/0/all/qdrouter", "amqp:/_topo/0/all/qdrouter.ma"):
        for size in (1, 300_000):
            sent = tx.send(message(to, "x" * size))
            world.settle()
            assert sent.state == RELEASED
    world.check()


def test_two_connections_in_a_group(world: World) -> None:
    near, far = world.interior("A"), world.interior("B")
    world.link(near, far)
    world.link(near, far, role=Role.INTER_ROUTER_DATA)
    world.until(lambda: near.nodes and far.nodes)
    assert len(far.amqp_connections) == 2
    world.check()
