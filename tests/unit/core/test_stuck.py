"""Deliveries that stand still and links without credit."""

from __future__ import annotations

from tests.unit.core.engines import World, message
from vanrouter.core.stuck import STUCK_S, StuckReport, stuck_deliveries, zero_credit_s


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


def test_the_report_says_it_once(world: World, caplog: object) -> None:
    router = world.router()
    world.client(router).receiver("a")
    world.client(router).sender("a").send(message())
    StuckReport(router).start()
    with caplog.at_level("INFO", "vanrouter.core"):  # type: ignore[attr-defined]  # pytest's
        world.advance(100.0)
    found = [text for text in caplog.messages if "Stuck delivery" in text]  # type: ignore[attr-defined]  # pytest's
    assert len(found) == 2
