"""A multicast in a mixed network with loops and edges: each consumer gets each message once, wherever it was sent."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import pytest
from proton import Message, Timeout
from proton.reactor import AtMostOnce
from proton.utils import BlockingConnection, BlockingReceiver

from tests.interop.ring import NAMES, mixed_ring
from tests.property.oracle import valid_origins_of
from tests.system.network import Network, eventually
from vanrouter.mgmt.client import ManagementClient

EDGES = {"VE": "C2", "CE": "V1", "VF": "V4"}
"""Edges and the interior routers that they are under."""
C_EDGES = {name for name in EDGES if name[0] == "C"}
CHORDS = (("V0", "C3"), ("V1", "V4"))
"""Two more loops in the ring."""
LINKS = (*zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True), *CHORDS)
GRAPH = {name: {b if a == name else a: 1 for a, b in LINKS if name in (a, b)} for name in NAMES}
ORIGINS = {name: valid_origins_of(GRAPH, name) for name in NAMES}
"""Of each router: whose multicast it passes on towards whom, by the naive oracle."""
ADDRESS = "multicast/news"
COUNT = 10
QUIET_S = 1.0


class Watch:
    """Looks at the routers through management, and waits for what a multicast needs before it is sent."""

    def __init__(self, stack: contextlib.ExitStack, network: Network) -> None:
        self._clients = {
            name: stack.enter_context(ManagementClient(f"127.0.0.1:{network[name].port('amqp')}"))
            for name in (*NAMES, *EDGES)
        }

    def counts(self, name: str) -> tuple[int, int]:
        """Consumers of the address at a router, its edges' among them, and other routers with consumers."""
        columns = ["key", "subscriberCount", "remoteCount"]
        for row in self._clients[name].query("router.address", columns):
            if row["key"] == f"M{ADDRESS}":
                return int(row["subscriberCount"]), int(row["remoteCount"])
        return 0, 0

    def everybody_knows(self) -> bool:
        """Whether all interior routers have all consumers, and the same paths: those of the whole network."""
        under = list(EDGES.values())
        return all(
            self.counts(name) == (1 + under.count(name), len(NAMES) - 1) and self._origins(name) == ORIGINS[name]
            for name in NAMES
        )

    def _origins(self, name: str) -> dict[str, set[str]]:
        rows = self._clients[name].query("router.node", ["id", "validOrigins"])
        return {str(row["id"]): set(row["validOrigins"] or ()) for row in rows if row["id"] != name}


def send(connection: BlockingConnection, name: str, watch: Watch, *, anonymous: bool) -> None:
    """Send some, each with a text of its own; they are on their way when this returns.

    At an edge of the C router a named producer's messages go up only once its proxy link is bound, and while it is,
    anonymous ones go up twice (router protocol, 9.5): these wait until it is so, or no longer so.
    """
    sender = connection.create_sender(None if anonymous else ADDRESS, options=AtMostOnce())
    connection.wait(lambda: sender.link.credit >= COUNT)
    if name in C_EDGES:
        eventually(lambda: watch.counts(name)[0] == (1 if anonymous else 2))
    for number in range(COUNT):
        sender.send(Message(address=ADDRESS, body=f"{name} {anonymous} {number}"))
    connection.wait(lambda: not sender.link.queued)
    sender.close()


def nothing_comes(receivers: Mapping[str, BlockingReceiver], timeout_s: float = 0.0) -> bool:
    """Whether nothing (more) comes for anybody. Clients speak only while they are waited for: this keeps them alive."""
    for receiver in receivers.values():
        with contextlib.suppress(Timeout):
            receiver.receive(timeout_s)
            return False
    return True


@pytest.mark.timeout(300)
def test_each_consumer_once(network: Network, c_router: str, echo_port: int) -> None:
    mixed_ring(network, c_router, echo_port, None)
    for chord in CHORDS:
        network.link(*chord)
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
        watch = Watch(stack, network)
        eventually(lambda: nothing_comes(receivers) and watch.everybody_knows(), 20)
        expected = []
        for name in everybody:
            for anonymous in (False, True):
                send(connections[name], name, watch, anonymous=anonymous)
                expected += [f"{name} {anonymous} {number}" for number in range(COUNT)]
        for name in everybody:
            found = [receivers[name].receive(20).body for _ in expected]
            assert sorted(found) == sorted(expected), f"at {name}"
        assert nothing_comes(receivers, QUIET_S)
    network.check_logs()
