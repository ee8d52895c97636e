"""The driver: asks every question of every kind in turn, round after round, and reports.

    python -m bench [--only NAME,...] [--full] [--rounds N] [--minutes M] [--seconds S] [--json FILE]
                    [--router NAME=COMMAND ...] [--profile]

Kinds are asked one right after the other, because a machine's speed drifts: what is quoted is the ratio to another kind
of the same run. There are as many rounds as fit into the minutes, three at most, unless `--rounds` says how many. The
record is one JSON value on the output, or in a file; the tables then go to the output. HAProxy and stunnel take part
where they are installed, the C router where SKROUTERD names it. `--profile` shows instead where vanrouter's time goes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import FrameType
from typing import cast

from rich.console import Console

from bench.harness.chains import VANROUTER
from bench.harness.networks import World, available
from bench.harness.processes import BenchError, OthersWatch, Programs, raise_descriptor_limit
from bench.harness.record import Part, Question, Results, as_json, environment
from bench.harness.table import number, show
from bench.rooms import show_rooms

SERVICES = ("bulk", "four_hops", "small_requests", "new_connections", "beside_bulk", "mutual_tls", "idle_flows")
"""What TCP services are compared by."""
DEFAULT = (*SERVICES, "http_requests", "messages")
"""What fits into five minutes, one round at least, with every other kind beside."""
QUESTIONS = (*DEFAULT, "observers", "idle_links", "observed_flows", "short_connections")
GROUPS = {"services": SERVICES, "default": DEFAULT, "full": QUESTIONS}
ROUNDS = 3
MINUTES = 4.5
WARM_UP_SECONDS = 0.2
"""Length of the runs that are thrown away."""
QUIET_SHARE = 0.05
"""Others' share of the CPU from which on a run says so."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n", 1)[0])
    names = ", ".join((*QUESTIONS, *GROUPS))
    parser.add_argument("--only", default="default", help=f"questions or groups of them, comma-separated, of: {names}")
    parser.add_argument("--full", action="store_true", help="every question, a million connections among them")
    parser.add_argument("--kinds", default="", help="kinds, comma-separated (default: all that are here)")
    parser.add_argument("--rounds", type=int, help=f"rounds, however long they take (default: up to {ROUNDS})")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"no further round begins that would end later ({MINUTES:g})"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one run (default: 0.5)")
    parser.add_argument(
        "--connections",
        type=int,
        metavar="N",
        help="new_connections: so many of them, a million for example, and what memory stays behind",
    )
    parser.add_argument("--json", type=Path, help="file for the record (default: standard output)")
    parser.add_argument("--router", action="append", default=[], metavar="NAME=COMMAND", help="another router")
    parser.add_argument("--profile", action="store_true", help="where the routers' time goes, room by room")
    options = parser.parse_args(argv)
    wanted: set[str] = set()
    for name in ["full"] if options.full else filter(None, options.only.split(",")):
        if name not in QUESTIONS and name not in GROUPS:
            parser.error(f"no such question: {name}; there are {names}")
        wanted |= set(GROUPS.get(name, (name,)))
    options.questions = [name for name in QUESTIONS if name in wanted]
    return options


@dataclass(slots=True)
class Run:
    """Asks, and keeps what came of it."""

    console: Console
    world: World
    questions: dict[str, Question]
    kinds: list[str]
    results: Results = field(default_factory=Results)
    failed: set[tuple[str, str]] = field(default_factory=set)
    """Question and kind of which a part is asked no more."""
    _over: set[tuple[Part, str]] = field(default_factory=set)
    _took_s: dict[str, float] = field(default_factory=dict)

    def ask_all(self, rounds: int | None, minutes: float) -> None:
        """Round after round; without a number of rounds, those that end in time."""
        deadline = time.monotonic() + minutes * 60
        for turn in range(1, (rounds or ROUNDS) + 1):
            self.console.print(f"[bold]round {turn}[/]")
            for name, question in self.questions.items():
                if turn > (question.ROUNDS_AT_MOST or turn):
                    continue
                if rounds is None and turn > 1 and time.monotonic() + self._took_s[name] > deadline:
                    self.console.print(f"{name}: no time for another round", style="dim")
                    continue
                self._ask(name, question, is_first=turn == 1)

    def _ask(self, name: str, question: Question, *, is_first: bool) -> None:
        self.console.print(f"[bold]{name}[/]: {question.QUESTION}")
        begun = time.monotonic()
        seconds = self.world.seconds
        kinds = [kind for kind in self.kinds if kind not in question.LEFT_OUT]
        if is_first and question.WARM_UP:
            self.world.seconds = WARM_UP_SECONDS
            for part, kind in product(question.PARTS, kinds):
                self._measure(name, part, kind)
            self.world.seconds = seconds
        asked = time.monotonic()
        for part, kind in product(question.PARTS, kinds):
            self.results.add(kind, self._measure(name, part, kind))
        self._took_s[name] = time.monotonic() - asked
        _say(self.console, self.results, question, kinds)
        self.console.print(f"  {time.monotonic() - begun:.0f} s", style="dim")

    def _measure(self, name: str, part: Part, kind: str) -> dict[str, float]:
        """One part; a kind that cannot do it is asked for it no more, and the others go on."""
        if (part, kind) in self._over:
            return {}
        try:
            return part(self.world, kind)
        except BenchError as error:
            self._over.add((part, kind))
            self.failed.add((name, kind))
            self.console.print(f"{name}, {kind}: {error}", style="red", markup=False)
            return {}


def _say(console: Console, results: Results, question: Question, kinds: list[str]) -> None:
    for figure in question.FIGURES:
        parts = [f"{kind} {number(results.median(figure.key, kind), figure.digits)}" for kind in kinds]
        console.print(f"  {figure.title} ({figure.unit}): {', '.join(parts)}", style="dim", highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Run, report, and leave nothing running."""
    options = parse(argv)
    console = Console(stderr=options.json is None, width=None if sys.stdout.isatty() else 170)
    raise_descriptor_limit()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _as_interrupt)
    questions = {name: cast("Question", importlib.import_module(f"bench.{name}")) for name in options.questions}
    where = environment()
    watch = OthersWatch()
    try:
        commands = available(options.router)
        kinds = [kind for kind in commands if not options.kinds or kind in options.kinds.split(",")]
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Programs(Path(folder)) as programs:
            world = World(programs, Path(folder), commands, options.seconds)
            world.connections = options.connections
            if options.profile:
                return show_rooms(console, world)
            run = Run(console, world, questions, kinds)
            run.ask_all(options.rounds, options.minutes)
    except BenchError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything that was started has been ended")
        return 130
    where["others_cpu_share"] = others = round(watch.share(), 3)
    show(console, run.results, questions, kinds, where)
    for name, kind in sorted(run.failed):
        console.print(f"{name}: {kind} did not go through with it; see above.", style="red")
    if others > QUIET_SHARE:
        console.print(f"The machine was not quiet: others used {others:.0%} of its CPU. Look at the spread.")
    busiest = world.busiest_load
    if busiest > 0.9:
        console.print(f"An AMQP load program used {busiest:.0%} of a core: its figures may be its own limit.")
    parameters = {"rounds": options.rounds, "seconds": options.seconds, "kinds": kinds, "busiest_load": busiest}
    record = json.dumps(as_json(run.results, questions, where, parameters), indent=1)
    if options.json is None:
        print(record)
    else:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(record + "\n")
        console.print(f"The record is in {options.json}.")
    return 1 if any(kind == VANROUTER for _, kind in run.failed) else 0


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # what ends the programs is not to be interrupted
    raise KeyboardInterrupt
