"""How much a peer of HTTP/2 may ask for that brings nothing forward.

Layer: 4, no input or output of its own. Source: RFC 9113, section 10.5. Frames that cost a peer little and us work
(PING, SETTINGS, RST_STREAM, empty DATA, faults) spend patience; what is useful, and time, renew it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError

FRAME_COST = 1
"""Units for a frame that brings nothing forward."""
FAULT_COST = 5
"""For a stream reset by either side: work was begun for nothing."""
EXCHANGE_GAIN = 10
"""Back for each exchange that came to its end."""


class Patience:
    """How much a peer may ask for that brings nothing forward.

    The clock is read only when it has run out: so many units at once and in each window, and more for what is useful.

    Args:
        limit: units.
        window_s: seconds after which all of them are there again.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_left", "_since", "limit", "window_s")

    limit: int
    window_s: float

    def __init__(self, limit: int = 1000, window_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.window_s = window_s
        self._clock = clock
        self._left = limit
        self._since = clock()

    def spend(self, units: int) -> None:
        """Take `units`.

        Raises:
            GoAwayError: there are none left.
        """
        self._left -= units
        if self._left >= 0:
            return
        now = self._clock()
        if now - self._since < self.window_s:
            raise GoAwayError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that bring nothing forward")
        self._since = now
        self._left = self.limit - units

    def earn(self, units: int) -> None:
        """Give back for progress."""
        self._left = min(self._left + units, self.limit)
