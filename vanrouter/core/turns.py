"""Which consumer here comes next: the one with the least to do (router protocol, section 7.3).

Layer: 3. With n consumers a choice costs O(log n): a load that has grown is noticed when its consumer comes to the top
of the heap, and one that has shrunk is told once until somebody looks (`Sender.rank`), so that a settlement costs no
more than that one question.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vanrouter.core.links import Sender

FULL = 1 << 40
"""Added to the load of a destination that has reached its capacity: every other one is preferred."""

STALE = 64
"""Entries beyond four for each consumer from which on the heap is cleared of those that count no more."""

Entry = tuple[int, int, "Sender"]
"""Load, a number that parts equals, and the consumer. The entry counts while its consumer has that number."""


class LeastLoaded:
    """The consumers of one address by their load; among equals the one that has waited longest."""

    __slots__ = ("_count", "_heap", "_number", "eased", "load")

    def __init__(self, consumers: Iterable[Sender]) -> None:
        self._heap: list[Entry] = []
        self._number = 0
        self._count = 0
        self.eased: list[Sender] = []
        """Those whose load may be less than their entry says, each once."""
        self.load = 0
        """Load of the consumer that was found last."""
        for sender in consumers:
            self.add(sender)

    def add(self, sender: Sender) -> None:
        """One consumer more."""
        sender.ranking = self
        sender.rank = 0
        self._count += 1
        self.eased.append(sender)

    def remove(self, sender: Sender) -> None:
        """One consumer less."""
        sender.ranking = None
        sender.rank = 0
        self._count -= 1

    def first(self, more: int) -> Sender | None:
        """Return the consumer with the least load, which is in `load` then; None when there is no consumer.

        `more`: what the delivery adds to the load, 0 when it is settled. Who finds another destination after all, or
        settles at once, has to say so (`Sender.ease`).
        """
        heap = self._heap
        if heap and not self.eased:  # mostly the top of the heap is right, and nobody has to look further
            key, number, sender = heap[0]
            load = len(sender.queue) + sender.unsettled + sender.moved_streams
            if number == sender.rank and load < sender.capacity and not sender.excluded:
                if len(heap) > 2 and load < heap[1][0] and load < heap[2][0]:
                    self.load = load  # one that has just settled many: until it has caught up nobody else is looked at
                    return sender
                if load <= key:
                    self.load = load
                    self._number = sender.rank = number = self._number + 1
                    heapreplace(heap, (load + more, number, sender))
                    return sender
        least = self._least()
        if least is not None:
            self._number = least.rank = number = self._number + 1
            heapreplace(self._heap, (self.load + more, number, least))
        return least

    def first_of(self, is_open: Callable[[Sender], bool], more: int) -> Sender | None:
        """The same among those that a delivery may go to; who comes before them is asked one after the other."""
        passed: list[Entry] = []
        sender = self._least()
        while sender is not None and not is_open(sender):
            passed.append(heappop(self._heap))
            sender = self._least()
        if sender is not None:
            self.first(more)
        for entry in passed:
            heappush(self._heap, entry)
        return sender

    def _least(self) -> Sender | None:
        """Bring the least loaded one to the top."""
        if self.eased:
            self._rank_eased()
        heap = self._heap
        while heap:
            key, number, sender = heap[0]
            if number != sender.rank or sender.excluded:
                heappop(heap)
                continue
            load = len(sender.queue) + sender.unsettled + sender.moved_streams
            if load >= sender.capacity:
                load += FULL
            if load <= key:
                self.load = load
                return sender
            self._number = sender.rank = number = self._number + 1
            heapreplace(heap, (load, number, sender))
        return None

    def _rank_eased(self) -> None:
        heap = self._heap
        for sender in self.eased:
            if sender.ranking is self:
                load = len(sender.queue) + sender.unsettled + sender.moved_streams
                self._number = sender.rank = number = self._number + 1
                heappush(heap, (load if load < sender.capacity else load + FULL, number, sender))
        self.eased.clear()
        if len(heap) > 4 * self._count + STALE:
            self._heap = [entry for entry in heap if entry[1] == entry[2].rank]
            heapify(self._heap)
