"""Mobile addresses: the own set and its numbered publications, and the sets of other routers. Layer: 2.

Source: router protocol section 5.6. The first change after quiet is published at once; what follows within the interval
is gathered (the C router gathers always).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vanrouter.routing.messages import Descriptor, MobileUpdate


class Publication(NamedTuple):
    """The content of one differential MAU."""

    mobile_seq: int
    added: list[Descriptor]
    removed: list[str]


class OwnAddresses:
    """Addresses with a local destination: as they are, and as last published."""

    def __init__(self) -> None:
        self.mobile_seq = 0
        self.published: dict[str, Descriptor] = {}
        self._pending: dict[str, Descriptor | None] = {}

    def add(self, descriptor: Descriptor) -> None:
        """Note an address or its new attributes."""
        self._note(descriptor.key, descriptor)

    def remove(self, key: str) -> None:
        """Note that an address has no local destination any more."""
        self._note(key, None)

    def _note(self, key: str, descriptor: Descriptor | None) -> None:
        if self.published.get(key) == descriptor:
            self._pending.pop(key, None)  # came and went, or went and came: not mentioned
        else:
            self._pending[key] = descriptor

    @property
    def has_changes(self) -> bool:
        """Whether something waits to be published."""
        return bool(self._pending)

    def publish(self) -> Publication:
        """Make the present set the published one under the next number."""
        added: list[Descriptor] = []
        removed: list[str] = []
        for key, descriptor in self._pending.items():
            if descriptor is None:
                del self.published[key]
                removed.append(key)
            else:
                self.published[key] = descriptor
                added.append(descriptor)
        self._pending.clear()
        self.mobile_seq += 1
        return Publication(self.mobile_seq, added, removed)


class RemoteAddresses:
    """The addresses of one other router, as of `mobile_seq`; 0 is nothing."""

    __slots__ = ("by_key", "mobile_seq")

    def __init__(self) -> None:
        self.mobile_seq = 0
        self.by_key: dict[str, Descriptor] = {}

    def clear(self) -> None:
        """Forget all, so that the next request asks for the complete set."""
        self.mobile_seq = 0
        self.by_key = {}

    def is_gap(self, update: MobileUpdate) -> bool:
        """Whether a differential skips a number."""
        return update.exist is None and update.mobile_seq > self.mobile_seq + 1

    def is_stale(self, update: MobileUpdate) -> bool:
        """Whether an update is older than what is known, or the same differential once more."""
        if update.exist is not None:
            return update.mobile_seq < self.mobile_seq
        return update.mobile_seq <= self.mobile_seq

    def size_after(self, update: MobileUpdate) -> int:
        """Return an upper bound of the set's size after an update."""
        return len(update.exist) if update.exist is not None else len(self.by_key) + len(update.added)

    def apply(self, update: MobileUpdate) -> Iterator[tuple[str, Descriptor | None]]:
        """Take over an update; yields each change as key and descriptor, None for a removal."""
        before = self.by_key
        self.mobile_seq = update.mobile_seq
        if update.exist is not None:
            self.by_key = update.exist
            yield from ((key, None) for key in before if key not in update.exist)
            yield from ((key, new) for key, new in update.exist.items() if before.get(key) != new)
            return
        for key in update.removed:
            if before.pop(key, None) is not None:
                yield key, None
        for key, new in update.added.items():
            if before.get(key) != new:
                before[key] = new
                yield key, new
