"""Rows of management as tables for people and as JSON for programs. Layer: 6."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 240
"""Columns of a table that does not go to a terminal: wide enough that nothing is cut for programs that read it."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its heading and the attributes whose first non-null value it shows."""

    heading: str
    attributes: tuple[str, ...]
    is_number: bool = False

    def value(self, row: Row) -> object:
        """Return what the row has for it."""
        return next((row[name] for name in self.attributes if row.get(name) is not None), None)


def column(heading: str, *attributes: str) -> Column:
    """Declare a column of text."""
    return Column(heading=heading, attributes=attributes or (heading,))


def number(heading: str, *attributes: str) -> Column:
    """Declare a column of numbers, set to the right."""
    return Column(heading=heading, attributes=attributes or (heading,), is_number=True)


def console() -> Console:
    """Return where tables go: as wide as the terminal, without colours elsewhere."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def shown(value: object) -> str:
    """Return a value as a cell shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{int(value):,}".replace(",", "\u202f") if abs(value) > 99_999 else str(int(value))
    if isinstance(value, list | tuple):
        return " ".join(shown(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={shown(item)}" for key, item in value.items()) or "-"
    return str(value) or "-"


def print_table(title: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print rows under a title; a line instead when there are none."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in columns:
        table.add_column(item.heading, justify="right" if item.is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(item, row) for item in columns))
    out = console()
    if table.row_count:
        out.print(table)
    else:
        out.print(f"{title}: none")


def print_pairs(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, those without a value left out."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column("name")
    table.add_column("value", overflow="fold")
    for name, value in pairs:
        if value is not None:
            table.add_row(name, Text(shown(value)))
    console().print(table)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=_plain))


def _cell(item: Column, row: Row) -> Text:
    text = shown(item.value(row))
    return Text(text, style={"up": "green", "down": "red"}.get(text, ""))


def _plain(value: object) -> object:
    """Return what JSON has no form for."""
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)
