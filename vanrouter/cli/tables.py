"""Rows of management as tables for people, and as JSON and YAML for programs. Layer: 6.

A table fits the terminal: where it is too narrow, the columns that matter least are left out and named below.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
import yaml
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vanrouter.mgmt.lines import printable

PIPE_WIDTH = 1000
"""Columns of a table that does not go to a terminal: wide enough that nothing is cut for programs that read it."""

GAP = 3
"""Columns between two columns."""

TEXT_WIDTHS = (40, 20)
"""Width at which text is folded: where there is room, and to keep a column that matters."""

STYLES = {
    "up": "green", "down": "red", "active": "green", "failed": "red", "SUCCESS": "green", "FAILED": "red",
    "CONNECTING": "yellow", "unreachable": "red", "closing": "yellow",
}  # fmt: skip
"""Words that are coloured on a terminal."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its heading and the attributes whose first non-null value it shows.

    Args:
        heading: shown above.
        attributes: looked at in this order.
        is_number: set to the right.
        rank: what matters; the highest is left out first where there is too little room.
    """

    heading: str
    attributes: tuple[str, ...]
    is_number: bool = False
    rank: int = 0

    def value(self, row: Row) -> object:
        """Return what the row has for it."""
        return next((row[name] for name in self.attributes if row.get(name) is not None), None)


def column(heading: str, *attributes: str, rank: int = 0) -> Column:
    """Declare a column of text."""
    return Column(heading=heading, attributes=attributes or (heading,), rank=rank)


def number(heading: str, *attributes: str, rank: int = 0) -> Column:
    """Declare a column of numbers, set to the right."""
    return Column(heading=heading, attributes=attributes or (heading,), is_number=True, rank=rank)


def console() -> Console:
    """Return where tables go: as wide as the terminal, without colours elsewhere. Texts are shown as they stand."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def shown(value: object) -> str:
    """Return a value as a cell shows it; anybody's container id or address must not steer the terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{int(value):,}".replace(",", "\u202f") if abs(value) > 99_999 else str(int(value))
    if isinstance(value, list | tuple):
        return " ".join(shown(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return " ".join(f"{shown(key)}={shown(item)}" for key, item in value.items()) or "-"
    return printable(str(value)) or "-"


def octets(count: object) -> str | None:
    """Return a number of octets for people: `3.2 MiB`."""
    if not isinstance(count, int):
        return None
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: object) -> str | None:
    """Return seconds for people: `3 d 04:05:06`, days left out where there are none."""
    if not isinstance(seconds, int):
        return None
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{f'{days} d ' if days else ''}{hour:02}:{minute:02}:{second:02}"


def table_of(title: str, columns: Sequence[Column], rows: Iterable[Row], width: int) -> RenderableType:
    """Return rows under a title, in the columns that fit into `width`; a line instead when there are no rows."""
    found = list(rows)
    if not found:
        return Text(f"{title}: none")
    cells = {item: [shown(item.value(row)) for row in found] for item in columns}
    kept, hidden = fitting(columns, cells, width)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in kept:
        # A number is never broken in two; text is folded where there is no room.
        justify = "right" if item.is_number else "left"
        table.add_column(item.heading, justify=justify, overflow="fold", no_wrap=item.is_number)  # type: ignore[arg-type]
    for number_ in range(len(found)):
        table.add_row(*(_cell(cells[item][number_]) for item in kept))
    if not hidden:
        return table
    names = ", ".join(item.heading for item in hidden)
    return Group(table, Text(f"Not shown for want of room: {names}", style="dim"))


def fitting(
    columns: Sequence[Column], cells: Mapping[Column, Sequence[str]], width: int
) -> tuple[list[Column], list[Column]]:
    """Return the columns that fit into a width, and those that do not, both in their order."""
    longest = {item: max((len(text) for text in cells[item]), default=0) for item in columns}

    def fits(kept: Sequence[Column], text_width: int) -> bool:
        widths = (
            max(len(item.heading), longest[item] if item.is_number else min(text_width, longest[item])) for item in kept
        )
        return sum(widths) + GAP * len(kept) <= width + 1

    kept = list(columns)
    for text_width, least in zip(TEXT_WIDTHS, (2, 1), strict=True):
        for item in sorted(columns, key=lambda one: (-one.rank, -columns.index(one))):
            if fits(kept, text_width):
                break
            if item.rank >= least and item in kept:
                kept.remove(item)
    return kept, [item for item in columns if item not in kept]


def pairs_of(title: str, pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Return names and values, those without a value left out."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE, show_header=False, pad_edge=False
    )
    table.add_column("name", style="dim")
    table.add_column("value", overflow="fold")
    for name, value in pairs:
        if value is not None:
            table.add_row(name, _cell(shown(value)))
    return table


def print_table(title: str, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print a table."""
    out = console()
    out.print(table_of(title, columns, rows, out.width))


def print_pairs(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values."""
    console().print(pairs_of(title, pairs))


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=_plain))


def print_yaml(value: object) -> None:
    """Print a value as YAML."""
    plain = json.loads(json.dumps(value, default=_plain))  # AMQP's own kinds of numbers and texts made plain
    print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False), end="")


PRINTERS: dict[str, Callable[[object], None]] = {"json": print_json, "yaml": print_yaml}


def with_format(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `--json` and `--yaml`; it gets `output`: `json`, `yaml` or None for people."""
    command = click.option("--yaml", "output", flag_value="yaml", help="Print YAML.")(command)
    return click.option("--json", "output", flag_value="json", help="Print JSON.")(command)


def _cell(text: str) -> Text:
    return Text(text, style=STYLES.get(text, ""))


def _plain(value: object) -> object:
    """Return what JSON has no form for."""
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)
