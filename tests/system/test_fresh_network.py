"""The first flow of a network that has just come up, before all its routers know all its links."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.system.network import Network
from tests.system.services import echo_once


@pytest.mark.parametrize("attempt", range(4))
def test_the_first_flow_through_the_middle(network: Network, echo_port: int, attempt: int) -> None:
    routers = "ABC" if attempt % 2 else "ABCD"
    for name in routers:
        network.add(name)
    for name, before in pairwise(reversed(routers)):
        network.link(name, before)
    network.service("svc", routers[-1], echo_port)
    network.clients("svc", "A")
    network.start_at_once()
    echo_once(network["A"].port("to-svc"), b"first")
