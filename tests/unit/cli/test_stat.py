from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml

from tests.unit.mgmt.fakes import Managed
from vanrouter.cli import stat
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import LOCAL, ClientError, ManagementClient, Row


class FakeClient:
    """Queries the agent without a connection."""

    def __init__(self, *, is_c_router: bool = False) -> None:
        self.managed = Managed()
        self.is_c_router = is_c_router
        self.target = LOCAL
        self.silent = ""

    def router_ids(self) -> list[str]:
        return self.managed.router.nodes()

    def query(self, entity_type: str) -> Iterator[Row]:
        if self.target == self.silent:
            raise ClientError("no reply")
        if self.is_c_router and entity_type.startswith("http"):
            raise ManagementError(400, f"No such entity type '{entity_type}'")
        reply = self.managed.ask("QUERY", {}, entityType=entity_type)
        if reply.status != 200:
            raise ManagementError(reply.status, reply.description)
        body = cast("dict[str, Any]", reply.body)
        return (dict(zip(body["attributeNames"], row, strict=True)) for row in body["results"])


@pytest.fixture
def fake() -> FakeClient:
    return FakeClient()


@pytest.fixture
def client(fake: FakeClient) -> ManagementClient:
    return cast("ManagementClient", fake)


@pytest.mark.parametrize(
    ("key", "parts"),
    [("Mecho", ("mobile", "echo")), ("Lqdhello", ("local", "qdhello")), ("?x", (None, "?x")), (None, (None, None))],
)
def test_keys_are_taken_apart(key: object, parts: tuple[str | None, str | None]) -> None:
    assert stat.key_parts(key) == parts


def test_self_comes_first_among_routers(fake: FakeClient, client: ManagementClient) -> None:
    fake.managed.router.observed["router.node"] = [
        {"id": "0", "nextHop": None},
        {"id": "Z", "nextHop": "(self)"},
        {"id": "1", "nextHop": "0"},
    ]
    assert [row["id"] for row in stat.nodes(client)] == ["Z", "0", "1"]


@pytest.mark.parametrize(
    ("row", "security", "authentication"),
    [
        ({}, "none", "none"),
        ({"isEncrypted": True, "sslProto": "TLSv1.3", "sslCipher": "AES"}, "TLSv1.3(AES)", "none"),
        ({"isAuthenticated": True, "sasl": "EXTERNAL", "user": "u"}, "none", "u(x.509)"),
        ({"isAuthenticated": True, "sasl": "ANONYMOUS", "user": "anonymous"}, "none", "anonymous"),
        ({"isAuthenticated": True, "sasl": "PLAIN"}, "none", "PLAIN"),
    ],
)
def test_connections_in_words(
    fake: FakeClient, client: ManagementClient, row: dict[str, object], security: str, authentication: str
) -> None:
    fake.managed.router.observed["connection"] = [{"identity": "1", **row}]
    (found,) = stat.connections(client)
    assert (found["security"], found["authentication"]) == (security, authentication)


def test_links_and_addresses(fake: FakeClient, client: ManagementClient) -> None:
    fake.managed.router.observed["router.link"] = [{"identity": "1", "owningAddr": "Mq"}]
    fake.managed.router.observed["router.address"] = [{"key": "Mz"}, {"name": "La"}]
    assert stat.links(client)[0]["class"] == "mobile"
    assert [(row["class"], row["address"]) for row in stat.addresses(client)] == [("local", "a"), ("mobile", "z")]


def test_services(client: ManagementClient) -> None:
    (service,) = stat.services(client)
    assert (service["kind"], service["name"], service["open"]) == ("tcpListener", "web", 4)


def test_a_c_router_has_no_http_types() -> None:
    assert len(stat.services(cast("ManagementClient", FakeClient(is_c_router=True)))) == 1


def test_other_refusals_are_not_hidden(
    fake: FakeClient, client: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> Iterator[Row]:
        raise ManagementError(403, "Forbidden")

    monkeypatch.setattr(fake, "query", refuse)
    with pytest.raises(ManagementError, match="403"):
        stat.services(client)


@pytest.mark.parametrize("name", stat.NAMES)
def test_every_display_for_people_and_for_programs(
    client: ManagementClient, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stat.show(client, name)
    assert capsys.readouterr().out
    stat.show(client, name, output="json")
    found = json.loads(capsys.readouterr().out)
    stat.show(client, name, output="yaml")
    assert yaml.safe_load(capsys.readouterr().out) == found
    if name == "general":
        assert found["router"]["id"] == "A"
    elif name == "memory":
        assert found["pools"] == []
    elif name == "all":
        assert set(found) == {"general", "memory", *stat.DISPLAYS}
    else:
        assert isinstance(found, list)


def test_uptime_in_words(fake: FakeClient, client: ManagementClient, capsys: pytest.CaptureFixture[str]) -> None:
    fake.managed.router.observed["routerMetrics"][0]["uptimeSeconds"] = 93784
    stat.show(client, "general")
    assert "1 d 02:03:04" in capsys.readouterr().out


def test_all_routers_are_asked_and_one_is_silent(fake: FakeClient, client: ManagementClient) -> None:
    fake.silent = "_topo/0/B/$management"
    assert [(row["id"], row["state"]) for row in stat.routers(client)] == [("A", "up"), ("B", "unreachable")]
    assert fake.target == "$management"


def test_pools_of_c_routers(fake: FakeClient, client: ManagementClient, capsys: pytest.CaptureFixture[str]) -> None:
    fake.managed.router.observed["allocator"] = [{"typeName": "qd_buffer_t", "typeSize": 536}]
    stat.show(client, "memory")
    assert "qd_buffer_t" in capsys.readouterr().out


def test_watching_shows_it_again_and_again(client: ManagementClient, capsys: pytest.CaptureFixture[str]) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stat.watch(client, "services", 0.5, wait=wait)
    assert waits == [0.5] * 3
    assert "web" in capsys.readouterr().out
