"""Long answers made a little at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vanrouter.engine.sections import decode
from vanrouter.net.reactor import Reactor
from vanrouter.server import gathering
from vanrouter.server.gathering import Gatherer


class Clock:
    """Each look at it costs a fifth of a slice."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += gathering.SLICE_S / 5
        return self.now


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def rows(count: int, made: list[int]) -> Iterator[list[object]]:
    for number in range(count):
        made.append(number)
        yield [number, "x"]


def finish(reactor: Reactor, told: list[object], count: int) -> None:
    while len(told) < count:
        reactor.run_once(0.1)


def test_few_rows_are_there_at_once(reactor: Reactor) -> None:
    told: list[object] = []
    Gatherer(reactor, Clock()).gather(rows(3, []), told.append)
    assert [decode(row)[0] for row in told[0]] == [[0, "x"], [1, "x"], [2, "x"]]  # type: ignore[attr-defined]


def test_many_rows_come_in_slices_and_queries_in_order(reactor: Reactor) -> None:
    gatherer = Gatherer(reactor, Clock())
    told: list[tuple[str, int]] = []
    made: list[int] = []
    gatherer.gather(rows(50, made), lambda found: told.append(("first", len(found or ()))))
    gatherer.gather(rows(1, []), lambda found: told.append(("second", len(found or ()))))
    assert told == []
    assert 0 < len(made) < 10
    before = reactor.turns
    while len(told) < 2:
        reactor.run_once(0.1)
    assert told == [("first", 50), ("second", 1)]
    assert reactor.turns - before >= 9


def broken() -> Iterator[list[object]]:
    for number in range(20):
        yield [number]
    raise ValueError("a bug")


def test_a_row_that_fails_ends_its_query_alone(reactor: Reactor) -> None:
    gatherer = Gatherer(reactor, Clock())
    told: list[object] = []
    gatherer.gather(broken(), told.append)
    gatherer.gather(rows(1, []), told.append)
    finish(reactor, told, 2)
    assert told[0] is None
    assert len(told[1]) == 1  # type: ignore[arg-type]
    assert reactor.crashes == 1


def test_who_cannot_take_an_answer_keeps_nobody_waiting(reactor: Reactor) -> None:
    gatherer = Gatherer(reactor, Clock())
    told: list[object] = []

    def refuse(_found: object) -> None:
        raise ValueError("a bug")

    gatherer.gather(rows(3, []), refuse)
    gatherer.gather(rows(50, []), refuse)
    gatherer.gather(rows(2, []), told.append)
    finish(reactor, told, 1)
    assert len(told[0]) == 2  # type: ignore[arg-type]
    assert reactor.crashes == 2


def test_a_row_that_fails_at_once(reactor: Reactor) -> None:
    gatherer = Gatherer(reactor, Clock())
    told: list[object] = []

    def fails() -> Iterator[list[object]]:
        yield [1]
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        gatherer.gather(fails(), told.append)
    gatherer.gather(rows(1, []), told.append)
    assert len(told) == 1


def test_beyond_the_bound_queries_are_answered_in_one_go(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_WAITING", 1)
    gatherer = Gatherer(reactor, Clock())
    told: list[int] = []
    gatherer.gather(rows(50, []), lambda found: told.append(50))
    gatherer.gather(rows(30, []), lambda found: told.append(len(found or ())))
    assert told == [30]
    assert gatherer.in_one_go == 1
    finish(reactor, told, 2)  # type: ignore[arg-type]
