"""Network ids and tenants: the forms of dynamic addresses, services of tenants, and two networks side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from proton.utils import BlockingConnection

from tests.interop.exchange import exchange
from tests.system.network import Network, eventually, succeeds
from tests.system.services import echo_once
from vanrouter.mgmt.client import ManagementClient

FORMS = {
    # router protocol, section 8; each was seen of a C router, too
    (): ("amqp:/_topo/0/I/temp.", "amqp:/_edge/E/temp."),
    ("networkId",): ("amqp:/_xtopo/net/0/I/temp.", "amqp:/_xedge/net/E/temp."),
    ("tenantId",): ("amqp:/_topo/0/I/ten/temp.", "amqp:/_edge/E/ten/temp."),
    ("networkId", "tenantId"): ("amqp:/_xtopo/net/0/I/ten/temp.", "amqp:/_xedge/net/E/ten/temp."),
}
"""By what is configured: the address that an interior router gives, and an edge."""


def dynamic_address(port: int) -> str:
    connection = BlockingConnection(f"127.0.0.1:{port}", timeout=10, allowed_mechs="ANONYMOUS")
    try:
        return str(connection.create_receiver(None, dynamic=True).link.remote_source.address)
    finally:
        connection.close()


@pytest.mark.parametrize("configured", FORMS, ids="+".join)
def test_dynamic_addresses(network: Network, tmp_path: Path, configured: tuple[str, ...]) -> None:
    """Each has its form, and answers to it come back to an interior router and to an edge, wherever they are given."""
    network.add("I")
    network.add("J")
    network.add("E", mode="edge")
    if configured:
        for name in "IJE":
            network.section(name, ("network", {key: key[:3] for key in configured}))
    network.link("J", "I")
    network.link("E", "I", role="edge")
    network.start()
    for name, form in zip("IE", FORMS[configured], strict=True):
        assert re.fullmatch(re.escape(form) + r"[\w+]{15}", dynamic_address(network[name].port("amqp")))
    for near, far in ("IJ", "EJ", "JE"):
        exchange(network, near, far, tmp_path, "serve")
    network.check_logs()


def test_services_of_tenants(network: Network, echo_port: int) -> None:
    """Two tenants have a service of one name: neither's listener leads to the other's."""
    for name, tenant in (("A", "red"), ("B", "red"), ("C", "blue"), ("D", "blue")):
        network.add(name)
        network.section(name, ("network", {"tenantId": tenant}))
    for name in "BCD":
        network.link(name, "A")
    network.clients("svc", "A")
    network.clients("svc", "C")
    network.service("svc", "B", echo_port)
    network.start()
    echo_once(network["A"].port("to-svc"))
    with ManagementClient(f"127.0.0.1:{network['D'].port('amqp')}") as blue:
        eventually(lambda: len(blue.router_ids()) == 4)
        keys = {row["key"] for row in blue.query("router.address", ["key"])}
        assert "Mred/svc" in keys
        assert "Mblue/svc" not in keys
        assert not any("(to-svc)" in line for line in network["C"].log), "it opens for its own tenant's service alone"
        blue.create("tcpConnector", {"host": "127.0.0.1", "port": echo_port, "address": "svc"}, name="own")
        port = network["C"].port("to-svc")
        echo_once(port)
        blue.delete("tcpConnector", name="own")
    eventually(lambda: not succeeds(port))
    assert succeeds(network["A"].port("to-svc"))
    network.check_logs()


def test_two_networks(network: Network, tmp_path: Path) -> None:
    """Requests from one network to a service of another, and their answers, each from behind the linked routers."""
    for name in ("X0", "X1", "Y1", "Y0"):
        network.add(name)
        network.section(name, ("network", {"networkId": f"net-{name[0]}"}))
    network.link("X0", "X1")
    network.link("Y0", "Y1")
    network.link("Y1", "X1", role="inter-network")
    network.section("X1", ("autoLink", {"connection": "from-Y1", "direction": "in", "externalAddress": "_xtopo/net-X"}))
    network.section("Y1", ("autoLink", {"connection": "to-X1", "direction": "in", "address": "serve.X0.Y0"}))
    network.start()
    exchange(network, "X0", "Y0", tmp_path, "serve")
    with ManagementClient(f"127.0.0.1:{network['Y0'].port('amqp')}") as client:
        assert sorted(client.router_ids()) == ["Y0", "Y1"], "the networks stay two"
        assert "Nnet-X" in {row["key"] for row in client.query("router.address", ["key"])}
    with ManagementClient(f"127.0.0.1:{network['X1'].port('amqp')}") as client:
        assert "inter-network" in {row["role"] for row in client.query("connection", ["role"])}
    network.check_logs()
