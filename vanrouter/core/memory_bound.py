"""The bound on what a router holds for readers that are slower than their writers (`maxBufferedBytes`).

Layer: 3. Source: extensions, limits. Octets wait in two kinds of places, and each has its half of the bound:

    kept     what an adaptor has copied because a socket refused it, or because it may have to be sent again
    engine   the engine's buffers: one for each delivery, of those that come in and those that go out, and one for each
             connection, which frames are made in

The engine's buffers double when they are too small and never shrink; a delivery that has ended leaves its buffer to the
next one of its connection. So it is their size that counts, not what is in them, and the way to bound it is to put less
into one delivery at a time, and into one connection while its socket takes nothing. The more they take, the less may
wait in any one of them: each gets a fixed part of what is left, as memory is shared in switches (Choudhury and Hahne,
Dynamic queue length thresholds, 1998). The octets kept are bounded by windows that become smaller when there are many
flows (`window_bytes`), and by ending the worst.
"""

from __future__ import annotations

from collections.abc import Callable

DEFAULT_LIMIT_BYTES = 1 << 30
"""The bound when nobody says otherwise."""

ENGINE_BYTES = 128 << 20
"""What the engine's buffers may take, or half of the bound if that is less: 500 flows at full speed."""

SMALL_BYTES = 8 * 1024
"""Buffers up to this size are not counted: the least that a flow may have waiting in one."""

PART = 8
"""A delivery may have 1/2**PART of what is left waiting in the engine."""

LEAST_BYTES = 4 * 1024
"""Octets of one delivery that may wait however scarce memory is, and that are read at a time: every flow goes on."""

UNSENT_BYTES = 128 * 1024
"""Octets of one stream that may wait in the engine while its socket is full."""

UNFLUSHED_BYTES = 512 * 1024
"""The same while the socket takes more: reached when the link has no credit, or the session no window."""

QUEUED_BYTES = 2 << 20
QUEUED_PART = 5
"""Octets that the streams of one connection may give to the engine while its socket is full, and the part
(1/2**QUEUED_PART) of the bound if that is less. The engine makes frames of all that it has whenever it is asked for
some, so that `unsent_bytes` alone would allow each stream its whole window there."""

FLOWS_PART = 4
"""All flows together may be sent 1/FLOWS_PART of the bound that nobody has reported as written."""


class MemoryBound:
    """What is held, and what that leaves for each flow. One for each router."""

    __slots__ = (
        "_watchers",
        "ended",
        "engine",
        "flows",
        "kept",
        "limit",
        "queued_bytes",
        "read_bytes",
        "unflushed_bytes",
        "unsent_bytes",
        "window_bytes",
    )

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._watchers: list[Callable[[], None]] = []
        self.limit = limit_bytes
        self.kept = 0
        """Octets that adaptors keep."""
        self.engine = 0
        """Size of the engine's larger buffers."""
        self.flows = 0
        """Open flows, which share the bound."""
        self.ended = 0
        """Flows ended because the bound was exceeded."""
        self.unsent_bytes = UNSENT_BYTES
        self.unflushed_bytes = UNFLUSHED_BYTES
        """What may wait in the engine of one delivery now."""
        self.queued_bytes = QUEUED_BYTES
        """What all streams of one connection may put into the engine from when its socket is full until it is empty."""
        self.read_bytes = UNSENT_BYTES
        """What may be read from one socket at a time now."""
        self.window_bytes = limit_bytes
        """What one flow may send now that nobody has reported as written."""
        self.set_limit(limit_bytes)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have `watcher()` called when `read_bytes` has changed; once now."""
        self._watchers.append(watcher)
        watcher()

    def set_limit(self, limit_bytes: int) -> None:
        """Change the bound."""
        self.limit = limit_bytes
        self.queued_bytes = min(QUEUED_BYTES, limit_bytes >> QUEUED_PART)
        self.add_flows(0)
        self._share()

    def add_flows(self, count: int) -> None:
        """Flows have begun, or ended if `count` is negative."""
        self.flows += count
        window = self.limit // (FLOWS_PART * max(1, self.flows))
        is_step = window.bit_length() != self.window_bytes.bit_length()
        self.window_bytes = window
        if is_step:
            self._share()

    def add_engine(self, octets: int) -> None:
        """The engine's buffers have become so much larger; smaller if negative."""
        self.engine += octets
        self._share()

    @property
    def held(self) -> int:
        """Octets held in both kinds of places."""
        return self.kept + self.engine

    @property
    def is_exceeded(self) -> bool:
        """Something has to be ended. The engine's buffers count with no more than their half."""
        return self.kept + min(self.engine, self.limit >> 1) > self.limit

    def _share(self) -> None:
        left = min(self.limit >> 1, ENGINE_BYTES) - self.engine
        part = max(LEAST_BYTES, left >> PART)
        self.unflushed_bytes = min(part, UNFLUSHED_BYTES)
        self.unsent_bytes = unsent = max(LEAST_BYTES, min(part, UNSENT_BYTES, self.window_bytes))
        read_bytes = 1 << (unsent.bit_length() - 1)  # in steps: who watches has something to do for each
        if read_bytes != self.read_bytes:
            self.read_bytes = read_bytes
            for watcher in self._watchers:
                watcher()


def buffer_size(octets: int) -> int:
    """Return how large the engine makes a buffer for so many octets: a power of two."""
    return 1 << (octets - 1).bit_length()
