"""How many connections a second are opened, used for one small request, and closed."""

from __future__ import annotations

from bench.harness.networks import FLOOR, World
from bench.harness.processes import BenchError
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "new TCP connections a second, 16 at a time"
ROUNDS_AT_MOST = None
WARM_UP = False
AT_ONCE = 16
FIGURES = (Figure(key="connections", title="new connections", unit="/s"),)
TARGETS = (Target(figure="connections", against=FLOOR, bound=0.45, sense="at least"),)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run."""
    answer = ask(world, world.network(kind).tcp["echo"], AT_ONCE, "connections")
    if answer["failed"]:
        raise BenchError(f"{kind}: {answer['failed']} of {answer['count']} new connections failed")
    return {"connections": answer["count"] / answer["seconds"]}


PARTS = (measure,)
