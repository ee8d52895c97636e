"""Runs end where the next delivery is not like the last one, and nothing of the last one holds for it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from tests.unit.core.engines import ACCEPTED, REJECTED, Drain, Source, World, message
from vanrouter.core import runs
from vanrouter.core.forwarder import Forwarder
from vanrouter.core.links import Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.core.runs import KEPT_RECORDS, PATIENCE, Runs
from vanrouter.engine.annotations import encode


def pair(world: World, **options: Any) -> tuple[Router, Source, Drain]:
    router = world.router()
    drain = world.client(router).receiver("a", **options)
    return router, world.client(router).sender("a"), drain


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [message(body=number) for number in range(first, first + count)]


def send(source: Source, contents: list[bytes]) -> list[Any]:
    return [source.send(content) for content in contents]


def test_one_way_is_looked_for_and_many_deliveries_take_it(world: World) -> None:
    _, source, drain = pair(world, credit=1000, auto=ACCEPTED)
    with patch.object(Runs, "find_way", autospec=True, side_effect=Runs.find_way) as found:
        for _ in range(5):
            send(source, numbered(40))
            world.settle()
    assert found.call_count == 1
    assert len(drain.contents) == 200
    world.check()


def test_a_run_ends_in_time(world: World) -> None:
    _, source, drain = pair(world, credit=1000, auto=ACCEPTED)
    with (
        patch.object(runs, "LONGEST", 10),
        patch.object(Runs, "take", autospec=True, side_effect=Runs.take) as taken,
        patch.object(Runs, "take_outcome", autospec=True, side_effect=Runs.take_outcome) as outcomes,
    ):
        sent = send(source, numbered(60))
        world.settle()
    assert taken.call_count == outcomes.call_count == 6
    assert drain.contents == numbered(60)
    assert all(one.state == ACCEPTED for one in sent)
    world.check()


def test_credit_ends_a_run_and_the_rest_waits(world: World) -> None:
    router, source, drain = pair(world, credit=7)
    sent = send(source, numbered(20))
    world.settle()
    assert drain.contents == numbered(7)
    consumer = next(link for link in router.links.values() if isinstance(link, Sender))
    assert (len(consumer.queue), consumer.credit, consumer.ready) == (13, 0, False)
    for got in list(drain.got):
        got.accept()
    drain.credit(20)
    world.settle()
    assert drain.contents == numbered(20)
    assert [one.state for one in sent] == [ACCEPTED] * 7 + [0] * 13
    world.check()


def test_a_longer_message_in_the_middle_keeps_its_place(world: World) -> None:
    _, source, drain = pair(world, auto=ACCEPTED)
    contents = [*numbered(5), message(body="x" * 50_000), *numbered(5, 5)]
    sent = send(source, contents)
    world.settle()
    assert drain.contents == contents
    assert all(one.state == ACCEPTED for one in sent)
    world.check()


def test_another_outcome_in_the_middle(world: World) -> None:
    _, source, drain = pair(world)
    sent = send(source, numbered(9))
    world.settle()
    for number, got in enumerate(list(drain.got)):
        got.settle(REJECTED if number == 4 else ACCEPTED)
    world.settle()
    assert [one.state for one in sent] == [ACCEPTED] * 4 + [REJECTED] + [ACCEPTED] * 4
    world.check()


def test_a_consumer_more_and_one_less_change_the_way(world: World) -> None:
    router, source, first = pair(world, auto=ACCEPTED)
    send(source, numbered(10))
    world.settle()
    second = world.client(router).receiver("a", auto=ACCEPTED)
    for start in range(10, 50, 10):
        send(source, numbered(10, start))
        world.settle()
    assert len(first.contents) == 30
    assert len(second.contents) == 20
    first.detach()
    world.settle()
    for start in range(50, 90, 10):
        send(source, numbered(10, start))
        world.settle()
    assert len(second.contents) == 60
    world.check()


def test_consumers_take_turns_in_one_run_and_who_is_done_comes_first(world: World) -> None:
    router = world.router()
    drains = [world.client(router).receiver("a") for _ in range(3)]
    source = world.client(router).sender("a")
    sent = send(source, numbered(30))
    world.settle()
    assert [len(drain.got) for drain in drains] == [10, 10, 10]
    for got in list(drains[1].got):
        got.accept()
    world.settle()
    assert sum(one.state == ACCEPTED for one in sent) == 10
    more = send(source, numbered(9, 30))
    world.settle()
    assert [len(drain.got) for drain in drains] == [10, 19, 10]
    for drain in drains:
        for got in list(drain.client.got.values()):
            got.accept()
    world.settle()
    assert all(one.state == ACCEPTED for one in (*sent, *more))
    world.check()


def test_outcomes_of_several_producers_in_one_run(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a", auto=ACCEPTED)
    sources = [world.client(router).sender("a") for _ in range(3)]
    sent = [source.send(content) for content in numbered(20) for source in sources]
    world.settle()
    assert len(drain.contents) == 60
    assert all(one.state == ACCEPTED for one in sent)
    assert [link.accepted for link in router.links.values() if isinstance(link, Receiver)] == [20, 20, 20]
    world.check()


def test_messages_that_are_all_different_are_not_looked_into_for_each(world: World) -> None:
    """A link between routers carries messages for many addresses by turns."""
    router = world.interior("A")
    peer = world.client(router, role=Role.INTER_ROUTER, container="X")
    data = peer.sender(capabilities=("qd.router-data",))
    consumers = [world.client(router).receiver(f"to.{number}", auto=ACCEPTED) for number in range(3)]
    with patch.object(Runs, "find_way", autospec=True, side_effect=Runs.find_way) as found:
        for number in range(90):
            data.send(encode(0, f"to.{number % 3}", "0/X", ("0/X",)) + message(body=number))
        world.settle()
    assert [len(consumer.contents) for consumer in consumers] == [30, 30, 30]
    assert found.call_count <= 90 // PATIENCE
    world.check()


def test_a_way_to_another_router_ends_with_its_link(world: World) -> None:
    near, far = world.chain("A", "B")
    drain = world.client(far).receiver("a", auto=ACCEPTED)
    world.advance(1.0)
    source = world.client(near).sender("a")
    sent = send(source, numbered(20))
    world.settle()
    assert drain.contents == numbered(20)
    assert all(one.state == ACCEPTED for one in sent)
    way = next(link.way for link in near.links.values() if getattr(link, "way", None) is not None)
    assert way.hop is not None
    assert way.counted is not None
    assert not way.hop.outstanding
    world.connections[0].engine.drop(None)
    world.settle()
    assert not way.is_good
    sent = send(source, numbered(3))
    world.settle()
    assert all(one.state not in (0, ACCEPTED) for one in sent)
    world.check()


def test_records_that_are_kept_hold_nothing(world: World) -> None:
    router, source, drain = pair(world, credit=1000, auto=ACCEPTED)
    assert isinstance(router.forwarder, Runs)
    for _ in range(10):
        send(source, numbered(100))
        world.settle()
    assert len(drain.contents) == 1000
    kept = router.forwarder._kept
    assert 0 < len(kept) <= KEPT_RECORDS
    for record in kept:
        assert record.receiver is record.sender is record.origin is record.hop is record.content is None
        assert not record.settled


@pytest.mark.parametrize("settled", [False, True])
def test_a_run_asks_less_of_the_interpreter(world: World, settled: bool) -> None:
    """What the general way would do is called for no delivery of a run but the first."""
    _, source, drain = pair(world, credit=1000, auto=None if settled else ACCEPTED)
    with (
        patch.object(Forwarder, "begin_whole", autospec=True, side_effect=Forwarder.begin_whole) as general,
        patch.object(Runs, "take_outcome", autospec=True, side_effect=Runs.take_outcome) as events,
    ):
        for _ in range(3):
            for content in numbered(50):
                source.send(content, settled=settled)
            world.settle()
    assert len(drain.contents) == 150
    assert not general.called
    assert events.call_count <= 12
