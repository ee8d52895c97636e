"""Rendering `/metrics` without holding the loop: for a millisecond at a time, with pauses in which traffic goes on.

Layer: 5. A thread would not do: it and the loop would wait for each other's interpreter lock, five milliseconds at a
time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

from vanrouter.net.reactor import Reactor

SLICE_S = 0.0002
"""Work done in one go; a piece that was begun is finished, so that it may be a little more. It is what a busy turn of
the loop takes anyway: a request beside a scrape waits for one turn more at worst."""

PAUSE_S = 0.002
"""For others, between two slices: of the loop's time a scrape takes a tenth."""

Done = Callable[[list[bytes]], None]


class Scrape:
    """One rendering at a time; who asks while it runs gets its outcome.

    Args:
        reactor: the loop.
        pieces: begins a rendering; empty pieces are allowed.
        clock: processor seconds of this thread: what a slice takes from others, whatever else the machine does.
    """

    def __init__(
        self,
        reactor: Reactor,
        pieces: Callable[[], Iterator[bytes]],
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._reactor = reactor
        self._make = pieces
        self._clock = clock
        self._waiting: list[Done] = []
        self._pieces: Iterator[bytes] = iter(())
        self._text: list[bytes] = []
        self._used_s = 0.0
        self.cost_s = 0.0
        """Processor time of the last rendering."""
        self.longest_slice_s = 0.0
        """Most processor time that was taken in one go so far."""

    def ask(self, done: Done) -> None:
        """Call `done` with the text, in parts, when it is there."""
        self._waiting.append(done)
        if len(self._waiting) == 1:  # not begun here: a source that raises is our crash, not that of who asks
            self._reactor.call_soon(self._begin)

    def _begin(self) -> None:
        self._used_s = 0.0
        self._pieces, self._text = self._make(), []
        self._step()

    def on_crash(self) -> None:
        """A source raised (the loop's crash boundary): end this rendering; the next one begins anew."""
        self._finish([])

    def _step(self) -> None:
        begun = self._clock()
        # With ten thousand flows the collector takes milliseconds: its turn comes with the traffic's, not in a slice.
        gc.disable()
        try:
            has_more = self._render_until(begun + SLICE_S)
        finally:
            gc.enable()
        self._note(self._clock() - begun)
        if has_more:
            self._reactor.call_later(PAUSE_S, self._step)
            return
        self.cost_s = self._used_s
        self._finish(self._text)

    def _render_until(self, end: float) -> bool:
        """Render for so long; False when all of it is there."""
        for piece in self._pieces:
            if piece:
                self._text.append(piece)
            if self._clock() >= end:
                return True
        return False

    def _note(self, slice_s: float) -> None:
        self._used_s += slice_s
        self.longest_slice_s = max(self.longest_slice_s, slice_s)

    def _finish(self, text: list[bytes]) -> None:
        waiting, self._waiting = self._waiting, []
        self._pieces, self._text = iter(()), []
        for done in waiting:
            done(text)
