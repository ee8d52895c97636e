"""Networks of more routers than a C router can know (router protocol, sections 5.7 and 12)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.interop.exchange import exchange
from tests.long.lab import time_passes
from tests.system.network import Network, eventually
from tests.system.process import Program
from tests.system.services import echo_once
from vanrouter.mgmt.client import ManagementClient

ROOT = Path(__file__).parents[2]
C_LIMIT = 128
FORM_S = 400.0
"""All routers of `many_routers` share one process: 140 take a minute of its time to know each other."""
CALM_S = 15.0
MOST_ERRORS = 600
"""Of the C router while its neighbour finds out whom it knows; about ten a second, without end, if told of all."""


def many_routers(folder: Path, count: int, *ports: int) -> Program:
    """Start so many routers in a process; the first connects to the ports given."""
    command = [sys.executable, "-m", "tests.long.many_routers", str(count), *map(str, ports)]
    return Program("many", command, folder / "many.log", env={"PYTHONPATH": str(ROOT)})


def add(network: Network, name: str, program: str | None = None) -> None:
    network.add(name, program)
    link = {"name": "link", "host": "127.0.0.1", "port": 0, "role": "inter-router"}
    network.section(name, ("listener", link))


def routers_of(network: Network, name: str) -> list[str]:
    """Return the routers that one knows, itself included."""
    with ManagementClient(f"127.0.0.1:{network[name].port('amqp')}", timeout_s=20) as client:
        return client.router_ids()


def errors_of(network: Network, name: str) -> list[str]:
    return [line for line in network[name].log if "(error)" in line]


@pytest.mark.timeout(600)
def test_no_limit_among_vanrouters(network: Network, echo_port: int, tmp_path: Path) -> None:
    """Two daemons on either side of 138 routers: all 140 know each other, and flows go through."""
    for name in "VW":
        add(network, name)
    network.service("svc", "W", echo_port)
    network.clients("svc", "V")
    network.start()
    with many_routers(tmp_path, 138, *(network[name].port("link") for name in "VW")) as many:
        many.wait_for("^known 139 to 139, refused 0$", timeout_s=FORM_S)
        for name in "VW":
            with ManagementClient(f"127.0.0.1:{network[name].port('amqp')}", timeout_s=20) as client:
                eventually(lambda client=client: len(client.router_ids()) == 140, 30)
                (row,) = client.query("routingProtocol", ["routersRefused"])
                assert row["routersRefused"] == 0
        echo_once(network["V"].port("to-svc"))
        network.check_logs()
        network.stop()


@pytest.mark.timeout(600)
def test_a_c_router_in_a_network_of_more(
    network: Network,
    c_router: str,
    echo_port: int,
    tmp_path: Path,
) -> None:
    """The C router knows 128 and works with them; the 141 others know it and each other, as if it were not there."""
    add(network, "V")
    network.add("C", c_router)
    network.link("C", "V")
    network.service("svc", "C", echo_port)
    network.clients("svc", "V")
    network.service("far", "V", echo_port)
    network.clients("far", "C")
    network.start()
    with many_routers(tmp_path, 140, network["V"].port("link")) as many:
        many.wait_for("^known 141 to 141, refused 0$", timeout_s=FORM_S)
        eventually(lambda: len(routers_of(network, "V")) == 142, 30)
        eventually(lambda: len(routers_of(network, "C")) == C_LIMIT, 30)
        for near, service in (("V", "svc"), ("C", "far")):
            echo_once(network[near].port(f"to-{service}"))
        exchange(network, "V", "C", tmp_path)
        exchange(network, "C", "V", tmp_path)
        assert len(routers_of(network, "C")) == C_LIMIT
        count = -1
        while count != len(errors_of(network, "C")):  # until it has told by its own messages whom it knows
            count = len(errors_of(network, "C"))
            assert count < MOST_ERRORS
            time_passes(CALM_S)
        print(f"{count} errors in the log of the C router, none in the last {CALM_S} s")
        network.stop()
