"""A histogram of plain integers: cheap enough to be filled where things happen, read when somebody asks. Layer: 1."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

LATENCY_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds that suit what a router does: from one turn of its loop to what a person calls broken."""


class Histogram:
    """Counts of observed values by upper bound.

    Args:
        bounds: inclusive upper bounds, rising; values above the last are counted as well.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """How many values fell between the bound before and this one; the last counts what is above all bounds."""
        self.total = 0.0
        """Sum of the values."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[int]:
        """Return how many values were at most each bound, and at the end how many there were."""
        return list(accumulate(self.counts))
