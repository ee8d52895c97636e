"""Rows of the running router: exactly the columns of the schema, and what they say."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.unit.core.engines import ACCEPTED, message, world
from tests.unit.server.sites import LISTENER, Bench
from vanrouter.core.links import Receiver
from vanrouter.core.peer import Role
from vanrouter.mgmt.attributes import Kind
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.server import views
from vanrouter.server.views import link_row, memory, owning_address

EVERYTHING = """
router {
    mode: interior
    id: S
}
address {
    prefix: closest
    distribution: closest
    priority: 7
}
tcpListener {
    name: web
    host: 127.0.0.1
    port: 0
    address: shop
}
tcpConnector {
    name: shop
    host: 127.0.0.1
    port: 1
    address: shop
}
autoLink {
    name: queue
    address: queue
    direction: in
    connection: broker
}
listenerAddress {
    name: more
    listener: web2
    address: more
    value: 5
}
tcpListener {
    name: web2
    host: 127.0.0.1
    port: 0
    multiAddressStrategy: priority
}
"""

OBSERVED = ("connection", "router.link", "router.address", "router.node", "routerMetrics", "logStats", "vhostStats")

OF_AMQP_ONLY = {
    *("lastDlvSeconds", "sasl", "sslProto", "sslCipher", "sslSsf"),
    *("tlsOrdinal", "meshId", "groupOrdinal", "groupCorrelationId"),
}
"""Columns of connections that are null for TCP."""
ALWAYS_NULL = {"containerCount", "noticeCount"}
"""Declared for clients that ask for them (management.md section 8)."""


@pytest.fixture
def full(bench_of: Callable[[str], Bench]) -> Bench:
    bench = bench_of(EVERYTHING + LISTENER).start()
    bench.connect(container="two").receiver("closest.a", auto=ACCEPTED)
    source = bench.connect(container="one").sender("closest.a")
    source.send(message("closest.a"))
    bench.settle()
    return bench


@pytest.mark.parametrize("kind", OBSERVED)
def test_rows_have_exactly_the_columns_of_the_schema(full: Bench, kind: str) -> None:
    entity_type = SCHEMA[kind]
    columns = set(entity_type.all_columns(extensions=True)) - {"type"}
    optional = {name for name, attribute in entity_type.attributes.items() if attribute.extension}
    rows = list(full.site.views.rows(kind))
    assert rows or kind == "vhostStats"
    for row in rows:
        absent = OF_AMQP_ONLY if row.get("protocol") == "tcp" else set()
        made = {*row, "name"}
        assert made - columns - ALWAYS_NULL == {"name"} - columns, "not in the schema"
        assert columns - optional - ALWAYS_NULL - made == absent, "missing"


@pytest.mark.parametrize("kind", OBSERVED)
def test_values_are_of_their_kind(full: Bench, kind: str) -> None:
    python = {Kind.BOOLEAN: bool, Kind.INTEGER: int, Kind.TEXT: str, Kind.MAP: dict, Kind.LIST: list}
    for row in full.site.views.rows(kind):
        for name, value in row.items():
            attribute = SCHEMA[kind].attributes[name]
            wanted = python.get(attribute.kind)
            if value is not None and wanted is not None and name not in ("connectionId", "identity"):
                assert isinstance(value, wanted), (name, value)
            if attribute.kind is Kind.WORD and value is not None:
                assert value in (*attribute.words, *attribute.extension_words), (name, value)


def test_a_type_without_rows(full: Bench) -> None:
    assert list(full.site.views.rows("tcpConnection")) == []


def test_connections(full: Bench) -> None:
    rows = {row["container"]: row for row in full.site.views.rows("connection") if row["protocol"] == "amqp"}
    one = rows["one"]
    assert (one["role"], one["dir"], one["user"], one["isAuthenticated"]) == ("normal", "in", "anonymous", False)
    assert str(one["host"]).startswith("127.0.0.1:")
    assert one["lastDlvSeconds"] == 0
    full.advance(7)
    (again,) = [row for row in full.site.views.rows("connection") if row["container"] == "one"]
    assert (again["uptimeSeconds"], again["lastDlvSeconds"]) == (7, 7)
    tcp = [row for row in full.site.views.rows("connection") if row["protocol"] == "tcp"]
    assert [row["host"] for row in tcp] == ["egress-dispatch"]


def test_properties_end_at_the_first_that_is_neither_text_nor_number(bench: Bench) -> None:
    client = bench.connect()
    client.there.peer.properties.update({"a": "x", "b": 3, "c": True, "d": "y"})
    (row,) = bench.site.views.rows("connection")
    assert row["properties"] == {"a": "x", "b": 3}


def test_links(full: Bench) -> None:
    rows = [row for row in full.site.views.rows("router.link") if row["linkType"] == "endpoint"]
    by_direction = {row["linkDir"]: row for row in rows}
    assert set(by_direction) == {"in", "out"}
    for row in rows:
        assert row["owningAddr"] == "Mclosest.a"
        assert (row["deliveryCount"], row["acceptedCount"], row["unsettledCount"]) == (1, 1, 0)
        assert str(row["identity"]).isdigit()
        assert str(row["connectionId"]).isdigit()
    assert by_direction["in"]["creditAvailable"] == 250


def test_an_anonymous_link_has_no_address(bench: Bench) -> None:
    bench.connect().sender(None)
    (row,) = bench.site.views.rows("router.link")
    assert row["owningAddr"] is None
    (link,) = bench.site.router.links.values()
    assert isinstance(link, Receiver)
    assert owning_address(link) is None


def test_links_of_a_connection_that_is_lost_are_not_shown(bench: Bench) -> None:
    client = bench.connect()
    client.receiver("a")
    client.there.engine.lost = True
    assert list(bench.site.views.rows("router.link")) == []
    client.there.engine.lost = False


def test_addresses(full: Bench) -> None:
    rows = {row["key"]: row for row in full.site.views.rows("router.address")}
    closest = rows["Mclosest.a"]
    assert (closest["distribution"], closest["priority"], closest["subscriberCount"]) == ("closest", 7, 1)
    assert (closest["deliveriesIngress"], closest["deliveriesEgress"]) == (1, 1)
    assert rows["L$management"]["inProcess"] == 1
    assert (rows["Mshop"]["subscriberCount"], rows["Mshop"]["watch"], rows["Mshop"]["priority"]) == (1, True, -1)


def test_nodes(full: Bench) -> None:
    (row,) = full.site.views.rows("router.node")
    assert (row["id"], row["nextHop"], row["address"], row["index"]) == ("S", "(self)", "amqp:/_topo/0/S", 0)
    assert (row["cost"], row["routerLink"], row["validOrigins"]) == (None, None, [])
    assert (row["ageSeconds"], row["linkCosts"], row["addressCount"]) == (None, {}, 4)
    assert full.site.views.nodes() == ["S"]


def test_what_the_routing_protocol_counts(full: Bench) -> None:
    plane = full.site.router.control.plane
    plane.on_message("HELLO", {"id": 5}, 1, 0.0)
    plane.on_message("NONSENSE", None, 1, 0.0)
    (row,) = full.site.views.rows("routingProtocol")
    assert row["received"] == row["malformed"] == {"HELLO": 1, "other": 1}
    assert (row["restartsSeen"], row["routersRefused"]) == (0, 0)


def test_a_standalone_router_has_no_nodes(bench: Bench) -> None:
    assert list(bench.site.views.rows("router.node")) == []
    assert list(bench.site.views.rows("routingProtocol")) == []
    assert bench.site.views.nodes() == []


def test_metrics(full: Bench) -> None:
    full.advance(5)
    (row,) = full.site.views.rows("routerMetrics")
    assert (row["id"], row["acceptedDeliveries"], row["deliveriesIngress"], row["deliveriesEgress"]) == ("S", 1, 1, 1)
    # The connector's own connection is counted with those of TCP (section 10.2 of TCP over AMQP).
    assert row["connectionCounters"] == {"tcp": 1, "amqp": 2, "http1": 0, "http2": 0}
    assert (row["autoLinkCount"], row["uptimeSeconds"]) == (1, 5)
    assert row["linkCount"] == len(full.site.router.links)
    assert row["addrCount"] == len(list(full.site.views.rows("router.address")))


def test_counts_outlive_links_and_addresses(full: Bench) -> None:
    (before,) = full.site.views.rows("routerMetrics")
    for client in full.clients:
        client.drop()
    full.advance(60)
    (after,) = full.site.views.rows("routerMetrics")
    assert after["connectionCounters"] == {"tcp": 1, "amqp": 0, "http1": 0, "http2": 0}
    for name in ("acceptedDeliveries", "deliveriesIngress", "deliveriesEgress"):
        assert after[name] == before[name], name


def test_memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    size, resident = memory()
    assert size is not None
    assert resident is not None
    assert size >= resident > 1 << 20

    def fail(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(views, "open", fail, raising=False)
    assert memory() == (None, None)


def test_live_attributes_of_entities(full: Bench) -> None:
    registry, live = full.site.registry, full.site.views.live

    def of(kind: str, name: str) -> dict[str, object]:
        entity = registry.named(kind, name)
        assert entity is not None
        found = dict(live(entity))
        assert set(found) <= set(SCHEMA[kind].attributes)
        return found

    assert of("tcpListener", "web")["connectionsOpened"] == 0
    assert of("tcpConnector", "shop")["connectionsOpened"] == 1
    assert of("listenerAddress", "more") == {"connectionsOpened": 0}
    assert of("autoLink", "queue") == {"linkRef": None, "operStatus": "inactive", "lastError": None}
    assert of("listener", "l") == {}
    (router,) = registry.of("router")
    assert live(router)["hostName"] == socket.gethostname()
    (policy,) = registry.of("policy")
    assert live(policy)["connectionsProcessed"] == 2
    assert live(policy)["connectionsCurrent"] == 2


def test_the_state_of_a_connector(bench: Bench) -> None:
    attributes = {"host": "127.0.0.1", "port": str(bench.port()), "saslMechanisms": "ANONYMOUS"}
    bench.manager.call("CREATE", attributes, type="connector", name="c")
    bench.settle()
    (row,) = bench.manager.query("connector")
    assert (row["connectionStatus"], row["failoverUrls"]) == ("SUCCESS", f"amqp://127.0.0.1:{bench.port()}")


def test_streaming_links_are_shown_as_tools_count_them() -> None:
    """Those of a control connection among the links between routers, others as endpoints."""
    with world() as here:
        near, _ = here.chain("A", "B")
        (control,) = near.amqp_connections.values()
        link = control.streams.acquire(owns_window=False)
        here.settle()
        assert link_row(link, 0.0, 0, 0)["linkType"] == "inter-router"
        control.role = Role.INTER_ROUTER_DATA
        assert link_row(link, 0.0, 0, 0)["linkType"] == "endpoint"
        control.role = Role.INTER_ROUTER
