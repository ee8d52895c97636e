"""How many octets a second go through two hops: one flow, the other direction, eight flows; and what that costs."""

from __future__ import annotations

from bench.harness.chains import FLOOR, HAPROXY, SKROUTERD, TLS_ONLY
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.record import Figure, Target

QUESTION = "bulk throughput of TCP flows through two hops"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = True
FIGURES = (
    Figure(key="bulk", title="bulk, one flow", unit="Gbit/s", digits=2),
    Figure(key="bulk_reverse", title="bulk, one flow, reverse", unit="Gbit/s", digits=2),
    Figure(key="bulk_8", title="bulk, 8 flows", unit="Gbit/s", digits=2),
    Figure(key="bulk_cpu", title="CPU of both hops, one flow", unit="s/GB", digits=2),
)
TARGETS = (
    Target(figure="bulk", against=FLOOR, bound=0.45, sense="at least"),
    Target(figure="bulk", against=HAPROXY, bound=0.8, sense="at least"),
    Target(figure="bulk", against=SKROUTERD, bound=1.8, sense="at least", aim=3),
    Target(figure="bulk_8", against=SKROUTERD, bound=1.3, sense="at least", aim=2),
    Target(figure="bulk_cpu", against=SKROUTERD, bound=0.5, sense="at most", aim=0.3),
)


def transfer(world: World, port: int, kind: str = "bulk", connections: int = 1) -> tuple[float, float]:
    """Return the Gbit/s and the GB of one run of the load program."""
    load = world.programs.python(
        "bench.load.tcp_client", kind, port, "--connections", connections, "--seconds", world.seconds
    )
    answer = load.answer(ANSWER_TIMEOUT_S)
    world.programs.end(load)
    amount = float(answer["octets"]) / 1e9
    return amount * 8 / float(answer["seconds"]), amount


def one_flow(world: World, kind: str) -> dict[str, float]:
    """From the client to the service; with the CPU that it takes."""
    network = world.network(kind)
    cpu = network.cpu_s()
    rate, amount = transfer(world, network.tcp["sink"])
    cpu = network.cpu_s() - cpu
    return {"bulk": rate, "bulk_cpu": cpu / amount}


def reverse(world: World, kind: str) -> dict[str, float]:
    """From the service to the client."""
    return {"bulk_reverse": transfer(world, world.network(kind).tcp["source"], "reverse")[0]}


def eight_flows(world: World, kind: str) -> dict[str, float]:
    """Eight at the same time."""
    return {"bulk_8": transfer(world, world.network(kind).tcp["sink"], connections=8)[0]}


PARTS = (one_flow, reverse, eight_flows)
