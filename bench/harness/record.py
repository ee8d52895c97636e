"""The record of a run: where it was made, with what, every value, and what follows from them."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.harness.chains import FLOOR, SKROUTERD
from bench.harness.networks import World
from bench.harness.processes import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that is measured."""

    key: str
    title: str
    unit: str
    digits: int = 0
    """Decimal places in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure of vanrouter has to reach, in relation to that of another kind or as it is."""

    figure: str
    against: str | None
    """Kind of which the figure is divided by; None: the bound is one of the figure itself."""
    bound: float
    sense: Literal["at least", "at most", "less than"]
    aim: float | None = None
    """What is hoped for beyond the bound."""

    def holds(self, value: float) -> bool:
        """Whether a ratio, or a figure, is good enough."""
        if self.sense == "at least":
            return value >= self.bound
        return value <= self.bound if self.sense == "at most" else value < self.bound


Part = Callable[[World, str], dict[str, float]]
"""Measures some figures of a question on one kind; none for a kind that the question does not apply to."""


class Question(Protocol):
    """One module of this package: what it asks and how it finds out."""

    QUESTION: str
    FIGURES: tuple[Figure, ...]
    TARGETS: tuple[Target, ...]
    PARTS: tuple[Part, ...]
    """Each is asked of every kind before the next one is, so that what is compared is measured within seconds."""
    LEFT_OUT: frozenset[str]
    """Kinds that the question does not apply to."""
    WARM_UP: bool
    """The first run of each part is short and thrown away: the networks have not worked before."""
    ROUNDS_AT_MOST: int | None
    """None: as many as the driver is told."""


class Results:
    """Every value of every run: figure, then kind, then round."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, list[float]]] = {}

    def add(self, kind: str, figures: dict[str, float]) -> None:
        """Keep the figures of one run."""
        for key, value in figures.items():
            self.runs.setdefault(key, {}).setdefault(kind, []).append(value)

    def median(self, key: str, kind: str) -> float | None:
        """The median over the rounds."""
        values = self.runs.get(key, {}).get(kind)
        return statistics.median(values) if values else None

    def ratio(self, key: str, kind: str, base: str) -> float | None:
        """The median of one kind divided by that of another."""
        value, against = self.median(key, kind), self.median(key, base)
        return value / against if value is not None and against else None

    def spread(self, key: str, kind: str) -> float | None:
        """Largest less smallest value, as a share of the median: what a difference has to exceed to mean something."""
        values, median = self.runs.get(key, {}).get(kind), self.median(key, kind)
        return (max(values) - min(values)) / median if values and median else None


def environment() -> dict[str, Any]:
    """What the figures depend on besides the programs."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "vanrouter", "bench")),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": platform.release(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "argv": sys.argv[1:],
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def as_json(
    results: Results, questions: dict[str, Question], where: dict[str, Any], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Everything, as one JSON value."""
    figures = []
    for name, question in questions.items():
        for figure in question.FIGURES:
            kinds = {}
            for kind, runs in results.runs.get(figure.key, {}).items():
                kinds[kind] = {
                    "runs": runs,
                    "median": results.median(figure.key, kind),
                    "spread": results.spread(figure.key, kind),
                    "ratio_to_floor": results.ratio(figure.key, kind, FLOOR),
                    "ratio_to_skrouterd": results.ratio(figure.key, kind, SKROUTERD),
                }
            if kinds:
                figures.append(
                    {
                        "question": name,
                        "figure": figure.key,
                        "title": figure.title,
                        "unit": figure.unit,
                        "kinds": kinds,
                    }
                )
    return {"environment": where, "parameters": parameters, "figures": figures}
