from __future__ import annotations

import pytest

from tests.unit.mgmt.fakes import Managed
from vanrouter.errors import ManagementError
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.query import MAX_COLUMNS, Query, attributes_of, find_target


@pytest.fixture
def managed() -> Managed:
    return Managed()


def query(managed: Managed, short: str | None, asked: object = None, *, extensions: bool = False) -> Query:
    wanted = None if short is None else SCHEMA[short]
    return Query(registry=managed.registry, views=managed.router, wanted=wanted, asked=asked, extensions=extensions)


def rows(
    managed: Managed, short: str | None, asked: object = None, offset: int = 0, count: int = 0
) -> list[list[object]]:
    return list(query(managed, short, asked).page(offset, count))


def test_columns_are_those_asked_for_or_the_declared_ones(managed: Managed) -> None:
    assert query(managed, "listener", ["port", "name"]).columns == ["port", "name"]
    assert query(managed, "listener").columns[-3:] == ["name", "identity", "type"]
    assert query(managed, "router.link").columns[:3] == ["name", "identity", "type"]
    assert query(managed, "routerMetrics").columns[0] == "identity"


def test_additions_are_columns_when_named_or_asked_for(managed: Managed) -> None:
    assert "idleTimeoutSeconds" not in query(managed, "tcpListener").columns
    assert "idleTimeoutSeconds" in query(managed, "tcpListener", extensions=True).columns
    assert rows(managed, "tcpListener", ["idleTimeoutSeconds"]) == [[0]]


def test_rows_of_configured_entities_hold_what_was_observed(managed: Managed) -> None:
    assert rows(managed, "tcpListener", ["name", "operStatus", "connectionsOpened"]) == [["web", "up", 4]]


def test_pages(managed: Managed) -> None:
    names = [[f"link{n}"] for n in range(100, 105)]
    assert rows(managed, "router.link", ["name"]) == names
    assert rows(managed, "router.link", ["name"], 1, 2) == names[1:3]
    assert rows(managed, "router.link", ["name"], 4, 500) == names[4:]
    assert rows(managed, "router.link", ["name"], 99, 2) == []
    assert rows(managed, "router.link", ["name"], -1, -1) == names


def test_a_page_of_a_long_list_makes_no_more_rows_than_it_needs(managed: Managed) -> None:
    made: list[int] = []

    def endless(_: str) -> object:
        while True:
            made.append(1)
            yield {"name": "n"}

    managed.router.rows = endless  # type: ignore[method-assign, assignment] # a generator in place of the method
    assert len(rows(managed, "router.link", ["name"], 10, 5)) == 5
    assert len(made) == 15


def test_rows_of_nulls_are_left_out(managed: Managed) -> None:
    assert rows(managed, "listener", ["sslProfile"]) == []
    assert rows(managed, None, ["observer"]) == [["auto"]]


def test_untyped_queries_leave_out_what_is_counted(managed: Managed) -> None:
    types = {row[0] for row in rows(managed, None, ["type"])}
    short = {str(name).removeprefix("io.skupper.router.") for name in types}
    expected = {"management", "router", "network", "policy", "listener", "sslProfile", "tcpListener", "log"}
    assert short == expected | {"logStats", "router.node"}
    for identity, name in rows(managed, None, ["identity", "type"]):
        kind = str(name).removeprefix("io.skupper.router.")
        assert identity == "self" or str(identity).startswith(f"{kind}/")


def test_base_types_list_what_derives_from_them(managed: Managed) -> None:
    configured = {row[0] for row in rows(managed, "configurationEntity", ["identity"])}
    assert {"router/A", "listener/:5672:l0"} <= configured
    assert not configured & {"logStats/SERVER", "1"}
    assert len(rows(managed, "entity", ["identity"])) == len(rows(managed, None, ["identity"]))
    assert rows(managed, "org.amqp.management", ["identity"]) == [["self"]]
    assert "observer" in query(managed, "configurationEntity").columns


