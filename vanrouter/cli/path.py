"""`van ping` and `van trace`: the way to a router or an address, and the time of each hop. Layer: 6.

A hop's time is that of a READ which the router at that hop answers itself, so that it is the time of the network and of
the routers between, and not that of a service behind them. Nothing is sent to the address: what a service would make of
it nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vanrouter.cli.topology import peer_cost
from vanrouter.errors import VanrouterError
from vanrouter.mgmt.client import ClientError, ManagementClient, edge_target, router_target

MAX_HOPS = 64
"""More routers than any sensible way has; what is longer turns in a circle."""


class NoWayError(VanrouterError):
    """Nobody in the network has to do with what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where something is: on the router asked (`hosts` begins with it), or on others."""

    text: str
    kind: str
    """`router`, `edge` or `address`."""
    hosts: tuple[str, ...]
    """Routers that have it, the nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One router on the way."""

    number: int
    router: str
    seconds: float | None
    """Of one round trip; None when it did not answer."""
    cost: int | None


def find(client: ManagementClient, text: str) -> Destination:
    """Return where a router, an edge router or an address is, as the router asked knows it.

    Raises:
        NoWayError: nowhere.
    """
    here = own_id(client)
    nodes = {str(row.get("id")): row for row in client.query("router.node")}
    costs = {router: row.get("cost") or 0 for router, row in nodes.items()}
    if text == here or text in nodes:
        return Destination(text=text, kind="router", hosts=(text,))
    for key, kind in ((f"H{text}", "edge"), (f"M{text}", "address")):
        for row in client.query("router.address"):
            if row.get("key") != key:
                continue
            hosts = [str(router) for router in row.get("remoteHostRouters") or ()]
            hosts.sort(key=lambda router: costs.get(router, MAX_HOPS))
            if row.get("subscriberCount") or row.get("inProcess"):
                hosts.insert(0, here)
            if hosts:
                return Destination(text=text, kind=kind, hosts=tuple(hosts))
    raise NoWayError(f"{text}: {here} knows no router and no consumer of that name; `van stat addresses` lists all")


def own_id(client: ManagementClient) -> str:
    """Return the id of the router asked."""
    return str(next(client.query("router"), {}).get("id"))


def way(client: ManagementClient, here: str, destination: str) -> list[str]:
    """Return the routers from here to another one, as each says where it would go next.

    Raises:
        NoWayError: a router on the way knows no next one.
        ClientError: one on the way does not answer.
    """
    start, at, routers = client.target, here, [here]
    try:
        while at != destination:
            client.target = start if at == here else router_target(at)
            rows = {str(row.get("id")): row for row in client.query("router.node")}
            row = rows.get(destination)
            if row is None or len(routers) > MAX_HOPS:
                raise NoWayError(f"{at} knows no way to {destination}")
            if row.get("nextHop") is not None:
                at = str(row["nextHop"])
            else:
                at = _next_to_neighbour(client, at, destination, rows)
            routers.append(at)
    finally:
        client.target = start
    return routers


def _next_to_neighbour(client: ManagementClient, at: str, destination: str, rows: dict[str, dict[str, Any]]) -> str:
    """Return where the way to a neighbour begins: not on the direct link, when that costs more, and no row says so."""
    here = client.target
    direct = _announced(client, destination)
    client.target = router_target(destination)
    direct = max(direct, _announced(client, at))
    total = rows[destination].get("cost")
    if not isinstance(total, int) or direct <= total:
        return destination
    try:
        for other, row in rows.items():
            if other in (at, destination) or row.get("nextHop") is not None:
                continue
            client.target = router_target(other)
            rest = next((one.get("cost") for one in client.query("router.node") if one.get("id") == destination), None)
            if isinstance(rest, int) and row.get("cost", 0) + rest == total:
                return other
    finally:
        client.target = here
    return destination


def _announced(client: ManagementClient, peer: str) -> int:
    """Return the cost that a neighbour of the router asked has announced for their link."""
    costs = [
        peer_cost(row)
        for row in client.query("connection")
        if row.get("role") == "inter-router" and row.get("container") == peer
    ]
    return min(costs, default=1)


def trace(client: ManagementClient, destination: Destination) -> list[Hop]:
    """Return the hops to the nearest host of a destination, with the time that each takes to answer.

    Raises:
        NoWayError: there is no way.
    """
    here = own_id(client)
    start = client.target
    hops: list[Hop] = []
    costs = {str(row.get("id")): row.get("cost") for row in client.query("router.node")}
    routers = way(client, here, destination.hosts[0])
    targets = [(router, start if router == here else router_target(router)) for router in routers]
    if destination.kind == "edge":
        targets.append((destination.text, edge_target(destination.text)))
    for number, (router, target) in enumerate(targets):
        hops.append(Hop(number=number, router=router, seconds=round_trip(client, target), cost=costs.get(router)))
    return hops


def round_trip(client: ManagementClient, target: str, clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Return the seconds that the router at a management address takes to answer; None when it does not."""
    before, client.target = client.target, target
    try:
        begun = clock()
        client.call("READ", name="self")
        return clock() - begun
    except ClientError:
        return None
    finally:
        client.target = before


def target_of(client: ManagementClient, destination: Destination) -> str:
    """Return the management address of the router that has a destination."""
    if destination.kind == "edge":
        return edge_target(destination.text)
    return client.target if destination.hosts[0] == own_id(client) else router_target(destination.hosts[0])


def as_row(hop: Hop) -> dict[str, Any]:
    """Return a hop for a table and for programs."""
    milliseconds = None if hop.seconds is None else round(hop.seconds * 1000, 3)
    return {"hop": hop.number, "router": hop.router, "ms": milliseconds, "cost": hop.cost}
