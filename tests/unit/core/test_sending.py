"""A delivery goes out now, or waits for credit, for the socket, for the link (router protocol, section 2.3)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, RELEASED, World, message
from vanrouter.core.connection import SESSION_BYTES
from vanrouter.engine import proton


def test_order_is_kept_while_it_waits(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=0)
    tx = world.client(router).sender("a")
    for number in range(50):
        tx.send(b"%d" % number, settled=number % 3 == 0)
    world.settle()
    for _ in range(25):
        rx.credit(2)
        world.settle()
        world.check()
    assert rx.contents == [b"%d" % number for number in range(50)]


def test_a_full_socket_holds_deliveries_back(world: World) -> None:
    """They wait in the queue of the link, not in the engine, until the consumer reads again."""
    router = world.router()
    consumer = world.client(router)
    rx = consumer.receiver("a", credit=10_000, auto=ACCEPTED, session=consumer.session(1 << 28))
    tx = world.client(router, link_capacity=5000).sender("a")
    consumer.stop_reading()
    sent = [tx.send(bytes(2000)) for _ in range(2000)]
    world.settle()
    there = consumer.there
    assert there.engine.blocked
    assert rx.here.queue
    assert rx.here in there.waiting
    assert not any(one.is_settled for one in sent)
    consumer.read_on()
    world.settle()
    world.check()
    assert not there.waiting
    assert all(one.state == ACCEPTED for one in sent)
    assert len(rx.contents) == 2000


def test_a_link_that_waits_for_the_socket_is_lost(world: World) -> None:
    router = world.router()
    consumer = world.client(router)
    consumer.receiver("a", credit=10_000, session=consumer.session(1 << 28))
    tx = world.client(router, link_capacity=5000).sender("a")
    consumer.stop_reading()
    sent = [tx.send(bytes(2000)) for _ in range(2000)]
    world.settle()
    consumer.drop()
    world.settle()
    world.check()
    assert all(one.is_settled for one in sent)
    assert any(one.state == RELEASED for one in sent)


def test_a_message_of_the_router_has_a_bound_too(world: World) -> None:
    router = world.router()
    rx = world.client(router, link_capacity=5).receiver("a", credit=0)
    for _ in range(20):
        router.send_message("a", message("a"))
    world.settle()
    assert len(rx.here.queue) <= 6
    assert rx.here.dropped_presettled >= 14
    rx.credit(10)
    world.settle()
    world.check()
    assert rx.got


def test_many_streams_that_wait_for_one_link(world: World) -> None:
    """Complete streams that follow each other do not build on each other's stack."""
    router = world.router()
    rx = world.client(router).receiver("a", credit=10_000, auto=ACCEPTED)
    client = world.client(router)
    first = client.sender("a", capabilities=("qd.streaming-deliveries",))
    busy = first.begin()
    busy.write(message(body="x"))
    world.settle()
    links = [client.sender("a") for _ in range(400)]
    sent = [link.send(bytes(20_000)) for link in links]
    halves = []
    for _ in range(400):
        half = client.sender("a", capabilities=("qd.streaming-deliveries",)).begin()
        half.write(message(body="x"))
        halves.append(half)
    world.settle()
    for half in halves:
        half.end()
    world.settle()
    busy.end()
    world.settle()
    world.check()
    assert len(rx.contents) == 801
    assert all(one.state == ACCEPTED for one in [*sent, *halves, busy])


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("size", [100, 10_000])
def test_a_client_that_keeps_its_window_shut(world: World, settled: bool, size: int) -> None:
    """Credit in plenty, and nothing read: what waits in the engine has a bound, and another session goes on."""
    router = world.router()
    client = world.client(router)
    shut = client.receiver("a", credit=1_000_000, session=client.session(1 << 17))
    shut.reads = False
    beside = client.receiver("b", credit=10, session=client.session())
    tx, other = world.client(router).sender("a"), world.client(router).sender("b")
    count = 0
    for _ in range((6 << 20) // size if size > 1000 else 20_000):
        if tx.credit <= 0:
            break
        tx.send(b"m" * size, settled=settled)
        count += 1
        if count % 50 == 0:
            world.settle()
    world.settle()
    world.check()
    sender = shut.here
    waiting = proton.session_outgoing_bytes(sender.session)
    assert waiting <= SESSION_BYTES + 17 * (size + 100)
    assert sender.is_shut or tx.credit == 0
    other.send(b"passes")
    world.settle()
    assert beside.contents == [b"passes"]
    shut.auto = ACCEPTED
    shut.read_on()
    world.settle()
    world.check()
    assert not client.there.shut_sessions
    got = len(shut.contents)
    assert got == count if not settled else got + sender.dropped_presettled == count
    assert tx.credit == 250
