"""`van top`: a live table of sites, links, services and flows of the whole network, from its records. Layer: 6.

On a terminal it fills the screen and no more; what does not fit is counted. Elsewhere, with `--once`, `--json` or
`--yaml`, it looks for a few seconds, prints once and ends.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vanrouter.cli.connect import Place, with_place
from vanrouter.cli.tables import PIPE_WIDTH, PRINTERS, with_format
from vanrouter.mgmt.lines import printable
from vanrouter.mgmt.vanflow_client import Collector
from vanrouter.mgmt.vanflow_summary import Looks, Summary, has_all_routers

SETTLING_S = 3.0
"""How long one look listens once all routers are known: rates need two moments."""
QUIET_S = 12.0
"""How long it waits for them: a beacon comes every ten seconds."""

_UNITS = ("", "k", "M", "G", "T", "P")
Row = Any


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    value: Callable[[Row], str]
    is_number: bool = True


def short(number: float) -> str:
    """Return a number in three digits or so: `17`, `1.2k`, `35M`."""
    value, unit = float(number), 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    if not unit or value >= 99.5:
        text = f"{value:.0f}" if unit or value == int(value) or value >= 9.95 else f"{value:.1f}"
    else:
        text = f"{value:.1f}"
    return text + _UNITS[unit]


def age(seconds: float) -> str:
    """Return a time span in its two largest units."""
    whole = int(seconds)
    for size, name, small_size, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{name}{whole % size // small_size:02d}{small_name}"
    return f"{whole}s"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _named(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: str(getattr(row, name)), is_number=False)


def _counted(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: short(getattr(row, name)))


_SERVICES = (
    _named("service", "address"), _named("kind", "protocol"), _counted("lsn", "listeners"),
    _counted("con", "connectors"), _counted("open", "open_flows"), _counted("new/s", "flows_per_s"),
    _counted("req/s", "requests_per_s"), _counted("out B/s", "octets_per_s"),
    _counted("in B/s", "octets_reverse_per_s"), _Column("ms", lambda row: _ms(row.latency_ms)),
    _counted("failed", "failed"),
)  # fmt: skip
_SITES = (
    _named("site", "name"), _named("platform", "platform"), _counted("routers", "routers"),
    _Column("links up", lambda row: f"{row.links_up}/{row.links}"), _counted("listeners", "listeners"),
    _counted("connectors", "connectors"), _counted("open", "open_flows"),
)  # fmt: skip
_LINKS = (
    _named("router", "router"), _named("link", "name"), _named("to", "to"), _named("role", "role"),
    _named("status", "status"), _counted("cost", "cost"), _counted("out B/s", "octets_per_s"),
    _counted("in B/s", "octets_reverse_per_s"), _counted("downs", "downs"), _named("reason", "reason"),
)  # fmt: skip
_FLOWS = (
    _named("service", "service"), _named("client", "client"), _named("via", "via"), _named("server at", "server"),
    _Column("age", lambda row: age(row.age_s)), _counted("out B/s", "octets_per_s"),
    _counted("in B/s", "octets_reverse_per_s"), _counted("out", "octets"), _counted("in", "octets_reverse"),
    _Column("ms", lambda row: _ms(row.latency_ms)),
)  # fmt: skip


def _table(columns: Sequence[_Column], rows: Sequence[Row], limit: int | None) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for item in columns:
        table.add_column(
            item.heading, justify="right" if item.is_number else "left", no_wrap=True, overflow="ellipsis",
            min_width=len(item.heading) if item.is_number else 4,
        )  # fmt: skip
    shown = rows if limit is None else rows[:limit]
    for row in shown:
        style = "red" if getattr(row, "status", "") == "down" else ""
        table.add_row(*(Text(printable(item.value(row)), style=style) for item in columns))
    parts: list[RenderableType] = [table]
    if len(rows) > len(shown):
        parts.append(Text(f"... and {len(rows) - len(shown)} more", style="dim"))
    return Group(*parts)


def page(summary: Summary, height: int | None, title: str) -> RenderableType:
    """Return all tables, cut so that they fit.

    Args:
        summary: what to show.
        height: lines there are; None: as many as needed.
        title: first line.
    """
    tables: list[tuple[Sequence[_Column], Sequence[Row]]] = [
        (_SITES, summary.sites), (_LINKS, summary.links), (_SERVICES, summary.services), (_FLOWS, summary.flows)
    ]  # fmt: skip
    tables = [(columns, rows) for columns, rows in tables if rows]
    head = Text(title, style="bold", no_wrap=True, overflow="ellipsis")
    if height is None:
        limits: list[int | None] = [None] * len(tables)
    else:
        limits = list(_shares([len(rows) for _, rows in tables], height - 2))
    parts: list[RenderableType] = [head]
    for (columns, rows), limit in zip(tables, limits, strict=True):
        if limit != 0:
            parts += [Text(), _table(columns, rows, limit)]
    return Group(*parts)


OVERHEAD = 4
"""Lines of a table besides its rows: a blank one, heading, rule, and the count of what is left out."""


def _shares(wanted: Sequence[int], lines: int) -> list[int]:
    """Share lines out: each table gets what it wants if that is little, the rest is parted; 0: it is left out."""
    shares = [0] * len(wanted)
    left = lines
    waiting = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for position, index in enumerate(waiting):
        fair = left // (len(waiting) - position) - OVERHEAD
        shares[index] = max(0, min(wanted[index], fair))
        if shares[index]:
            left -= shares[index] + OVERHEAD
    return shares


def _look(collector: Collector, looks: Looks) -> Summary:
    with collector.picture() as picture:
        return looks.summary(picture, time.monotonic(), int(time.time() * 1e6))


def _title(summary: Summary) -> str:
    routers = len(summary.routers)
    return (
        f"{len(summary.sites)} sites, {routers} router{'s' * (routers != 1)}, {len(summary.services)} services, "
        f"{short(summary.open_flows)} open flows"
    )


def show_once(collector: Collector, output: str | None) -> None:
    """Listen for a few seconds, then print."""
    looks = Looks()
    collector.wait_for(has_all_routers, QUIET_S)
    end = time.monotonic() + SETTLING_S
    pause = threading.Event()
    summary = _look(collector, looks)
    while time.monotonic() < end:
        pause.wait(0.5)
        summary = _look(collector, looks)
    if output is not None:
        PRINTERS[output](summary.as_dict())
        return
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(page(summary, None, _title(summary)))


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Read single keys of the terminal; yields a function that waits for one."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> str:
            threading.Event().wait(seconds)
            return ""

        yield wait
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:

        def read(seconds: float) -> str:
            ready, _, _ = select.select([fd], [], [], seconds)
            return os.read(fd, 1).decode("ascii", "replace") if ready else ""

        yield read
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def show_live(collector: Collector, interval_s: float) -> None:
    """Show the network until `q` or an interrupt."""
    looks = Looks()
    console = Console(highlight=False, markup=False, emoji=False)
    with (
        _keys() as key,
        Live(console=console, screen=True, auto_refresh=False, transient=True) as live,
    ):
        while True:
            summary = _look(collector, looks)
            title = f"{_title(summary)}   (q ends)" if summary.routers else "waiting for records of routers   (q ends)"
            live.update(page(summary, console.size.height, title), refresh=True)
            if key(interval_s) in ("q", "Q", "\x1b", "\x04"):
                return


@click.command("top")
@click.option("--once", is_flag=True, help="Listen for a few seconds, print once and end.")
@click.option("-i", "--interval", "interval_s", type=click.FloatRange(0.2, 60), default=1.0, show_default=True,
              help="Seconds from one look to the next.")  # fmt: skip
@with_format
@with_place
def top(place: Place, once: bool, interval_s: float, output: str | None) -> None:
    """Watch sites, links, services and flows of the whole network live."""
    if place.router is not None or place.edge is not None:
        raise click.UsageError("Any router shows the whole network: --router and --edge mean nothing here.")
    with Collector(place.url, timeout_s=place.timeout_s, credentials=place.credentials) as collector:
        if once or output is not None or not sys.stdout.isatty():
            show_once(collector, output)
        else:
            show_live(collector, interval_s)
