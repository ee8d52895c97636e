"""How throughput and latency hold over four hops, f. e. two sites behind an edge each."""

from __future__ import annotations

from bench.bulk import transfer
from bench.harness.chains import SKROUTERD, TLS_ONLY
from bench.harness.networks import World
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "bulk throughput and latency through four hops"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = True
HOPS = 4
FIGURES = (
    Figure(key="four_bulk", title="four hops: bulk, one flow", unit="Gbit/s", digits=2),
    Figure(key="four_cpu", title="four hops: CPU of all, one flow", unit="s/GB", digits=2),
    Figure(key="four_p50", title="four hops: requests, 1 connection, p50", unit="us"),
)
TARGETS = (Target(figure="four_bulk", against=SKROUTERD, bound=2.0, sense="at least", aim=3),)


def bulk(world: World, kind: str) -> dict[str, float]:
    """From the client to the service."""
    network = world.network(kind, hops=HOPS)
    cpu = network.cpu_s()
    rate, amount = transfer(world, network.tcp["sink"])
    return {"four_bulk": rate, "four_cpu": (network.cpu_s() - cpu) / amount}


def latency(world: World, kind: str) -> dict[str, float]:
    """One request after the other."""
    return {"four_p50": ask(world, world.network(kind, hops=HOPS).tcp["http"], 1)["p50_us"]}


PARTS = (bulk, latency)
