"""The newest log events, in memory of a fixed size. Layer: 2.

Not a queue of objects: each would lie wherever there was room when it happened, in the middle of what flows and
deliveries used just then, and keep that page when they are gone. 120 events while 2,000 flows ended kept a megabyte.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from itertools import chain

HALF_BYTES = 512 * 1024
"""Of each of the two halves that are filled in turn: between one and two of them are known, 1,500 events and more."""

LONGEST_CHARACTERS = 4096
"""A longer text is cut."""

_LENGTH = struct.Struct("<I")

Entry = tuple[str, str, str, str, int, float]
"""Module, level, text, file, line, and seconds since 1970."""


class RecentEvents:
    """Keeps what happened last. Any thread may use it."""

    def __init__(self, half_bytes: int = HALF_BYTES) -> None:
        self._lock = threading.Lock()
        self._filling = bytearray(half_bytes)
        self._end = 0
        self._before = bytearray(half_bytes)
        self._before_end = 0

    def add(self, entry: Entry) -> None:
        """Keep an event, in place of the oldest ones."""
        module, level, text, *where = entry
        data = json.dumps((module, level, text[:LONGEST_CHARACTERS], *where)).encode()
        with self._lock:
            start = self._end
            end = start + _LENGTH.size + len(data)
            if end > len(self._filling):
                self._filling, self._before, self._before_end = self._before, self._filling, start
                start, end = 0, _LENGTH.size + len(data)
            _LENGTH.pack_into(self._filling, start, len(data))
            self._filling[start + _LENGTH.size : end] = data
            self._end = end

    def newest(self, limit: int) -> list[Entry]:
        """Return up to `limit` events, the oldest first."""
        with self._lock:
            halves = bytes(self._before[: self._before_end]), bytes(self._filling[: self._end])
        pieces = list(chain.from_iterable(map(_pieces, halves)))
        return [tuple(json.loads(piece)) for piece in pieces[max(len(pieces) - limit, 0) :]]


def _pieces(half: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(half):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(half, at)[0]
        yield half[start:at]
