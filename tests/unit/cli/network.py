"""Routers of a network as a management client meets them: their rows, by the target that it asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vanrouter.mgmt.client import LOCAL, ClientError, Row, edge_target, router_target

Links = dict[tuple[str, str], int]


class FakeNetwork:
    """Interior routers joined by links with costs, edges attached to them; the client is attached to `here`.

    Its rows are made as routers make them: a neighbour has no nextHop, whatever the best way to it is.
    """

    def __init__(self, here: str, links: Links, edges: dict[str, str] | None = None) -> None:
        self.here = here
        self.links = links
        self.edges = edges or {}
        self.ids = sorted({name for pair in links for name in pair} | {here})
        self.addresses: dict[str, tuple[str, ...]] = {}
        """Consumers of mobile addresses: at which routers."""
        self.silent: set[str] = set()
        self.target = LOCAL
        self.asked: list[str] = []
        self.called: list[tuple[str, dict[str, object]]] = []

    @property
    def at(self) -> str:
        """The router that the target means."""
        if self.target == LOCAL:
            return self.here
        found = {router_target(name): name for name in self.ids} | {edge_target(name): name for name in self.edges}
        if self.target not in found or found[self.target] in self.silent:
            raise ClientError(f"no reply from {self.target}")
        return found[self.target]

    def call(self, operation: str, **properties: object) -> dict[str, object]:
        self.called.append((self.at, {"operation": operation, **properties}))
        return {"name": "self"}

    def router_ids(self) -> list[str]:
        return [self.at, *(name for name in self.ids if name != self.at)]

    def query(self, entity_type: str) -> Iterator[Row]:
        at = self.at
        self.asked.append(at)
        made: list[dict[str, Any]] = getattr(self, f"_{entity_type.replace('.', '_')}")(at)
        return iter(made)

    def _router(self, at: str) -> list[Row]:
        return [{"id": at, "mode": "edge" if at in self.edges else "interior"}]

    def _neighbours(self, at: str) -> dict[str, int]:
        return {
            (set(pair) - {at}).pop(): cost for pair, cost in self.links.items() if at in pair
        }  # fmt: skip

    def _costs(self, at: str) -> dict[str, tuple[int, str]]:
        """Cost and first hop to every router."""
        best: dict[str, tuple[int, str]] = {at: (0, at)}
        todo = [(0, at, at)]
        while todo:
            cost, name, first = todo.pop(0)
            for other, more in self._neighbours(name).items():
                via = other if name == at else first
                if other not in best or cost + more < best[other][0]:
                    best[other] = (cost + more, via)
                    todo.append((cost + more, other, via))
        return best

    def _router_node(self, at: str) -> list[Row]:
        rows = []
        for name, (cost, first) in sorted(self._costs(at).items()):
            is_self, is_neighbour = name == at, name in self._neighbours(at)
            rows.append(
                {
                    "id": name,
                    "nextHop": "(self)" if is_self else None if is_neighbour else first,
                    "cost": None if is_self else cost,
                    "linkState": sorted(self._neighbours(name)),
                }
            )
        return rows

    def _connection(self, at: str) -> list[Row]:
        rows: list[Row] = []
        for pair, cost in self.links.items():
            if at in pair:
                # One end announces the cost, the other nothing, as two ends with different costs may.
                properties = {"qd.inter-router-cost": cost} if at == min(pair) and cost > 1 else {}
                other = (set(pair) - {at}).pop()
                rows.append({"role": "inter-router", "container": other, "properties": properties})
        rows += [{"role": "edge", "container": edge} for edge, host in self.edges.items() if host == at]
        if at in self.edges:
            rows.append({"role": "edge", "container": self.edges[at]})
        return [*rows, {"role": "normal", "container": "client"}]

    def _router_address(self, at: str) -> list[Row]:
        found = {f"M{name}": hosts for name, hosts in self.addresses.items()}
        found |= {f"H{edge}": (host,) for edge, host in self.edges.items()}
        return [
            {
                "key": key,
                "subscriberCount": int(at in hosts),
                "inProcess": 0,
                "remoteHostRouters": [host for host in hosts if host != at],
            }
            for key, hosts in found.items()
        ]
