from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.unit.mgmt.fakes import Managed
from vanrouter.errors import ConfigError, ManagementError
from vanrouter.mgmt.agent import Request
from vanrouter.mgmt.entity_types import SCHEMA

MANAGEMENT = "org.amqp.management"


@pytest.fixture
def managed() -> Managed:
    return Managed()


def body(managed: Managed, operation: str, given: object = None, **properties: object) -> Any:
    reply = managed.ask(operation, given, **properties)
    assert 200 <= reply.status < 300, reply.description
    return reply.body


# --- the node ---


def test_node_is_meant_by_name_type_or_nothing(managed: Managed) -> None:
    expected = {"name": "self", "identity": "self", "type": "io.skupper.router.management"}
    for selection in (
        {},
        {"name": "self"},
        {"identity": "self"},
        {"name": "self", "identity": "self", "type": MANAGEMENT},
        {"type": "entity"},
        {"type": "io.skupper.router.management"},
    ):
        assert body(managed, "READ", **selection) == expected


def test_operations_are_found_in_any_case(managed: Managed) -> None:
    assert body(managed, "get-mgmt-nodes", name="self") == [f"amqp:/_topo/0/{r}/$management" for r in "AB"]


def test_query_names_its_type_either_way(managed: Managed) -> None:
    for key in ("entityType", "type"):
        reply = body(managed, "QUERY", {"attributeNames": ["name"]}, **{key: "listener"})
        assert reply == {"attributeNames": ["name"], "results": [["l0"]]}
    assert len(body(managed, "QUERY", {"attributeNames": ["type"]}, type=MANAGEMENT, name="self")["results"]) > 20


def test_query_pages_for_all_types(managed: Managed) -> None:
    everything = body(managed, "QUERY", {}, entityType="log")["results"]
    assert body(managed, "QUERY", None, entityType="log", offset=3, count="2")["results"] == everything[3:5]


def test_get_family(managed: Managed) -> None:
    assert body(managed, "GET-TYPES", entityType="log") == {
        "io.skupper.router.log": ["io.skupper.router.configurationEntity", "io.skupper.router.entity"]
    }
    assert len(body(managed, "GET-TYPES", entityType="entity")) == 31
    assert len(body(managed, "GET-TYPES", extensions=True)) == 37
    assert body(managed, "GET-OPERATIONS", entityType="log") == {"io.skupper.router.log": ["UPDATE", "READ"]}
    assert body(managed, "GET-ATTRIBUTES", entityType="log")["io.skupper.router.log"][-1] == "type"
    assert len(body(managed, "GET-ATTRIBUTES")) == 31
    assert body(managed, "GET-ANNOTATIONS") == {}
    schema = body(managed, "GET-SCHEMA")
    assert schema["prefix"] == "io.skupper.router"
    assert json.loads(body(managed, "GET-JSON-SCHEMA", indent="2")) == schema
    assert json.loads(body(managed, "GET-JSON-SCHEMA")) == schema


def test_log_entries(managed: Managed) -> None:
    assert [entry[2] for entry in body(managed, "GET-LOG", limit="2")] == ["event 3", "event 4"]
    assert len(body(managed, "get-log", limit=10**9)) == 5


