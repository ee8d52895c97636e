"""How many connections a second are opened, used for one small request, and closed."""

from __future__ import annotations

from bench.harness.chains import FLOOR, SKROUTERD, TLS_ONLY
from bench.harness.networks import World
from bench.harness.processes import BenchError, pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "new TCP connections a second, 16 at a time"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = False
AT_ONCE = 16
WARM_UP_COUNT = 2000
SETTLED_S = 15.0
"""Memory is given back some seconds after the last of many has ended."""
FIGURES = (
    Figure(key="connections", title="new connections", unit="/s"),
    Figure(key="connections_cpu", title="CPU of both hops, new connections", unit="us/connection"),
    Figure(key="connections_left", title="memory that stays behind (--connections)", unit="kB"),
)
TARGETS = (
    Target(figure="connections", against=FLOOR, bound=0.45, sense="at least"),
    Target(figure="connections", against=SKROUTERD, bound=1.0, sense="at least", aim=2),
)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run."""
    network = world.network(kind)
    count = world.connections or 0
    if count:
        ask(world, network.tcp["http"], AT_ONCE, "connections", WARM_UP_COUNT)
        pause(SETTLED_S)
    memory = network.memory_kb()
    cpu = network.cpu_s()
    answer = ask(world, network.tcp["http"], AT_ONCE, "connections", count)
    cpu = network.cpu_s() - cpu
    if answer["failed"]:
        raise BenchError(f"{kind}: {answer['failed']} of {answer['count']} new connections failed")
    figures = {"connections": answer["count"] / answer["seconds"], "connections_cpu": cpu * 1e6 / answer["total"]}
    if count:
        pause(SETTLED_S)
        figures["connections_left"] = network.memory_kb() - memory
    return figures


PARTS = (measure,)
