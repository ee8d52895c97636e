"""Who has the least to do (router protocol, section 7.3)."""

from __future__ import annotations

from heapq import heappush, heapreplace
from math import log2
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.core.engines import World
from vanrouter.core import turns
from vanrouter.core.links import LinkKind, Sender
from vanrouter.core.turns import FULL, LeastLoaded


def sender(load: int = 0, capacity: int = 5) -> Sender:
    nowhere: Any = None
    made = Sender(nowhere, None, 1, "l", LinkKind.ENDPOINT, capacity)
    made.unsettled = load
    return made


def load_of(one: Sender) -> int:
    load = len(one.queue) + one.unsettled + one.moved_streams
    return load if load < one.capacity else load + FULL


def take(ranking: LeastLoaded) -> Sender:
    found = ranking.first(1)
    assert found is not None
    found.unsettled += 1
    return found


def test_nobody() -> None:
    assert LeastLoaded([]).first(1) is None


def test_each_in_turn_while_nobody_settles() -> None:
    links = [sender() for _ in range(4)]
    ranking = LeastLoaded(links)
    assert [take(ranking) for _ in range(12)] == links * 3


def test_each_in_turn_when_nothing_is_to_be_settled() -> None:
    links = [sender() for _ in range(4)]
    ranking = LeastLoaded(links)
    assert [ranking.first(0) for _ in range(12)] == links * 3


def test_a_full_one_only_when_all_are() -> None:
    small, large = sender(2, capacity=2), sender(9, capacity=10)
    ranking = LeastLoaded([small, large])
    assert take(ranking) is large
    assert take(ranking) is small
    assert ranking.load == 2 + FULL


def test_who_was_not_taken_after_all_comes_first_again() -> None:
    first, second = sender(), sender()
    ranking = LeastLoaded([first, second])
    assert ranking.first(1) is first
    first.ease()
    take(ranking)
    assert take(ranking) is first


class Consumers(RuleBasedStateMachine):
    """Against the naive answer: look at all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[Sender] = []
        self.ranking = LeastLoaded([])

    @rule(load=st.integers(0, 7), capacity=st.sampled_from([2, 5, 250]))
    def attach(self, load: int, capacity: int) -> None:
        link = sender(load, capacity)
        self.links.append(link)
        self.ranking.add(link)

    @precondition(lambda self: self.links)
    @rule(index=st.integers(0, 99))
    def detach(self, index: int) -> None:
        link = self.links.pop(index % len(self.links))
        link.excluded = True
        self.ranking.remove(link)

    @precondition(lambda self: self.links)
    @rule(index=st.integers(0, 99), field=st.sampled_from(["unsettled", "moved_streams"]), more=st.integers(1, 9))
    def load(self, index: int, field: str, more: int) -> None:
        """Nobody tells of a load that has grown."""
        link = self.links[index % len(self.links)]
        setattr(link, field, getattr(link, field) + more)

    @precondition(lambda self: self.links)
    @rule(index=st.integers(0, 99), field=st.sampled_from(["unsettled", "moved_streams"]), less=st.integers(1, 9))
    def settle(self, index: int, field: str, less: int) -> None:
        link = self.links[index % len(self.links)]
        setattr(link, field, max(0, getattr(link, field) - less))
        link.ease()

    @precondition(lambda self: self.links)
    @rule(settled=st.booleans())
    def choose(self, settled: bool) -> None:
        found = self.ranking.first(0 if settled else 1)
        assert found in self.links
        assert self.ranking.load == load_of(found) == min(map(load_of, self.links))
        found.unsettled += not settled

    @precondition(lambda self: self.links)
    @rule(closed=st.sets(st.integers(0, 99)))
    def choose_of_some(self, closed: set[int]) -> None:
        shut = {self.links[index % len(self.links)] for index in closed}
        found = self.ranking.first_of(lambda link: link not in shut, 1)
        rest = [link for link in self.links if link not in shut]
        if found is None:
            assert not rest
            return
        assert self.ranking.load == load_of(found) == min(map(load_of, rest))
        found.unsettled += 1

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.ranking._heap) <= 4 * len(self.links) + 64 + len(self.links)


TestConsumers = Consumers.TestCase
TestConsumers.settings = settings(stateful_step_count=60)


def test_the_heap_does_not_grow_with_what_passes() -> None:
    busy, idle = sender(200, capacity=1000), sender()
    ranking = LeastLoaded([busy, idle])
    for count in range(2000):
        busy.unsettled = 200 - count % 200
        busy.ease()
        assert ranking.first(0) is idle
        assert len(ranking._heap) < 100


class Counted(tuple[int, int, Sender]):
    """An entry that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __lt__(self, other: Any) -> bool:
        Counted.compared += 1
        return tuple.__lt__(self, other)


@pytest.mark.parametrize("count", [10, 100, 1_000, 10_000])
@pytest.mark.parametrize("settles", ["at random", "many at once", "never"])
def test_a_choice_among_busy_consumers_costs_the_logarithm_of_their_number(
    monkeypatch: pytest.MonkeyPatch, count: int, settles: str
) -> None:
    monkeypatch.setattr(turns, "heapreplace", lambda heap, entry: heapreplace(heap, Counted(entry)))
    monkeypatch.setattr(turns, "heappush", lambda heap, entry: heappush(heap, Counted(entry)))
    dice = Random(count)
    links = [sender(dice.randrange(1, 200), capacity=1_000) for _ in range(count)]
    ranking = LeastLoaded(links)
    ranking.first(0)  # ranks all of them, once
    Counted.compared, chosen = 0, 500
    for number in range(chosen):
        found = take(ranking)
        assert found.unsettled - 1 == ranking.load
        one = dice.choice(links)
        if settles == "at random":
            one.unsettled -= one.unsettled > 1
            one.ease()
        elif settles == "many at once" and number % 20 == 0:
            one.unsettled = 1
            one.ease()
    assert Counted.compared / chosen < 4 * log2(count) + 4


def test_slow_consumers_get_less(world: World) -> None:
    """One settles at once, one never: it gets no more than the other has open."""
    router = world.router()
    quick = world.client(router).receiver("a", auto=0x24, credit=1000)
    slow = world.client(router).receiver("a", credit=1000)
    tx = world.client(router).sender("a")
    for _ in range(50):
        tx.send(b"m")
        world.settle()
    world.check()
    assert len(slow.got) == 1
    assert len(quick.got) == 49
