"""The driver: asks every question of every kind in turn, round after round, and reports.

    python -m bench [--only NAME,...] [--rounds N] [--seconds S] [--json FILE] [--router NAME=COMMAND ...]

Kinds are asked one right after the other, because a machine's speed drifts: what is quoted is the ratio to the floor of
the same run. The record is one JSON value on the output, or in a file; the tables
then go to the output. HAProxy takes part where it is installed, the C router where SKROUTERD names it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from types import FrameType
from typing import cast

from rich.console import Console

from bench.harness.networks import World, available
from bench.harness.processes import BenchError, OthersWatch, Programs, raise_descriptor_limit
from bench.harness.record import Question, Results, as_json, environment
from bench.harness.table import number, show

QUESTIONS = (
    "bulk",
    "small_requests",
    "http_requests",
    "new_connections",
    "beside_bulk",
    "mutual_tls",
    "messages",
    "idle_flows",
    "idle_links",
    "observed_flows",
)
WARM_UP_SECONDS = 0.2
"""Length of the runs that are thrown away."""
QUIET_SHARE = 0.05
"""Others' share of the CPU from which on a run says so."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help=f"questions, comma-separated, of: {', '.join(QUESTIONS)}")
    parser.add_argument("--kinds", default="", help="kinds, comma-separated (default: all that are here)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one run (default: 0.5)")
    parser.add_argument("--json", type=Path, help="file for the record (default: standard output)")
    parser.add_argument("--router", action="append", default=[], metavar="NAME=COMMAND", help="another router")
    options = parser.parse_args(argv)
    unknown = {name for name in options.only.split(",") if name} - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}; there are {', '.join(QUESTIONS)}")
    return options


def ask_all(console: Console, world: World, questions: dict[str, Question], kinds: list[str], rounds: int) -> Results:
    """Every question, every kind, every round."""
    results = Results()
    seconds = world.seconds
    for name, question in questions.items():
        console.print(f"[bold]{name}[/]: {question.QUESTION}")
        begun = time.monotonic()
        for turn in range(0 if question.WARM_UP else 1, min(rounds, question.ROUNDS_AT_MOST or rounds) + 1):
            world.seconds = seconds if turn else WARM_UP_SECONDS
            for part, kind in product(question.PARTS, kinds):
                figures = part(world, kind)
                if turn:
                    results.add(kind, figures)
        _say(console, results, question, kinds)
        console.print(f"  {time.monotonic() - begun:.0f} s", style="dim")
    return results


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
    wanted = [name for name in options.only.split(",") if name] or list(QUESTIONS)
    questions = {
        name: cast("Question", importlib.import_module(f"bench.{name}")) for name in QUESTIONS if name in wanted
    }
    where = environment()
    watch = OthersWatch()
    try:
        commands = available(options.router)
        kinds = [kind for kind in commands if not options.kinds or kind in options.kinds.split(",")]
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Programs(Path(folder)) as programs:
            world = World(programs, Path(folder), commands, options.seconds)
            results = ask_all(console, world, questions, kinds, options.rounds)
            busiest = world.busiest_load
    except BenchError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("bench: interrupted; everything that was started has been ended")
        return 130
    where["others_cpu_share"] = others = round(watch.share(), 3)
    show(console, results, questions, kinds, where)
    if others > QUIET_SHARE:
        console.print(f"The machine was not quiet: others used {others:.0%} of its CPU. Look at the spread.")
    if busiest > 0.9:
        console.print(f"An AMQP load program used {busiest:.0%} of a core: its figures may be its own limit.")
    parameters = {"rounds": options.rounds, "seconds": options.seconds, "kinds": kinds, "busiest_load": busiest}
    record = json.dumps(as_json(results, questions, where, parameters), indent=1)
    if options.json is None:
        print(record)
    else:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(record + "\n")
        console.print(f"The record is in {options.json}.")
    return 0


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # what ends the programs is not to be interrupted
    raise KeyboardInterrupt
