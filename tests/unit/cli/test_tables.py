from __future__ import annotations

import json
import sys
import uuid

import pytest

from vanrouter.cli.tables import column, console, number, print_json, print_pairs, print_table, shown


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
    monkeypatch.setenv("COLUMNS", "77")
    assert console().width == 77