@pytest.mark.parametrize(
    ("operation", "properties", "status", "text"),
    [
        (None, {}, 400, "No 'operation' property"),
        ("", {}, 400, "No 'operation' property"),
        (5, {}, 400, "No 'operation' property"),
        (
            "nosuch",
            {"type": MANAGEMENT},
            501,
            "Operation 'nosuch' not implemented for 'io.skupper.router.management' [",
        ),
        ("GET-SCHEMA-JSON", {}, 501, "not implemented"),
        ("PROFILE", {"name": "self"}, 400, "profiler"),
        ("GET-TYPES", {"entityType": "x"}, 400, "No such entity type 'x'"),
        ("GET-ANNOTATIONS", {"entityType": "x"}, 400, "No such entity type 'x'"),
        ("QUERY", {"entityType": "x"}, 400, "No such entity type 'x'"),
        ("QUERY", {"offset": "x"}, 400, "offset must be a whole number"),
        ("QUERY", {"count": True}, 400, "count must be a whole number"),
        ("GET-LOG", {"limit": -1}, 400, "out of range"),
        ("GET-LOG", {"limit": []}, 400, "whole number"),
        ("GET-JSON-SCHEMA", {"indent": 1000}, 400, "out of range"),
        ("READ", {"type": "x", "name": "y"}, 400, "No such entity type 'x'"),
        ("READ", {"type": []}, 400, "No such entity type ''"),
        ("GET-TYPES", {"type": "listener", "name": "l0"}, 501, "not implemented for 'io.skupper.router.listener'"),
        ("DELETE", {"type": "router", "name": "router/A"}, 501, "not implemented"),
        ("DELETE", {"name": "log/HTTP"}, 501, "not implemented"),
        ("CREATE", {"type": "router"}, 501, "not implemented"),
        ("CREATE", {"type": "router.link"}, 403, "Forbidden"),
        ("CREATE", {"type": "connection"}, 403, "Forbidden"),
        ("DELETE", {"type": "connection", "identity": "2"}, 403, "Forbidden"),
        ("UPDATE", {"type": "router.address", "identity": "2"}, 403, "Forbidden"),
        ("READ", {"type": "routerMetrics", "identity": "1"}, 403, "Forbidden"),
        ("READ", {"type": "connection", "name": "connection/peer:2"}, 400, "Name not supported. Identity required"),
        ("UPDATE", {"type": "connection", "identity": "99"}, 400, "No entity with identity=99"),
        ("UPDATE", {"type": "connection", "name": "connection/peer:2"}, 400, "No identity provided"),
        ("UPDATE", {"type": "connection", "identity": "2"}, 400, "The body is empty"),
        ("UPDATE", {"type": "listener", "name": "l0"}, 501, "not implemented"),
        ("CREATE", {}, 400, "No 'type' attribute in"),
        ("CREATE", {"type": "x"}, 400, "No such entity type 'x'"),
        ("CALLME", {"type": "listener", "name": "l0"}, 501, "not implemented"),
    ],
)
def test_refusals(managed: Managed, operation: object, properties: dict[str, object], status: int, text: str) -> None:
    reply = managed.ask(operation, None, **properties)
    assert (reply.status, reply.body) == (status, {})
    assert text in reply.description
    assert managed.agent.refused == 1


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ([], 500, "The body must be a map, not a list"),
        ("x", 500, "The body must be a map"),
        ({1: 2}, 400, "keys of the body must be text"),
        ({"attributeNames": 5}, 400, "a list of names"),
        ({"attributeNames": ["nope"]}, 404, "Unknown attributes ['nope']"),
    ],
)
def test_bodies(managed: Managed, given: object, status: int, text: str) -> None:
    reply = managed.ask("QUERY", given)
    assert reply.status == status
    assert text in reply.description


# --- entities ---


def test_create_read_delete(managed: Managed) -> None:
    reply = managed.ask("CREATE", {"port": 9000, "address": "a"}, type="tcpListener", name="t")
    assert (reply.status, reply.description) == (201, "Created")
    assert isinstance(reply.body, dict)
    assert reply.body["identity"] == "tcpListener/:9000:t"
    assert reply.body["operStatus"] == "up"
    assert "idleTimeoutSeconds" not in reply.body
    assert body(managed, "READ", type="tcpListener", name="t") == reply.body
    gone = managed.ask("DELETE", type="tcpListener", identity="tcpListener/:9000:t")
    assert (gone.status, gone.description, gone.body) == (204, "No Content", {})
    assert managed.ask("READ", type="tcpListener", name="t").status == 404
    assert managed.router.done == [("create", "tcpListener/:9000:t"), ("delete", "tcpListener/:9000:t")]


def test_type_may_stand_in_the_body(managed: Managed) -> None:
    assert body(managed, "CREATE", {"type": "dummy", "arg1": 1})["arg1"] == "1"
    reply = managed.ask("CREATE", {"type": "dummy"}, type="listener")
    assert "Conflicting values for 'type'" in reply.description
    assert "No such entity type" in managed.ask("CREATE", {"type": "x"}).description
    assert "No such entity type" in managed.ask("CREATE", {"type": 5}).description


