"""What records of flows cost: memory and CPU with 9,000 open flows, with nobody and with a collector listening."""

from __future__ import annotations

from bench.harness.chains import NO_ROUTER, SKROUTERD
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "records of 9,000 open flows: memory, CPU while idle, CPU of telling all of them"
LEFT_OUT = NO_ROUTER | {SKROUTERD}
"""The C router records 5,000 at most."""
WARM_UP = False
ROUNDS_AT_MOST = 1
FLOWS = 9_000
"""As many as two processes with 20,000 descriptors each can hold both ends of."""
SETTLE_S = 8.0
"""Longer than ends of flows are held, and than a flush takes."""
IDLE_S = 5.0
FIGURES = (
    Figure(key="observed_memory", title="memory for each flow and hop, all told", unit="kB", digits=1),
    Figure(key="unobserved_cpu", title="idle CPU of both hops, nobody listens", unit="% of a core", digits=2),
    Figure(key="observed_cpu", title="idle CPU of both hops, a collector listens", unit="% of a core", digits=2),
    Figure(key="flush_cpu", title="CPU of telling all flows once", unit="ms", digits=0),
    Figure(key="told_flows", title="flows that the collector knows", unit="", digits=0),
)
TARGETS = (Target(figure="observed_cpu", against=None, bound=5, sense="less than"),)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run, on a network that has only been warmed up."""
    with world.fresh_network(kind) as network:
        ask(world, network.tcp["http"], 16, "connections")
        pause(SETTLE_S)
        before = network.memory_kb()
        load = world.programs.python("bench.load.tcp_client", "hold", network.tcp["echo"], "--connections", FLOWS)
        load.answer(ANSWER_TIMEOUT_S)
        pause(SETTLE_S)
        cpu = network.cpu_s()
        pause(IDLE_S)
        unobserved = network.cpu_s() - cpu
        cpu = network.cpu_s()
        collector = world.programs.python("bench.load.collector", network.amqp[0], SETTLE_S)
        told = collector.answer(ANSWER_TIMEOUT_S)
        flush = network.cpu_s() - cpu
        memory = network.memory_kb() - before
        cpu = network.cpu_s()
        pause(IDLE_S)
        observed = network.cpu_s() - cpu
        world.programs.end(load, collector)
        return {
            "observed_memory": memory / FLOWS / len(network.hops),
            "unobserved_cpu": unobserved / IDLE_S * 100,
            "observed_cpu": observed / IDLE_S * 100,
            "flush_cpu": flush * 1000,
            "told_flows": told["flows"],
        }


PARTS = (measure,)
