"""How long small requests wait beside a bulk flow: one that takes what it can get, and one held to 1 Gbit/s."""

from __future__ import annotations

from typing import Any

from bench.harness.chains import SKROUTERD, TLS_ONLY, Network
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "latency of small requests on 4 connections beside one bulk flow, free and held to 1 Gbit/s"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = False
CONNECTIONS = 4
GBITS = 1.0
MARGIN_S = 0.5
"""How much longer the bulk flow lasts, at each end, than the requests."""
FIGURES = (
    Figure(key="beside_p50", title="requests beside a bulk flow, p50", unit="us"),
    Figure(key="beside_p99", title="requests beside a bulk flow, p99", unit="us"),
    Figure(key="beside_bulk", title="the bulk flow beside requests", unit="Gbit/s", digits=2),
    Figure(key="alone_p99", title="requests alone, p99", unit="us"),
    Figure(key="held_p99", title="requests beside 1 Gbit/s, p99", unit="us"),
    Figure(key="held_bulk", title="the flow of 1 Gbit/s", unit="Gbit/s", digits=2),
    Figure(key="held_growth", title="p99 beside 1 Gbit/s against alone", unit="times", digits=2),
)
TARGETS = (
    Target(figure="beside_p99", against=SKROUTERD, bound=1.0, sense="at most", aim=0.5),
    Target(figure="held_growth", against=None, bound=3.0, sense="at most"),
)


def beside(world: World, network: Network, *command: object) -> tuple[dict[str, Any], float]:
    """Return what the requests found beside a bulk flow, and how many Gbit/s that had."""
    seconds = world.seconds + 2 * MARGIN_S
    bulk = world.programs.python("bench.load.tcp_client", *command, network.tcp["sink"], "--seconds", seconds)
    pause(MARGIN_S / 2)
    answer = ask(world, network.tcp["http"], CONNECTIONS)
    transferred = bulk.answer(ANSWER_TIMEOUT_S)
    world.programs.end(bulk)
    return answer, transferred["octets"] * 8 / transferred["seconds"] / 1e9


def free(world: World, kind: str) -> dict[str, float]:
    """Beside a flow without a limit."""
    answer, rate = beside(world, world.network(kind), "bulk")
    return {"beside_p50": answer["p50_us"], "beside_p99": answer["p99_us"], "beside_bulk": rate}


def held(world: World, kind: str) -> dict[str, float]:
    """Alone, and right afterwards beside a flow at a rate that leaves room."""
    network = world.network(kind)
    alone = ask(world, network.tcp["http"], CONNECTIONS)["p99_us"]
    answer, rate = beside(world, network, "paced", "--gbits", GBITS)
    return {
        "alone_p99": alone,
        "held_p99": answer["p99_us"],
        "held_bulk": rate,
        "held_growth": answer["p99_us"] / alone,
    }


PARTS = (free, held)
