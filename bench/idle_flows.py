"""What open flows cost while nothing happens on them: memory and CPU."""

from __future__ import annotations

from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "memory for each open flow, and CPU with 2,000 of them idle"
WARM_UP = False
ROUNDS_AT_MOST = 1
"""Memory hardly varies, and it takes a network of its own."""
FLOWS = 2000
SETTLE_S = 0.7
IDLE_S = 2.5
FIGURES = (
    Figure(key="idle_memory", title="memory for each flow and hop", unit="kB", digits=1),
    Figure(key="idle_cpu", title="idle CPU of both hops, 2,000 flows", unit="% of a core", digits=2),
    Figure(key="idle_open", title="opening 2,000 flows", unit="s", digits=2),
)
TARGETS = (
    Target(figure="idle_memory", against=None, bound=20, sense="at most"),
    Target(figure="idle_cpu", against=None, bound=1, sense="less than"),
)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run, on a network that has only been warmed up."""
    with world.fresh_network(kind) as network:
        ask(world, network.tcp["echo"], 16, "connections")
        pause(SETTLE_S)
        before = network.memory_kb()
        load = world.programs.python("bench.load.tcp_client", "hold", network.tcp["echo"], "--connections", FLOWS)
        opened = load.answer(ANSWER_TIMEOUT_S)
        pause(SETTLE_S)
        memory = network.memory_kb() - before
        cpu = network.cpu_s()
        pause(IDLE_S)
        cpu = network.cpu_s() - cpu
        world.programs.end(load)
        return {
            "idle_memory": memory / FLOWS / len(network.hops),
            "idle_cpu": cpu / IDLE_S * 100,
            "idle_open": opened["seconds"],
        }


PARTS = (measure,)
