"""Two thousand flows at once: each works, their memory is bounded and given back, an idle router is idle."""

from __future__ import annotations

import contextlib
import gc
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, tcp_connector, tcp_listener

FLOWS = 2_000
AT_ONCE = 200
"""Connections opened together: below the backlog of the ports."""
WARM_UP = FLOWS if sys.implementation.name == "pypy" else AT_ONCE
"""PyPy's compiled code comes with use, and stays."""
KB_FOR_EACH_FLOW = 20
GIVEN_BACK = 0.9
GIVEN_BACK_WITHIN_S = 30.0
SECOND_ROUND_ADDS = 0.02
IDLE_CORE_SHARE = 0.01
IDLE_S = 3.0
STALLED_S = 30.0
NOISE_KB = 256
"""Less than this is the allocator's rounding, not the flows."""


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * FLOWS + 500
    if hard < wanted:
        pytest.skip(f"the limit of open files is {hard}; {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flows:
    """Clients and service of many flows, in one thread with one poller."""

    def __init__(self, service: socket.socket, port: int) -> None:
        self.port = port
        self.service = service
        self.clients: list[socket.socket] = []
        self.served: list[socket.socket] = []
        self.service.settimeout(STALLED_S)

    def open(self, count: int) -> None:
        """Open so many flows and see each one work in both directions."""
        for _ in range(count // AT_ONCE):
            batch = [socket.create_connection(("127.0.0.1", self.port), STALLED_S) for _ in range(AT_ONCE)]
            self.clients += batch
            self.served += [self.service.accept()[0] for _ in batch]
        for number, client in enumerate(self.clients):
            client.sendall(number.to_bytes(4, "big"))
        numbers = set()
        for served in self.served:
            served.settimeout(STALLED_S)
            data = served.recv(4)
            numbers.add(int.from_bytes(data, "big"))
            served.sendall(data)
        assert numbers == set(range(count))
        for number, client in enumerate(self.clients):
            client.settimeout(STALLED_S)
            assert client.recv(4) == number.to_bytes(4, "big")

    def close(self) -> None:
        """Close the clients; each end at the service follows."""
        for client in self.clients:
            client.close()
        for served in self.served:
            assert served.recv(1) == b""
            served.close()
        self.clients.clear()
        self.served.clear()
        gc.collect()


def settled_memory_kb(sites: Sites, goals_kb: list[float], within_s: float) -> list[int]:
    """Return the memory of both routers, as soon as it is down to the goals or when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        now_kb = [router.memory_kb() for router in sites.routers()]
        if all(kb <= goal for kb, goal in zip(now_kb, goals_kb, strict=True)) or time.monotonic() >= deadline:
            return now_kb
        select.select([], [], [], 0.25)  # the kernel tells nobody when a process shrinks


@pytest.mark.timeout(240)
def test_two_thousand_flows(start_sites: StartSites, record_property: Callable[[str, object], None]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=2 * AT_ONCE)) as service:
        sites = start_sites(
            a_sections=[tcp_listener("service")], b_sections=[tcp_connector("service", service.getsockname()[1])]
        )
        flows = Flows(service, sites.a.port("service"))
        flows.open(WARM_UP)  # what is made once, is made now
        flows.close()
        before = settled_memory_kb(sites, [0, 0], 1.0)

        flows.open(FLOWS)
        opened = [router.memory_kb() for router in sites.routers()]
        cpu = [router.cpu_seconds() for router in sites.routers()]
        select.select([], [], [], IDLE_S)  # idle time is what is measured
        shares = [(router.cpu_seconds() - begin) / IDLE_S for router, begin in zip(sites.routers(), cpu, strict=True)]
        flows.close()
        goals = [a + (1 - GIVEN_BACK) * (b - a) + NOISE_KB for a, b in zip(before, opened, strict=True)]
        closed = settled_memory_kb(sites, goals, GIVEN_BACK_WITHIN_S)

        flows.open(FLOWS)
        flows.close()
        limits = [kb * (1 + SECOND_ROUND_ADDS) + NOISE_KB for kb in closed]
        again = settled_memory_kb(sites, limits, GIVEN_BACK_WITHIN_S)

        figures = f"kB before {before}, open {opened}, closed {closed}, second round {again}; idle shares {shares}"
        record_property("figures", figures)
        for index in range(2):
            each = (opened[index] - before[index]) / FLOWS
            assert each <= KB_FOR_EACH_FLOW, f"{each:.1f} kB for each flow; {figures}"
            assert closed[index] <= goals[index], figures
            assert again[index] <= limits[index], figures
            assert shares[index] < IDLE_CORE_SHARE + 0.01, figures  # a tick of the clock is 0.0033 of the time
