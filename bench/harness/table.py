"""The tables of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.harness.chains import FLOOR, VANROUTER
from bench.harness.record import Figure, Question, Results, Target

GONE = "-"


def number(value: float | None, digits: int) -> str:
    """A figure with its thousands apart."""
    return GONE if value is None else f"{value:,.{digits}f}"


def show(
    console: Console, results: Results, questions: dict[str, Question], kinds: list[str], where: dict[str, Any]
) -> None:
    """Print medians, ratios and targets."""
    changed = " and local changes" if where["changed"] else ""
    console.print()
    console.print(f"{where['cpu']}, {where['cores']} cores, {where['python']}, commit {where['commit'][:12]}{changed}")
    table = Table(title="Medians; ratios of vanrouter to the others", title_justify="left")
    table.add_column("figure")
    table.add_column("unit")
    others = [kind for kind in kinds if kind != VANROUTER]
    for kind in kinds:
        table.add_column(kind, justify="right")
    table.add_column("spread", justify="right")
    for kind in others:
        table.add_column(f"/ {kind}", justify="right", style="bold")
    for question in questions.values():
        for figure in question.FIGURES:
            if figure.key in results.runs:
                table.add_row(*_row(results, figure, kinds, others))
        table.add_section()
    console.print(table)
    _show_targets(console, results, questions)


def _row(results: Results, figure: Figure, kinds: list[str], others: list[str]) -> Iterator[str]:
    yield figure.title
    yield figure.unit
    for kind in kinds:
        yield number(results.median(figure.key, kind), figure.digits)
    spread = results.spread(figure.key, VANROUTER)
    yield GONE if spread is None else f"{spread:.0%}"
    for kind in others:
        yield number(results.ratio(figure.key, VANROUTER, kind), 2)


def reached(results: Results, target: Target) -> float | None:
    """Return the ratio, or the figure, that a target speaks of."""
    if target.against is None:
        return results.median(target.figure, VANROUTER)
    return results.ratio(target.figure, VANROUTER, target.against)


def _show_targets(console: Console, results: Results, questions: dict[str, Question]) -> None:
    table = Table(title="What vanrouter has to reach", title_justify="left")
    for heading in ("figure", "measured as", "target", "aim", "reached", ""):
        table.add_column(heading)
    for question in questions.values():
        figures = {figure.key: figure for figure in question.FIGURES}
        for target in question.TARGETS:
            value = reached(results, target)
            if value is None:
                continue
            figure = figures[target.figure]
            if target.against is None:
                measure = figure.unit
            else:
                measure = "ratio to the floor" if target.against == FLOOR else f"ratio to {target.against}"
            aim = GONE if target.aim is None else f"{target.aim:g}"
            word = "[green]pass[/]" if target.holds(value) else "[red]miss[/]"
            table.add_row(figure.title, measure, f"{target.sense} {target.bound:g}", aim, number(value, 2), word)
    if table.row_count:
        console.print(table)
