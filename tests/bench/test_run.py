"""What the driver of the benchmarks asks, of whom, how often, and what it does when somebody fails."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from bench.harness.chains import FLOOR, HAPROXY, SKROUTERD, STUNNEL, VANROUTER
from bench.harness.processes import BenchError
from bench.harness.record import Question, Target
from bench.harness.table import reached
from bench.run import DEFAULT, QUESTIONS, ROUNDS, SERVICES, Run, parse

KINDS = [FLOOR, HAPROXY, STUNNEL, SKROUTERD, VANROUTER]


def question(**more: Any) -> Question:
    made = {
        "QUESTION": "how many",
        "FIGURES": (),
        "TARGETS": (),
        "PARTS": (),
        "LEFT_OUT": frozenset(),
        "WARM_UP": False,
        "ROUNDS_AT_MOST": None,
    }
    return cast("Question", SimpleNamespace(**made | more))


def run(*kinds: str, **questions: Question) -> Run:
    return Run(Console(file=io.StringIO()), cast("Any", SimpleNamespace(seconds=0.5)), questions, list(kinds))


class Asked:
    """A part that notes whom it was asked of and for how long."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[tuple[str, float]] = []
        self._failing = failing

    def __call__(self, world: Any, kind: str) -> dict[str, float]:
        self.calls.append((kind, world.seconds))
        if kind == self._failing:
            raise BenchError("it has ended")
        return {"figure": float(len(self.calls))}


def test_groups_of_questions() -> None:
    assert parse([]).questions == list(DEFAULT)
    assert parse(["--only", "services"]).questions == list(SERVICES)
    assert parse(["--only", "messages,bulk"]).questions == ["bulk", "messages"]
    assert parse(["--full"]).questions == list(QUESTIONS)


def test_an_unknown_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "bulk,speed"])
    assert "no such question: speed" in capsys.readouterr().err


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_complete(name: str) -> None:
    asked = cast("Question", importlib.import_module(f"bench.{name}"))
    assert asked.QUESTION
    assert asked.PARTS
    assert isinstance(asked.WARM_UP, bool)
    assert asked.ROUNDS_AT_MOST is None or asked.ROUNDS_AT_MOST > 0
    figures = {figure.key for figure in asked.FIGURES}
    for target in asked.TARGETS:
        assert target.figure in figures
        assert target.against is None or target.against in set(KINDS) - asked.LEFT_OUT
    assert VANROUTER not in asked.LEFT_OUT


def test_figures_have_one_name_each() -> None:
    modules = [cast("Question", importlib.import_module(f"bench.{name}")) for name in QUESTIONS]
    keys = [figure.key for module in modules for figure in module.FIGURES]
    assert len(keys) == len(set(keys))


def test_rounds_that_were_asked_for_are_held_whatever_the_time() -> None:
    often, once = Asked(), Asked()
    made = run(FLOOR, VANROUTER, often=question(PARTS=(often,)), once=question(PARTS=(once,), ROUNDS_AT_MOST=1))
    made.ask_all(4, minutes=0)
    assert [kind for kind, _ in often.calls] == [FLOOR, VANROUTER] * 4
    assert [kind for kind, _ in once.calls] == [FLOOR, VANROUTER]
    assert made.results.runs["figure"][VANROUTER][0] == 2


def test_without_a_number_there_are_as_many_rounds_as_fit() -> None:
    part = Asked()
    run(VANROUTER, q=question(PARTS=(part,))).ask_all(None, minutes=1)
    assert len(part.calls) == ROUNDS
    part = Asked()
    run(VANROUTER, q=question(PARTS=(part,))).ask_all(None, minutes=0)
    assert len(part.calls) == 1


def test_the_first_run_is_short_and_thrown_away() -> None:
    part = Asked()
    made = run(VANROUTER, q=question(PARTS=(part,), WARM_UP=True))
    made.ask_all(2, minutes=0)
    assert [seconds for _, seconds in part.calls] == [0.2, 0.5, 0.5]
    assert made.results.runs["figure"][VANROUTER] == [2, 3]


def test_kinds_that_are_left_out_are_not_asked() -> None:
    part = Asked()
    run(*KINDS, q=question(PARTS=(part,), LEFT_OUT=frozenset({STUNNEL, FLOOR}))).ask_all(1, minutes=0)
    assert [kind for kind, _ in part.calls] == [HAPROXY, SKROUTERD, VANROUTER]


def test_who_fails_at_a_part_is_asked_for_it_no_more_and_all_else_goes_on() -> None:
    part, next_part, other = Asked(failing=HAPROXY), Asked(), Asked()
    made = run(HAPROXY, VANROUTER, q=question(PARTS=(part, next_part)), r=question(PARTS=(other,)))
    made.ask_all(2, minutes=0)
    assert [kind for kind, _ in part.calls] == [HAPROXY, VANROUTER, VANROUTER]
    for asked in (next_part, other):
        assert [kind for kind, _ in asked.calls] == [HAPROXY, VANROUTER] * 2
    assert made.failed == {("q", HAPROXY)}


def test_targets_are_judged_by_the_ratio_or_the_figure() -> None:
    made = run(SKROUTERD, VANROUTER)
    for kind, value in ((SKROUTERD, 4.0), (VANROUTER, 6.0)):
        made.results.add(kind, {"bulk": value})
    ratio = Target(figure="bulk", against=SKROUTERD, bound=1.8, sense="at least", aim=3)
    assert reached(made.results, ratio) == 1.5
    assert not ratio.holds(1.5)
    assert reached(made.results, Target(figure="bulk", against=None, bound=7, sense="at most")) == 6.0


def test_every_question_has_its_file() -> None:
    folder = Path(__file__).parents[2] / "bench"
    asking = {path.stem for path in folder.glob("*.py") if "\nQUESTION = " in path.read_text()}
    assert asking == set(QUESTIONS)
