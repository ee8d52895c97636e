"""How many small requests a second go through two hops and come back, and how long that takes."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench.harness.chains import FLOOR, HAPROXY, SKROUTERD, TLS_ONLY
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.record import Figure, Target

QUESTION = "rate and latency of HTTP/1.1 requests of 100 octets on connections that stay open"
LEFT_OUT = TLS_ONLY
ROUNDS_AT_MOST = None
WARM_UP = False
SLOWEST_PER_S = 100
"""Of new connections; who is slower is not waited for."""
CONNECTIONS = (1, 32, 128)
FIGURES = (
    Figure(key="requests_1", title="requests, 1 connection", unit="/s"),
    Figure(key="requests_1_p50", title="requests, 1 connection, p50", unit="us"),
    Figure(key="requests_1_p99", title="requests, 1 connection, p99", unit="us"),
    Figure(key="requests_32", title="requests, 32 connections", unit="/s"),
    Figure(key="requests_32_p50", title="requests, 32 connections, p50", unit="us"),
    Figure(key="requests_32_p99", title="requests, 32 connections, p99", unit="us"),
    Figure(key="requests_128", title="requests, 128 connections", unit="/s"),
    Figure(key="requests_128_p99", title="requests, 128 connections, p99", unit="us"),
    Figure(key="requests_32_cpu", title="CPU of both hops, 32 connections", unit="us/request", digits=1),
)
TARGETS = (
    Target(figure="requests_32", against=HAPROXY, bound=0.85, sense="at least"),
    Target(figure="requests_1_p50", against=FLOOR, bound=2.0, sense="at most"),
    Target(figure="requests_32", against=SKROUTERD, bound=1.2, sense="at least", aim=2),
    Target(figure="requests_128", against=SKROUTERD, bound=1.2, sense="at least", aim=2),
    Target(figure="requests_1_p50", against=SKROUTERD, bound=0.5, sense="at most", aim=0.4),
)


def ask(world: World, port: int, connections: int, kind: str = "requests", count: int = 0) -> dict[str, Any]:
    """One run of the load program: for the world's seconds, or so many connections."""
    load = world.programs.python(
        *("bench.load.tcp_client", kind, port, "--connections", connections, "--seconds", world.seconds),
        *("--count", count),
    )
    answer = load.answer(ANSWER_TIMEOUT_S + count / SLOWEST_PER_S)
    world.programs.end(load)
    return answer


def measure(connections: int, world: World, kind: str) -> dict[str, float]:
    """One run with so many connections."""
    network = world.network(kind)
    cpu = network.cpu_s()
    answer = ask(world, network.tcp["http"], connections)
    cpu = network.cpu_s() - cpu
    key = f"requests_{connections}"
    figures = {
        key: answer["count"] / answer["seconds"],
        f"{key}_p50": answer["p50_us"],
        f"{key}_p99": answer["p99_us"],
        f"{key}_cpu": cpu * 1e6 / answer["total"],
    }
    return {figure.key: figures[figure.key] for figure in FIGURES if figure.key in figures}


PARTS = tuple(partial(measure, connections) for connections in CONNECTIONS)
