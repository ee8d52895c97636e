"""What is left of throughput and request rate when the way between the two hops is mutual TLS."""

from __future__ import annotations

from bench.bulk import transfer
from bench.harness.chains import SKROUTERD, STUNNEL
from bench.harness.networks import World
from bench.harness.record import Figure, Target
from bench.small_requests import ask

QUESTION = "bulk throughput and small requests with mutual TLS between the hops"
LEFT_OUT: frozenset[str] = frozenset()
ROUNDS_AT_MOST = None
WARM_UP = True
FIGURES = (
    Figure(key="tls_bulk", title="mTLS: bulk, one flow", unit="Gbit/s", digits=2),
    Figure(key="tls_bulk_reverse", title="mTLS: bulk, one flow, reverse", unit="Gbit/s", digits=2),
    Figure(key="tls_bulk_cpu", title="mTLS: CPU of both hops, one flow", unit="s/GB", digits=2),
    Figure(key="tls_requests_32", title="mTLS: requests, 32 connections", unit="/s"),
    Figure(key="tls_requests_32_p99", title="mTLS: requests, 32 connections, p99", unit="us"),
)
TARGETS = (
    Target(figure="tls_bulk", against=SKROUTERD, bound=1.7, sense="at least", aim=3),
    Target(figure="tls_bulk", against=STUNNEL, bound=0.85, sense="at least"),
)


def requests(world: World, kind: str) -> dict[str, float]:
    """Small ones, on 32 connections."""
    answer = ask(world, world.network(kind, tls=True).tcp["http"], 32)
    return {"tls_requests_32": answer["count"] / answer["seconds"], "tls_requests_32_p99": answer["p99_us"]}


def bulk(world: World, kind: str) -> dict[str, float]:
    """From the client to the service."""
    network = world.network(kind, tls=True)
    cpu = network.cpu_s()
    rate, amount = transfer(world, network.tcp["sink"])
    return {"tls_bulk": rate, "tls_bulk_cpu": (network.cpu_s() - cpu) / amount}


def bulk_reverse(world: World, kind: str) -> dict[str, float]:
    """From the service to the client."""
    return {"tls_bulk_reverse": transfer(world, world.network(kind, tls=True).tcp["source"], "reverse")[0]}


PARTS = (requests, bulk, bulk_reverse)
