"""Deliveries that come in pieces: bounded memory, aborts, waiting for a link (router protocol, 2.5, 7.5, 7.9)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.engines import (
    ACCEPTED,
    MODIFIED,
    RECEIVED,
    REJECTED,
    RELEASED,
    Client,
    Drain,
    Sent,
    Source,
    World,
    message,
)
from vanrouter.core.router import Router
from vanrouter.engine import proton

STREAMING = ("qd.streaming-deliveries",)
HEAD = message("a", "x" * 1000)
PIECE = bytes(range(256)) * 64
MEGABYTES = 1 << 20


class Way:
    """One producer of streams, one consumer, and the routers between them."""

    def __init__(self, world: World, routers: int, **options: Any) -> None:
        self.world = world
        self.routers: list[Router] = world.chain(*"ABC"[:routers]) if routers > 1 else [world.router()]
        self.producer: Client = world.client(self.routers[0])
        self.consumer: Client = world.client(self.routers[-1], **options)
        self.rx: Drain = self.consumer.receiver("a", credit=20)
        self.tx: Source = self.producer.sender("a", capabilities=STREAMING)
        world.until(lambda: self.tx.credit == 250)

    def begin(self, *, settled: bool = False, content: bytes = HEAD) -> Sent:
        sent = self.tx.begin(settled=settled)
        sent.write(content)
        self.rest()
        return sent

    def rest(self) -> None:
        self.world.settle()
        self.world.check()


@pytest.fixture(params=[1, 2, 3])
def way(world: World, request: pytest.FixtureRequest) -> Way:
    return Way(world, request.param)


@pytest.fixture
def near(world: World) -> Way:
    return Way(world, 1)


def held(router: Router) -> int:
    """Octets of unsettled deliveries that the router's engine holds, both ways."""
    total = 0
    for connection in router.amqp_connections.values():
        for pn in [*connection.incoming, *connection.outgoing]:
            total += proton.delivery_pending(pn)
        for delivery in connection.incoming.values():
            total += len(getattr(delivery, "_content", b""))
    return total


@pytest.mark.parametrize("settled", [False, True])
def test_octets_go_on_as_they_come(way: Way, settled: bool) -> None:
    sent = way.begin(settled=settled)
    expected = HEAD
    for number in range(5):
        got = way.rx.got[0]
        assert (bytes(got.content), got.is_complete) == (expected, False)
        piece = PIECE[number:]
        sent.write(piece)
        expected += piece
        way.rest()
    sent.end()
    way.rest()
    assert way.rx.contents == [expected]
    if not settled:
        way.rx.got[0].accept()
        way.rest()
        assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    assert way.tx.credit == 250
    for router in way.routers:
        assert held(router) == 0


def push(sent: Sent, count: int) -> None:
    """Write so many octets, the engine of the client never holding more than 1 MB of them, as far as they go."""
    world = sent.link.client.world
    while count > 0 and (sent.pending < MEGABYTES or world.is_busy):
        if sent.pending < MEGABYTES:
            sent.write(PIECE * 8)
            count -= len(PIECE) * 8
        world.turn()


def test_a_long_message_in_bounded_memory(world: World) -> None:
    """Through two routers to a consumer that stops reading; everything else goes on."""
    way = Way(world, 2)
    way.rx.keeps_content = False
    sent = way.begin()
    push(sent, 20 * MEGABYTES)
    way.rest()
    assert way.rx.got[0].size > 20 * MEGABYTES
    assert not any(held(router) for router in way.routers)
    way.rx.reads = False
    push(sent, 40 * MEGABYTES)
    way.rest()
    # It stands still: a bounded part is on its way, and others pass.
    assert sent.pending >= MEGABYTES
    assert all(held(router) < 10 * MEGABYTES for router in way.routers)
    other = world.client(way.routers[1]).receiver("b", auto=ACCEPTED)
    tx = world.client(way.routers[0]).sender("b")
    world.until(lambda: tx.credit)
    aside = tx.send(message(body="x"))
    world.settle()
    assert aside.state == ACCEPTED
    assert other.contents
    way.rx.read_on()
    way.rest()
    push(sent, 20 * MEGABYTES)
    sent.end()
    way.rest()
    assert way.rx.got[0].is_complete
    assert not any(held(router) for router in way.routers)
    way.rx.got[0].accept()
    way.rest()
    assert sent.state == ACCEPTED


def test_a_stopped_stream_leaves_the_way_to_others(world: World) -> None:
    """Two streams over one pair of routers, one of them stopped."""
    near, far = world.chain("A", "B")
    stuck = world.client(far).receiver("a")
    stuck.reads = False
    rx = world.client(far).receiver("b", auto=ACCEPTED)
    rx.keeps_content = stuck.keeps_content = False
    first = world.client(near).sender("a", capabilities=STREAMING)
    second = world.client(near).sender("b", capabilities=STREAMING)
    world.until(lambda: first.credit and second.credit)
    one, two = first.begin(), second.begin()
    push(one, 30 * MEGABYTES)
    push(two, 30 * MEGABYTES)
    two.end()
    world.settle()
    assert two.state == ACCEPTED
    assert rx.got[0].size == 30 * MEGABYTES
    assert one.pending >= MEGABYTES
    stuck.read_on()
    one.end()
    world.settle()
    assert stuck.got[0].is_complete
    world.check()


