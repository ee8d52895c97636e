"""Giving memory back: rarely, after many ends, once they have stopped coming."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from vanrouter.net.memory import ENDS, QUIET_S, TABLE_BYTES, Trimmer, find_malloc_trim, shrink
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
