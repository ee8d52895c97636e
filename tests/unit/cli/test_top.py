from __future__ import annotations

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.unit.mgmt.test_vanflow_summary import NOW_US, network
from vanrouter.cli.top import OVERHEAD, _shares, age, page, short
from vanrouter.cli.van import main
from vanrouter.mgmt.vanflow_summary import FlowRow, Looks, Summary


def printed(summary: Summary, height: int | None, width: int) -> list[str]:
    console = Console(width=width, height=height or 100, color_system=None, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(page(summary, height, "a title that may be longer than the terminal is wide"))
    return captured.get().rstrip("\n").split("\n")


def busy(flows: int) -> Summary:
    summary = Looks().summary(network(), 0.0, NOW_US)
    row = summary.flows[0]
    assert isinstance(row, FlowRow)
    summary.flows.extend([row] * (flows - 1))
    return summary


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (5, "5"), (0.25, "0.2"), (12.6, "13"), (999, "999"), (999.6, "1.0k"), (1234, "1.2k"),
        (99_600, "100k"), (1_500_000, "1.5M"), (10**18, "1000P"),
    ],
)  # fmt: skip
def test_short_numbers(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0s"), (59, "59s"), (61, "1m01s"), (3600, "1h00m"), (90_061, "1d01h")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_every_table_is_shown_where_there_is_room() -> None:
    text = "\n".join(printed(busy(3), None, 200))
    for word in ("east", "west", "to-a", "refused", "svc", "other", "h:1", "1.5"):
        assert word in text
    assert "more" not in text


@pytest.mark.parametrize("height", [6, 12, 20, 24, 40, 60])
@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_it_fits(height: int, width: int) -> None:
    lines = printed(busy(100), height, width)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    if height >= 40:
        assert any("... and" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_headings_of_services_are_whole_on_eighty_columns(width: int) -> None:
    text = "\n".join(printed(busy(1), 60, width))
    for heading in ("service", "lsn", "con", "open", "new/s", "req/s", "out B/s", "in B/s", "failed"):
        assert heading in text


def test_lines_are_shared_out() -> None:
    assert _shares([2, 3, 100], 40) == [2, 3, 40 - 2 - 3 - 3 * OVERHEAD]
    assert _shares([5, 5], 6) == [0, 2]
    assert _shares([], 10) == []


def test_any_router_shows_all() -> None:
    result = CliRunner().invoke(main, ["top", "-r", "A"])
    assert result.exit_code == 2
    assert "any router" in result.stderr.lower()