@pytest.mark.parametrize(
    ("short", "asked", "text"),
    [
        ("listener", ["x"], r"Unknown attributes \['x'\] for type io\.skupper\.router\.listener\."),
        (None, ["x", "name"], r"Unknown attributes \['x'\]\."),
        ("listener", "name", "a list of names"),
        ("listener", [1], "a list of names"),
        ("listener", ["name"] * (MAX_COLUMNS + 1), "at most"),
    ],
)
def test_bad_columns(managed: Managed, short: str | None, asked: object, text: str) -> None:
    with pytest.raises(ManagementError, match=text):
        query(managed, short, asked)


def test_skstat_asks_links_for_a_column_that_no_schema_has(managed: Managed) -> None:
    assert rows(managed, "router.link", ["adminStatus"]) == [["enabled"]] * 5


def find(managed: Managed, short: str | None, name: str | None = None, identity: str | None = None) -> object:
    target = find_target(managed.registry, managed.router, None if short is None else SCHEMA[short], name, identity)
    return target.entity.identity if target.entity is not None else target.row["identity"]


@pytest.mark.parametrize(
    ("short", "name", "identity", "found"),
    [
        ("listener", "l0", None, "listener/:5672:l0"),
        ("listener", None, "listener/:5672:l0", "listener/:5672:l0"),
        (None, "l0", "listener/:5672:l0", "listener/:5672:l0"),
        (None, "SERVER", None, "logStats/SERVER"),
        ("logStats", "SERVER", None, "logStats/SERVER"),
        (None, None, "router.node/A", "router.node/A"),
        ("connection", None, "2", "2"),
        ("address", None, "1", "1"),
        ("address", "address/0", None, "1"),
    ],
)
def test_found(managed: Managed, short: str | None, name: str | None, identity: str | None, found: str) -> None:
    assert find(managed, short, name, identity) == found


@pytest.mark.parametrize(
    ("short", "name", "identity", "status", "text"),
    [
        (None, None, None, 400, "No name or identity provided"),
        ("listener", None, None, 400, "io.skupper.router.listener: No name or identity provided"),
        ("connection", None, None, 400, "No name or identity provided"),
        ("listener", "x", None, 404, "No entity with name=x"),
        ("listener", None, "x", 404, "No entity with identity=x"),
        (None, "l0", "network/0", 400, "Conflicting name=l0 identity=network/0"),
        ("connector", "l0", None, 400, "does not extend requested type"),
        ("configurationEntity", "l0", None, 404, "No entity with name=l0"),
        (None, None, "2", 404, "No entity"),
        (None, None, "connection/x", 404, "No entity"),
        ("router.node", "l0", None, 404, "No entity"),
    ],
)
def test_not_found(
    managed: Managed, short: str | None, name: str | None, identity: str | None, status: int, text: str
) -> None:
    with pytest.raises(ManagementError) as caught:
        find(managed, short, name, identity)
    assert caught.value.status == status
    assert text in caught.value.description


def attributes(managed: Managed, short: str, identity: str) -> dict[str, object]:
    target = find_target(managed.registry, managed.router, SCHEMA[short], None, identity)
    return attributes_of(target, managed.router, extensions=False)


def test_read_leaves_nulls_out_except_where_clients_know_them(managed: Managed) -> None:
    assert "sslProfile" not in attributes(managed, "listener", "listener/:5672:l0")
    address = attributes(managed, "address", "1")
    assert (address["pattern"], address["priority"], address["distribution"]) == (None, -1, "multicast")
    assert attributes(managed, "connection", "2")["adminStatus"] == "enabled"


def test_passwords_are_masked(managed: Managed) -> None:
    assert attributes(managed, "sslProfile", "sslProfile/tls")["password"] == "***"
    assert rows(managed, "sslProfile", ["password"]) == [["***"]]
