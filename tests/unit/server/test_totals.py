"""Sums are the same whether taken in one go or in slices while links come and go."""

from __future__ import annotations

from collections import deque

import pytest

from tests.unit.core.engines import message
from tests.unit.server.sites import Bench
from vanrouter.server import totals
from vanrouter.server.totals import Totals


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "SLICE_LINKS", 1)


def test_in_slices(bench: Bench, one_by_one: None) -> None:
    client = bench.connect()
    producer, consumer = client.sender("a"), client.receiver("a", credit=10)
    for _ in range(3):
        producer.send(message(b"x"))
    bench.settle()
    assert len(consumer.got) == 3
    whole = Totals(bench.site.router)
    deque(whole.gather(), maxlen=0)
    assert whole.unsettled_in == whole.unsettled_out == 3
    halved = Totals(bench.site.router)
    steps = halved.gather()
    next(steps)
    client.drop()  # both links end between two slices
    bench.settle()
    deque(steps, maxlen=0)
    after = Totals(bench.site.router)
    deque(after.gather(), maxlen=0)
    assert after.unsettled_in == after.unsettled_out == after.queued == 0
    assert halved.counts == whole.counts


def test_what_waits(bench: Bench) -> None:
    client = bench.connect()
    producer, _ = client.sender("a"), client.receiver("a", credit=1)
    for _ in range(3):
        producer.send(message(b"x"))
    bench.settle()
    found = Totals(bench.site.router)
    deque(found.gather(), maxlen=0)
    assert found.queued == 2
