"""All series of the list are there, with the numbers that management shows; nothing is held for long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric

from tests.system.pki import Pki
from tests.unit.core.engines import ACCEPTED, message
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.mgmt import series
from vanrouter.mgmt.metrics import Families
from vanrouter.server.measures import SOURCES, c_router, measures

EVERYTHING = """
listener {
    name: http
    host: 127.0.0.1
    port: 0
    http: yes
}
connector {
    name: uplink
    host: 127.0.0.1
    port: 1
    role: inter-router
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
httpListener {
    name: page
    host: 127.0.0.1
    port: 0
    address: pages
}
httpConnector {
    name: pages
    host: 127.0.0.1
    port: 1
    address: pages
}
"""


def values(found: Families) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by sample and label values in the order of the series."""
    result: dict[str, dict[tuple[str, ...], float]] = {}
    labels = {entry.name: entry.labels for entry in series.ALL}
    for piece in found:
        if piece is None:
            continue
        name = f"{piece.name}_total" if piece.type == "counter" else piece.name
        rows = result.setdefault(name, {})
        for sample in piece.samples:
            if piece.type == "histogram" and not sample.name.endswith("_count"):
                continue
            rows[tuple(sample.labels[label] for label in labels[name])] = sample.value
    return result


@pytest.fixture
def full(bench_of: Callable[[str], Bench], tmp_path: Path) -> Bench:
    made = Pki(tmp_path).issue("site")
    profiles = f"sslProfile {{\n    name: good\n    certFile: {made.cert}\n}}\n"
    profiles += "sslProfile {\n    name: bad\n    certFile: /nonexistent\n}\n"
    bench = bench_of(ROUTER.replace("standalone", "interior") + profiles + LISTENER + EVERYTHING).start()
    values(measures(bench.site))
    while bench.site.ports.certificates._is_reading:
        bench.reactor.run_once(1.0)
    return bench


def test_every_series_of_the_list(full: Bench) -> None:
    assert set(values(measures(full.site))) == {entry.name for entry in series.ALL}


def test_in_the_order_of_the_c_router(full: Bench) -> None:
    names = [f"{piece.name}_total" if piece.type == "counter" else piece.name for piece in c_router(full.site) if piece]
    assert names[: len(series.C_ROUTER)] == [entry.name for entry in series.C_ROUTER]


def test_the_same_numbers_as_management(bench: Bench) -> None:
    client = bench.connect()
    client.receiver("a", credit=3, auto=ACCEPTED)
    producer = client.sender("a")
    for _ in range(5):
        producer.send(message(b"x"))
    bench.settle()
    (row,) = bench.manager.query("routerMetrics")
    found = values(measures(bench.site))
    assert found["qdr_accepted_deliveries_total"][()] >= 3
    moving = {"qdr_router_vmsize_bytes", "qdr_router_rss_bytes"}
    # The answer to the query itself is counted after it was made.
    for entry in series.C_ROUTER:
        if entry.column and entry.name not in moving:
            assert found[entry.name][()] - row[entry.column] in (0, 1), entry.name
    assert found["vanrouter_queued_deliveries"][()] == 2
    assert found["vanrouter_unsettled_deliveries"][("in",)] == 2
    assert found["vanrouter_connections"] == {("normal", "in"): 2}


def test_how_long_deliveries_waited(bench: Bench) -> None:
    client = bench.connect()
    consumer, producer = client.receiver("a", auto=ACCEPTED, credit=1), client.sender("a")
    for _ in range(3):
        producer.send(message(b"x"))
    bench.settle()
    consumer.credit(2)
    bench.settle()
    found = values(measures(bench.site))
    assert found["vanrouter_delivery_queued_seconds"][()] == 2
    assert found["vanrouter_delivery_settlement_seconds"][()] >= 2


def test_services(full: Bench) -> None:
    found = values(measures(full.site))
    web, shop = ("tcpListener", "web", "shop"), ("tcpConnector", "shop", "shop")
    assert found["vanrouter_flows"] == {web: 0, shop: 0}
    assert set(found["vanrouter_flow_bytes_total"]) == {(*each, way) for each in (web, shop) for way in ("in", "out")}
    assert found["vanrouter_service_up"][web] == 1
    assert ("tcpConnector", "shop", "shop", "connect") in found["vanrouter_flows_failed_total"]


def test_http_services(full: Bench) -> None:
    counts = full.live("page").counts
    for host, method, status in (("h1", b"GET", 200), ("h2", b"PUT", 200), ("h1", b"GET", 503)):
        counts.count(counts.peer(host), method, status, 0.5, 1, 1)
    counts.retried = 2
    found = values(measures(full.site))
    page, pages = ("httpListener", "page", "pages"), ("httpConnector", "pages", "pages")
    assert found["vanrouter_http_requests_total"] == {(*page, "200"): 2, (*page, "503"): 1}
    assert found["vanrouter_http_request_seconds"] == {page: 3, pages: 0}
    assert found["vanrouter_http_retries_total"] == {page: 2, pages: 0}
    assert found["vanrouter_http_connections"] == {page: 0, pages: 0}
    assert found["vanrouter_service_up"][page] == 1


def test_listeners_connectors_certificates(full: Bench) -> None:
    found: dict[str, Any] = values(measures(full.site))
    assert found["vanrouter_listener_up"] == {
        ("l", "normal", "127.0.0.1", "0"): 1,
        ("http", "normal", "127.0.0.1", "0"): 1,
    }
    assert found["vanrouter_connector_up"] == {("uplink", "inter-router", "127.0.0.1", "1"): 0}
    assert found["vanrouter_ready"][()] == 0
    assert set(found["vanrouter_certificate_expiry_timestamp_seconds"]) == {("good", "certificate", "site")}
    assert found["vanrouter_certificate_unreadable"] == {("bad", "certificate"): 1}


def test_sources_may_be_added(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Metric("vanrouter_new", "New.", "gauge")
    monkeypatch.setattr("vanrouter.server.measures.SOURCES", [*SOURCES, lambda _site: iter([made])])
    assert list(measures(bench.site))[-1] is made
