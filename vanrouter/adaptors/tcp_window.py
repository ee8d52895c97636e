"""The window of a stream of TCP: how much may be in flight, and when what was written is reported.

Layer: 4. Source: TCP over AMQP, section 7; extensions (windows and reports between vanrouters).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vanrouter.adaptors.tcp_shared import Shared

C_WINDOW_BYTES = 1_042_432
"""Octets in flight towards a C router, which reports at half of it (section 7)."""
FIRST_WINDOW_BYTES = 128 * 1024
LARGEST_WINDOW_BYTES = 4 * 1024 * 1024
"""Octets in flight between vanrouters: where a flow begins, and what it can earn."""
LEAST_WINDOW_BYTES = 16 * 1024
"""What a flow may always send; where there are so many that they must share, it begins with this. From then on the
window is at least twice what was reported, up to where a flow begins otherwise."""
REPORT_BYTES = 64 * 1024
LEAST_REPORT_BYTES = LEAST_WINDOW_BYTES // 2
"""Octets written from one report to the next: as many as were written before, within these; so always less than half of
the least that the producer may send."""
C_REPORT_BYTES = 256 * 1024
"""The same towards a C router, whose window is larger from the start."""
QUEUEING_RATIO = 2.0
QUEUEING_SLACK_S = 0.005
"""A report later than so many times the quickest one, and this, means that octets wait somewhere: a larger window would
only make them wait longer."""


def report_after(written: int, report_bytes: int) -> int:
    """Return at how many octets written the next report is due."""
    return written + min(max(written, LEAST_REPORT_BYTES), report_bytes)


class Windowed:
    """What of a flow decides how much it may send that was not reported as written."""

    __slots__ = (
        "acked",
        "is_reset_known",
        "largest",
        "probe_octets",
        "probe_time",
        "quickest_s",
        "sent",
        "shared",
        "window",
    )

    shared: Shared
    acked: int
    window: int
    largest: int
    is_reset_known: bool
    sent: int
    probe_octets: int
    probe_time: float
    quickest_s: float

    def allowed(self) -> int:
        """Return how much may be in flight now: what the flow has earned, as far as memory allows."""
        if not self.is_reset_known:
            return self.window  # a C router reports at half of its own, and not before
        least = min(max(LEAST_WINDOW_BYTES, 2 * self.acked), FIRST_WINDOW_BYTES)
        return max(least, min(self.window, self.shared.memory.window_bytes))

    def judge_window(self) -> None:
        """What was in flight when the window was full has been reported: enlarge the window, keep it, or shrink it."""
        now = self.shared.reactor.now
        took = now - self.probe_time
        self.quickest_s = min(self.quickest_s, took)
        if took <= self.quickest_s * QUEUEING_RATIO + QUEUEING_SLACK_S:
            self.window = min(self.window * 2, self.largest)
        elif took > 8 * (self.quickest_s + QUEUEING_SLACK_S) and self.largest > C_WINDOW_BYTES:
            self.window = max(self.window >> 1, FIRST_WINDOW_BYTES)
        self.probe_octets = self.sent
        self.probe_time = now
