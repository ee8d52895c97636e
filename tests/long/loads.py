"""The load programs of the benchmarks as children of a test."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.system.process import Program

ROOT = Path(__file__).parents[2]
CONNECTIONS = 8
SECONDS = 4.5


def load(*arguments: object) -> subprocess.Popen[str]:
    """Start a load program; its answers are lines of JSON."""
    command = [sys.executable, "-m", "bench.load.tcp_client", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def answer(client: subprocess.Popen[str]) -> dict[str, float]:
    """Return what it says next."""
    assert client.stdout is not None
    line = client.stdout.readline()
    assert line, f"{client.args!r} ended without an answer"
    return dict(json.loads(line))


def p99(port: int, seconds: float = SECONDS) -> float:
    """Microseconds, of requests of 100 octets on eight connections."""
    with load("requests", port, "--connections", CONNECTIONS, "--seconds", seconds) as client:
        return answer(client)["p99_us"]


def growth(
    port: int, beside: Callable[[], AbstractContextManager[object]], rounds: int, seconds: float
) -> tuple[float, str]:
    """Return the p99 beside something as a multiple of that alone, the median of rounds, and all figures in words."""
    pairs = []
    for _ in range(rounds):
        alone = p99(port, seconds)
        with beside():
            pairs.append((alone, p99(port, seconds)))
    figures = ", ".join(f"{alone:.0f} -> {after:.0f}" for alone, after in pairs)
    return statistics.median(after / alone for alone, after in pairs), f"p99 in us, alone and beside: {figures}"


@contextmanager
def server(kind: str, log: Path) -> Iterator[int]:
    """Run a service of the benchmarks; yields the port."""
    command = [sys.executable, "-m", "bench.load.tcp_server", kind]
    with Program(kind, command, log, cwd=ROOT) as program:
        yield int(program.wait_for(r"(\d+)")[1])
