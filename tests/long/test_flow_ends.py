"""No stuck, half-closed or leaked flow, ever: very many of each kind leave nothing behind (issue 5)."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, tcp_connector, tcp_listener
from tests.system.network import eventually
from tests.system.process import free_port
from tests.system.services import echo_server
from tests.system.test_many_flows import NOISE_KB, settled_memory_kb
from vanrouter.mgmt.client import ManagementClient

SHORT = 50_000
WARM_UP = 5_000
"""So that the recent log, a megabyte of which the system has nothing before it is written, has been filled once."""
HALF_CLOSED = 10_000
DEAD = 1_000
AT_ONCE = 64
BATCH = 200
IO_S = 60.0
GIVEN_BACK = 0.9
GIVEN_BACK_WITHIN_S = 40.0
HALF_CLOSE_LIMIT_S = 5
REFUSED_WITHIN_S = 1.0
STALLED_BYTES = 192 * 1024
"""Octets offered on each flow whose receiver has stopped: more than socket buffers and the first window take."""
STALLED_TOTAL_BYTES = 960 << 20
"""Of all flows together: more is more than the kernel has room for (`tcp_mem`), and it drops and waits then."""
SETTLED_S = 8.0
DRAINED_WITHIN_S = 120.0
"""For what all these clients have said to pass through receive buffers of 4 kB, which the kernel empties in turns."""


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < HALF_CLOSED + 1000:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class QuietServer:
    """`quiet_server.py` in a process of its own."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("quiet_server.py"), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[-1]

    def tell(self, line: str) -> str:
        """Give it a line and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def __enter__(self) -> QuietServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def short_connections(port: int, count: int) -> None:
    """Connect, have one octet echoed, close: so often, always some at once."""
    poller = select.epoll()
    opened: dict[int, socket.socket] = {}
    begun = ended = 0
    while ended < count:
        while begun < count and len(opened) < AT_ONCE:
            client = socket.create_connection(("127.0.0.1", port), IO_S)
            client.sendall(b"x")
            opened[client.fileno()] = client
            poller.register(client, select.EPOLLIN)
            begun += 1
        ready = poller.poll(IO_S)
        assert ready, f"nothing happens any more after {ended} connections"
        for fd, _ in ready:
            client = opened.pop(fd)
            assert client.recv(2) == b"x"
            poller.unregister(fd)
            client.close()
            ended += 1
    poller.close()


def open_flows(port: int, count: int) -> list[socket.socket]:
    """Open flows and see each one work."""
    clients: list[socket.socket] = []
    while len(clients) < count:
        batch = [socket.create_connection(("127.0.0.1", port), IO_S) for _ in range(min(BATCH, count - len(clients)))]
        for client in batch:
            client.sendall(b"x")
        for client in batch:
            assert client.recv(1) == b"x"
        clients += batch
    return clients


def flows_left(sites: Sites) -> list[int]:
    """Return how many flows each router still shows: all TCP connections but the permanent ones of connectors."""
    counts = []
    for router in sites.routers():
        with ManagementClient(f"127.0.0.1:{router.port('amqp')}") as client:
            rows = client.query("connection", ["protocol", "host"])
            counts.append(sum(row["protocol"] == "tcp" and row["host"] != "egress-dispatch" for row in rows))
    return counts


def ended_for_memory(sites: Sites) -> list[int]:
    """Return how many flows each router has ended because too much was kept."""
    counts = []
    for router in sites.routers():
        with ManagementClient(f"127.0.0.1:{router.port('amqp')}") as client:
            rows = client.query("routerMetrics", ["flowsEndedForMemory"])
            counts += [row["flowsEndedForMemory"] for row in rows]
    return counts


def assert_nothing_is_left(sites: Sites, before_kb: list[int], peak_kb: list[int]) -> None:
    """All flows are gone, and nine tenths of the memory that they took."""
    eventually(lambda: flows_left(sites) == [0, 0], GIVEN_BACK_WITHIN_S)
    goals = [low + (1 - GIVEN_BACK) * (high - low) + NOISE_KB for low, high in zip(before_kb, peak_kb, strict=True)]
    closed_kb = settled_memory_kb(sites, goals, GIVEN_BACK_WITHIN_S)
    figures = f"kB before {before_kb}, at most {peak_kb}, after {closed_kb}"
    print(figures)
    assert all(kb <= goal for kb, goal in zip(closed_kb, goals, strict=True)), figures


def memory_kb(sites: Sites) -> list[int]:
    return [router.memory_kb() for router in sites.routers()]


def settled(sites: Sites) -> list[int]:
    """Return the memory after what is made once has been made."""
    return settled_memory_kb(sites, [0, 0], 3.0)


@pytest.mark.timeout(400)
def test_fifty_thousand_short_connections(start_sites: StartSites) -> None:
    with QuietServer("service") as service:
        sites = start_sites(a_sections=[tcp_listener("svc")], b_sections=[tcp_connector("svc", service.port)])
        port = sites.a.port("svc")
        short_connections(port, WARM_UP)
        before = settled(sites)
        short_connections(port, SHORT)
        peak = memory_kb(sites)
        # Each took as much as an open one for a moment; what counts is that it does not add up.
        assert_nothing_is_left(sites, before, [max(high, low + 2048) for low, high in zip(before, peak, strict=True)])


@pytest.mark.timeout(400)
@pytest.mark.parametrize("side", ["listener", "connector"])
def test_ten_thousand_half_closed(start_sites: StartSites, side: str) -> None:
    limit = {"halfCloseTimeoutSeconds": HALF_CLOSE_LIMIT_S}
    with QuietServer("echo") as service:
        sites = start_sites(
            a_sections=[tcp_listener("svc", **limit if side == "listener" else {})],
            b_sections=[tcp_connector("svc", service.port, **limit if side == "connector" else {})],
        )
        port = sites.a.port("svc")
        for client in open_flows(port, BATCH):
            client.close()
        eventually(lambda: flows_left(sites) == [0, 0], GIVEN_BACK_WITHIN_S)
        before = settled(sites)
        clients = open_flows(port, HALF_CLOSED)
        peak = memory_kb(sites)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            client.settimeout(IO_S)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
            client.close()
        eventually(lambda: service.tell("count") == "0", IO_S)
        assert_nothing_is_left(sites, before, peak)


@pytest.mark.timeout(200)
def test_a_thousand_to_a_dead_target(start_sites: StartSites) -> None:
    sites = start_sites(
        a_sections=[tcp_listener("svc", whenUnreachable="refuse")], b_sections=[tcp_connector("svc", free_port())]
    )
    port = sites.a.port("svc")
    before = settled(sites)
    longest = 0.0
    for _ in range(DEAD):
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), IO_S) as client:
                assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        longest = max(longest, time.monotonic() - began)
    print(f"refused after {longest:.3f} s at most")
    assert longest < REFUSED_WITHIN_S
    peak = memory_kb(sites)
    assert_nothing_is_left(sites, before, [max(high, low + 2048) for low, high in zip(before, peak, strict=True)])


@pytest.mark.timeout(200)
def test_one_of_two_targets_is_killed_under_load(start_sites: StartSites) -> None:
    with echo_server() as living, QuietServer("service") as dying:
        sites = start_sites(
            a_sections=[tcp_listener("svc")],
            b_sections=[tcp_connector("one", living, "svc"), tcp_connector("two", dying.port, "svc")],
        )
        port = sites.a.port("svc")
        clients = 0
        errors: list[float] = []
        eventually(lambda: (short_connections(port, 50), int(dying.tell("count")) >= 0)[1])
        killed_at = None
        end = time.monotonic() + 6.0
        while (now := time.monotonic()) < end:
            if killed_at is None and now > end - 5.0:
                dying.__exit__()
                killed_at = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", port), IO_S) as client:
                    client.settimeout(IO_S)
                    client.sendall(b"x")
                    if client.recv(1) != b"x":
                        raise ConnectionError
            except OSError:
                if killed_at is not None:
                    errors.append(time.monotonic() - killed_at)
            clients += killed_at is not None and now - killed_at < 1.0
        print(f"{len(errors)} errors of {clients} in the first second")
        late = [when for when in errors if when > 1.0]
        assert not late, f"errors {errors}"
        assert len(errors) < clients / 100, f"{len(errors)} errors of {clients} in the first second"


@pytest.mark.timeout(500)
@pytest.mark.parametrize(("stopped", "bound_bytes"), [(1_000, 32 << 20), (10_000, 256 << 20)])
def test_all_receivers_stop_at_once(
    start_sites: StartSites, record_property: Callable[[str, object], None], stopped: int, bound_bytes: int
) -> None:
    with QuietServer("sink") as service:
        sites = start_sites(
            a_sections=[tcp_listener("svc")],
            b_sections=[tcp_connector("svc", service.port)],
            router_more={"maxBufferedBytes": bound_bytes},
        )
        port = sites.a.port("svc")
        before = settled(sites)
        clients: list[socket.socket] = []
        for _ in range(stopped // BATCH):
            clients += [socket.create_connection(("127.0.0.1", port), IO_S) for _ in range(BATCH)]
        eventually(lambda: int(service.tell("count")) == stopped, IO_S)
        opened = memory_kb(sites)
        service.tell("stop")
        block = bytes(min(STALLED_BYTES, STALLED_TOTAL_BYTES // stopped))
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                client.send(block)
        until = time.monotonic() + SETTLED_S
        peak = opened
        while time.monotonic() < until:
            peak = [max(pair) for pair in zip(peak, memory_kb(sites), strict=True)]
            select.select([], [], [], 0.1)
        figures = f"kB before {before}, open {opened}, stopped {peak}"
        record_property("figures", figures)
        print(figures)
        for open_kb, peak_kb in zip(opened, peak, strict=True):
            assert (peak_kb - open_kb) * 1024 <= bound_bytes, figures
        service.tell("go")
        for (
            client
        ) in clients:  # once it is closed the kernel gives up what waits too long, without a word to the router
            client.shutdown(socket.SHUT_WR)
        eventually(lambda: service.tell("count") == "0", DRAINED_WITHIN_S)
        for client in clients:
            client.close()
        assert ended_for_memory(sites) == [0, 0], "so many can share the bound"
        assert_nothing_is_left(sites, before, peak)
