"""Deadlines of connections: a timing wheel, so that a limit costs the same with ten flows as with ten thousand.

Layer: 2. A flow stands in one bucket at most; a bucket is one timer of the reactor. Nothing is done for a flow between
its deadlines: a moving deadline (idle time) is looked at a few times within its span, by comparing counts.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from vanrouter.net.reactor import Reactor

TICK_S = 0.125
"""Width of a bucket: deadlines are kept no more exactly than this, and never early."""


class Timed(Protocol):
    """What stands in the wheel."""

    bucket: set[Timed] | None

    def on_deadline(self, now: float) -> None:
        """The time has come; the wheel has forgotten the caller already."""


class Wheel:
    """Buckets of TICK_S seconds."""

    __slots__ = ("_buckets", "_reactor")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._buckets: dict[int, set[Timed]] = {}

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def schedule(self, timed: Timed, delay_s: float) -> None:
        """Call `timed.on_deadline()` in `delay_s` seconds; what was scheduled for it before is forgotten."""
        if timed.bucket is not None:
            timed.bucket.discard(timed)
        due = self._reactor.now + delay_s
        tick = int(due / TICK_S) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            self._reactor.call_later(tick * TICK_S - self._reactor.now, lambda: self._expire(tick))
        bucket.add(timed)
        timed.bucket = bucket

    @staticmethod
    def cancel(timed: Timed) -> None:
        """Forget `timed`."""
        if timed.bucket is not None:
            timed.bucket.discard(timed)
            timed.bucket = None

    def _expire(self, tick: int) -> None:
        bucket = self._buckets.pop(tick)
        now = self._reactor.now
        while bucket:
            timed = bucket.pop()
            timed.bucket = None
            self._reactor.call_apart(partial(timed.on_deadline, now))  # a bug of one is not to keep the others waiting
