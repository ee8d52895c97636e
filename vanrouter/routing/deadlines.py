"""Named deadlines as data: the pure modules hold their timers here and the host asks for the next one. Layer: 2."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TypeAlias

DeadlineKey: TypeAlias = tuple[str, str | int]
"""What the deadline is for, and of whom (`""` where there is only one)."""


def beat_after(now: float, interval_s: float) -> float:
    """Return the next multiple of `interval_s`, from a quarter of it to five quarters ahead.

    What has time is done on these beats: a router wakes up once for all of it, and so do its neighbours, when their
    clocks agree, for what it sends them.
    """
    at = (now // interval_s + 1) * interval_s
    return at if at - now >= interval_s / 4 else at + interval_s


def beat_before(at: float, now: float, interval_s: float) -> float:
    """Return the last beat until `at`; `at` itself when there is none from now on."""
    beat = at // interval_s * interval_s
    return beat if beat > now else at


class Deadlines:
    """A heap of deadlines with at most one for each key; replaced ones stay in the heap until they surface."""

    def __init__(self) -> None:
        self._at: dict[DeadlineKey, float] = {}
        self._heap: list[tuple[float, int, DeadlineKey]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._at)

    def at(self, key: DeadlineKey) -> float | None:
        """Return the deadline of a key, None when it has none."""
        return self._at.get(key)

    def set(self, key: DeadlineKey, at: float) -> None:
        """Set the deadline of a key, replacing an earlier one."""
        if self._at.get(key) == at:
            return
        self._at[key] = at
        self._count += 1
        heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 64 + 4 * len(self._at):
            self._heap = [(at, order, key) for at, order, key in self._heap if self._at.get(key) == at]
            heapify(self._heap)

    def set_at_most(self, key: DeadlineKey, at: float) -> None:
        """Set the deadline of a key unless it has an earlier one."""
        present = self._at.get(key)
        if present is None or at < present:
            self.set(key, at)

    def move(self, key: DeadlineKey, at: float) -> None:
        """Set the deadline of a key that has one."""
        if key in self._at:
            self.set(key, at)

    def cancel(self, *keys: DeadlineKey) -> None:
        """Remove the deadlines of these keys, as far as they have one."""
        for key in keys:
            self._at.pop(key, None)

    def next(self) -> float | None:
        """Return the earliest deadline."""
        heap = self._heap
        while heap:
            at, _, key = heap[0]
            if self._at.get(key) == at:
                return at
            heappop(heap)
        return None

    def pop_due(self, now: float) -> DeadlineKey | None:
        """Remove and return the key of the earliest deadline that has come, None when none has."""
        at = self.next()
        if at is None or at > now:
            return None
        key = heappop(self._heap)[2]
        del self._at[key]
        return key