# Aborts.


def test_aborted_in_the_middle(way: Way) -> None:
    sent = way.begin()
    sent.abort()
    way.rest()
    assert way.rx.got[0].is_aborted
    assert way.tx.credit == 250
    following = way.tx.send(b"next")
    way.rest()
    assert way.rx.contents == [b"next"]
    way.rx.got[-1].accept()
    way.rest()
    assert following.state == ACCEPTED


def test_aborted_while_it_waits_for_credit(near: Way) -> None:
    rx = near.consumer.receiver("b", credit=0)
    tx = near.producer.sender("b", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    near.rest()
    sent.abort()
    near.rest()
    assert tx.credit == 250
    sent = tx.send(b"next")
    rx.credit(2)
    near.rest()
    assert rx.contents == [b"next"]
    rx.got[-1].accept()
    near.rest()
    assert sent.state == ACCEPTED


def test_aborted_while_it_waits_for_the_link(near: Way) -> None:
    first = near.begin()
    other = near.producer.sender("a", capabilities=STREAMING)
    second = other.begin()
    second.write(HEAD)
    third = near.producer.sender("a").send(b"after")
    near.rest()
    assert len(near.rx.got) == 1
    second.abort()
    near.rest()
    assert other.credit == 250
    first.end()
    near.rest()
    assert near.rx.contents == [HEAD, b"after"]
    for got in near.rx.got:
        got.accept()
    near.rest()
    assert first.state == third.state == ACCEPTED


@pytest.mark.parametrize("small_first", [True, False])
def test_a_link_carries_one_after_the_other(near: Way, small_first: bool) -> None:
    first = near.begin()
    links = [near.producer.sender("a", capabilities=STREAMING) for _ in range(2)]
    waiting = links[0].begin()
    waiting.write(b"W" * 100_000)
    near.rest()
    small = links[1].send(b"small")
    near.rest()
    waiting.write(b"W" * 100_000)
    near.rest()
    if small_first:
        waiting.end()
        near.rest()
    first.end()
    near.rest()
    waiting.end() if not small_first else None
    near.rest()
    assert near.rx.contents == [HEAD, b"W" * 200_000, b"small"]
    for got in near.rx.got:
        got.accept()
    near.rest()
    assert [sent.state for sent in (first, waiting, small)] == [ACCEPTED] * 3


def test_a_whole_message_that_waits_and_is_settled_early(near: Way) -> None:
    first = near.begin()
    other = near.producer.sender("a")
    sent = other.send(b"y" * 100_000)
    near.rest()
    sent.settle()
    near.rest()
    assert other.credit == 250
    first.end()
    near.rest()
    assert near.rx.contents == [HEAD, b"y" * 100_000]
    assert near.rx.got[1].was_settled or near.rx.got[1].is_settled


@pytest.mark.parametrize("content", [b"y" * 10, b"y" * 100_000, b"y" * 600_000])
def test_whoever_waits_for_the_link_ends_with_it(near: Way, content: bytes) -> None:
    first = near.begin()
    sent = near.producer.sender("a").send(content)
    near.rest()
    near.rx.detach()
    near.rest()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert first.state == MODIFIED
    first.end()
    near.rest()
    assert first.is_settled


# Early outcomes.


@pytest.mark.parametrize("state", [RELEASED, MODIFIED, REJECTED, ACCEPTED])
def test_an_early_outcome_throws_the_rest_away(way: Way, state: int) -> None:
    sent = way.begin()
    way.rx.got[0].settle(state)
    way.rest()
    assert sent.state == state
    assert not sent.is_settled
    for _ in range(64):
        sent.write(PIECE * 4)
        way.rest()
    sent.end()
    way.rest()
    assert (sent.state, sent.is_settled) == (state, True)
    assert way.tx.credit == 250
    following = way.tx.send(b"next")
    way.rest()
    assert way.rx.contents[-1] == b"next"
    way.rx.got[-1].accept()
    way.rest()
    assert following.state == ACCEPTED


def test_received_during_a_stream(way: Way) -> None:
    sent = way.begin()
    way.rx.got[0].update(RECEIVED, offset=77)
    way.rest()
    assert (sent.state, sent.received) == (RECEIVED, 77)
    sent.end()
    way.rest()
    way.rx.got[0].accept()
    way.rest()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_an_outcome_before_the_end_without_settlement(way: Way) -> None:
    sent = way.begin()
    way.rx.got[0].update(ACCEPTED)
    way.rest()
    assert (sent.state, sent.is_settled) == (ACCEPTED, False)
    sent.write(PIECE)
    sent.end()
    way.rest()
    assert way.rx.contents == [HEAD + PIECE]
    sent.settle()
    way.rest()
    assert way.rx.got[0].is_settled
    assert way.tx.credit == 250


# Losses.


def test_consumer_lost_in_the_middle(way: Way) -> None:
    sent = way.begin()
    way.rx.detach()
    way.rest()
    assert sent.state == MODIFIED
    sent.write(PIECE * 64)
    way.rest()
    sent.end()
    way.rest()
    assert sent.is_settled
    assert sent.state == MODIFIED


def test_producer_lost_in_the_middle(way: Way) -> None:
    way.begin()
    way.producer.drop()
    way.rest()
    assert way.rx.got[0].is_aborted
    assert not way.consumer.there.outgoing


def test_producer_lost_at_the_end(way: Way) -> None:
    sent = way.begin()
    sent.end()
    way.rest()
    way.producer.drop()
    way.rest()
    got = way.rx.got[0]
    assert (got.is_complete, got.is_aborted) == (True, False)
    assert (got.remote_state, got.is_settled) == (MODIFIED, True)


def test_the_way_is_lost_in_the_middle(world: World) -> None:
    way = Way(world, 2)
    sent = way.begin()
    between = next(found for found in way.routers[0].amqp_connections.values() if found.is_router)
    between.engine.drop(None)
    way.rest()
    assert sent.state == MODIFIED
    assert way.rx.got[0].is_aborted
    sent.end()
    way.rest()
    assert sent.is_settled


# Links of streams between routers.


def stream_links(router: Router) -> int:
    connection = next(found for found in router.amqp_connections.values() if found.is_router)
    return len(connection.senders) - 11


def test_stream_links_are_used_again(world: World) -> None:
    way = Way(world, 2)
    sent = [way.begin() for _ in range(1)]
    assert stream_links(way.routers[0]) == 1
    others = [way.producer.sender("a", capabilities=STREAMING) for _ in range(3)]
    for tx in others:
        half = tx.begin()
        half.write(HEAD)
        sent.append(half)
    way.rest()
    assert stream_links(way.routers[0]) == 4
    for half in sent:
        half.end()
    way.rest()
    for _ in range(3):
        half = way.begin()
        half.end()
        way.rest()
    assert stream_links(way.routers[0]) == 4
    for got in way.rx.got:
        got.accept()
    way.rest()


def test_a_peer_that_ends_the_session_of_streams(world: World) -> None:
    """Later streams go on in a new one."""
    near, _far = world.chain("A", "B")
    rx = world.client(near, capabilities=("qd.streaming-links",), container="streams")
    drain = rx.receiver("b", credit=10)
    tx = world.client(near).sender("b", capabilities=STREAMING)
    for number in range(3):
        sent = tx.begin()
        sent.write(HEAD)
        world.settle()
        link = next(found for found in rx.links.values() if found is not drain and not found.is_closed)
        assert isinstance(link, Drain)
        assert len(link.got) == 1
        rx.close_session(proton.link_session(link.pn))
        link.is_closed = True
        world.settle()
        world.check()
        assert sent.state == MODIFIED, number
        sent.end()
        world.settle()
        assert sent.is_settled
    world.check()


def test_moved_streams_count_as_load(world: World) -> None:
    """A consumer whose streams were put on links of their own is not idle (section 7.3)."""
    router = world.router()
    busy = world.client(router, capabilities=("qd.streaming-links",)).receiver("a", auto=ACCEPTED)
    tx = world.client(router).sender("a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    idle = world.client(router).receiver("a", auto=ACCEPTED)
    other = world.client(router).sender("a")
    for _ in range(5):
        other.send(b"x")
        world.settle()
    assert len(idle.got) == 5
    sent.end()
    world.settle()
    assert busy.here.moved_streams == 1  # until it is settled
    for link in busy.client.links.values():
        if isinstance(link, Drain):
            for got in link.got:
                got.accept()
    world.settle()
    assert busy.here.moved_streams == 0
    assert sent.state == ACCEPTED


def test_a_consumer_that_detaches_in_the_middle_has_not_got_it(way: Way) -> None:
    way.begin()
    way.rx.detach()
    way.rest()
    assert way.rx.contents == []


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_stream_that_waited_for_credit_was_not_sent(world: World, is_whole: bool) -> None:
    router = world.router()
    consumer = world.client(router)
    link = consumer.receiver("a", credit=0)
    sent = world.client(router).sender("a").begin()
    sent.write(PIECE * 40)
    world.settle()
    assert link.here.busy is not None
    if is_whole:
        sent.end()
        world.settle()
    consumer.drop()
    world.settle()
    if not is_whole:
        sent.end()
        world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_one_that_was_sent_in_part_may_have_been_had(world: World, routers: int) -> None:
    way = Way(world, routers)
    sent = way.begin()
    sent.write(PIECE * 40)
    way.rest()
    way.consumer.drop()
    way.world.settle()
    sent.end()
    way.world.settle()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)