def test_an_address_without_a_name_has_none(managed: Managed) -> None:
    made = body(managed, "CREATE", {"prefix": "z", "distribution": "even"}, type="router.config.address")
    assert (made["name"], made["identity"], made["distribution"]) == (None, "2", "even")


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"port": "1"}, 500, "CError: Configuration: Exactly one of"),
        ({"port": "1", "address": "a", "foo": 1}, 400, "Unknown attribute 'foo' for 'io.skupper.router.tcpListener'"),
        ({"port": "1", "address": "a", "operStatus": "up"}, 400, "Cannot set attribute 'operStatus' in CREATE"),
        (
            {"port": "1", "address": "a", "backlog": "x"},
            400,
            "io.skupper.router.tcpListener: invalid literal for int()",
        ),
        ({"port": "1", "address": "a", "name": "l0"}, 400, "duplicates unique attribute 'name' from existing"),
        ({"port": "1", "address": "a", "sslProfile": "x"}, 500, "sslProfile 'x' not found"),
    ],
)
def test_creations_refused(managed: Managed, given: dict[str, object], status: int, text: str) -> None:
    before = list(managed.registry)
    reply = managed.ask("CREATE", given, type="tcpListener")
    assert reply.status == status
    assert text in reply.description
    assert list(managed.registry) == before
    assert managed.router.done == []


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ManagementError(403, "no"), 403, "no"),
        (ConfigError("listener", "in use"), 500, "CError: Configuration: in use"),
        (ZeroDivisionError("bug"), 500, "Internal error: ZeroDivisionError"),
    ],
)
def test_a_failed_action_is_undone(
    managed: Managed, error: Exception, status: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    managed.refuse_with(error)
    before = list(managed.registry)
    reply = managed.ask("CREATE", {"arg1": "x"}, type="dummy")
    assert (reply.status, reply.description) == (status, text)
    assert list(managed.registry) == before
    assert managed.ask("UPDATE", {"observer": "none"}, type="tcpListener", name="web").status == status
    assert body(managed, "READ", type="tcpListener", name="web")["observer"] == "auto"
    assert managed.ask("DELETE", type="tcpListener", name="web").status == status
    assert list(managed.registry) == before
    assert managed.agent.crashed == (3 if isinstance(error, ZeroDivisionError) else 0)


def test_update(managed: Managed) -> None:
    changed = body(managed, "UPDATE", {"observer": "http1", "port": 8080}, type="tcpListener", name="web")
    assert changed["observer"] == "http1"
    assert managed.router.done == [("update", "tcpListener/:8080:web", {"observer": "http1"})]
    assert managed.ask("UPDATE", changed, name="web").status == 200
    assert len(managed.router.done) == 1


def test_update_of_a_log(managed: Managed) -> None:
    given = {"identity": "log/AGENT", "enable": "debug+"}
    assert body(managed, "UPDATE", given, identity="log/AGENT")["enable"] == "debug+"
    reply = managed.ask("UPDATE", {"enable": "loud"}, identity="log/AGENT")
    assert reply.status == 500
    assert "'loud' is not a log level" in reply.description


def test_update_of_a_profile_says_so_when_it_fails(managed: Managed) -> None:
    reply = managed.ask("UPDATE", {"oldestValidOrdinal": 3}, type="sslProfile", name="tls")
    assert reply.status == 400
    assert reply.description.startswith("sslProfile configuration update failed: ")


def test_cost_of_a_listener_is_an_addition(managed: Managed) -> None:
    whole = body(managed, "READ", type="listener", name="l0")
    assert managed.ask("UPDATE", whole, type="listener", name="l0").status == 501
    assert body(managed, "UPDATE", {"cost": 7}, type="listener", name="l0")["cost"] == 7
    assert managed.ask("UPDATE", whole | {"cost": 9}, type="listener", name="l0", extensions=True).status == 200
    assert managed.ask("UPDATE", {"cost": 0}, type="listener", name="l0").status == 500


def test_connections_are_cut_unless_they_link_routers(managed: Managed) -> None:
    for identity in ("1", "3"):
        reply = managed.ask("UPDATE", {"adminStatus": "deleted"}, type="connection", identity=identity)
        assert (reply.status, reply.description) == (403, "You are not allowed to perform this operation.")
    reply = managed.ask("UPDATE", {"adminStatus": "gone"}, type="connection", identity="2")
    assert reply.status == 400
    assert body(managed, "UPDATE", {"adminStatus": "deleted"}, type="connection", identity="2")["identity"] == "2"
    assert managed.router.done == [("update_connection", "2", {"adminStatus": "deleted"})]


def test_trace_of_a_connection_between_routers(managed: Managed) -> None:
    answer = body(managed, "UPDATE", {"enableProtocolTrace": "yes"}, type="connection", identity="1")
    assert answer["enableProtocolTrace"] is True
    assert managed.ask("UPDATE", {"enableProtocolTrace": "no"}, type="connection", identity="1").status == 200
    assert len(managed.router.done) == 1


def test_call_me(managed: Managed) -> None:
    assert managed.ask("CREATE", {}, type="dummy", name="d").status == 201
    given = {"operation": "callme", "type": "dummy", "identity": "dummy/0", "data": b"\0", "n": 5}
    reply = managed.agent.handle(Request.of(given, None))
    assert (reply.status, reply.body) == (200, given)


def test_a_multi_address_listener_in_use_stays(managed: Managed) -> None:
    given = {"port": "1", "multiAddressStrategy": "priority"}
    body(managed, "CREATE", given, type="tcpListener", name="m")
    body(managed, "CREATE", {"listener": "m", "address": "a", "value": 1}, type="listenerAddress")
    assert managed.ask("DELETE", type="tcpListener", name="m").status == 500


def test_request_records_what_the_properties_say() -> None:
    request = Request.of({"operation": "READ", "extensions": True}, None, correlation_id=5, reply_to="x", user="u")
    assert (request.operation, request.extensions, request.correlation_id, request.user) == ("READ", True, 5, "u")
    assert not Request.of({"extensions": "yes"}, None).extensions


def test_extensions_show_what_is_added(managed: Managed) -> None:
    shown = body(managed, "READ", type="tcpListener", name="web", extensions=True)
    assert shown["whenUnreachable"] == "close"
    assert set(shown) <= set(SCHEMA["tcpListener"].attributes)


def test_log_lines(managed: Managed, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "vanrouter.mgmt.agent"):
        managed.ask("get-log")
        managed.ask("CREATE", {"password": "hush"}, type="nosuch", name="nosuch")
    assert "get-log" in caplog.text
    assert "Error performing CREATE: No such entity type 'nosuch'" in caplog.text
    assert "hush" not in caplog.text


# --- requests that go to another router ---


def judged(
    managed: Managed, operation: object, user: str = "joe", *, is_trusted: bool = True, **properties: object
) -> int:
    request = Request(operation=operation, properties=properties, user=user, is_trusted=is_trusted)
    reply = managed.agent.judge(request)
    return 0 if reply is None else reply.status


def test_requests_for_others_without_permissions(managed: Managed) -> None:
    for operation in ("QUERY", "READ", "get-types", "GET-LOG"):
        assert judged(managed, operation, is_trusted=False) == 0
    for operation in ("CREATE", "update", "DELETE", "RELOAD", "CALLME", "PROFILE", "odd"):
        assert judged(managed, operation, is_trusted=False) == 403
        assert judged(managed, operation) == 0
    for operation in (None, "", 7):
        assert judged(managed, operation) == 400


@pytest.mark.parametrize(
    ("operation", "properties", "status"),
    [
        ("DELETE", {"type": "tcpListener", "name": "w"}, 0),
        ("DELETE", {"type": "tcpConnector", "name": "w"}, 403),
        ("DELETE", {"name": "w"}, 403),
        ("DELETE", {"type": "configurationEntity", "name": "w"}, 403),
        ("DELETE", {"type": "unheard.of", "name": "w"}, 403),
        ("QUERY", {"entityType": "listener"}, 0),
        ("QUERY", {"entityType": "sslProfile"}, 403),
        ("QUERY", {"entityType": "configurationEntity"}, 403),
        ("QUERY", {"type": MANAGEMENT, "name": "self"}, 403),
        ("READ", {"identity": "sslProfile/tls"}, 403),
        ("READ", {"type": "listener", "identity": "sslProfile/tls"}, 0),
        ("GET-TYPES", {"entityType": "sslProfile"}, 0),
    ],
)
def test_requests_for_others_by_type(
    managed: Managed, operation: str, properties: dict[str, object], status: int
) -> None:
    """Allowed with one type, denied another; the far router refuses what names a type that the entity has not."""
    for name, more in (
        ("a", {"entityTypes": "tcpListener"}),
        ("b", {"entityTypes": "sslProfile", "effect": "deny"}),
    ):
        body(managed, "CREATE", {"users": "joe", **more}, type="managementPermission", name=name)
    assert judged(managed, operation, is_trusted=False, **properties) == status
    assert judged(managed, operation, "chief", **properties) == 0
