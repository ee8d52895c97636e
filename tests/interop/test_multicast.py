"""A multicast in a mixed network with loops and edges: each consumer gets each message once, wherever it was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from proton import Message, Timeout
from proton.reactor import AtMostOnce
from proton.utils import BlockingConnection, BlockingReceiver

from tests.interop.ring import NAMES, mixed_ring
from tests.system.network import Network, eventually
from vanrouter.mgmt.client import ManagementClient

EDGES = {"VE": "C2", "CE": "V1", "VF": "V4"}
"""Edges and the interior routers that they are under."""
ADDRESS = "multicast/news"
COUNT = 10
QUIET_S = 1.0


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def known(client: ManagementClient) -> int:
    """How many other interior routers have consumers of the address, as one router sees it."""
    rows = client.query("router.address", ["key", "remoteCount"])
    return next((int(row["remoteCount"]) for row in rows if row["key"] == f"M{ADDRESS}"), 0)


def send(connection: BlockingConnection, name: str, *, anonymous: bool) -> None:
    """Send some, each with a text of its own; they are on their way when this returns."""
    sender = connection.create_sender(None if anonymous else ADDRESS, options=AtMostOnce())
    connection.wait(lambda: sender.link.credit >= COUNT)
    for number in range(COUNT):
        sender.send(Message(address=ADDRESS, body=f"{name} {anonymous} {number}"))
    connection.wait(lambda: not sender.link.queued)
    sender.close()


def take(receiver: BlockingReceiver, count: int) -> list[str]:
    """Receive so many, and see that no other comes."""
    found = [receiver.receive(20).body for _ in range(count)]
    with contextlib.suppress(Timeout):
        found.append(receiver.receive(QUIET_S).body)
    return found


@pytest.mark.timeout(300)
def test_each_consumer_once(network: Network, c_router: str, echo_port: int) -> None:
    mixed_ring(network, c_router, echo_port, None)
    network.link("V0", "C3")  # two more loops
    network.link("V1", "V4")
    for name, interior in EDGES.items():
        network.add(name, c_router if name[0] == "C" else None, mode="edge")
        network.link(name, interior, role="edge")
    everybody = (*NAMES, *EDGES)
    for name in everybody:
        network.section(name, ("address", {"prefix": "multicast", "distribution": "multicast"}))
    network.start_at_once()
    with contextlib.ExitStack() as stack:
        connections: dict[str, BlockingConnection] = {}
        for name in everybody:
            url = f"127.0.0.1:{network[name].port('amqp')}"
            connections[name] = BlockingConnection(url, timeout=30, allowed_mechs="ANONYMOUS")
            stack.callback(connections[name].close)
        receivers = {name: connections[name].create_receiver(ADDRESS, credit=1000) for name in everybody}
        for name in NAMES:
            with ManagementClient(f"127.0.0.1:{network[name].port('amqp')}") as client:
                eventually(partial(lambda client: known(client) == len(NAMES) - 1, client), 20)
        expected = []
        for name in everybody:
            for anonymous in (False, True):
                send(connections[name], name, anonymous=anonymous)
                expected += [f"{name} {anonymous} {number}" for number in range(COUNT)]
        for name in everybody:
            assert sorted(take(receivers[name], len(expected))) == sorted(expected), f"at {name}"
    network.check_logs()
    network.stop()
