from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.histogram import LATENCY_S, Histogram


def test_bounds_are_inclusive() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 100.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.cumulative() == [2, 4, 6]
    assert histogram.total == 106.6


@given(st.lists(st.floats(0, 20)))
def test_cumulative_counts_are_those_of_sorting(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    expected = [sum(value <= bound for value in values) for bound in LATENCY_S]
    assert histogram.cumulative() == [*expected, len(values)]
