"""Giving memory back: rarely, after many ends, once they have stopped coming."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from vanrouter.net.memory import (
    CYCLES,
    ENDS,
    FEW_OPEN,
    MANY_LINKS,
    POSTPONED,
    QUIET_S,
    TABLE_BYTES,
    Trimmer,
    find_malloc_trim,
    shrink,
)
from vanrouter.net.reactor import Reactor


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def turns(reactor: Reactor, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    reactor.run_once(0)


def test_few_ends_do_nothing() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    trimmer = Trimmer(reactor)
    trimmer.note_ends(ENDS - 1)
    turns(reactor, clock, QUIET_S * 2)
    assert trimmer.trims == 0
    reactor.close()


def test_many_ends_are_waited_for_and_answered_once() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    trimmer = Trimmer(reactor)
    trimmer.note_ends(ENDS)
    for _ in range(3):
        trimmer.note_ends(ENDS)
        turns(reactor, clock, QUIET_S)
        assert trimmer.trims == 0
    turns(reactor, clock, QUIET_S)
    turns(reactor, clock, QUIET_S)
    assert trimmer.trims == 1
    turns(reactor, clock, QUIET_S)
    assert trimmer.trims == 1
    reactor.close()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="no other interpreter counts references")
@pytest.mark.parametrize(
    ("most", "left", "cycles", "collections"),
    [
        (10_000, 0, 0, 1),
        (10_000, FEW_OPEN, 0, 1),
        (10_000, 5_000, 0, 1),
        (10_000, 6_000, 0, 0),
        (2_000, 2_000, 0, 0),
        (2_000, 2_000, CYCLES - 1, 0),
        (2_000, 2_000, CYCLES, 1),
    ],
)
def test_when_it_is_worth_while_to_look_at_all_that_lives(most: int, left: int, cycles: int, collections: int) -> None:
    clock = Clock()
    reactor = Reactor(clock)
    is_open = set(range(most))
    trimmer = Trimmer(reactor, is_open)
    for number in range(left, most):
        is_open.remove(number)
        trimmer.note_ends()
    for _ in range(cycles):
        trimmer.note_cycle()
    trimmer.note_ends(ENDS)
    for _ in range(3):
        turns(reactor, clock, QUIET_S)
    assert trimmer.trims == 1
    assert trimmer.collections == collections
    trimmer.note_ends(ENDS)  # what was open before counts no more
    turns(reactor, clock, QUIET_S)
    assert trimmer.collections == collections + (left <= FEW_OPEN)
    reactor.close()


@pytest.mark.parametrize("goes", [True, False])
def test_the_collector_waits_for_links_that_nobody_uses_but_not_for_ever(goes: bool) -> None:
    clock = Clock()
    reactor = Reactor(clock)
    links = set(range(MANY_LINKS + 1))
    trimmer = Trimmer(reactor, (), links)
    trimmer.note_ends(ENDS)
    for _ in range(POSTPONED):
        turns(reactor, clock, QUIET_S)
        assert trimmer.trims == 0
    if goes:
        links.pop()
    turns(reactor, clock, QUIET_S)
    assert (trimmer.trims, trimmer.collections) == (1, 1)
    trimmer.note_ends(ENDS)  # and the next time as long
    turns(reactor, clock, QUIET_S)
    assert trimmer.trims == 1 + goes
    reactor.close()


def test_works_without_the_c_librarys_function() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    trimmer = Trimmer(reactor)
    trimmer._malloc_trim = None
    trimmer.note_ends(ENDS)
    turns(reactor, clock, QUIET_S)
    assert trimmer.trims == 1
    reactor.close()
    assert find_malloc_trim() is None or callable(find_malloc_trim())


@pytest.mark.skipif(not sys.getsizeof({}, 0), reason="the interpreter does not tell sizes")
@pytest.mark.parametrize("full", [dict.fromkeys(range(20_000)), set(range(20_000))])
def test_tables_that_were_large_become_small(full: dict[int, None] | set[int]) -> None:
    clock = Clock()
    reactor = Reactor(clock)
    trimmer = Trimmer(reactor)
    trimmer.watch(lambda: (full,))
    remove: Any = full.pop if isinstance(full, dict) else full.remove
    for key in range(5, 20_000):
        remove(key)
    before = sys.getsizeof(full)
    trimmer.note_ends(ENDS)
    turns(reactor, clock, QUIET_S)
    assert sys.getsizeof(full) < TABLE_BYTES < before
    assert list(full) == [0, 1, 2, 3, 4]
    reactor.close()


def test_a_table_that_its_items_need_is_left_alone() -> None:
    table = dict.fromkeys(range(1000))
    before = sys.getsizeof(table, 0)
    shrink(table)
    assert list(table) == list(range(1000))
    assert sys.getsizeof(table, 0) == before
