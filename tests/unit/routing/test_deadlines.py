"""Deadlines: one for each key, replaced ones never fire, order by time, the heap bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.routing.deadlines import Deadlines, beat_after, beat_before


def test_order_and_replacement() -> None:
    deadlines = Deadlines()
    assert deadlines.next() is None
    assert deadlines.pop_due(100) is None
    deadlines.set(("a", 1), 5)
    deadlines.set(("b", "x"), 3)
    deadlines.set(("a", 1), 2)
    deadlines.set(("a", 1), 2)
    assert deadlines.at(("a", 1)) == 2
    assert deadlines.at(("c", "")) is None
    assert deadlines.next() == 2
    assert deadlines.pop_due(1) is None
    assert deadlines.pop_due(10) == ("a", 1)
    assert deadlines.pop_due(10) == ("b", "x")
    assert deadlines.pop_due(10) is None
    assert len(deadlines) == 0


def test_at_most() -> None:
    deadlines = Deadlines()
    deadlines.set_at_most(("a", 1), 5)
    deadlines.set_at_most(("a", 1), 7)
    assert deadlines.next() == 5
    deadlines.set_at_most(("a", 1), 3)
    assert deadlines.next() == 3


def test_only_what_is_there_is_moved() -> None:
    deadlines = Deadlines()
    deadlines.move(("a", 1), 5)
    assert deadlines.next() is None
    deadlines.set(("a", 1), 5)
    deadlines.move(("a", 1), 7)
    assert deadlines.next() == 7


def test_cancel() -> None:
    deadlines = Deadlines()
    deadlines.set(("a", 1), 5)
    deadlines.set(("b", 1), 6)
    deadlines.cancel(("a", 1), ("nothing", 1))
    assert deadlines.next() == 6
    deadlines.cancel(("b", 1))
    assert deadlines.next() is None


def test_heap_is_bounded() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(("a", 1), number)
    assert len(deadlines._heap) < 200
    assert deadlines.pop_due(20_000) == ("a", 1)


def test_beats() -> None:
    assert beat_after(7.0, 1.0) == 8.0
    assert beat_after(7.7, 1.0) == 8.0
    assert beat_after(7.8, 1.0) == 9.0  # the next one is too near
    assert beat_before(9.9, 7.0, 1.0) == 9.0
    assert beat_before(9.9, 9.0, 1.0) == 9.9
    assert beat_before(9.9, 9.5, 1.0) == 9.9


@given(st.floats(0, 1e7), st.sampled_from([0.05, 0.1, 0.3, 1.0, 7.0]))
def test_a_beat_is_always_ahead(now: float, interval: float) -> None:
    assert interval / 5 < beat_after(now, interval) - now < interval * 1.3
    assert beat_before(now + interval, now, interval) > now
