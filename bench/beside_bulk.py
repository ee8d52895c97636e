"""How long small requests wait while a bulk flow takes what it can get of the same hops."""

from __future__ import annotations

from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import pause
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "latency of small requests on 4 connections beside one bulk flow"
ROUNDS_AT_MOST = None
WARM_UP = False
CONNECTIONS = 4
MARGIN_S = 0.5
"""How much longer the bulk flow lasts, at each end, than the requests."""
FIGURES = (
    Figure(key="beside_p50", title="requests beside a bulk flow, p50", unit="us"),
    Figure(key="beside_p99", title="requests beside a bulk flow, p99", unit="us"),
    Figure(key="beside_bulk", title="the bulk flow beside requests", unit="Gbit/s", digits=2),
)
TARGETS: tuple[Target, ...] = ()


def measure(world: World, kind: str) -> dict[str, float]:
    """One run."""
    network = world.network(kind)
    seconds = world.seconds + 2 * MARGIN_S
    bulk = world.programs.python("bench.load.tcp_client", "bulk", network.tcp["sink"], "--seconds", seconds)
    pause(MARGIN_S / 2)
    answer = ask(world, network.tcp["echo"], CONNECTIONS)
    transferred = bulk.answer(ANSWER_TIMEOUT_S)
    world.programs.end(bulk)
    return {
        "beside_p50": answer["p50_us"],
        "beside_p99": answer["p99_us"],
        "beside_bulk": transferred["octets"] * 8 / transferred["seconds"] / 1e9,
    }


PARTS = (measure,)
