"""Mixed networks under load and under many cuts; needs the C router."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.interop.ring import SERVICES, mixed_ring
from tests.system.network import Network, eventually, succeeds
from tests.system.pki import Pki
from tests.system.process import Program
from tests.system.services import connect, echo_once, receive_exactly

FLOWS = 1000
BULK_BYTES = 100_000_000
MESSAGE_BYTES = (1, 1_000, 100_000, 10_000_000, 100_000_000)
ROOT = Path(__file__).parents[2]
CUTS = 12
RELINK_S = 5.0
"""A killed and restarted vanrouter is back in use within so long (issue 3); a C router retries after up to 5 s more."""


def chain(network: Network, kinds: str, program: str, port: int) -> None:
    """Three routers in a row; the service is at the last, its clients at the first."""
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, program if name[0] == "C" else None)
    network.link(names[0], names[1])
    network.link(names[2], names[1])
    network.service("svc", names[2], port)
    network.clients("svc", names[0])
    network.start()


def send_blocks(client: socket.socket, block: bytes) -> None:
    for _ in range(BULK_BYTES // len(block)):
        client.sendall(block)


def send_bulk(port: int) -> None:
    """100 MB there and back in one flow, both at once."""
    block = random.Random(1).randbytes(1_000_000)
    with connect(port) as client:
        sender = threading.Thread(target=send_blocks, args=(client, block))
        sender.start()
        for _ in range(BULK_BYTES // len(block)):
            assert receive_exactly(client, len(block)) == block
        sender.join()


def open_many(*ports: int) -> None:
    """Many flows at once, each with a text of its own there and back, twice."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(ports[number % len(ports)])) for number in range(FLOWS)]
        for _ in range(2):
            for number, client in enumerate(clients):
                client.sendall(f"{number:06}".encode())
            for number, client in enumerate(clients):
                assert receive_exactly(client, 6) == f"{number:06}".encode()


@pytest.mark.parametrize("kinds", ["CVC", "VCV"])
def test_bulk_and_many_flows(network: Network, c_router: str, echo_port: int, kinds: str) -> None:
    chain(network, kinds, c_router, echo_port)
    port = network[f"{kinds[0]}0"].port("to-svc")
    send_bulk(port)
    open_many(port)
    network.check_logs()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "mutual TLS"])
def test_ring_of_five(network: Network, c_router: str, echo_port: int, tmp_path: Path, has_tls: bool) -> None:
    """Messages of 1 octet to 100 MB, 100 MB in a flow, and 1,000 flows at once that enter at all five routers."""
    mixed_ring(network, c_router, echo_port, Pki(tmp_path / "pki") if has_tls else None)
    network.start_at_once()
    ports = [network[name].port(f"to-at-{at}") for name, at in (("V1", "C3"), ("C2", "V0"), ("V4", "C3"), ("C3", "V0"))]
    for port in ports[:2]:
        send_bulk(port)
    open_many(*ports, network[SERVICES[0]].port(f"to-at-{SERVICES[1]}"))
    for near, far in (("V0", "C2"), ("C2", "V1"), ("V1", "V4"), ("C3", "C2")):
        for size in MESSAGE_BYTES:
            send_message(network, near, far, size, tmp_path)
    network.check_logs()


def send_message(network: Network, near: str, far: str, size: int, folder: Path) -> None:
    """Send one message, accepted by its receiver, which looked at every octet."""
    address = f"large.{near}.{far}.{size}"
    command = [sys.executable, "-m", "tests.long.large_message"]
    taker, giver = (
        Program(
            mode,
            [*command, mode, str(network[name].port("amqp")), address, str(size)],
            folder / f"{address}.{mode}",
            env={"PYTHONPATH": str(ROOT)},
        )
        for mode, name in (("receive", far), ("send", near))
    )
    with taker, giver:
        taker.wait_for(rf"^done {size + 8}$", timeout_s=120)  # with the head of its section
        giver.wait_for("^done accepted")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", ["VVV", "CVC"])
def test_many_cuts(network: Network, c_router: str, echo_port: int, kinds: str) -> None:
    """The transit router is killed and started again; it listens, the others come back by themselves."""
    chain(network, kinds, c_router, echo_port)
    transit = f"{kinds[1]}1"
    port = network[f"{kinds[0]}0"].port("to-svc")
    echo_once(port)
    slowest = 0.0
    for _ in range(CUTS):
        network[transit].kill()
        eventually(lambda: not succeeds(port))
        network.start(transit)
        began = time.monotonic()
        eventually(lambda: succeeds(port), 30)
        slowest = max(slowest, time.monotonic() - began)
    assert "C" in kinds or slowest < RELINK_S
