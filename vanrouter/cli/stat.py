"""`van stat`: what a router knows and does, as tables, JSON or YAML. Layer: 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from vanrouter.cli.tables import (
    PRINTERS,
    Column,
    column,
    console,
    duration,
    number,
    octets,
    pairs_of,
    table_of,
)
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import ClientError, ManagementClient, router_target

KEY_LETTERS = {
    "M": "mobile", "L": "local", "R": "router", "T": "topo", "H": "edge", "A": "area", "N": "network",
}  # fmt: skip
"""First letter of an address key."""

SERVICE_TYPES = ("tcpListener", "tcpConnector", "httpListener", "httpConnector")

ROUTER_COLUMNS = (
    column("router", "id"),
    column("mode", rank=2),
    column("state"),
    column("version", rank=3),
    column("host", "hostName", rank=6),
    column("uptime", rank=2),
    number("conns", "connectionCount", rank=1),
    number("links", "linkCount", rank=4),
    number("addrs", "addrCount", rank=4),
    column("memory", rank=3),
    number("in", "deliveriesIngress", rank=5),
    number("out", "deliveriesEgress", rank=5),
    number("through", "deliveriesTransit", rank=5),
)
NODE_COLUMNS = (
    column("router", "id"),
    column("next hop", "nextHop"),
    number("link", "routerLink", rank=3),
    number("cost"),
    column("neighbours", "linkState", rank=1),
    column("valid origins", "validOrigins", rank=4),
)
CONNECTION_COLUMNS = (
    number("id", "identity"),
    column("host"),
    column("container", rank=1),
    column("role"),
    column("proto", "protocol", rank=3),
    column("dir", rank=2),
    column("security", rank=4),
    column("authentication", rank=5),
    column("idle", rank=6),
    column("uptime", rank=3),
)
LINK_COLUMNS = (
    number("id", "identity"),
    column("type", "linkType", rank=3),
    column("dir", "linkDir"),
    number("conn", "connectionId"),
    column("class", rank=2),
    column("address"),
    number("cap", "capacity", rank=8),
    number("pri", "priority", rank=9),
    number("undel", "undeliveredCount", rank=1),
    number("unsett", "unsettledCount", rank=1),
    number("deliv", "deliveryCount"),
    number("acc", "acceptedCount", rank=4),
    number("rel", "releasedCount", rank=5),
    number("mod", "modifiedCount", rank=6),
    number("rej", "rejectedCount", rank=5),
    number("rate", "settleRate", rank=7),
    number("slow", "deliveriesDelayed1Sec", rank=7),
    number("stuck", "deliveriesStuck", rank=3),
    number("credit", "creditAvailable", rank=2),
    number("blocked s", "zeroCreditSeconds", rank=3),
)
ADDRESS_COLUMNS = (
    column("class", rank=1),
    column("address"),
    column("distribution", rank=3),
    number("local", "subscriberCount"),
    number("in-proc", "inProcess", rank=5),
    number("remote", "remoteCount"),
    column("routers", "remoteHostRouters", rank=4),
    number("in", "deliveriesIngress", rank=1),
    number("out", "deliveriesEgress", rank=1),
    number("through", "deliveriesTransit", rank=1),
)
SERVICE_COLUMNS = (
    column("kind", rank=1),
    column("name"),
    column("address"),
    column("host", rank=2),
    column("port", rank=2),
    column("status", "operStatus"),
    number("open"),
    number("opened", "connectionsOpened", rank=3),
    column("in", rank=1),
    column("out", rank=1),
    column("message", "connectionMsg", rank=4),
)
POOL_COLUMNS = (
    column("type", "typeName"),
    number("size", "typeSize"),
    number("total", "totalAllocFromHeap"),
    number("freed", "totalFreeToHeap", rank=1),
    number("in threads", "heldByThreads"),
)

Rows = list[dict[str, Any]]


def nodes(client: ManagementClient) -> Rows:
    """Return the known routers."""
    return sorted(client.query("router.node"), key=lambda row: (row.get("nextHop") != "(self)", str(row.get("id"))))


def connections(client: ManagementClient) -> Rows:
    """Return the open connections with security and authentication in words."""
    rows = list(client.query("connection"))
    for row in rows:
        row["security"] = f"{row.get('sslProto')}({row.get('sslCipher')})" if row.get("isEncrypted") else "none"
        row["authentication"] = _authentication(row)
        row["uptime"], row["idle"] = duration(row.get("uptimeSeconds")), duration(row.get("lastDlvSeconds"))
    return rows


def links(client: ManagementClient) -> Rows:
    """Return the open links with the address key taken apart."""
    rows = list(client.query("router.link"))
    for row in rows:
        row["class"], row["address"] = key_parts(row.get("owningAddr"))
    return rows


def addresses(client: ManagementClient) -> Rows:
    """Return the known addresses, by name."""
    rows = list(client.query("router.address"))
    for row in rows:
        row["class"], row["address"] = key_parts(row.get("key") or row.get("name"))
    return sorted(rows, key=lambda row: str(row["address"]))


def services(client: ManagementClient) -> Rows:
    """Return the TCP and HTTP services, of the types that the router has."""
    found: Rows = []
    for kind in SERVICE_TYPES:
        try:
            rows = list(client.query(kind))
        except ManagementError as error:
            if error.status not in (400, 404):
                raise
            continue  # a C router has no HTTP types
        for row in rows:
            row["kind"] = kind
            row["in"], row["out"] = octets(row.get("bytesIn")), octets(row.get("bytesOut"))
            row["open"] = (row.get("connectionsOpened") or 0) - (row.get("connectionsClosed") or 0)
        found += rows
    return found


def general(client: ManagementClient) -> dict[str, Any]:
    """Return the router, its totals and its network."""
    return {kind: next(client.query(kind), {}) for kind in ("router", "routerMetrics", "network")}


def key_parts(key: object) -> tuple[str | None, str | None]:
    """Return class and name of an address key: `Mecho` gives `mobile`, `echo`."""
    if not isinstance(key, str) or not key:
        return None, None
    kind = KEY_LETTERS.get(key[0])
    return (kind, key[1:]) if kind is not None else (None, key)


def _authentication(row: Mapping[str, Any]) -> str:
    if not row.get("isAuthenticated"):
        return "none"
    mechanism = {"EXTERNAL": "x.509", "GSSAPI": "Kerberos"}.get(str(row.get("sasl")), str(row.get("sasl")))
    if mechanism == "ANONYMOUS":
        return "anonymous"
    return f"{row.get('user')}({mechanism})" if row.get("user") else mechanism


def routers(client: ManagementClient) -> Rows:
    """Return the interior routers of the network, each asked for itself; the one asked where there is no network."""
    here = client.target
    found: Rows = []
    try:
        for router_id in client.router_ids() or [""]:
            if router_id:
                client.target = router_target(router_id)
            found.append(_router(client, router_id))
    finally:
        client.target = here
    return found


def _router(client: ManagementClient, router_id: str) -> dict[str, Any]:
    try:
        totals = general(client)
    except ClientError as error:
        return {"id": router_id, "state": "unreachable", "error": str(error)}
    row = {**totals["router"], **totals["routerMetrics"], "state": "up"}
    row["uptime"] = duration(row.get("uptimeSeconds"))
    row["memory"] = octets(row.get("residentMemoryUsage"))
    return row


def memory(client: ManagementClient) -> dict[str, Any]:
    """Return what a router holds in memory; pools where it has them (C routers)."""
    totals = next(client.query("routerMetrics"), {})
    names = ("id", "residentMemoryUsage", "memoryUsage", "bufferedBytes", "flowsEndedForMemory", "connectionCount",
             "linkCount", "addrCount")  # fmt: skip
    return {**{name: totals.get(name) for name in names}, "pools": list(client.query("allocator"))}


Lister = Callable[[ManagementClient], Rows]
DISPLAYS: dict[str, tuple[str, tuple[Column, ...], Lister]] = {
    "routers": ("Routers", ROUTER_COLUMNS, routers),
    "nodes": ("Nodes", NODE_COLUMNS, nodes),
    "connections": ("Connections", CONNECTION_COLUMNS, connections),
    "links": ("Links", LINK_COLUMNS, links),
    "addresses": ("Addresses", ADDRESS_COLUMNS, addresses),
    "services": ("Services", SERVICE_COLUMNS, services),
}
"""What can be shown as a table."""

SINGLE: dict[str, Callable[[ManagementClient], dict[str, Any]]] = {"general": general, "memory": memory}
"""What is shown as names and values."""

NAMES = ("general", *DISPLAYS, "memory", "all")


def gathered(client: ManagementClient, wanted: str) -> object:
    """Return what a display shows, with every attribute, for programs; for `all` a map of all displays."""
    if wanted == "all":
        return {name: gathered(client, name) for name in NAMES[:-1]}
    return SINGLE[wanted](client) if wanted in SINGLE else DISPLAYS[wanted][2](client)


def rendered(client: ManagementClient, wanted: str, width: int) -> RenderableType:
    """Return one display, or all of them, for people."""
    if wanted == "all":
        return Group(*(rendered(client, name, width) for name in NAMES[:-1]))
    if wanted == "general":
        return _general_pairs(general(client))
    if wanted == "memory":
        return _memory_pairs(memory(client), width)
    title, columns, lister = DISPLAYS[wanted]
    return table_of(title, columns, lister(client), width)


def show(client: ManagementClient, wanted: str, *, output: str | None = None) -> None:
    """Print one display, or all of them: as tables, or with every attribute as `json` or `yaml`."""
    if output is not None:
        PRINTERS[output](gathered(client, wanted))
        return
    out = console()
    out.print(rendered(client, wanted, out.width))


def watch(client: ManagementClient, wanted: str, interval_s: float, *, wait: Callable[[float], object]) -> None:
    """Show a display again and again until interrupted: in place on a terminal, one below the other elsewhere.

    `wait` is told how long to pause.
    """
    out = console()
    title = Text(f"Every {interval_s:g} s: van stat {wanted}; Ctrl-C ends it", style="dim")
    with Live(console=out, screen=True, auto_refresh=False) if out.is_terminal else nullcontext() as live:
        while True:
            shown_now = Group(title, rendered(client, wanted, out.width))
            if live is None:
                out.print(shown_now)
            else:
                live.update(shown_now, refresh=True)
            wait(interval_s)


def _general_pairs(found: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    router, totals, network = found["router"], found["routerMetrics"], found["network"]
    pairs: list[tuple[str, object]] = [
        ("version", totals.get("version") or router.get("version")),
        ("host", router.get("hostName")),
        ("network", network.get("networkId")),
        ("tenant", network.get("tenantId")),
        ("metadata", router.get("metadata")),
        ("uptime", duration(totals.get("uptimeSeconds"))),
        ("memory", octets(totals.get("residentMemoryUsage"))),
        ("other routers", totals.get("nodeCount")),
        ("connections", totals.get("connectionCount")),
        ("service connections", totals.get("connectionCounters")),
        ("links", totals.get("linkCount")),
        ("addresses", totals.get("addrCount")),
        ("autoLinks", totals.get("autoLinkCount")),
        ("deliveries in", totals.get("deliveriesIngress")),
        ("deliveries out", totals.get("deliveriesEgress")),
        ("deliveries through", totals.get("deliveriesTransit")),
        ("accepted", totals.get("acceptedDeliveries")),
        ("released", totals.get("releasedDeliveries")),
        ("modified", totals.get("modifiedDeliveries")),
        ("rejected", totals.get("rejectedDeliveries")),
        ("stuck", totals.get("deliveriesStuck")),
        ("blocked links", totals.get("linksBlocked")),
    ]
    return pairs_of(f"Router {router.get('id')} ({router.get('mode')})", pairs)


def _memory_pairs(found: Mapping[str, Any], width: int) -> RenderableType:
    pairs = [
        ("resident", octets(found["residentMemoryUsage"])),
        ("virtual", octets(found["memoryUsage"])),
        ("kept for slow sockets", octets(found["bufferedBytes"])),
        ("flows ended for memory", found["flowsEndedForMemory"]),
        ("connections", found["connectionCount"]),
        ("links", found["linkCount"]),
        ("addresses", found["addrCount"]),
    ]
    summary = pairs_of(f"Memory of {found['id']}", pairs)
    if not found["pools"]:
        return summary
    return Group(summary, table_of("Pools", POOL_COLUMNS, found["pools"], width))
