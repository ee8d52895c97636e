"""How many requests of HTTP a second find their own way through two routers, and what each costs them.

Small requests to nginx over HTTP/1.1 (wrk, 32 connections that stay open) and HTTP/2 (h2load, 4 connections of 8
streams), and unary calls of 100 octets to a gRPC server, 4 connections of 8 streams. The C router's figures are those
of 2.7 (SKROUTERD2), whose HTTP adaptor does the same; 3.x has none. HTTP/1.1 over a plain TCP service, where
connections are balanced and not requests, shows what the routing of each request costs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial

from bench.harness.chains import FLOOR, HAPROXY, SKROUTERD, STUNNEL
from bench.harness.http_networks import TCP, network, services
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.processes import BenchError
from bench.harness.record import Figure, Target

QUESTION = "rate of requests of HTTP/1.1 and HTTP/2 and of gRPC calls, each balanced on its own"
LEFT_OUT = frozenset({HAPROXY, STUNNEL})
ROUNDS_AT_MOST = None
WARM_UP = True
TITLES = {
    "http1": "HTTP/1.1, 32 connections",
    "http2": "HTTP/2, 4 connections of 8 streams",
    "grpc": "gRPC unary, 4 connections of 8 streams",
}
FIGURES = tuple(
    figure
    for name, title in TITLES.items()
    for figure in (
        Figure(key=name, title=title, unit="/s"),
        Figure(key=f"{name}_cpu", title=f"CPU of both hops, {title}", unit="us/request", digits=1),
    )
)
FIGURES += (
    Figure(key="http1_tcp", title="HTTP/1.1 over plain TCP, 32 connections", unit="/s"),
    Figure(key="http1_share", title="HTTP/1.1, as a share of that over plain TCP", unit="", digits=2),
)
TARGETS = (
    Target(figure="http1_share", against=None, bound=0.25, sense="at least"),
    Target(figure="http1", against=SKROUTERD, bound=1.5, sense="at least"),
    Target(figure="http2", against=SKROUTERD, bound=0.5, sense="at least"),
    Target(figure="grpc", against=SKROUTERD, bound=0.5, sense="at least"),
)
MESSAGE = b"\0" + (100).to_bytes(4, "big") + bytes(100)
"""A gRPC message: not compressed, its length, its octets."""


def require(command: str) -> str:
    """The path of a load program."""
    path = shutil.which(command)
    if path is None:
        raise BenchError(f"{command} is not installed: tools/setup.sh bench")
    return path


def load(world: World, name: str, port: int) -> tuple[float, int]:
    """Run a load program; return requests a second and how many there were."""
    url, seconds = f"http://127.0.0.1:{port}/", max(1, round(world.seconds))
    if name == "http1":
        argv = [require("wrk"), "-t1", "-c32", f"-d{seconds}", url]
    else:
        argv = [require("h2load"), "-c4", "-m8", f"-D{seconds}", url]
    if name == "grpc":
        body = world.folder / "message"
        body.write_bytes(MESSAGE)
        argv += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()[-500:]}")
    said = done.stdout
    if name == "http1":
        rate, count = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
        bad = re.search(r"Non-2xx.*|Socket errors.*", said)
    else:
        rate, count = re.search(r"finished in .*?, ([\d.]+) req/s", said), re.search(r"(\d+) succeeded", said)
        bad = re.search(r"[1-9]\d* (?:failed|[45]xx)", said)
    if rate is None or count is None or bad is not None:
        raise BenchError(f"{' '.join(argv)}: {bad[0] if bad else said[-500:]}")
    return float(rate[1]), int(count[1])


def measure(name: str, world: World, kind: str) -> dict[str, float]:
    """One run."""
    if kind == FLOOR:
        return {name: load(world, name, services(world)[name])[0]}  # the service itself, without any hop
    found = network(world, kind)
    if found is None:
        return {}
    cpu = found.cpu_s()
    rate, count = load(world, name, found.tcp[name])
    figures = {name: rate, f"{name}_cpu": (found.cpu_s() - cpu) * 1e6 / max(1, count)}
    if name == "http1":
        figures["http1_tcp"] = load(world, name, found.tcp[TCP])[0]
        figures["http1_share"] = rate / figures["http1_tcp"]
    return figures


PARTS = tuple(partial(measure, name) for name in TITLES)
