from __future__ import annotations

import io
import json
import sys
import uuid

import pytest
from proton import ulong
from rich.console import Console

from vanrouter.cli.tables import (
    column,
    console,
    duration,
    fitting,
    number,
    octets,
    print_json,
    print_pairs,
    print_table,
    print_yaml,
    shown,
    table_of,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (99999, "99999"),
        (1234567, "1\u202f234\u202f567"),
        (-1234567, "-1\u202f234\u202f567"),
        ([], "-"),
        (["A", 1], "A 1"),
        ({}, "-"),
        ({"tcp": 1}, "tcp=1"),
        ("", "-"),
        ("x", "x"),
        ("\x1b[2Jx\x9b\n", "\\x1b[2Jx\\x9b\\n"),
        ({"\x07": "\x08"}, "\\x07=\\x08"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_column_takes_the_first_value_there_is() -> None:
    item = column("class", "a", "b")
    assert item.value({"a": None, "b": 0}) == 0
    assert item.value({}) is None
    assert column("port").attributes == ("port",)
    assert number("n", "x").is_number


def test_tables_that_are_read_by_programs_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Things", [column("name"), number("n")], [{"name": "x" * 150, "n": 1}])
    shown_lines = capsys.readouterr().out.splitlines()
    assert shown_lines[0].strip() == "Things"
    assert any("x" * 150 in line and "1" in line for line in shown_lines)


def test_markup_in_values_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("T", [column("name")], [{"name": "[red]x[/red]"}])
    print_pairs("P", [("name", "[bold]y")])
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "[bold]y" in out


def test_no_rows_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Things", [column("name")], [])
    assert capsys.readouterr().out == "Things: none\n"


def test_pairs_without_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs("Router", [("a", 1), ("b", None)])
    out = capsys.readouterr().out
    assert "a" in out.split()
    assert "b" not in out.split()


def test_json_of_what_json_has_no_form_for(capsys: pytest.CaptureFixture[str]) -> None:
    identifier = uuid.UUID(int=1)
    print_json({"a": b"\x01", "b": identifier, "c": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": "01", "b": str(identifier), "c": [1, None]}


def test_terminals_decide_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")  # rich asks a dumb one for nothing
    monkeypatch.setenv("COLUMNS", "77")
    assert console().width == 77


def test_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    print_yaml({"b": [1, None], "a": "é", "n": ulong(3)})
    assert capsys.readouterr().out == "b:\n- 1\n- null\na: é\nn: 3\n"


@pytest.mark.parametrize(
    ("count", "text"), [(None, None), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
)
def test_octets(count: int | None, text: str | None) -> None:
    assert octets(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, None), (59, "00:00:59"), (93784, "1 d 02:03:04")])
def test_durations(seconds: int | None, text: str | None) -> None:
    assert duration(seconds) == text


COLUMNS = [column("name"), column("text", rank=1), number("big", rank=2), number("small"), column("more", rank=3)]
ROW = {"name": "n" * 10, "text": "t" * 60, "big": 12345, "small": 1, "more": "m" * 10}


@pytest.mark.parametrize(
    ("width", "hidden"),
    [(200, []), (88, []), (70, ["big", "more"]), (48, ["big", "more"]), (30, ["text", "big", "more"])],
)
def test_what_matters_least_goes_first(width: int, hidden: list[str]) -> None:
    cells = {item: [shown(item.value(ROW))] for item in COLUMNS}
    kept, left = fitting(COLUMNS, cells, width)
    assert [item.heading for item in left] == hidden
    assert [item for item in COLUMNS if item in kept] == kept


@pytest.mark.parametrize("width", [40, 80, 160])
def test_tables_fit_the_terminal(width: int) -> None:
    file = io.StringIO()
    out = Console(file=file, width=width)
    out.print(table_of("Things", COLUMNS, [ROW] * 3, width))
    lines = file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    assert any("12345" in line for line in lines) or "Not shown for want of room:" in file.getvalue()
    assert "12" not in [line.strip() for line in lines], "a number is never broken"
