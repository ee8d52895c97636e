"""Redundant links with different costs: the cheapest way is taken, costs change while running, and ways come back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.network import Network, eventually, succeeds
from tests.system.process import free_port
from tests.system.services import echo_once
from vanrouter.mgmt.client import ManagementClient


@pytest.fixture
def triangle(network: Network, echo_port: int) -> Network:
    """A and C are linked by way of B, and directly at a higher cost."""
    for name in "ABC":
        network.add(name)
    network.link("A", "B")
    network.link("B", "C")
    network.link("A", "C", cost=5)
    network.service("svc", "C", echo_port)
    network.clients("svc", "A", port=free_port())
    return network


def test_costs_changed_while_running(triangle: Network) -> None:
    triangle.start_at_once()
    port = triangle["A"].port("to-svc")
    with ManagementClient(f"127.0.0.1:{triangle['A'].port('amqp')}") as client:
        cost_of = costs(client)
        eventually(lambda: cost_of() == {"B": 1, "C": 2})
        echo_once(port)
        client.update("connector", {"cost": 1}, name="to-C")
        eventually(lambda: cost_of() == {"B": 1, "C": 1})
        echo_once(port)
        client.update("connector", {"cost": 9}, name="to-B")
        eventually(lambda: cost_of() == {"B": 2, "C": 1})  # to B by way of C now
        echo_once(port)
        client.update("connector", {"cost": 1}, name="to-B")
        eventually(lambda: cost_of() == {"B": 1, "C": 1})


def test_no_new_flow_fails_while_costs_change(triangle: Network) -> None:
    """Each begins in the moment of a change, when the routers' paths are not yet the same."""
    try:
        triangle.start_at_once()
        port = triangle["A"].port("to-svc")
        with ManagementClient(f"127.0.0.1:{triangle['A'].port('amqp')}") as client:
            cost_of = costs(client)
            eventually(lambda: cost_of() == {"B": 1, "C": 2})
            for cost in (1, 9) * 4:
                client.update("connector", {"cost": cost}, name="to-C")
                echo_once(port)
                client.update("connector", {"cost": 10 - cost}, name="to-B")
                echo_once(port)
        triangle.stop()
    finally:
        triangle.kill()


def test_the_next_best_way_and_back(triangle: Network) -> None:
    triangle.start_at_once()
    port = triangle["A"].port("to-svc")
    with ManagementClient(f"127.0.0.1:{triangle['A'].port('amqp')}") as client:
        cost_of = costs(client)
        eventually(lambda: cost_of() == {"B": 1, "C": 2})
        triangle["B"].kill()
        eventually(lambda: succeeds(port), 1.0)  # at once: a socket has closed
        eventually(lambda: cost_of().get("C") == 5)
        triangle.start("B")
        eventually(lambda: cost_of() == {"B": 1, "C": 2})
        echo_once(port)


def costs(client: ManagementClient) -> Callable[[], dict[str, int]]:
    """Return what asks for the cost of the way to each other router."""

    def ask() -> dict[str, int]:
        rows = client.query("router.node", ["id", "cost"])
        return {str(row["id"]): int(str(row["cost"])) for row in rows if row["cost"] is not None}

    return ask
