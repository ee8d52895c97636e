"""Turns of the distribution `even`: each new delivery to the destination with the fewest in proportion to its weight.

Layer: 3. Source: extensions (`router.config.address.distribution`, `tcpConnector.weight`). Deliveries that have
been given out are counted, not those that are open: a thousand short flows one after the other are shared like a
thousand at once. Each destination has its next turn at a time that each delivery moves on by 1 / weight; who is next
comes first. A choice costs O(log n) for n destinations.
"""

from __future__ import annotations

from heapq import heapify
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vanrouter.core.table import Address

UNIT = 1 << 40
"""A turn of weight 1; whole numbers stay exact however long a router runs."""

MAX_SCHEDULES = 1024
"""Ingress routers whose deliveries are shared out apart; beyond that all begin again."""

Turn = tuple[int, int, int, Any]
"""When, a number that parts equals, how far a delivery moves it on, and the destination."""


class Schedule:
    """Whose turn it is among the destinations of one address, for deliveries of one ingress router.

    Apart for each ingress, because not every way is open to each: what only B may get from A would otherwise be made up
    for with what others send.
    """

    __slots__ = ("_generation", "_numbers", "turns")

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        """A heap, the next turn first."""
        self._generation = -1
        self._numbers = 0

    def refresh(self, address: Address) -> None:
        """Take over a change of the destinations: who stays keeps its turn, who comes waits one turn from now."""
        if self._generation == address.generation:
            return
        self._generation = address.generation
        known = {turn[3]: turn for turn in self.turns}
        now = min((turn[0] for turn in self.turns), default=0)
        turns: list[Turn] = []
        for destination, weight in _weights(address):
            step = UNIT // weight
            before = known.get(destination)
            self._numbers += 1
            when = now + step if before is None else min(before[0], now + step)
            turns.append((when, self._numbers if before is None else before[1], step, destination))
        heapify(turns)
        self.turns = turns


def _weights(address: Address) -> list[tuple[Any, int]]:
    found: list[tuple[Any, int]] = [(service, service.weight) for service in address.services]
    found += [(sender, 1) for sender in address.consumers]
    weights = address.remote_weights
    found += [(node, weights.get(name, 1)) for name, node in address.remotes.items()]
    return found


def schedule_of(address: Address, ingress: str | None) -> Schedule:
    """Return the schedule, brought up to date, for deliveries that entered the network at `ingress`."""
    schedules = address.schedules
    if schedules is None:
        schedules = address.schedules = {}
    schedule = schedules.get(ingress)
    if schedule is None:
        if len(schedules) >= MAX_SCHEDULES:
            schedules.clear()
        schedule = schedules[ingress] = Schedule()
    schedule.refresh(address)
    return schedule
