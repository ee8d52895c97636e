"""What open flows cost while nothing happens on them: memory, whether it comes back, and CPU."""

from __future__ import annotations

import time

from bench.harness.chains import NO_ROUTER, SKROUTERD, TLS_ONLY, Network
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "memory for each open flow, and CPU with 2,000 of them idle"
LEFT_OUT = TLS_ONLY
WARM_UP = False
ROUNDS_AT_MOST = 1
"""Memory hardly varies, and it takes a network of its own."""
FLOWS = 2000
SETTLE_S = 0.7
IDLE_S = 2.5
GIVEN_BACK = 0.9
GIVEN_BACK_WITHIN_S = 15.0
"""Records of ended flows are held for some seconds, in case somebody collects them."""
FIGURES = (
    Figure(key="idle_memory", title="memory for each flow and hop", unit="kB", digits=1),
    Figure(key="idle_given_back", title="share of it given back within 15 s of their end", unit="", digits=2),
    Figure(key="idle_cpu", title="idle CPU of both hops, 2,000 flows", unit="% of a core", digits=2),
    Figure(key="idle_open", title="opening 2,000 flows", unit="s", digits=2),
)
TARGETS = (
    Target(figure="idle_memory", against=None, bound=20, sense="at most"),
    Target(figure="idle_memory", against=SKROUTERD, bound=0.25, sense="at most", aim=0.2),
    Target(figure="idle_given_back", against=None, bound=GIVEN_BACK, sense="at least"),
    Target(figure="idle_cpu", against=None, bound=1, sense="less than"),
)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run, on a network that has only been warmed up."""
    with world.fresh_network(kind) as network:
        ask(world, network.tcp["http"], 16, "connections")
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
        # Without records and queues there is nothing to speak of that could be given back.
        returned = {} if kind in NO_ROUTER else {"idle_given_back": given_back(network, before, memory)}
        return returned | {
            "idle_memory": memory / FLOWS / len(network.hops),
            "idle_cpu": cpu / IDLE_S * 100,
            "idle_open": opened["seconds"],
        }


def given_back(network: Network, before_kb: int, taken_kb: int) -> float:
    """Wait until most of the memory is back, or for as long as there is time, and return the share."""
    deadline = time.monotonic() + GIVEN_BACK_WITHIN_S
    while True:
        share = 1 - (network.memory_kb() - before_kb) / max(taken_kb, 1)
        if share >= GIVEN_BACK or time.monotonic() > deadline:
            return share
        pause(0.25)


PARTS = (measure,)
