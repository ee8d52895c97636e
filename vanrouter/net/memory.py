"""Giving memory back to the system after much of it was freed.

Layer: 2. The C library keeps freed arenas until it is asked for them; asking takes milliseconds, so it is done rarely:
some seconds after a large number of things have ended, once. The interpreter's tables keep the room that they once
needed as well, so those that may have been large are made anew at the same time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any

from vanrouter.net.reactor import Reactor

ENDS = 256
"""Ends of flows, links or connections after which it is worth asking."""

QUIET_S = 2.0
"""Wait after that, for what ends together to end, and for the peers to answer."""


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
    """Counts ends and gives memory back when there were enough of them."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._malloc_trim = find_malloc_trim()
        self._ends = 0
        self._is_waiting = False
        self.trims = 0
        self._tables: list[Callable[[], Tables]] = []

    def watch(self, tables: Callable[[], Tables]) -> None:
        """Have what `tables()` returns made as small as it can be before memory is given back."""
        self._tables.append(tables)

    def note_ends(self, count: int = 1) -> None:
        """Something that held memory has ended."""
        self._ends += count
        if self._ends >= ENDS and not self._is_waiting:
            self._is_waiting = True
            self._reactor.call_later(QUIET_S, self._consider)

    def _consider(self) -> None:
        if self._ends >= ENDS * 2:  # they are still coming: wait for them
            self._ends = ENDS
            self._reactor.call_later(QUIET_S, self._consider)
            return
        self._is_waiting = False
        self._ends = 0
        for tables in self._tables:
            for table in tables():
                shrink(table)
        gc.collect()
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
