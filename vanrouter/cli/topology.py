"""`van topology`: the network as one router, and those it can ask, see it. Layer: 6.

Interior routers know each other's neighbours. The cost of a link is known to its ends, each of which knows the other's.
Edge routers are seen by the interior routers that they are attached to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import ClientError, ManagementClient, router_target
from vanrouter.mgmt.lines import printable


@dataclass(slots=True)
class Network:
    """Routers and what joins them."""

    here: str
    """The router that was asked first."""
    routers: dict[str, str] = field(default_factory=dict)
    """Each router's mode: `interior`, `edge`, `standalone`, or `unreachable` when it did not answer."""
    links: dict[tuple[str, str], int | None] = field(default_factory=dict)
    """Pairs of names, in order of the alphabet, with the cost of the link; None: not known, or of no meaning."""

    def join(self, one: str, other: str, cost: int | None) -> None:
        """Note a link; of two costs the greater one counts, as routers have it."""
        pair = (min(one, other), max(one, other))
        known = self.links.get(pair)
        self.links[pair] = cost if known is None else known if cost is None else max(known, cost)

    def neighbours(self, router: str) -> list[str]:
        """Return the routers that a router has a link to, by name."""
        return sorted({name for pair in self.links if router in pair for name in pair} - {router})

    def cost(self, one: str, other: str) -> int | None:
        """Return the cost of a link."""
        return self.links.get((min(one, other), max(one, other)))


def discover(client: ManagementClient) -> Network:
    """Ask every router that can be reached what it is joined to."""
    start = client.target
    own = next(client.query("router"), {})
    here = str(own.get("id"))
    network = Network(here=here, routers={here: str(own.get("mode"))})
    try:
        for router_id in client.router_ids():
            network.routers.setdefault(router_id, "interior")
            client.target = start if router_id == here else router_target(router_id)
            try:
                _ask(client, network, router_id)
            except (ClientError, ManagementError):
                network.routers[router_id] = "unreachable"
        if not network.links:
            client.target = start
            _ask_edges(client, network, here)
    finally:
        client.target = start
    return network


def _ask(client: ManagementClient, network: Network, router_id: str) -> None:
    for row in client.query("router.node"):
        other = str(row.get("id"))
        network.routers.setdefault(other, "interior")
        for neighbour in row.get("linkState") or ():
            network.join(other, str(neighbour), None)
    for row in client.query("connection"):
        if row.get("role") == "inter-router" and isinstance(row.get("container"), str):
            network.join(router_id, row["container"], peer_cost(row))
    _ask_edges(client, network, router_id)


def peer_cost(connection: Mapping[str, Any]) -> int:
    """Return the cost that the peer of a connection has announced; of both ends' the greater one counts."""
    cost = (connection.get("properties") or {}).get("qd.inter-router-cost")
    return int(cost) if isinstance(cost, int) else 1


def _ask_edges(client: ManagementClient, network: Network, router_id: str) -> None:
    for row in client.query("connection"):
        if row.get("role") == "edge" and isinstance(row.get("container"), str):
            other = row["container"]
            if network.routers.get(router_id) == "edge":
                network.routers.setdefault(other, "interior")
            else:
                network.routers.setdefault(other, "edge")
            network.join(router_id, other, None)


def tree_of(network: Network) -> Tree:
    """Return the network as a tree from the router that was asked; links that close a circle stand as `also to`."""
    tree = Tree(_label(network, network.here, None))
    shown = {network.here}
    drawn: set[tuple[str, str]] = set()
    queue = [(network.here, tree)]
    while queue:  # breadth first, so that each router hangs where it is nearest
        router, branch = queue.pop(0)
        for other in network.neighbours(router):
            pair = (min(router, other), max(router, other))
            if pair in drawn:
                continue
            drawn.add(pair)
            label = _label(network, other, network.cost(router, other))
            if other in shown:
                branch.add(Text("also to ", style="dim") + label)
            else:
                shown.add(other)
                queue.append((other, branch.add(label)))
    for lost in sorted(set(network.routers) - shown):
        tree.add(Text("no way known to ", style="dim") + _label(network, lost, None))
    return tree


def _label(network: Network, router: str, cost: int | None) -> Text:
    mode = network.routers.get(router, "interior")
    label = Text(printable(router), style={"unreachable": "red", "edge": "cyan"}.get(mode, "bold"))
    if router == network.here:
        label.append("  (asked)", style="dim")
    if mode != "interior":
        label.append(f"  {mode}", style="dim")
    if cost is not None:
        label.append(f"  cost {cost}", style="dim")
    return label


def as_map(network: Network) -> Mapping[str, Any]:
    """Return the network for programs."""
    return {
        "asked": network.here,
        "routers": [{"id": router, "mode": mode} for router, mode in sorted(network.routers.items())],
        "links": [{"ends": list(pair), "cost": cost} for pair, cost in sorted(network.links.items())],
    }


def as_dot(network: Network) -> Iterator[str]:
    """Yield the lines of a Graphviz graph."""
    yield "graph network {"
    yield "  node [shape=box];"
    for router, mode in sorted(network.routers.items()):
        style = {"edge": " style=rounded", "unreachable": " color=red"}.get(mode, "")
        yield f"  {_dot(router)} [label={_dot(f'{router} ({mode})')}{style}];"
    for (one, other), cost in sorted(network.links.items()):
        label = "" if cost is None else f" [label={cost}]"
        yield f"  {_dot(one)} -- {_dot(other)}{label};"
    yield "}"


def as_mermaid(network: Network) -> Iterator[str]:
    """Yield the lines of a Mermaid flow chart."""
    names = {router: f"r{number}" for number, router in enumerate(sorted(network.routers))}
    yield "graph LR"
    for router, name in names.items():
        text = f"{router} ({network.routers[router]})".replace('"', "#quot;")
        left, right = ("([", "])") if network.routers[router] == "edge" else ("[", "]")
        yield f'  {name}{left}"{text}"{right}'
    for (one, other), cost in sorted(network.links.items()):
        yield f"  {names[one]} {'---' if cost is None else f'---|{cost}|'} {names[other]}"


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
