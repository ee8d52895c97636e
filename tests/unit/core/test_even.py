"""Turns of the distribution `even` (extensions)."""

from __future__ import annotations

from heapq import heapreplace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.core.even import MAX_SCHEDULES, Schedule, schedule_of
from vanrouter.core.table import Address, Node, Treatment


def weighted(*weights: int) -> Address:
    """An address with one router of each weight."""
    address = Address("Ma", Treatment.EVEN, None)
    address.remotes = {str(index): Node(str(index)) for index in range(len(weights))}
    address.remote_weights = {str(index): weight for index, weight in enumerate(weights)}
    return address


def take(schedule: Schedule) -> str:
    when, number, step, destination = schedule.turns[0]
    heapreplace(schedule.turns, (when + step, number, step, destination))
    return str(destination.router_id)


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=20), st.integers(1, 500))
def test_each_gets_its_share(weights: list[int], deliveries: int) -> None:
    schedule = schedule_of(weighted(*weights), None)
    given_to = [take(schedule) for _ in range(deliveries)]
    for index, weight in enumerate(weights):
        share = deliveries * weight / sum(weights)
        assert abs(given_to.count(str(index)) - share) <= len(weights)


def test_who_comes_begins_with_the_others() -> None:
    address = weighted(1, 1)
    schedule = schedule_of(address, None)
    for _ in range(1000):
        take(schedule)
    address.remotes["2"] = Node("2")
    address.generation += 1
    assert schedule_of(address, None) is schedule
    given_to = [take(schedule) for _ in range(30)]
    assert all(9 <= given_to.count(name) <= 11 for name in "012")


def test_who_stays_keeps_its_turn_and_who_goes_is_forgotten() -> None:
    address = weighted(1, 1, 1)
    schedule = schedule_of(address, None)
    first = take(schedule)
    gone = next(name for name in "012" if name != first)
    del address.remotes[gone]
    address.generation += 1
    schedule_of(address, None)
    assert take(schedule) not in (first, gone)
    assert len(schedule.turns) == 2


def test_a_changed_weight_counts_at_once() -> None:
    address = weighted(1, 1)
    schedule = schedule_of(address, None)
    for _ in range(10):
        take(schedule)
    address.remote_weights["0"] = 9
    address.generation += 1
    schedule_of(address, None)
    given_to = [take(schedule) for _ in range(100)]
    assert 88 <= given_to.count("0") <= 91


class Destination:
    """A service or a link."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


def test_services_bring_their_weight_and_links_weigh_one() -> None:
    address = Address("Ma", Treatment.EVEN, None)
    service: Any = Destination(4)
    link: Any = Destination(100)
    address.services, address.consumers = [service], [link]
    steps = {turn[3]: turn[2] for turn in schedule_of(address, None).turns}
    assert steps[link] == 4 * steps[service]


def test_ingress_routers_are_bounded() -> None:
    address = weighted(1)
    for number in range(MAX_SCHEDULES + 10):
        schedule_of(address, f"0/{number}")
    assert address.schedules is not None
    assert len(address.schedules) <= MAX_SCHEDULES
