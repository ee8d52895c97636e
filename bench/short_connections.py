"""Whether anything is left behind by a million connections that were opened, used once and closed."""

from __future__ import annotations

from bench.harness.chains import NO_ROUTER
from bench.harness.networks import World
from bench.harness.processes import BenchError, pause
from bench.harness.record import Figure, Target

QUESTION = "a million short connections, 64 at a time: what stays"
LEFT_OUT = NO_ROUTER
WARM_UP = False
ROUNDS_AT_MOST = 1
COUNT = 1_000_000
WARM_UP_COUNT = 20_000
AT_ONCE = 64
SETTLE_S = 10.0
TIMEOUT_S = 3600.0
"""A busy machine was seen to make 520 connections a second."""
FIGURES = (
    Figure(key="million_rate", title="a million connections, at", unit="/s"),
    Figure(key="million_kept", title="memory of both hops that they left", unit="kB"),
    Figure(key="million_descriptors", title="descriptors of both hops that they left", unit=""),
)
TARGETS = (
    Target(figure="million_kept", against=None, bound=4096, sense="at most"),
    Target(figure="million_descriptors", against=None, bound=0, sense="at most"),
)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run, on a network that has only been warmed up."""
    with world.fresh_network(kind) as network:

        def run(count: int) -> float:
            load = world.programs.python(
                "bench.load.tcp_client", "connections", network.tcp["http"], "--connections", AT_ONCE, "--count", count
            )
            answer = load.answer(TIMEOUT_S)
            world.programs.end(load)
            pause(SETTLE_S)
            if answer["failed"]:
                raise BenchError(f"{kind}: {answer['failed']} of {count} connections failed")
            return float(answer["count"] / answer["seconds"])

        run(WARM_UP_COUNT)
        memory, descriptors = network.memory_kb(), network.descriptors()
        rate = run(COUNT)
        return {
            "million_rate": rate,
            "million_kept": network.memory_kb() - memory,
            "million_descriptors": network.descriptors() - descriptors,
        }


PARTS = (measure,)
