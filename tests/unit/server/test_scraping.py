"""A rendering gives the loop back between slices, is shared by those who wait, and survives a source that raises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vanrouter.net.reactor import Reactor
from vanrouter.server.scraping import Scrape


class Pieces:
    """Pieces that take a second each, longer than a slice."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.time = 0.0
        self.begun = 0

    def __call__(self) -> Iterator[bytes]:
        self.begun += 1
        for number in range(self.count):
            self.time += 1.0
            yield b"%d" % number if number % 2 else b""

    def clock(self) -> float:
        return self.time


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


def run(reactor: Reactor, done: list[list[bytes]], count: int = 1) -> int:
    turns = 0
    while len(done) < count:
        reactor.run_once(1.0)
        turns += 1
    return turns


def test_a_slice_for_each_turn(reactor: Reactor) -> None:
    pieces = Pieces(6)
    scrape = Scrape(reactor, pieces, pieces.clock)
    done: list[list[bytes]] = []
    scrape.ask(done.append)
    assert not done
    assert run(reactor, done) >= 6
    assert done == [[b"1", b"3", b"5"]]
    assert scrape.cost_s == 6.0
    assert scrape.longest_slice_s == 1.0


def test_who_asks_meanwhile_shares_it(reactor: Reactor) -> None:
    pieces = Pieces(3)
    scrape = Scrape(reactor, pieces, pieces.clock)
    done: list[list[bytes]] = []
    scrape.ask(done.append)
    scrape.ask(done.append)
    run(reactor, done, 2)
    assert pieces.begun == 1
    scrape.ask(done.append)
    run(reactor, done, 3)
    assert pieces.begun == 2


def test_a_small_one_is_there_in_the_same_turn(reactor: Reactor) -> None:
    scrape = Scrape(reactor, lambda: iter([b"a", b"b"]), lambda: 0.0)
    done: list[list[bytes]] = []
    scrape.ask(done.append)
    assert run(reactor, done) == 1
    assert done == [[b"a", b"b"]]


@pytest.mark.parametrize("good", [0, 1])
def test_a_source_that_raises_ends_this_one_only(reactor: Reactor, good: int) -> None:
    pieces = Pieces(3)

    def broken() -> Iterator[bytes]:
        for _ in range(good):
            pieces.time += 1.0
            yield b"x"
        raise RuntimeError("a source that is broken")

    made = iter([broken(), pieces()])
    scrape = Scrape(reactor, lambda: next(made), pieces.clock)
    done: list[list[bytes]] = []
    scrape.ask(done.append)
    run(reactor, done)
    assert done == [[]]
    assert reactor.crashes == 1
    scrape.ask(done.append)
    run(reactor, done, 2)
    assert done[1] == [b"1"]
