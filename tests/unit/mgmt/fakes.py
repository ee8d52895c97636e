"""A router without a network, for the management agent: a registry, rows made up, and a list of what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count

from vanrouter.errors import VanrouterError
from vanrouter.mgmt.agent import Agent, Reply, Request
from vanrouter.mgmt.config import load_text
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import SCHEMA

CONFIG = """
router {
    mode: interior
    id: A
}
listener {
    name: l0
    port: 5672
}
sslProfile {
    name: tls
    password: pass:hush
}
tcpListener {
    name: web
    port: 8080
    address: shop
}
address {
    prefix: q
    distribution: multicast
}
"""

CONNECTIONS: list[dict[str, object]] = [
    {"identity": "1", "name": "connection/peer:1", "host": "peer:1", "role": "inter-router", "dir": "in"},
    {"identity": "2", "name": "connection/peer:2", "host": "peer:2", "role": "normal", "dir": "in"},
    {"identity": "3", "name": "connection/egress-dispatch", "host": "egress-dispatch", "role": "normal", "dir": "out"},
]


class FakeRouter:
    """Views and actions in one."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.reloads = 0
        self.refusal: Exception | None = None
        self.observed: dict[str, list[dict[str, object]]] = {
            "connection": [dict(row) for row in CONNECTIONS],
            "router.node": [{"identity": "router.node/A", "name": "router.node/A", "id": "A", "nextHop": "(self)"}],
            "router.link": [{"identity": str(n), "name": f"link{n}", "linkDir": "in"} for n in range(100, 105)],
            "routerMetrics": [{"identity": "1", "id": "A", "linkCount": 5}],
            "logStats": [{"identity": "logStats/SERVER", "name": "SERVER", "infoCount": 7}],
        }

    def rows(self, entity_type: str, skip: int = 0) -> Iterable[Mapping[str, object]]:
        return iter(self.observed.get(entity_type, [])[skip:])

    def live(self, entity: Entity) -> Mapping[str, object]:
        if entity.type.short == "tcpListener":
            return {"operStatus": "up", "connectionsOpened": 4}
        return {}

    def nodes(self) -> list[str]:
        return ["A", "B"]

    def log_entries(self, limit: int) -> list[list[object]]:
        events: list[list[object]] = [["SERVER", "info", f"event {n}", None, None, 0] for n in range(5)]
        return events[max(len(events) - limit, 0) :]

    def _note(self, *what: object) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.done.append(what)

    def create(self, entity: Entity) -> None:
        self._note("create", entity.identity)

    def update(self, entity: Entity, changes: Mapping[str, object]) -> None:
        self._note("update", entity.identity, dict(changes))

    def delete(self, entity: Entity) -> None:
        self._note("delete", entity.identity)

    def reload(self, done: Callable[[Mapping[str, list[str]] | VanrouterError], object]) -> None:
        self.reloads += 1
        done(VanrouterError("no file") if self.refusal is None else VanrouterError(str(self.refusal)))

    def update_connection(self, identity: str, changes: Mapping[str, object]) -> None:
        self._note("update_connection", identity, dict(changes))


class Managed:
    """An agent over the fake router, asked in one line."""

    def __init__(self, text: str = CONFIG) -> None:
        self.router = FakeRouter()
        self.registry = Registry(SCHEMA, count(1).__next__)
        for config in load_text(text, "fake.conf").entities:
            self.registry.load(config)
        self.agent = Agent(self.registry, self.router, self.router)

    def ask(self, operation: object, body: object = None, **properties: object) -> Reply:
        given = properties if operation is None else {"operation": operation, **properties}
        return self.agent.handle(Request.of(given, body))

    def refuse_with(self, error: VanrouterError | Exception) -> None:
        self.router.refusal = error
