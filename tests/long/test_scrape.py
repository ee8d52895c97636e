"""A scrape of routers with ten thousand flows, and a QUERY of their connections in pages: what they do to the p99 of
requests beside them, and how long a scrape holds a loop (issue 7)."""

from __future__ import annotations

import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.loads import answer, load, p99, server
from tests.system.conftest import StartSites
from tests.system.harness import Router, Section, Sites, tcp_connector, tcp_listener
from vanrouter.mgmt.client import ManagementClient

HTTP: Section = ("listener", {"name": "http", "host": "127.0.0.1", "port": 0, "http": True})
FLOWS = 10_000
ROUNDS = 7
SCRAPES_A_SECOND = 0.5
"""Seven times as often as a usual Prometheus."""
P99_RATIO = 1.2
HELD_S = 0.005


def scrape(router: Router) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{router.port('http')}/metrics", headers={"Accept": "*/*"})
    with urllib.request.urlopen(request, timeout=30) as found:
        return str(found.read().decode())


def value(text: str, name: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2])


class Scraper:
    """Asks both routers at a steady rate while it is wanted."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self) -> None:
        while not self._end.wait(1 / SCRAPES_A_SECOND):
            for router in self._sites.routers():
                scrape(router)
                self.count += 1

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


class Questioner:
    """Reads all connections of both routers, page by page, again and again while it is wanted."""

    def __init__(self, sites: Sites) -> None:
        self._urls = [f"amqp://127.0.0.1:{router.port('amqp')}" for router in sites.routers()]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seconds: list[float] = []
        self.rows: list[int] = []

    def _run(self) -> None:
        while not self._end.is_set():
            for url in self._urls:
                with ManagementClient(url, timeout_s=60) as client:
                    begun = time.monotonic()
                    self.rows.append(sum(1 for _ in client.query("connection")))
                    self.seconds.append(time.monotonic() - begun)

    def __enter__(self) -> Questioner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def sites(start_sites: StartSites, tmp_path: Path) -> Iterator[Sites]:
    with server("echo", tmp_path / "echo.log") as port:
        yield start_sites(a_sections=[HTTP, tcp_listener("echo")], b_sections=[HTTP, tcp_connector("echo", port)])


@pytest.mark.timeout(400)
def test_ten_thousand_flows(sites: Sites) -> None:
    port = sites.a.port("echo")
    with load("hold", port, "--connections", FLOWS) as held:
        answer(held)
        assert value(scrape(sites.a), "vanrouter_flows{") == FLOWS
        p99(port)
        alone, beside = [], []
        count = 0
        for _ in range(ROUNDS):
            alone.append(p99(port))
            with Scraper(sites) as scraper:
                beside.append(p99(port))
            count += scraper.count
        with Questioner(sites) as questioner:
            asked = p99(port)
        texts = [scrape(router) for router in sites.routers()]
        assert held.stdin is not None
        held.stdin.close()
    record = {
        "flows": FLOWS,
        "scrapes": count,
        "p99_alone_us": statistics.median(alone),
        "p99_beside_us": statistics.median(beside),
        "ratio": statistics.median(after / before for before, after in zip(alone, beside, strict=True)),
        "longest_slice_s": [value(text, "vanrouter_scrape_longest_slice_seconds") for text in texts],
        "cost_s": [value(text, "vanrouter_scrape_cost_seconds") for text in texts],
        "query_rows": min(questioner.rows),
        "query_s": statistics.median(questioner.seconds),
        "p99_beside_queries_us": asked,
        "all": [alone, beside],
    }
    print(json.dumps(record))
    assert count >= ROUNDS
    assert min(questioner.rows) > FLOWS, "each connection has its row"
    assert max(record["longest_slice_s"]) <= HELD_S, record  # type: ignore[type-var]  # of numbers
    assert record["ratio"] <= P99_RATIO, record
