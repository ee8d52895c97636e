"""Who may only read at one router cannot write at another through it: `_topo`, `_edge`, fixed and anonymous links."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proton import Message, SSLDomain
from proton.utils import BlockingConnection, SendException

from tests.system.network import Network, eventually
from tests.system.pki import Pki
from tests.system.process import held
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import Credentials, ManagementClient, edge_target, router_target

PLACES = {"B": router_target("B"), "E": edge_target("E")}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("relayed"))
    network.add("A")
    network.add("B")
    network.add("E", mode="edge")
    network.link("B", "A")
    network.link("E", "A", role="edge")
    profile, attributes = pki.issue("router-a").ssl_profile("mutual")
    network.section("A", (profile, {**attributes, "uidFormat": "n"}))
    listener = {"name": "people", "host": "127.0.0.1", "port": 0, "sslProfile": "mutual", "authenticatePeer": True}
    network.section("A", ("listener", {**listener, "saslMechanisms": "EXTERNAL", "requireSsl": True}))
    network.section(
        "A",
        ("managementPermission", {"name": "clerks-read", "users": "clerk", "operations": "write", "effect": "deny"}),
    )
    secrets = {
        "name": "no-profiles",
        "users": "clerk",
        "operations": "read",
        "entityTypes": "sslProfile",
        "effect": "deny",
    }
    network.section("A", ("managementPermission", secrets))
    with held(network):
        network.start()
        with ManagementClient(f"amqp://127.0.0.1:{network['A'].port('amqp')}") as client:
            eventually(lambda: len(list(client.query("router.node"))) == 2)
        yield network


def people(network: Network, pki: Pki, name: str) -> ManagementClient:
    issued = pki.issue(name)
    credentials = Credentials(certificate=str(issued.cert), key=str(issued.key), trusted=str(issued.ca))
    return ManagementClient(f"amqps://localhost:{network['A'].port('people')}", credentials=credentials)


@pytest.mark.parametrize("place", PLACES)
def test_who_may_read_reads_there_and_no_more(network: Network, pki: Pki, place: str) -> None:
    with people(network, pki, "clerk") as clerk:
        clerk.target = PLACES[place]
        assert next(clerk.query("router"))["id"] == place
        assert clerk.call("GET-TYPES")
        for operation, properties in (
            ("CREATE", {"type": "dummy"}),
            ("UPDATE", {"type": "log", "name": "log/HTTP"}),
            ("DELETE", {"type": "listener", "name": "amqp"}),
            ("RELOAD", {}),
            ("update", {"identity": "1"}),
        ):
            with pytest.raises(ManagementError, match=f"'clerk' may not {operation.upper()}") as refused:
                clerk.call(operation, {}, **properties)
            assert refused.value.status == 403
        for properties in ({"entityType": "sslProfile"}, {}):
            with pytest.raises(ManagementError, match="may not QUERY"):
                clerk.call("QUERY", {"attributeNames": []}, **properties)
        assert clerk.call("QUERY", {"attributeNames": []}, entityType="listener")["results"]


@pytest.mark.parametrize("place", PLACES)
def test_who_may_write_writes_there(network: Network, pki: Pki, place: str) -> None:
    with people(network, pki, "chief") as chief:
        chief.target = PLACES[place]
        assert chief.call("CREATE", {"arg1": "x"}, type="dummy")["arg1"] == "x"


@pytest.mark.parametrize("target", [None, *PLACES.values()])
def test_links_of_their_own_are_no_way_round(network: Network, pki: Pki, target: str | None) -> None:
    """Anonymous senders, requests without an address for the reply, bodies that come in pieces, settled ones."""
    issued = pki.issue("clerk")
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_credentials(str(issued.cert), str(issued.key), None)
    domain.set_trusted_ca_db(str(issued.ca))
    url = f"amqps://localhost:{network['A'].port('people')}"
    connection = BlockingConnection(url, ssl_domain=domain, allowed_mechs="EXTERNAL", sasl_enabled=True)
    sender = connection.create_sender(target)
    connection.wait(lambda: sender.link.credit > 0)
    for place in [target] if target else PLACES.values():
        for size in (10, 300_000):
            request = Message(
                address=place, properties={"operation": "CREATE", "type": "dummy"}, body={"arg1": "y" * size}
            )
            with pytest.raises(SendException):
                sender.send(request)
    connection.close()
    with ManagementClient(f"amqp://127.0.0.1:{network['A'].port('amqp')}") as client:
        for place in PLACES.values():
            client.target = place
            assert not [row for row in client.query("dummy") if str(row.get("arg1", "")).startswith("y")]
