"""Deliveries that stand still and links without credit."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, World, message
from vanrouter.core.stuck import STUCK_S, StuckReport, stuck_deliveries, zero_credit_s
from vanrouter.core.table import AddressRule, Treatment


def test_both_ends_of_a_delivery_count_until_it_is_settled(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a")
    source = world.client(router).sender("a")
    source.send(message())
    world.settle()
    assert not stuck_deliveries(router, world.time)
    world.advance(STUCK_S + 1)
    assert stuck_deliveries(router, world.time) == {drain.here: 1, source.here: 1}
    drain.got[0].accept()
    world.settle()
    assert not stuck_deliveries(router, world.time)


def test_what_waits_for_credit_counts(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a", credit=0)
    source = world.client(router).sender("a")
    source.send(message())
    world.advance(STUCK_S + 1)
    assert stuck_deliveries(router, world.time)[drain.here] == 1
    assert zero_credit_s(drain.here, world.time) > STUCK_S
    drain.credit(1)
    world.settle()
    assert drain.got


def test_a_producer_without_consumers_is_blocked(world: World) -> None:
    router = world.router()
    source = world.client(router).sender("a")
    world.advance(STUCK_S + 1)
    assert zero_credit_s(source.here, world.time) > STUCK_S
    world.client(router).receiver("a")
    assert zero_credit_s(source.here, world.time) == 0


def test_since_when_a_producer_has_no_credit(world: World) -> None:
    """Since the delivery that took the last of it, not since it was attached."""
    router = world.router()
    drain = world.client(router).receiver("a", credit=1000)
    source = world.client(router, link_capacity=3).sender("a")
    world.advance(100.0)
    for _ in range(3):
        source.send(message())
        world.advance(2.0)
    assert zero_credit_s(source.here, world.time) == pytest.approx(2.0)
    drain.got[0].accept()
    world.settle()
    assert zero_credit_s(source.here, world.time) == 0
    source.send(message())
    world.settle()
    assert zero_credit_s(source.here, world.time) == 0
    world.advance(5.0)
    assert zero_credit_s(source.here, world.time) == pytest.approx(5.0)


@pytest.mark.parametrize("size", [1, 100_000, 600_000])
def test_a_multicast_waits_for_its_slowest_copy(world: World, size: int) -> None:
    router = world.router()
    router.table.rules.add(AddressRule(pattern="m", treatment=Treatment.MULTICAST))
    world.client(router).receiver("m", auto=ACCEPTED)
    slow = world.client(router).receiver("m")
    source = world.client(router).sender("m")
    sent = source.send(message(body="x" * size))
    world.advance(STUCK_S + 1)
    assert stuck_deliveries(router, world.time) == {slow.here: 1, source.here: 1}
    slow.got[0].accept()
    world.settle()
    assert sent.state == ACCEPTED
    assert not stuck_deliveries(router, world.time)
    assert source.here.delayed_10s == (size < 500_000)  # a long one is no delay: it takes its time


def test_a_long_message_that_nobody_answers(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a")
    source = world.client(router).sender("a")
    source.send(message(body="x" * 600_000))
    world.advance(STUCK_S + 1)
    assert stuck_deliveries(router, world.time) == {drain.here: 1, source.here: 1}


def test_the_report_says_it_once(world: World, caplog: object) -> None:
    router = world.router()
    world.client(router).receiver("a")
    world.client(router).sender("a").send(message())
    StuckReport(router).start()
    with caplog.at_level("INFO", "vanrouter.core"):  # type: ignore[attr-defined]  # pytest's
        world.advance(100.0)
    found = [text for text in caplog.messages if "Stuck delivery" in text]  # type: ignore[attr-defined]  # pytest's
    assert len(found) == 2
