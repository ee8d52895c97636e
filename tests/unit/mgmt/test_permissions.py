"""Who may do what on management (extensions)."""

from __future__ import annotations

import pytest

from tests.unit.mgmt.fakes import Managed
from vanrouter.mgmt.agent import Request
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.permissions import MANAGEMENT_PERMISSION, entries, is_allowed, is_reading, refusal


def permissions(*rules: dict[str, str]) -> list[Entity]:
    registry = Registry(SCHEMA)
    for number, rule in enumerate(rules):
        values = MANAGEMENT_PERMISSION.complete(MANAGEMENT_PERMISSION.convert({**rule, "name": str(number)}))
        registry.add(MANAGEMENT_PERMISSION, values)
    return registry.of("managementPermission")


@pytest.mark.parametrize("operation", ["READ", "QUERY", "GET-LOG", "GET-SCHEMA"])
def test_everybody_may_read(operation: str) -> None:
    assert is_reading(operation)
    assert is_allowed([], user="x", is_trusted=False, operation=operation, entity_type=SCHEMA["listener"])


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE", "RELOAD", "CALLME"])
def test_only_those_nearby_may_change(operation: str) -> None:
    assert is_allowed([], user="x", is_trusted=True, operation=operation, entity_type=SCHEMA["listener"])
    assert not is_allowed([], user="x", is_trusted=False, operation=operation, entity_type=SCHEMA["listener"])


@pytest.mark.parametrize(
    ("user", "operation", "kind", "answer"),
    [
        ("ann", "CREATE", "tcpListener", True),
        ("ann", "DELETE", "tcpListener", False),
        ("ann", "CREATE", "listener", False),
        ("eve", "QUERY", "listener", False),
        ("eve", "CREATE", "listener", False),
        ("root", "DELETE", "address", True),
        ("root", "CREATE", "sslProfile", False),
        ("bob", "QUERY", "listener", True),
    ],
)
def test_the_first_that_fits_decides(user: str, operation: str, kind: str, answer: bool) -> None:
    rules = permissions(
        {"users": "eve, mallory", "effect": "deny"},
        {"entityTypes": "io.skupper.router.sslProfile", "operations": "write", "effect": "deny"},
        {"users": "ann", "operations": "create", "entityTypes": "tcpListener, tcpConnector"},
        {"users": "root"},
    )
    assert is_allowed(rules, user=user, is_trusted=False, operation=operation, entity_type=SCHEMA[kind]) is answer


def test_the_refusal_says_who_what_and_why() -> None:
    error = refusal("x" * 200, "CREATE", SCHEMA["listener"])
    assert error.status == 403
    assert "CREATE listener" in error.description
    assert "managementPermission" in error.description
    assert len(error.description) < 300
    assert entries(" a, ,b") == {"a", "b"}


def test_the_agent_asks() -> None:
    managed = Managed()

    def status(operation: str, body: object = None, **properties: object) -> int:
        reply = managed.agent.handle(
            Request.of({"operation": operation, **properties}, body or {}, user="far", is_trusted=False)
        )
        assert reply is not None
        return reply.status

    assert status("CREATE", {"host": "h", "port": "1", "address": "a"}, type="tcpListener") == 403
    assert status("UPDATE", {"enable": "none"}, type="log", identity="log/AGENT") == 403
    assert status("DELETE", type="listener", name="nobody") == 404
    assert status("RELOAD") == 403
    assert status("CREATE", {}, type="router") == 501
    assert status("READ", type="log", identity="log/AGENT") == 200
    assert status("QUERY", entityType="log") == 200
    rule = {"users": "far", "entityTypes": "log", "effect": "deny", "name": "r"}
    registry = managed.registry
    registry.add(MANAGEMENT_PERMISSION, MANAGEMENT_PERMISSION.complete(MANAGEMENT_PERMISSION.convert(rule)))
    assert status("READ", type="log", identity="log/AGENT") == 403
    assert status("QUERY", entityType="log") == 403
    reply = managed.agent.handle(Request.of({"operation": "QUERY"}, {"attributeNames": ["type"]}, user="far"))
    assert reply is not None
    types = {row[0] for row in reply.body["results"]}  # type: ignore[index]
    assert "io.skupper.router.log" not in types
    assert "io.skupper.router.router" in types


@pytest.mark.parametrize(
    ("attributes", "words"),
    [({"operations": "create,fly"}, "'FLY' is none of"), ({"entityTypes": "tcpListner"}, "did you mean 'tcpListener'")],
)
def test_rules_of_permissions(attributes: dict[str, str], words: str) -> None:
    reply = Managed().agent.handle(Request.of({"operation": "CREATE", "type": "managementPermission"}, attributes))
    assert reply is not None
    assert reply.status == 500
    assert words in reply.description
