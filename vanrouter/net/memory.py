"""Giving memory back to the system after much of it was freed.

Layer: 2. The C library keeps freed arenas until it is asked for them; asking takes milliseconds, so it is done rarely:
some seconds after a large number of things have ended, once. The interpreter's tables keep the room that they once
needed as well, so those that may have been large are made anew at the same time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Sized
from typing import Any

from vanrouter.net.reactor import Reactor

ENDS = 256
"""Ends of flows, links or connections after which it is worth asking."""

QUIET_S = 2.0
"""Wait after that, for what ends together to end, and for the peers to answer."""

FEW_OPEN = 256
"""With no more connections open than this, the interpreter's collector is asked as well: to look at all that lives
takes 5 ms with these, 40 with 2,000. With more it is asked if as many have gone as are left, or for cycles: mostly it
finds nothing, but lets go of the memory of small objects that it keeps for new ones."""

MANY_LINKS = 2000
POSTPONED = 4
"""With more links than this, the collector waits so many times QUIET_S for those that nobody uses to be given up: to
look at those of ten thousand flows that have ended takes 50 ms."""

CYCLES = 64
"""Ends of what refers to itself after which only the collector can free it."""

TABLE_BYTES = 8192
BYTES_FOR_EACH = 256
"""A table that is larger than the first, and than so much for each of its items, has become too large for them: the
interpreter uses 40 to 160 for each when it makes one."""

Tables = Iterable[dict[Any, Any] | set[Any]]


def find_malloc_trim() -> Callable[[int], object] | None:
    """Return the C library's `malloc_trim`, or None where there is none (musl)."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None


class Trimmer:
    """Counts ends and gives memory back when there were enough of them.

    Args:
        reactor: for the time.
        connections: all that are open.
        links: of all of them.
    """

    def __init__(self, reactor: Reactor, connections: Sized = (), links: Sized = ()) -> None:
        self._reactor = reactor
        self._connections = connections
        self._links = links
        self._postponed = 0
        self._most_open = 0
        """Connections since memory was last given back."""
        self._malloc_trim = find_malloc_trim()
        self._ends = 0
        self._cycles = 0
        self._is_waiting = False
        self.trims = 0
        self.collections = 0
        self._tables: list[Callable[[], Tables]] = []

    def watch(self, tables: Callable[[], Tables]) -> None:
        """Have what `tables()` returns made as small as it can be before memory is given back."""
        self._tables.append(tables)

    def note_ends(self, count: int = 1) -> None:
        """Something that held memory has ended."""
        self._ends += count
        was_open = len(self._connections) + 1
        if was_open > self._most_open:
            self._most_open = was_open
        if self._ends >= ENDS and not self._is_waiting:
            self._is_waiting = True
            self._reactor.call_later(QUIET_S, self._consider)

    def note_cycle(self) -> None:
        """Something has ended that refers to itself: the collector has to find it."""
        self._cycles += 1
        self.note_ends()

    def _is_collection_due(self) -> bool:
        is_open = len(self._connections)
        have_gone = self._most_open - is_open
        return (
            is_open <= max(FEW_OPEN, have_gone)
            or self._cycles >= CYCLES
            or sys.implementation.name != "cpython"  # nothing else frees anything there
        )

    def _consider(self) -> None:
        if self._ends >= ENDS * 2:  # they are still coming: wait for them
            self._ends = ENDS
            self._reactor.call_later(QUIET_S, self._consider)
            return
        is_due = self._is_collection_due()
        if is_due and len(self._links) > MANY_LINKS and self._postponed < POSTPONED:
            self._postponed += 1
            self._reactor.call_later(QUIET_S, self._consider)
            return
        self._postponed = 0
        self._is_waiting = False
        self._ends = 0
        for tables in self._tables:
            for table in tables():
                shrink(table)
        if is_due:
            self._cycles = 0
            self.collections += 1
            gc.collect()
        self._most_open = len(self._connections)
        if self._malloc_trim is not None:
            self._malloc_trim(0)
        self.trims += 1


def shrink(table: dict[Any, Any] | set[Any]) -> None:
    """Give a table the size that its items need, in place: it keeps its identity and its order."""
    size = sys.getsizeof(table, 0)  # 0 where the interpreter does not tell
    if size <= TABLE_BYTES or size <= BYTES_FOR_EACH * len(table):
        return
    items = table.copy()
    table.clear()
    table.update(items)
