"""How many connections a second are opened, used for one small request, and closed."""

from __future__ import annotations

from bench.harness.chains import FLOOR, SKROUTERD, TLS_ONLY
from bench.harness.networks import World
from bench.harness.processes import BenchError
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "new TCP connections a second, 16 at a time"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = False
AT_ONCE = 16
FIGURES = (
    Figure(key="connections", title="new connections", unit="/s"),
    Figure(key="connections_cpu", title="CPU of both hops, new connections", unit="us/connection"),
)
TARGETS = (
    Target(figure="connections", against=FLOOR, bound=0.45, sense="at least"),
    Target(figure="connections", against=SKROUTERD, bound=1.0, sense="at least", aim=2),
)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run."""
    network = world.network(kind)
    cpu = network.cpu_s()
    answer = ask(world, network.tcp["http"], AT_ONCE, "connections")
    cpu = network.cpu_s() - cpu
    if answer["failed"]:
        raise BenchError(f"{kind}: {answer['failed']} of {answer['count']} new connections failed")
    return {"connections": answer["count"] / answer["seconds"], "connections_cpu": cpu * 1e6 / answer["total"]}


PARTS = (measure,)
