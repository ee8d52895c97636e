"""What looking at HTTP on a TCP service costs: the same work with `observer: none` and with `auto`, in turn."""

from __future__ import annotations

from functools import partial

from bench.bulk import transfer
from bench.harness.chains import NO_ROUTER, Network
from bench.harness.networks import World
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "bulk and small HTTP/1.1 requests with the listener's observer on, beside off"
LEFT_OUT = NO_ROUTER
ROUNDS_AT_MOST = None
WARM_UP = True
TURNS = ("none", "auto", "auto", "none")
"""Both in the middle of the same time, so that a machine whose speed drifts drifts for both."""
CONNECTIONS = 32
FIGURES = (
    Figure(key="observed_bulk", title="bulk, auto beside none: rate", unit="times", digits=3),
    Figure(key="observed_bulk_cpu", title="bulk, auto beside none: CPU", unit="times", digits=3),
    Figure(key="observed_requests", title="requests, auto beside none: rate", unit="times", digits=3),
    Figure(key="observed_requests_cpu", title="requests, auto beside none: CPU", unit="times", digits=3),
)
TARGETS = (
    Target(figure="observed_bulk", against=None, bound=0.95, sense="at least"),
    Target(figure="observed_bulk_cpu", against=None, bound=1.05, sense="at most"),
    Target(figure="observed_requests", against=None, bound=0.85, sense="at least"),
    Target(figure="observed_requests_cpu", against=None, bound=1.15, sense="at most"),
)


def send(world: World, network: Network) -> tuple[float, float]:
    """Return the rate of one bulk flow, and how much was sent."""
    return transfer(world, network.tcp["sink"])


def request(world: World, network: Network) -> tuple[float, float]:
    """Return the rate of small requests, and how many there were."""
    answer = ask(world, network.tcp["http"], CONNECTIONS)
    return answer["count"] / answer["seconds"], answer["total"]


WORK = {"bulk": send, "requests": request}


def measure(name: str, world: World, kind: str) -> dict[str, float]:
    """One round of turns."""
    rates, costs = dict.fromkeys(TURNS, 0.0), dict.fromkeys(TURNS, 0.0)
    for observer in TURNS:
        network = world.network(kind, observer=observer)
        cpu = network.cpu_s()
        rate, amount = WORK[name](world, network)
        rates[observer] += rate
        costs[observer] += (network.cpu_s() - cpu) / amount
    return {
        f"observed_{name}": rates["auto"] / rates["none"],
        f"observed_{name}_cpu": costs["auto"] / max(costs["none"], 1e-9),
    }


PARTS = tuple(partial(measure, name) for name in WORK)
