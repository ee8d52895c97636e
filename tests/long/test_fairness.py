"""What flows cost each other: small requests beside held bulk, beside a reader that stopped, beside thousands."""

from __future__ import annotations

import json
import select
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.long.loads import answer, growth, load, p99, server
from tests.system.conftest import StartSites
from tests.system.harness import Sites, tcp_connector, tcp_listener
from tests.system.services import iperf3_server, require

Record = Callable[[str, object], None]

GBITS = 1
LEAST_GBITS = 0.2
"""Less than this is no bulk flow, however busy the machine is."""
ROUNDS = 5
SECONDS = 3.0
HELD_GROWTH = 3.0
STOPPED_GROWTH = 1.5
IDLE_GROWTH = 1.5
TRIES = 5
FLOWS = 10_000
QUIET_S = 0.5
"""Nothing more is taken for so long: everything on the way is full."""

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def new_sites(start_sites: StartSites, tmp_path: Path) -> Iterator[Callable[[], Sites]]:
    """Starts two sites with small requests, a place for bulk, and an echo."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(server(name, tmp_path / f"{name}.log")) for name in ("http", "echo")}
        ports["bulk"] = stack.enter_context(iperf3_server(tmp_path / "iperf3.log"))
        yield lambda: start_sites(
            a_sections=[tcp_listener(name) for name in ports],
            b_sections=[tcp_connector(name, port) for name, port in ports.items()],
        )


@pytest.fixture
def sites(new_sites: Callable[[], Sites]) -> Sites:
    return new_sites()


def test_small_requests_beside_a_held_bulk_flow(sites: Sites, record_property: Record) -> None:
    """Their p99 is at most three times what it is alone (issue 5)."""
    iperf3, bulk = require("iperf3"), sites.a.port("bulk")
    rates: list[float] = []

    @contextmanager
    def flow() -> Iterator[None]:
        command = [iperf3, "-J", "-c", "127.0.0.1", "-p", str(bulk), "-b", f"{GBITS}G", "-t", str(int(SECONDS) + 2)]
        for _ in range(TRIES):
            client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            select.select([], [], [], 0.5)  # it begins with a connection for itself
            if client.poll() is None:
                break
            client.communicate()  # its server was still busy with the run before
        yield
        said = json.loads(client.communicate()[0])
        assert "error" not in said, said["error"]
        rates.append(said["end"]["sum_received"]["bits_per_second"] / 1e9)
        assert rates[-1] > LEAST_GBITS, said

    p99(sites.a.port("http"), 1.0)
    times, figures = growth(sites.a.port("http"), flow, ROUNDS, SECONDS)
    record_property("figures", f"{times:.2f} times; {figures}; bulk in Gbit/s {[round(rate, 2) for rate in rates]}")
    assert times <= HELD_GROWTH, figures


def test_a_reader_that_stops(sites: Sites, record_property: Record) -> None:
    """Its flow fills every buffer on the way; those beside it do not notice."""

    @contextmanager
    def stopped() -> Iterator[None]:
        with socket.create_connection(("127.0.0.1", sites.a.port("echo")), 10) as reader:
            reader.setblocking(False)
            sent = 0
            while select.select([], [reader], [], QUIET_S)[1]:
                sent += reader.send(bytes(65536))
            assert sent > 65536
            yield

    p99(sites.a.port("http"), 1.0)
    times, figures = growth(sites.a.port("http"), stopped, ROUNDS, SECONDS)
    record_property("figures", f"{times:.2f} times; {figures}")
    assert times <= STOPPED_GROWTH, figures


def test_ten_thousand_open_flows(sites: Sites, new_sites: Callable[[], Sites], record_property: Record) -> None:
    """All of them work, now and later, and small requests beside them are as quick as at sites without."""
    http, empty = sites.a.port("http"), new_sites().a.port("http")
    with load("hold", sites.a.port("echo"), "--connections", FLOWS) as held:
        answer(held)
        assert held.stdin is not None
        for port in (http, empty):
            p99(port, 1.0)
        pairs = [(p99(empty, SECONDS), p99(http, SECONDS)) for _ in range(ROUNDS)]
        held.stdin.write("\n")
        held.stdin.flush()
        assert answer(held) == {"echoed": FLOWS}
        held.stdin.close()
        assert answer(held) == {"closed": FLOWS}
    times = statistics.median(beside / alone for alone, beside in pairs)
    figures = f"p99 in us, without and beside: {pairs}"
    record_property("figures", f"{times:.2f} times; {figures}")
    assert times <= IDLE_GROWTH, figures
