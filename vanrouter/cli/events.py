"""`van log`: the recent log of a router, followed from afar, and its levels. Layer: 6."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from vanrouter.cli.tables import column, console, print_table
from vanrouter.mgmt.client import ManagementClient
from vanrouter.mgmt.levels import LEVELS
from vanrouter.mgmt.lines import printable

Event = Sequence[Any]
"""Module, level, text, file, line, epoch seconds."""

MOST = 1000
"""Events that a router keeps."""

STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


def news(before: Sequence[Event], after: Sequence[Event]) -> list[Event]:
    """Return the events of `after` that are not in `before`: both are the newest of one list at two times."""
    for count in range(min(len(before), len(after)), -1, -1):
        if list(before[len(before) - count :]) == list(after[:count]):
            return list(after[count:])
    return list(after)


def chosen(events: Iterable[Event], modules: Sequence[str], level: str) -> Iterator[Event]:
    """Yield the events of modules (none: all) that are at least as grave as `level`."""
    wanted = {module.upper() for module in modules}
    for event in events:
        rank = LEVELS.index(event[1]) if event[1] in LEVELS else len(LEVELS)
        if (not wanted or event[0] in wanted) and rank >= LEVELS.index(level):
            yield event


def show(events: Iterable[Event], *, output: str | None) -> None:
    """Print events: as the router's own lines, or one JSON object each."""
    out = console()
    for module, level, text, file, line, seconds in events:
        time = datetime.fromtimestamp(int(seconds), UTC)
        if output == "json":
            fields = {
                "time": time.isoformat(),
                "module": module,
                "level": level,
                "text": text,
                "file": file,
                "line": line,
            }
            print(json.dumps(fields, default=str), flush=True)
        else:
            said = printable(f"{module} ({level}) {text}")  # other implementations write what a peer has said as it is
            line_ = Text(f"{time:%Y-%m-%d %H:%M:%S} {said}", style=STYLES.get(str(level), ""))
            out.print(line_, soft_wrap=True)


def follow(client: ManagementClient, first: Sequence[Event], *, interval_s: float, wait: Callable[[float], object]
           ) -> Iterator[list[Event]]:  # fmt: skip
    """Yield what is new, again and again."""
    before: Sequence[Event] = first
    while True:
        wait(interval_s)
        after = client.log(MOST)
        yield news(before, after)
        before = after


def show_levels(client: ManagementClient) -> None:
    """Print which levels are on, by module, and what was counted."""
    counts = {row.get("name"): row for row in client.query("logStats")}
    rows = [{**counts.get(row.get("module"), {}), **row} for row in client.query("log")]
    rows.sort(key=lambda row: str(row.get("module")))
    columns = [column(name) for name in ("module", "enable", "outputFile", "format")]
    columns += [column(level, f"{level}Count", rank=1) for level in LEVELS]
    print_table("Log levels", columns, rows)


def set_level(client: ManagementClient, module: str, levels: str) -> None:
    """Change the levels of a module, at once."""
    client.update("log", {"enable": levels}, identity=f"log/{module.upper()}")
