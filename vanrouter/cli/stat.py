"""`van stat`: what a router knows and does, as tables or JSON. Layer: 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vanrouter.cli.tables import Column, column, number, print_json, print_pairs, print_table
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import ManagementClient

KEY_LETTERS = {
    "M": "mobile", "L": "local", "R": "router", "T": "topo", "H": "edge", "A": "area", "N": "network",
}  # fmt: skip
"""First letter of an address key."""

SERVICE_TYPES = ("tcpListener", "tcpConnector", "httpListener", "httpConnector")

NODE_COLUMNS = (
    column("router", "id"),
    column("next hop", "nextHop"),
    column("link", "routerLink"),
    number("cost"),
    column("neighbours", "linkState"),
    column("valid origins", "validOrigins"),
)
CONNECTION_COLUMNS = (
    number("id", "identity"),
    column("host"),
    column("container"),
    column("role"),
    column("protocol"),
    column("dir"),
    column("security"),
    column("authentication"),
    number("last delivery s", "lastDlvSeconds"),
    number("uptime s", "uptimeSeconds"),
)
LINK_COLUMNS = (
    number("id", "identity"),
    column("type", "linkType"),
    column("dir", "linkDir"),
    number("connection", "connectionId"),
    column("class"),
    column("address"),
    number("capacity"),
    number("priority"),
    number("undelivered", "undeliveredCount"),
    number("unsettled", "unsettledCount"),
    number("deliveries", "deliveryCount"),
    number("accepted", "acceptedCount"),
    number("released", "releasedCount"),
    number("modified", "modifiedCount"),
    number("rejected", "rejectedCount"),
    number("rate", "settleRate"),
    number("credit", "creditAvailable"),
)
ADDRESS_COLUMNS = (
    column("class"),
    column("address"),
    column("distribution"),
    number("local", "subscriberCount"),
    number("in-process", "inProcess"),
    number("remote", "remoteCount"),
    column("routers", "remoteHostRouters"),
    number("in", "deliveriesIngress"),
    number("out", "deliveriesEgress"),
    number("through", "deliveriesTransit"),
)
SERVICE_COLUMNS = (
    column("kind"),
    column("name"),
    column("address"),
    column("host"),
    column("port"),
    column("status", "operStatus"),
    number("open"),
    number("opened", "connectionsOpened"),
    number("octets in", "bytesIn"),
    number("octets out", "bytesOut"),
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


Lister = Callable[[ManagementClient], Rows]
DISPLAYS: dict[str, tuple[str, tuple[Column, ...], Lister]] = {
    "routers": ("Routers", NODE_COLUMNS, nodes),
    "connections": ("Connections", CONNECTION_COLUMNS, connections),
    "links": ("Links", LINK_COLUMNS, links),
    "addresses": ("Addresses", ADDRESS_COLUMNS, addresses),
    "services": ("Services", SERVICE_COLUMNS, services),
}
"""What can be shown as a table."""

NAMES = ("general", *DISPLAYS, "all")


def show(client: ManagementClient, wanted: str, *, as_json: bool) -> None:
    """Print one display, or all of them."""
    names: Iterable[str] = NAMES[:-1] if wanted == "all" else (wanted,)
    if as_json:
        gathered = {name: general(client) if name == "general" else DISPLAYS[name][2](client) for name in names}
        print_json(gathered if wanted == "all" else gathered[wanted])
        return
    for name in names:
        if name == "general":
            _show_general(general(client))
        else:
            title, columns, lister = DISPLAYS[name]
            print_table(title, columns, lister(client))


def _show_general(found: Mapping[str, Mapping[str, Any]]) -> None:
    router, totals, network = found["router"], found["routerMetrics"], found["network"]
    title = f"Router {router.get('id')} ({router.get('mode')})"
    pairs: list[tuple[str, object]] = [
        ("version", totals.get("version") or router.get("version")),
        ("host", router.get("hostName")),
        ("network", network.get("networkId")),
        ("tenant", network.get("tenantId")),
        ("metadata", router.get("metadata")),
        ("uptime", _duration(totals.get("uptimeSeconds"))),
        ("memory, octets", totals.get("residentMemoryUsage")),
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
    ]
    print_pairs(title, pairs)


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, int):
        return None
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour:02}:{minute:02}:{second:02}"
