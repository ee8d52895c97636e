"""Rendering `/metrics` without holding the loop: for a millisecond at a time, with pauses in which traffic goes on.

Layer: 5. A thread would not do: it and the loop would wait for each other's interpreter lock, five milliseconds at a
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from vanrouter.net.reactor import Reactor

SLICE_S = 0.0005
"""Work done in one go; a piece that was begun is finished, so that it may be a little more."""

PAUSE_S = 0.001
"""For others, between two slices: of the loop's time a scrape takes a third at most."""

Done = Callable[[list[bytes]], None]


class Scrape:
    """One rendering at a time; who asks while it runs gets its outcome.

    Args:
        reactor: the loop.
        pieces: begins a rendering; empty pieces are allowed.
        clock: seconds, as exact as there is.
    """

    def __init__(
        self,
        reactor: Reactor,
        pieces: Callable[[], Iterator[bytes]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reactor = reactor
        self._make = pieces
        self._clock = clock
        self._waiting: list[Done] = []
        self._pieces: Iterator[bytes] = iter(())
        self._text: list[bytes] = []
        self._begun_at = 0.0
        self.lasted_s = 0.0
        """From the first slice of the last rendering to its end."""
        self.longest_slice_s = 0.0

    def ask(self, done: Done) -> None:
        """Call `done` with the text, in parts, when it is there."""
        self._waiting.append(done)
        if len(self._waiting) == 1:
            self._begun_at = self._clock()
            self._pieces, self._text = self._make(), []
            self._step()

    def on_crash(self) -> None:
        """A source raised (the loop's crash boundary): end this rendering; the next one begins anew."""
        self._finish([])

    def _step(self) -> None:
        begun = self._clock()
        text = self._text
        for piece in self._pieces:
            if piece:
                text.append(piece)
            elapsed = self._clock() - begun
            if elapsed >= SLICE_S:
                self.longest_slice_s = max(self.longest_slice_s, elapsed)
                self._reactor.call_later(PAUSE_S, self._step)
                return
        self.lasted_s = self._clock() - self._begun_at
        self._finish(text)

    def _finish(self, text: list[bytes]) -> None:
        waiting, self._waiting = self._waiting, []
        self._pieces, self._text = iter(()), []
        for done in waiting:
            done(text)
