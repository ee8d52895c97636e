"""Where vanrouter's time goes, room by room, under each kind of load: `python -m bench --profile`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from bench.bulk import transfer
from bench.harness.chains import VANROUTER, Network
from bench.harness.networks import World
from bench.harness.sampling import sampled
from bench.small_requests import ask

SECONDS = 4.0
LEAST_SHARE = 0.005
"""Rooms with less, everywhere, are told together."""
REST = "all others"


def send(world: World, network: Network) -> float:
    """One bulk flow; returns GB."""
    return transfer(world, network.tcp["sink"])[1]


def request(world: World, network: Network) -> float:
    """Small requests on 32 connections; returns thousands."""
    return float(ask(world, network.tcp["http"], 32)["total"]) / 1000


def connect(world: World, network: Network) -> float:
    """A connection for each request; returns thousands."""
    return float(ask(world, network.tcp["http"], 16, "connections")["total"]) / 1000


@dataclass(frozen=True, slots=True)
class Load:
    """One column of the table."""

    title: str
    unit: str
    work: Callable[[World, Network], float]
    tls: bool = False


LOADS = (
    Load("bulk", "s/GB", send),
    Load("bulk, mTLS", "s/GB", send, tls=True),
    Load("32 connections", "ms/1,000 requests", request),
    Load("new connections", "ms/1,000", connect),
)


def show_rooms(console: Console, world: World) -> int:
    """Measure and print; returns the exit code."""
    world.seconds = SECONDS
    columns: list[dict[str, float]] = []
    costs: list[str] = []
    for load in LOADS:
        network = world.network(VANROUTER, tls=load.tls)
        console.print(f"sampling: {load.title}", style="dim")
        work = partial(load.work, world, network)
        amount, cpu, column = sampled(world.programs, world.folder, network, SECONDS, work)
        columns.append(column)
        cost = cpu / max(amount, 1e-9)
        costs.append(f"{cost:.2f} {load.unit}" if load.unit == "s/GB" else f"{cost * 1000:.1f} {load.unit}")
    console.print(table(columns, costs))
    return 0


def table(columns: list[dict[str, float]], costs: list[str]) -> Table:
    """Rooms by their largest share, and what the whole is for each unit of work."""
    names = {name for column in columns for name in column}
    largest = {name: max(column.get(name, 0.0) for column in columns) for name in names}
    made = Table(title="Share of the CPU time of both routers", title_justify="left")
    made.add_column("room")
    for load in LOADS[: len(columns)]:
        made.add_column(load.title, justify="right")
    shown = sorted((name for name in names if largest[name] >= LEAST_SHARE), key=lambda name: -largest[name])
    for name in shown:
        made.add_row(name, *(f"{column.get(name, 0.0):.1%}" for column in columns))
    rest = [sum(share for name, share in column.items() if name not in shown) for column in columns]
    if any(rest):
        made.add_row(REST, *(f"{share:.1%}" for share in rest))
    made.add_section()
    made.add_row("CPU, sampling included", *costs)
    return made
