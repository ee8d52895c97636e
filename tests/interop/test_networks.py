"""Mixed networks of vanrouter and the C router: chains, rings, edges either way; TCP, messages and management."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from tests.interop.exchange import exchange
from tests.interop.ring import NAMES, SERVICES, mixed_ring
from tests.system.network import Network, eventually, succeeds
from tests.system.pki import Pki
from tests.system.services import connect, echo_once, receive_exactly
from vanrouter.mgmt.client import ClientError, ManagementClient, router_target

PAYLOAD = bytes(range(256)) * 4000


def echo(port: int) -> None:
    """A megabyte there and back, both at once."""
    with connect(port) as client:
        sender = threading.Thread(target=client.sendall, args=(PAYLOAD,))
        sender.start()
        assert receive_exactly(client, len(PAYLOAD)) == PAYLOAD
        sender.join()


def everybody_knows(network: Network, *names: str) -> None:
    """Management of each router is reached from each, and all have the same routers."""
    for name in names:
        with ManagementClient(f"127.0.0.1:{network[name].port('amqp')}", timeout_s=2) as client:
            eventually(partial(knows, client, names))
            for other in names:
                client.target = "$management" if other == name else router_target(other)
                eventually(partial(is_router, client, other))  # the way back may take a moment longer


def knows(client: ManagementClient, names: tuple[str, ...]) -> bool:
    return sorted(client.router_ids()) == sorted(names)


def is_router(client: ManagementClient, name: str) -> bool:
    try:
        return [row["id"] for row in client.query("router", ["id"])] == [name]
    except ClientError:
        return False


@pytest.mark.parametrize("kinds", ["CVC", "VCV", "VVC"])
def test_chain(network: Network, c_router: str, echo_port: int, tmp_path: Path, kinds: str) -> None:
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, c_router if name[0] == "C" else None)
    network.link(names[0], names[1])
    network.link(names[2], names[1])
    for service, at, clients in (("east", names[2], names[0]), ("west", names[0], names[2])):
        network.service(service, at, echo_port)
        network.clients(service, clients)
    network.start()
    for service, at in (("east", names[0]), ("west", names[2])):
        echo(network[at].port(f"to-{service}"))
    exchange(network, names[0], names[2], tmp_path)
    exchange(network, names[2], names[0], tmp_path)
    everybody_knows(network, *names)
    network.check_logs()


@pytest.mark.parametrize("connects", ["vanrouter", "the old one"])
def test_the_line_before(
    network: Network, c_router: str, c_router_2: str, echo_port: int, tmp_path: Path, connects: str
) -> None:
    """A chain of vanrouter, skupper-router 2 and skupper-router 3."""
    network.add("V")
    network.add("O", c_router_2)
    network.add("C", c_router)
    if connects == "vanrouter":
        network.link("V", "O")
    else:
        network.link("O", "V")
    network.link("C", "O")
    network.service("svc", "C", echo_port)
    network.clients("svc", "V")
    network.start()
    echo(network["V"].port("to-svc"))
    exchange(network, "V", "O", tmp_path)
    exchange(network, "O", "V", tmp_path)
    exchange(network, "V", "C", tmp_path)
    exchange(network, "C", "V", tmp_path)
    network.check_logs()


def test_ring_of_five(network: Network, c_router: str, echo_port: int) -> None:
    names = ["V0", "C1", "V2", "C3", "V4"]
    for name in names:
        network.add(name, c_router if name[0] == "C" else None)
    for place, name in enumerate(names):
        network.link(name, names[(place + 1) % 5])
    network.service("svc", "V0", echo_port)
    for at in ("V2", "C3"):
        network.clients("svc", at)
    network.start()
    ports = {at: network[at].port("to-svc") for at in ("V2", "C3")}
    for port in ports.values():
        echo(port)
    everybody_knows(network, *names)
    network.check_logs()
    network["C1"].kill()  # the short way of V2
    eventually(lambda: succeeds(ports["V2"]), 15)
    network["V4"].kill()  # and that of C3: both are cut off
    eventually(lambda: not succeeds(ports["C3"]), 15)
    network.start("C1")
    eventually(lambda: succeeds(ports["C3"]) and succeeds(ports["V2"]), 20)


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "mutual TLS"])
def test_ring_of_five_carries_everything(
    network: Network, c_router: str, echo_port: int, tmp_path: Path, has_tls: bool
) -> None:
    """From each kind to each, neighbours and not, in both directions, with two data connections on each link."""
    mixed_ring(network, c_router, echo_port, Pki(tmp_path / "pki") if has_tls else None)
    network.start_at_once()
    everybody_knows(network, *NAMES)
    for at in SERVICES:
        for name in NAMES:
            if name != at:
                echo(network[name].port(f"to-at-{at}"))
    for near, far in (("V0", "C2"), ("C2", "V0"), ("V1", "V4"), ("C2", "C3"), ("C3", "V1")):
        exchange(network, near, far, tmp_path)
    network.check_logs()


@pytest.mark.parametrize("kinds", ["VC", "CV", "VV"], ids=["under C", "C under vanrouter", "under vanrouter, C beyond"])
def test_edge(network: Network, c_router: str, echo_port: int, tmp_path: Path, kinds: str) -> None:
    """An edge under an interior that is linked with one of the other kind."""
    edge, interior = (c_router if kind == "C" else None for kind in kinds)
    network.add("E", edge, mode="edge")
    network.add("I", interior)
    network.add("J", None if interior else c_router)
    network.link("E", "I", role="edge")
    network.link("J", "I")
    for service, at in (("above", "I"), ("below", "E"), ("beyond", "J")):
        network.service(service, at, echo_port)
        for clients in "EIJ":
            if clients != at:
                network.clients(service, clients)
    network.start()
    for service, at in (("above", "I"), ("below", "E"), ("beyond", "J")):
        for clients in "EIJ":
            if clients != at:
                echo(network[clients].port(f"to-{service}"))
    for near, far in (("E", "I"), ("I", "E"), ("E", "J"), ("J", "E")):
        exchange(network, near, far, tmp_path)
    network.check_logs()


def test_edges_under_both(network: Network, c_router: str, echo_port: int) -> None:
    """From edge to edge across two interiors of different kinds, and over to the other interior when one ends."""
    network.add("C")
    network.add("X", c_router)
    network.link("C", "X")
    for name, program, interiors in (("V", None, "XC"), ("S", c_router, "CX")):
        network.add(name, program, mode="edge")
        for interior in interiors:
            network.link(name, interior, role="edge")
        network.service(f"at-{name}", name, echo_port)
    network.clients("at-V", "S")
    network.clients("at-S", "V")
    network.start()
    ports = [network["S"].port("to-at-V"), network["V"].port("to-at-S")]
    for port in ports:
        echo(port)
    network.check_logs()
    network["X"].kill()
    eventually(lambda: all(succeeds(port) for port in ports), 20)
    network.start("X")
    everybody_knows(network, "C", "X")
    network["C"].kill()
    eventually(lambda: all(succeeds(port) for port in ports), 20)
    for port in ports:
        echo_once(port)


@pytest.mark.parametrize("kinds", ["VC", "CV", "VV"])
def test_edge_mesh(network: Network, c_router: str, echo_port: int, tmp_path: Path, kinds: str) -> None:
    """Edges that are connected to each other need no interior. The C router sends no TCP streams to other edges."""
    for place, kind in enumerate(kinds):
        network.add(f"E{place}", c_router if kind == "C" else None, mode="edge")
        if kinds == "VV":
            network.service(f"at-{place}", f"E{place}", echo_port)
            network.clients(f"at-{1 - place}", f"E{place}")
    network.link("E0", "E1", role="inter-edge")
    network.start()
    if kinds == "VV":
        for place in range(2):
            echo(network[f"E{place}"].port(f"to-at-{1 - place}"))
    else:
        network["E0"].wait_for("Edge peer|Edge peer detected")
    exchange(network, "E0", "E1", tmp_path)
    exchange(network, "E1", "E0", tmp_path)
    network.check_logs()


@pytest.mark.parametrize("kinds", ["VC", "CV", "VV"])
def test_two_networks(network: Network, c_router: str, tmp_path: Path, kinds: str) -> None:
    """Requests from one network to a service of another, and the answers back to dynamic addresses."""
    for name, kind in zip("XY", kinds, strict=True):
        network.add(name, c_router if kind == "C" else None)
        network.section(name, ("network", {"networkId": f"net-{name}"}))
    network.link("Y", "X", role="inter-network")
    network.section("X", ("autoLink", {"connection": "from-Y", "direction": "in", "externalAddress": "_xtopo/net-X"}))
    network.section("Y", ("autoLink", {"connection": "to-X", "direction": "in", "address": "serve.X.Y"}))
    network.start()
    exchange(network, "X", "Y", tmp_path, "serve")
    network.check_logs()


@pytest.mark.parametrize("kinds", ["VCCV", "CVVC"])
def test_answers_from_behind_the_linked_routers(network: Network, c_router: str, tmp_path: Path, kinds: str) -> None:
    """Two networks of two: who asks and who answers are not the routers with the connection between them."""
    names = [
        f"{kind}{network_id}{place}" for kind, (network_id, place) in zip(kinds, ("x0", "x1", "y1", "y0"), strict=True)
    ]
    for name in names:
        network.add(name, c_router if name[0] == "C" else None)
        network.section(name, ("network", {"networkId": f"net-{name[1]}"}))
    asking, near, far, serving = names
    network.link(asking, near)
    network.link(serving, far)
    network.link(far, near, role="inter-network")
    back = {"connection": f"from-{far}", "direction": "in", "externalAddress": "_xtopo/net-x"}
    network.section(near, ("autoLink", back))
    there = {"connection": f"to-{near}", "direction": "in", "address": f"serve.{asking}.{serving}"}
    network.section(far, ("autoLink", there))
    network.start()
    exchange(network, asking, serving, tmp_path, "serve")
    network.check_logs()


@pytest.mark.parametrize("kinds", ["VC", "CV"])
def test_tenants(network: Network, c_router: str, echo_port: int, tmp_path: Path, kinds: str) -> None:
    """The tenant's name is put in front of services' addresses and into dynamic ones as the other kind does it."""
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, c_router if name[0] == "C" else None)
        network.section(name, ("network", {"tenantId": "ten"}))
    network.link(*names)
    for near, far in (names, names[::-1]):
        network.service(f"at-{far}", far, echo_port)
        network.clients(f"at-{far}", near)
    network.start()
    for near, far in (names, names[::-1]):
        echo(network[near].port(f"to-at-{far}"))
        exchange(network, near, far, tmp_path, "serve")
    network.check_logs()
