"""Distribution `even` with weights, between connectors of two sites."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.system.network import Network, eventually
from tests.system.services import receive_exactly

CONNECTIONS = 400
AT_ONCE = 20
WEIGHTS = {"B": 9, "C": 1}


class Named:
    """A service that tells each client its name and closes after it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self.socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.socket.accept()[0]
                with client:
                    client.sendall(self.name.encode())

    def close(self) -> None:
        """Serve no more."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join()


def count_answers(port: int, connections: int, at_once: int) -> dict[str, int]:
    """Connect so many times, always `at_once` together, and count who answered."""
    counts = dict.fromkeys(WEIGHTS, 0)
    for _ in range(connections // at_once):
        batch = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(at_once)]
        for client in batch:
            with client:
                client.settimeout(20)
                counts[receive_exactly(client, 1).decode()] += 1
    return counts


@pytest.fixture
def services() -> Iterator[dict[str, Named]]:
    made = {name: Named(name) for name in WEIGHTS}
    yield made
    for service in made.values():
        service.close()


def start(network: Network, services: dict[str, Named], shape: str) -> int:
    """Start A, B and C in a shape, the services at B and C; return the port at A once it knows both."""
    for name in "ABC":
        network.add(name)
        network.section(name, ("address", {"prefix": "svc", "distribution": "even"}))
    for connector, listener in {"star": ("BA", "CA"), "chain": ("BA", "CB")}[shape]:
        network.link(connector, listener)
    for name, weight in WEIGHTS.items():
        network.service("svc", name, services[name].port, weight=weight)
    network.clients("svc", "A")
    network.start()
    port = network["A"].port("to-svc")
    seen: set[bytes] = set()

    def has_seen_both() -> bool:
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.settimeout(20)
            seen.add(client.recv(1))  # nothing while a router does not know its way back yet
        return len(seen - {b""}) == len(WEIGHTS)

    eventually(has_seen_both)
    return port


@pytest.mark.parametrize("shape", ["star", "chain"])
@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_connections_follow_the_weights(network: Network, services: dict[str, Named], shape: str, at_once: int) -> None:
    port = start(network, services, shape)
    counts = count_answers(port, CONNECTIONS, at_once)
    assert 0.89 <= counts["B"] / CONNECTIONS <= 0.91, counts
    network.check_logs()
