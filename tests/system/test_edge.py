"""Edge routers as processes: flows and messages through the interior, over to another one, renewed credentials."""

from __future__ import annotations

import pytest

from tests.system.network import Network, eventually, succeeds
from tests.system.pki import Pki
from tests.system.services import connect, echo_once, has_ended, receive_exactly
from vanrouter.mgmt.client import ManagementClient

PAYLOAD = bytes(range(256)) * 4000


def test_services_above_and_below(network: Network, echo_port: int) -> None:
    network.add("I")
    for name in "EF":
        network.add(name, mode="edge")
        network.link(name, "I", role="edge")
    for service, at, elsewhere in (("above", "I", "EF"), ("below", "E", "IF")):
        network.service(service, at, echo_port)
        for clients in elsewhere:
            network.clients(service, clients)
    network.start()
    for service, clients in (("above", "E"), ("above", "F"), ("below", "I"), ("below", "F")):
        echo_once(network[clients].port(f"to-{service}"), PAYLOAD[:60_000])
    network.check_logs()


def test_the_other_interior_takes_over(network: Network, echo_port: int) -> None:
    for name in "IJK":
        network.add(name)
    network.link("I", "K")
    network.link("J", "K")
    network.add("E", mode="edge")
    network.link("E", "I", role="edge")
    network.link("E", "J", role="edge")
    network.service("svc", "K", echo_port)
    network.clients("svc", "E")
    network.service("below", "E", echo_port)
    network.clients("below", "K")
    network.start()
    ports = [network["E"].port("to-svc"), network["K"].port("to-below")]
    for port in ports:
        echo_once(port)
    with ManagementClient(f"127.0.0.1:{network['E'].port('amqp')}") as client:
        rows = [row for row in client.query("connection", ["container", "active", "role"]) if row["role"] == "edge"]
        active = [row["container"] for row in rows if row["active"]]
        assert sorted(row["container"] for row in rows) == ["I", "J"]
        assert len(active) == 1
    for interior in "IJ":  # it shows each as active, as a C router does
        with ManagementClient(f"127.0.0.1:{network[interior].port('amqp')}") as client:
            rows = [row for row in client.query("connection", ["active", "role"]) if row["role"] == "edge"]
            assert [row["active"] for row in rows] == [True]
    network[active[0]].kill()
    eventually(lambda: all(succeeds(port) for port in ports), 15)


@pytest.mark.parametrize("role", ["inter-router", "edge"])
def test_renewed_credentials(network: Network, pki: Pki, echo_port: int, role: str) -> None:
    """Credentials of a higher ordinal make new connections; flows on the old ones go on until those are too old."""
    network.add("I")
    network.add("E", mode="edge" if role == "edge" else "interior")
    here, there = pki.issue("renewed-e"), pki.issue("renewed-i")
    network.section("I", there.ssl_profile("mutual"))
    network.section("E", here.ssl_profile("mutual"))
    tls = {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL"}
    network.link("E", "I", role=role, listener_more={**tls, "authenticatePeer": True, "requireSsl": True}, **tls)
    network.service("svc", "I", echo_port)
    network.clients("svc", "E")
    network.start()
    port = network["E"].port("to-svc")
    with connect(port) as client, ManagementClient(f"127.0.0.1:{network['E'].port('amqp')}") as management:
        client.sendall(b"before")
        assert receive_exactly(client, 6) == b"before"

        def ordinals() -> set[int]:
            rows = management.query("connection", ["role", "tlsOrdinal", "opened"])
            return {row["tlsOrdinal"] for row in rows if row["role"].startswith(role) and row["opened"]}

        assert ordinals() == {0}
        renewed = pki.issue("renewed-e2")
        files = {"certFile": str(renewed.cert), "privateKeyFile": str(renewed.key)}
        management.update("sslProfile", {"ordinal": 3, **files}, name="mutual")
        eventually(lambda: ordinals() == {0, 3})
        eventually(lambda: succeeds(port))
        client.sendall(PAYLOAD[:50_000])
        assert receive_exactly(client, 50_000) == PAYLOAD[:50_000]
        management.update("sslProfile", {"oldestValidOrdinal": 3}, name="mutual")
        eventually(lambda: ordinals() == {3})
        assert has_ended(client)
        eventually(lambda: succeeds(port))
    network.check_logs()
