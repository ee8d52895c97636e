"""Ten thousand connections to two connectors with weights 9 and 1 (issue 5)."""

from __future__ import annotations

from tests.system.network import Network
from tests.system.test_even import Named, count_answers, services, start  # noqa: F401  # a fixture, by name

CONNECTIONS = 10_000


def test_ten_thousand_connections(network: Network, services: dict[str, Named]) -> None:  # noqa: F811
    port = start(network, services, "star")
    counts = count_answers(port, CONNECTIONS, 50)
    assert 0.89 <= counts["B"] / CONNECTIONS <= 0.91, counts
    network.check_logs()
