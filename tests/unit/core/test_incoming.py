"""The receiving half of deliveries in pieces: what is settled when, and how often."""

from __future__ import annotations

import pytest

from tests.unit.core.ends import Service
from tests.unit.core.engines import ACCEPTED, RELEASED, World
from vanrouter.core.peer import VANROUTER_CAPABILITY, Role
from vanrouter.core.stream import STREAM_FLAGS
from vanrouter.engine.annotations import encode
from vanrouter.engine.messages import encode_stream_head

STREAMING = ("qd.streaming-deliveries",)
HEAD = encode_stream_head("svc", None, None)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_counts_of_the_link(world: World, settled: bool, in_pieces: bool) -> None:
    router = world.interior("A")
    service = Service()
    subscription = router.subscribe_stream("svc", service)
    tx = world.client(router).sender("svc", capabilities=STREAMING)
    sent = tx.begin(settled=settled)
    sent.write(HEAD)
    if in_pieces:
        world.settle()
    sent.end()
    world.settle()
    service.streams[0].producer.outcome(ACCEPTED, True)
    world.settle()
    world.check()
    link = tx.here
    assert (link.deliveries, link.presettled, link.accepted) == (1, int(settled), int(not settled))
    assert link.unsettled == 0
    assert tx.credit == 250
    subscription.cancel()


def test_nothing_is_settled_before_the_end(world: World) -> None:
    router = world.interior("A")
    service = Service()
    subscription = router.subscribe_stream("svc", service)
    tx = world.client(router).sender("svc", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    producer = service.streams[0].producer
    producer.outcome(RELEASED, True)
    producer.outcome(ACCEPTED, True)  # the first counts
    producer.received(7)
    world.settle()
    assert (sent.state, sent.is_settled) == (RELEASED, False)
    sent.write(bytes(500_000))
    world.settle()
    sent.end()
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    producer.outcome(ACCEPTED, True)
    world.settle()
    assert tx.here.released == 1
    subscription.cancel()


@pytest.mark.parametrize("is_vanrouter", [False, True])
def test_credit_for_a_stream_of_a_router(world: World, is_vanrouter: bool) -> None:
    """A C router may keep what it has of a stream until something is said about its link: so at the beginning."""
    router = world.interior("A")
    service = Service()
    subscription = router.subscribe_stream("svc", service)
    capabilities = (VANROUTER_CAPABILITY,) if is_vanrouter else ()
    tx = world.client(router, role=Role.EDGE, container="E", capabilities=capabilities).sender()
    for _ in range(3):
        before = tx.credit
        sent = tx.begin()
        sent.write(encode(STREAM_FLAGS, None, None, ()) + HEAD)
        world.settle()
        assert tx.credit - before == (not is_vanrouter)
        world.check()
        service.streams[-1].producer.outcome(ACCEPTED, True)
        sent.end()
        world.settle()
        world.check()
        assert sent.is_settled
    assert tx.credit == (247 if is_vanrouter else 250)  # with the next ones, in one frame
    subscription.cancel()


def test_deliveries_behind_a_long_one_are_taken_in_the_same_turn(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", auto=ACCEPTED)
    tx = world.client(router).sender("a")
    sent = [tx.send(bytes([number]) * 40_000) for number in range(20)]
    world.settle()
    world.check()
    assert [content[0] for content in rx.contents] == list(range(20))
    assert all(one.state == ACCEPTED for one in sent)
