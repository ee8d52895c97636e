"""Long answers of management made a little at a time, with pauses in which traffic goes on.

Layer: 5. A page of 500 connections takes some tens of milliseconds; a request beside it should wait for none of them.
Rows are encoded as they are made, so that putting the reply together costs next to nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from vanrouter.engine.sections import encode
from vanrouter.engine.values import Encoded
from vanrouter.net.reactor import Reactor

SLICE_S = 0.0005
"""Processor time taken in one go; a row that was begun is finished."""

PAUSE_S = 0.001
"""For others, between two slices: a page takes a third of the loop while it lasts."""

MAX_WAITING = 256
"""Queries that wait for the one in progress; what comes beyond them is answered in one go."""

Rows = Iterator[list[object]]
Done = Callable[[list[object] | None], None]


class Gatherer:
    """Collects the rows of one query after the other.

    Args:
        reactor: the loop.
        clock: processor seconds of this thread.
    """

    def __init__(self, reactor: Reactor, clock: Callable[[], float] = time.thread_time) -> None:
        self._reactor = reactor
        self._clock = clock
        self._waiting: deque[tuple[Rows, Done]] = deque()
        self._gathered: list[object] = []
        self.in_one_go = 0
        """Queries that found too many others waiting."""

    def gather(self, rows: Rows, done: Done) -> None:
        """Call `done` with the rows, encoded, when all are there: at once when they are few and nobody waits."""
        if len(self._waiting) >= MAX_WAITING:
            self.in_one_go += 1
            done([Encoded(encode(row)) for row in rows])
            return
        self._waiting.append((rows, done))
        if len(self._waiting) > 1:
            return
        with ExitStack() as undo:
            undo.callback(self._take_first)  # whoever asked is told by the exception
            is_whole = self._gather_some()
            undo.pop_all()
        self._go_on(is_whole)

    def on_crash(self) -> None:
        """Making a row has failed (the loop's crash boundary): say so, and go on with the next query."""
        self._finish(None)

    def _step(self) -> None:
        self._go_on(self._gather_some())

    def _gather_some(self) -> bool:
        """Make rows of the first query for a slice of time; False: there are more."""
        rows, gathered = self._waiting[0][0], self._gathered
        begun = self._clock()
        for row in rows:
            gathered.append(Encoded(encode(row)))
            if self._clock() - begun >= SLICE_S:
                return False
        return True

    def _go_on(self, is_whole: bool) -> None:
        if is_whole:
            self._finish(self._gathered)
        else:
            self._reactor.call_later(PAUSE_S, self._step)

    def _finish(self, results: list[object] | None) -> None:
        done = self._take_first()
        if self._waiting:
            self._reactor.call_later(0, self._step)
        self._reactor.call_apart(partial(done, results))  # what it raises is no matter of the next query

    def _take_first(self) -> Done:
        _, done = self._waiting.popleft()
        self._gathered = []
        return done
