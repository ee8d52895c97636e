"""Mixed networks under load and under many cuts; needs the C router."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import c_router  # noqa: F401  # fixtures are found by name
from tests.system.conftest import echo_port  # noqa: F401  # the same
from tests.system.network import Network, eventually, succeeds
from tests.system.services import connect, echo_once, receive_exactly

FLOWS = 1000
BULK_BYTES = 100_000_000
CUTS = 12
RELINK_S = 5.0
"""A killed and restarted vanrouter is back in use within so long (issue 3); a C router retries after up to 5 s more."""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path)
    try:
        yield made
    finally:
        made.kill()


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


@pytest.mark.parametrize("kinds", ["CVC", "VCV"])
def test_bulk_and_many_flows(network: Network, c_router: str, echo_port: int, kinds: str) -> None:  # noqa: F811
    chain(network, kinds, c_router, echo_port)
    port = network[f"{kinds[0]}0"].port("to-svc")
    block = random.Random(1).randbytes(1_000_000)
    with connect(port) as client:
        sender = threading.Thread(target=send_blocks, args=(client, block))
        sender.start()
        for _ in range(BULK_BYTES // len(block)):
            assert receive_exactly(client, len(block)) == block
        sender.join()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(FLOWS)]
        for _ in range(2):
            for number, client in enumerate(clients):
                client.sendall(f"{number:06}".encode())
            for number, client in enumerate(clients):
                assert receive_exactly(client, 6) == f"{number:06}".encode()
    network.check_logs()
    network.stop()


@pytest.mark.parametrize("kinds", ["VVV", "CVC"])
def test_many_cuts(network: Network, c_router: str, echo_port: int, kinds: str) -> None:  # noqa: F811
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
