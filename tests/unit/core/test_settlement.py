"""Outcomes end to end, and deliveries whose link or connection is lost (router protocol, section 7.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.engines import (
    ACCEPTED,
    MODIFIED,
    RECEIVED,
    REJECTED,
    RELEASED,
    SND_SETTLED,
    Client,
    Drain,
    Sent,
    Source,
    World,
    message,
)

BIG = message(body="x" * 100_000)
"""Comes in several frames."""


class Pair:
    """A producer and a consumer of one address, on one router or on two."""

    def __init__(self, world: World, routers: int) -> None:
        self.world = world
        self.routers = world.chain(*"ABC"[:routers]) if routers > 1 else [world.router()]
        self.producer: Client = world.client(self.routers[0])
        self.consumer: Client = world.client(self.routers[-1])
        self.rx: Drain = self.consumer.receiver("a")
        self.tx: Source = self.producer.sender("a")
        world.until(lambda: self.tx.credit == 250)

    def send(self, content: bytes = b"hello", *, settled: bool = False) -> Sent:
        sent = self.tx.send(content, settled=settled)
        self.rest()
        return sent

    def rest(self) -> None:
        self.world.settle()
        self.world.check()


@pytest.fixture(params=[1, 2, 3])
def pair(world: World, request: pytest.FixtureRequest) -> Pair:
    return Pair(world, request.param)


@pytest.fixture
def near(world: World) -> Pair:
    return Pair(world, 1)


@pytest.fixture(params=[b"hello", BIG], ids=["small", "big"])
def content(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_accepted(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    assert pair.rx.contents == [content]
    assert (sent.state, sent.is_settled) == (0, False)
    pair.rx.got[0].accept()
    pair.rest()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    assert pair.tx.credit == 250
    assert pair.tx.here.accepted == 1
    assert pair.rx.here.accepted == 1


def test_accepted_and_settled_later(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    pair.rx.got[0].update(ACCEPTED)
    pair.rest()
    assert (sent.state, sent.is_settled) == (ACCEPTED, False)
    assert not pair.rx.got[0].is_settled
    sent.settle()
    pair.rest()
    assert pair.rx.got[0].is_settled
    assert pair.tx.credit == 250


def test_settled_without_state(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    pair.rx.got[0].settle()
    pair.rest()
    assert (sent.state, sent.is_settled) == (0, True)


def test_received_goes_back_as_it_is(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    for offset in (10, 30):
        pair.rx.got[0].update(RECEIVED, offset=offset)
        pair.rest()
        assert (sent.state, sent.received, sent.is_settled) == (RECEIVED, offset, False)
    pair.rx.got[0].accept()
    pair.rest()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_released(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    pair.rx.got[0].settle(RELEASED)
    pair.rest()
    assert (sent.state, sent.is_settled) == (RELEASED, True)


def test_rejected_with_its_error(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    pair.rx.got[0].update(REJECTED, settle=True, error=("amqp:internal-error", "no"))
    pair.rest()
    assert (sent.state, sent.is_settled, sent.error) == (REJECTED, True, ("amqp:internal-error", "no"))


@pytest.mark.parametrize("undeliverable", [True, False])
def test_modified(pair: Pair, content: bytes, undeliverable: bool) -> None:
    sent = pair.send(content)
    pair.rx.got[0].update(MODIFIED, settle=True, undeliverable=undeliverable)
    pair.rest()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)
    assert (sent.is_failed, sent.is_undeliverable) == (True, undeliverable)


def test_presettled(pair: Pair, content: bytes) -> None:
    pair.send(content, settled=True)
    assert pair.rx.contents == [content]
    assert pair.rx.got[0].was_settled
    assert pair.tx.credit == 250
    assert pair.tx.here.presettled == 1


def test_a_consumer_of_settled_deliveries(world: World, content: bytes) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", settle=SND_SETTLED)
    tx = world.client(router).sender("a")
    sent = tx.send(content)
    world.settle()
    world.check()
    assert rx.contents == [content]
    assert rx.got[0].was_settled
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_early_settlement_by_the_producer(pair: Pair, content: bytes) -> None:
    sent = pair.send(content)
    sent.settle()
    pair.rest()
    assert pair.rx.got[0].is_settled
    assert pair.tx.credit == 250
    assert not pair.routers[0].amqp_connections[pair.producer.there.id].incoming


def test_early_settlement_while_it_waits_for_credit(world: World, content: bytes) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=0)
    tx = world.client(router).sender("a")
    sent = tx.send(content)
    world.settle()
    sent.settle()
    world.settle()
    world.check()
    assert tx.credit == 250
    rx.credit(5)
    world.settle()
    world.check()
    assert rx.contents == [content]
    assert rx.got[0].is_settled


# Losses. What is in flight: sent and unsettled, or waiting for credit.


def lose_link(pair: Pair, link: Source | Drain) -> None:
    link.detach()


def lose_session(pair: Pair, link: Source | Drain) -> None:
    link.client.close_session(link.client.sessions[0])


def lose_connection(pair: Pair, link: Source | Drain) -> None:
    link.client.drop()


def close_connection(pair: Pair, link: Source | Drain) -> None:
    link.client.close()


LOSSES = [lose_link, lose_session, lose_connection, close_connection]
Loss = Callable[[Pair, Source | Drain], None]
losses = pytest.mark.parametrize("loss", LOSSES)


@losses
def test_consumer_lost_after_it_was_sent(pair: Pair, content: bytes, loss: Loss) -> None:
    sent = [pair.send(content), pair.send(content)]
    loss(pair, pair.rx)
    pair.rest()
    assert [(one.state, one.is_settled, one.is_failed) for one in sent] == [(MODIFIED, True, True)] * 2
    assert pair.tx.here.modified == 2


@losses
def test_consumer_lost_before_it_was_sent(near: Pair, loss: Loss) -> None:
    rx = near.consumer.receiver("b", credit=1)
    tx = near.producer.sender("b")
    sent = [tx.send(b"1"), tx.send(b"2"), tx.send(b"3")]
    near.rest()
    loss(near, rx)
    near.rest()
    assert [one.state for one in sent] == [MODIFIED, RELEASED, RELEASED]
    assert all(one.is_settled for one in sent)


@losses
def test_producer_lost(pair: Pair, content: bytes, loss: Loss) -> None:
    pair.send(content)
    loss(pair, pair.tx)
    pair.rest()
    got = pair.rx.got[0]
    assert (got.remote_state, got.is_settled) == (MODIFIED, True)
    assert not pair.consumer.there.outgoing


@losses
def test_producer_lost_while_it_waits_for_credit(near: Pair, loss: Loss) -> None:
    rx = near.consumer.receiver("b", credit=0)
    tx = near.producer.sender("b")
    tx.send(b"1")
    near.rest()
    loss(near, tx)
    near.rest()
    rx.credit(2)
    near.rest()
    assert all(got.was_settled for got in rx.got)
    assert not near.consumer.there.outgoing


@losses
@pytest.mark.parametrize("other", LOSSES)
@pytest.mark.parametrize("consumer_first", [True, False])
def test_both_lost(pair: Pair, content: bytes, loss: Loss, other: Loss, consumer_first: bool) -> None:
    pair.send(content)
    half = pair.tx.begin()
    half.write(BIG[:40_000])
    pair.rest()
    first, second = (pair.rx, pair.tx) if consumer_first else (pair.tx, pair.rx)
    loss(pair, first)
    other(pair, second)
    pair.rest()
    for router in pair.routers:
        for connection in router.amqp_connections.values():
            assert not connection.incoming
            assert not connection.outgoing


def test_both_lost_in_one_turn(pair: Pair, content: bytes) -> None:
    pair.send(content)
    pair.consumer.drop()
    pair.producer.drop()
    pair.rest()


@pytest.mark.parametrize("sides", ["near", "far"])
def test_the_way_between_routers_is_lost(world: World, content: bytes, sides: str) -> None:
    pair = Pair(world, 2)
    sent = [pair.send(content) for _ in range(3)]
    between = next(
        connection for connection in pair.routers[sides == "far"].amqp_connections.values() if connection.is_router
    )
    between.engine.drop(None)
    pair.rest()
    assert [(one.state, one.is_settled) for one in sent] == [(MODIFIED, True)] * 3
    assert [(got.remote_state, got.is_settled) for got in pair.rx.got] == [(MODIFIED, True)] * 3


def test_delays_are_counted(near: Pair) -> None:
    for seconds in (0.5, 2.0, 12.0):
        near.send()
        near.world.advance(seconds)
        near.rx.got[-1].accept()
        near.rest()
    link = near.tx.here
    assert (link.delayed_1s, link.delayed_10s) == (1, 1)


def times(pair: Pair) -> list[int]:
    found = pair.routers[0].time_to_settlement
    return [sum(counts) for counts in (found.counts[:5], found.counts[5:-1], found.counts[-1:])]


def test_times_to_settlement_are_sampled(near: Pair) -> None:
    """One of each link and turn: what is settled in one go counts once."""
    for seconds in (0.002, 2.0, 20.0):
        for _ in range(3):
            near.send()
        near.world.advance(seconds)
        for got in near.rx.got[-3:]:
            got.accept()
        near.rest()
    assert times(near) == [1, 1, 1]
    assert near.routers[0].time_to_settlement.total == pytest.approx(22.002, abs=0.1)


@pytest.mark.parametrize("state", [ACCEPTED, RELEASED, MODIFIED])
def test_each_outcome_has_a_time(near: Pair, state: int) -> None:
    near.send()
    near.rest()
    near.rx.got[-1].settle(state)
    near.rest()
    assert sum(times(near)) == 1


def test_a_router_in_the_middle_samples_one_of_many(world: World) -> None:
    pair = Pair(world, 2)
    for _ in range(100):
        pair.send()
        pair.rest()
        pair.rx.got[-1].accept()
        pair.rest()
    entered, passed = (sum(router.time_to_settlement.counts) for router in pair.routers)
    assert (entered, passed) == (100, 1)
