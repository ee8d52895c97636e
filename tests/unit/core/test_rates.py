"""Settlements a second, averaged over the last seconds."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, World
from vanrouter.core.rates import AT_ONCE, PERIOD_S, SettleRates


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
@pytest.mark.parametrize("settled", [False, True])
def test_rate_of_a_busy_link_and_of_one_that_was(
    world: World, monkeypatch: pytest.MonkeyPatch, settled: bool, at_once: int
) -> None:
    monkeypatch.setattr("vanrouter.core.rates.AT_ONCE", at_once)
    router = world.router()
    rates = SettleRates(router)
    rates.start()
    drain = world.client(router).receiver("a", auto=ACCEPTED, credit=10_000)
    source = world.client(router).sender("a")
    assert rates.rate(drain.here) == 0
    for _ in range(100):
        for _ in range(4):
            source.send(b"m", settled=settled)
        world.advance(0.1)
    world.advance(0.01)  # all links have been looked at
    assert 30 <= rates.rate(drain.here) <= 50
    assert 30 <= rates.rate(source.here) <= 50
    world.advance(4 * PERIOD_S)
    assert rates.rate(drain.here) == rates.rate(source.here) == 0
    source.send(b"m", settled=settled)
    world.settle()
    assert rates.rate(drain.here) == 0  # one in some seconds
