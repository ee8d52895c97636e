"""Any request gets a reply: each operation on each type, each attribute missing, wrong, out of range or unknown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.mgmt.fakes import Managed
from vanrouter.mgmt.attributes import Attribute, Kind
from vanrouter.mgmt.entity_types import SCHEMA

OPERATIONS = (
    "QUERY", "READ", "CREATE", "UPDATE", "DELETE", "GET-TYPES", "GET-ATTRIBUTES", "GET-OPERATIONS", "GET-ANNOTATIONS",
    "GET-MGMT-NODES", "GET-SCHEMA", "GET-JSON-SCHEMA", "GET-LOG", "PROFILE", "RELOAD", "CALLME", "callme", "nosuch", "",
)  # fmt: skip

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
NAMES = st.sampled_from(["l0", "web", "tls", "self", "address/0", "A", "nosuch", ""])
IDENTITIES = st.sampled_from(
    ["1", "2", "self", "router/A", "listener/:5672:l0", "log/HTTP", "logStats/SERVER", "router.node/A", "nosuch/x", ""]
)
KNOWN_ATTRIBUTES = sorted({name for entity_type in SCHEMA.types.values() for name in entity_type.attributes})
BODIES = VALUES | st.dictionaries(st.sampled_from(KNOWN_ATTRIBUTES) | st.text(max_size=5), VALUES, max_size=5)
TYPES = st.sampled_from(sorted(SCHEMA.types)) | st.text(max_size=5)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES | VALUES,
        "entityType": TYPES | VALUES,
        "name": NAMES | VALUES,
        "identity": IDENTITIES | VALUES,
        "offset": VALUES,
        "count": VALUES,
        "limit": VALUES,
        "indent": VALUES,
        "extensions": st.booleans() | VALUES,
    },
)


@given(st.sampled_from(OPERATIONS) | VALUES, PROPERTIES, BODIES)
def test_any_request_has_a_reply(operation: object, properties: dict[str, object], body: object) -> None:
    managed = Managed()
    before = len(list(managed.registry))
    reply = managed.ask(operation, body, **properties)
    if reply is None:
        assert managed.router.reloads == 1
        return
    assert managed.agent.crashed == 0
    assert reply.status in (200, 201, 204, 400, 403, 404, 500, 501)
    assert 0 < len(reply.description) < 4000
    if reply.status >= 400:
        assert reply.body == {}
        assert managed.router.done == []
        assert len(list(managed.registry)) == before


GOOD: dict[str, dict[str, object]] = {
    "tcpListener": {"port": "9", "address": "a"},
    "tcpConnector": {"port": "9", "address": "a"},
    "httpListener": {"port": "9", "address": "a"},
    "httpConnector": {"port": "9", "address": "a"},
    "listener": {"port": "9"},
    "connector": {"port": "9"},
    "address": {"prefix": "new"},
    "autoLink": {"direction": "in", "address": "a"},
    "sslProfile": {"name": "p"},
    "proxyProfile": {"name": "p"},
    "vhost": {"hostname": "v"},
    "dummy": {},
    "logSink": {"outputFile": "stderr"},
    "managementPermission": {},
}
WRONG: dict[Kind, list[object]] = {
    Kind.TEXT: [[], {}],
    Kind.PATH: [[], {}],
    Kind.INTEGER: ["x", 1.5, True, [], {}, b"1", 2**70, -(2**70)],
    Kind.BOOLEAN: ["maybe", "", "2"],
    Kind.WORD: ["nosuch", 99, -1, [], {}, True],
    Kind.LIST: ["x", 1, {}],
    Kind.MAP: ["x", 1, [], {1: 2}],
    Kind.PROPERTIES: ["x", 1, [], {1: 2}, {"é": 1}],
}


def full_name(short: str) -> str:
    return SCHEMA[short].full


def test_all_types_that_can_be_created_are_tried() -> None:
    creatable = {short for short, entity_type in SCHEMA.types.items() if "CREATE" in entity_type.operations}
    assert creatable - {"listenerAddress"} == set(GOOD)  # that one needs a listener: tests/unit/mgmt/test_agent.py


@pytest.mark.parametrize("short", sorted(GOOD))
def test_the_good_entity_is_created(short: str) -> None:
    managed = Managed()
    reply = managed.ask("CREATE", GOOD[short], type=full_name(short))
    assert reply.status == 201, reply.description


@pytest.mark.parametrize("short", sorted(GOOD))
def test_each_attribute_wrong_missing_or_unknown(short: str) -> None:
    for attribute in SCHEMA[short].own:
        for wrong in WRONG[attribute.kind]:
            managed = Managed()
            reply = managed.ask("CREATE", {**GOOD[short], attribute.name: wrong}, type=full_name(short))
            assert reply.status in (400, 500), (attribute.name, wrong)
            assert attribute.name in reply.description
            assert managed.agent.crashed == 0
        if attribute.required:
            rest = {key: value for key, value in GOOD[short].items() if key != attribute.name}
            reply = Managed().ask("CREATE", rest, type=full_name(short))
            assert reply.status == 400
            assert f"Missing required attribute '{attribute.name}'" in reply.description
    reply = Managed().ask("CREATE", {**GOOD[short], "nosuch": 1}, type=full_name(short))
    assert (reply.status, "Unknown attribute 'nosuch'" in reply.description) == (400, True)


@settings(max_examples=30)
@given(st.integers(-3, 40), st.integers(1, 40))
def test_pages_make_the_whole(offset: int, count: int) -> None:
    managed = Managed()
    columns = {"attributeNames": ["identity"]}
    whole = managed.ask("QUERY", columns, entityType="log").body
    assert isinstance(whole, dict)
    gathered: list[object] = []
    while True:
        page = managed.ask("QUERY", columns, entityType="log", offset=max(offset, 0) + len(gathered), count=count).body
        assert isinstance(page, dict)
        gathered += page["results"]
        if len(page["results"]) < count:
            break
    assert gathered == whole["results"][max(offset, 0) :]


# Every operation on every type, by the schema.

ENTITY_OPERATIONS = ("CREATE", "READ", "UPDATE", "DELETE", "CALLME", "NOSUCH")


@pytest.mark.parametrize("short", sorted(SCHEMA.types))
@pytest.mark.parametrize("operation", ENTITY_OPERATIONS)
def test_each_operation_on_each_type(short: str, operation: str) -> None:
    found = SCHEMA[short]
    reply = Managed().ask(operation, {}, type=found.full, name="nosuch")
    allowed = SCHEMA.operations(found, extensions=True)
    if operation == "UPDATE" and short == "connection":
        assert reply.status == 400
    elif operation in found.forbidden:
        assert reply.status == 403
    elif operation not in allowed:
        assert reply.status == 501
        assert f"'{operation}' not implemented for '{found.full}'" in reply.description
    elif operation == "CREATE":
        assert reply.status in (201, 400, 500), reply.description
    else:
        assert reply.status in (400, 404), reply.description


@pytest.mark.parametrize("short", sorted(SCHEMA.types))
def test_each_type_is_listed_and_an_unknown_attribute_is_named(short: str) -> None:
    full = SCHEMA[short].full
    assert Managed().ask("QUERY", {"attributeNames": []}, entityType=full).status == 200
    reply = Managed().ask("QUERY", {"attributeNames": ["nosuch"]}, entityType=full)
    assert (reply.status, "nosuch" in reply.description) == (404, True)


def values_of(attribute: Attribute) -> st.SearchStrategy[object]:
    """Right and wrong values of an attribute, and those just outside its range."""
    edges = [attribute.minimum - 1, attribute.minimum, attribute.maximum, attribute.maximum + 1, "0", "-1", "1e3"]
    return VALUES | st.sampled_from([*attribute.words, *attribute.extension_words, *edges])


def bodies_of(short: str) -> st.SearchStrategy[dict[str, object]]:
    own = {attribute.name: values_of(attribute) for attribute in SCHEMA[short].own}
    return st.fixed_dictionaries(
        {}, optional={**own, "name": VALUES, "identity": VALUES, "type": VALUES, "odd": VALUES}
    )


@given(st.data())
def test_no_body_of_any_type_breaks_anything(data: st.DataObject) -> None:
    short = data.draw(st.sampled_from(sorted(SCHEMA.types)))
    operation = data.draw(st.sampled_from(("CREATE", "UPDATE")))
    managed = Managed()
    existing = managed.registry.of(short)
    which = {} if operation == "CREATE" or not existing else {"identity": existing[0].identity}
    before = {entity.identity: dict(entity.attributes) for entity in managed.registry}
    reply = managed.ask(operation, data.draw(bodies_of(short)), type=SCHEMA[short].full, **which)
    assert managed.agent.crashed == 0
    assert reply.status in (200, 201, 400, 403, 404, 500, 501)
    after = {entity.identity: dict(entity.attributes) for entity in managed.registry}
    if reply.status >= 400:
        assert after == before
        assert managed.router.done == []
    elif reply.status == 200 and managed.router.done == []:
        assert after == before, "what changes nothing is not told to anybody"


@pytest.mark.parametrize("short", sorted(short for short, found in SCHEMA.types.items() if found.section))
def test_wrong_values_of_updates(short: str) -> None:
    for attribute in SCHEMA[short].own:
        if not attribute.updatable:
            continue
        for wrong in WRONG[attribute.kind]:
            managed = Managed()
            if not managed.registry.of(short):
                assert managed.ask("CREATE", GOOD[short], type=full_name(short)).status == 201
                managed.router.done.clear()
            entity = managed.registry.of(short)[0]
            properties = {"type": full_name(short), "identity": entity.identity, "extensions": True}
            reply = managed.ask("UPDATE", {attribute.name: wrong}, **properties)
            assert reply.status in (400, 500), (attribute.name, wrong)
            assert attribute.name in reply.description
            assert managed.router.done == []


@pytest.mark.parametrize("short", sorted(GOOD))
def test_integers_out_of_range(short: str) -> None:
    for attribute in SCHEMA[short].own:
        if attribute.kind is not Kind.INTEGER:
            continue
        for wrong in (attribute.minimum - 1, attribute.maximum + 1):
            reply = Managed().ask("CREATE", {**GOOD[short], attribute.name: wrong}, type=full_name(short))
            assert reply.status in (400, 500), (attribute.name, wrong)
            assert attribute.name in reply.description
