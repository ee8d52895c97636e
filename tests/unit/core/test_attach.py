"""What a peer's attach means, and what is refused (router protocol, sections 1.7, 2, 7.8 and 8)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, SND_SETTLED, World, message
from vanrouter.core.links import LinkKind
from vanrouter.core.peer import Role, read_symbols
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine import proton

CONTROL, DATA = ("qd.router",), ("qd.router-data",)
FORBIDDEN = ("qd:forbidden", "Connectivity to the node is forbidden")


@pytest.mark.parametrize("role", [Role.INTER_ROUTER])
def test_a_link_before_the_control_links(world: World, role: Role) -> None:
    peer = world.client(world.interior("A"), role=role)
    for link in (peer.sender("a"), peer.receiver("a"), peer.sender(None)):
        assert link.is_refused
        assert link.condition == ("qd:connection-role", "Link attach forbidden on inter-router connection")
    control = peer.receiver(capabilities=CONTROL), peer.sender(capabilities=CONTROL)
    assert not any(link.is_refused for link in control)
    assert not peer.sender(None).is_refused
    assert not peer.receiver("a").is_refused


@pytest.mark.parametrize("role", [Role.NORMAL, Role.EDGE, Role.INTER_ROUTER_DATA, Role.ROUTE_CONTAINER])
@pytest.mark.parametrize("capabilities", [CONTROL, DATA])
def test_router_links_elsewhere(world: World, role: Role, capabilities: tuple[str, ...]) -> None:
    peer = world.client(world.interior("A"), role=role)
    for link in (peer.receiver(capabilities=capabilities), peer.sender(capabilities=capabilities)):
        assert link.is_refused
        assert link.condition == FORBIDDEN


def test_a_receiver_from_another_router(world: World) -> None:
    near, _far = world.chain("A", "B")
    client = world.client(near)
    assert client.receiver("amqp:/_topo/0/B/x").condition == ("qd:no-route-to-dest", "No route to the destination node")
    assert not client.sender("amqp:/_topo/0/B/x").is_refused


def test_a_receiver_from_nowhere(world: World) -> None:
    link = world.client(world.router()).receiver(None)
    assert link.condition == ("qd:no-route-to-dest", "No route to the destination node")


def test_an_address_that_is_too_long_harms_no_other(world: World) -> None:
    near, far = world.chain("A", "B")
    client = world.client(far)
    router_limit = far.links_refused
    for link in (client.receiver("x" * 4001), client.sender("x" * 4001), client.receiver("x" * 15_000)):
        assert link.condition == ("amqp:invalid-field", "an address may have 4000 characters at most")
    assert far.links_refused == router_limit + 3
    longest = "y" * 4000
    taken = {name: client.receiver(name, auto=ACCEPTED) for name in (longest, "news")}
    for name, receiver in taken.items():
        sender = world.client(near).sender(name)
        world.until(lambda sender=sender: sender.credit)  # type: ignore[misc]
        sent = sender.send(message(body="x"))
        world.settle()
        assert sent.state == ACCEPTED
        assert receiver.contents


def test_an_address_that_is_no_text_harms_no_other(world: World) -> None:
    near, far = world.chain("A", "B")
    client = world.client(far)
    name = "caf\udce9"  # octets of Latin-1
    for link in (client.receiver(name), client.sender(name), client.receiver(dynamic=True, address=name)):
        assert link.condition == ("amqp:decode-error", "an address is to be text in UTF-8")
    assert not client.receiver("caf\ufffd").is_refused
    receiver = client.receiver("café", auto=ACCEPTED)
    sender = world.client(near).sender("café")
    world.until(lambda: sender.credit)
    sender.send(message(body="x"))
    world.settle()
    assert receiver.contents


@pytest.mark.parametrize("by_default", [True, False])
def test_an_unavailable_address(world: World, by_default: bool) -> None:
    router = world.router(default_treatment=Treatment.UNAVAILABLE if by_default else Treatment.BALANCED)
    router.table.rules.add(AddressRule(pattern="closed", treatment=Treatment.UNAVAILABLE))
    client = world.client(router)
    for link in (client.sender("closed"), client.receiver("closed")):
        assert link.condition == ("amqp:not-found", "Node not found")
    assert client.receiver("open").is_refused == by_default
    assert not client.receiver(dynamic=True).is_refused
    assert not router.table.get("Mclosed")


def test_a_coordinator(world: World) -> None:
    link = world.client(world.router()).sender(coordinator=True)
    assert link.condition == ("amqp:not-implemented", "Transactions are not supported")


def test_a_refused_link_has_null_termini(world: World) -> None:
    link = world.client(world.router()).receiver(None)
    assert proton.terminus_get_type(proton.link_remote_source(link.pn)) == proton.TERMINUS_UNSPECIFIED
    assert proton.terminus_get_type(proton.link_remote_target(link.pn)) == proton.TERMINUS_UNSPECIFIED


def test_a_detach_that_does_not_close(world: World) -> None:
    router = world.router()
    client = world.client(router)
    client.receiver("a").detach(closed=False)
    assert client.condition == ("amqp:not-implemented", "Link detach/reattach not supported")
    assert client.is_lost
    assert not router.amqp_connections


def test_more_links_than_allowed(world: World) -> None:
    router = world.router()
    router.max_links = 5
    client = world.client(router)
    links = [client.receiver("a") for _ in range(7)]
    assert [link.is_refused for link in links] == [False] * 5 + [True] * 2
    assert links[-1].condition == ("amqp:resource-limit-exceeded", "too many links on this connection")
    assert router.links_refused == 2
    links[0].detach()
    assert not client.receiver("a").is_refused
    assert not world.client(router).receiver("a").is_refused  # the limit is for each connection


def test_the_termini_are_echoed(world: World) -> None:
    client = world.client(world.router())
    for link in (client.sender("a", capabilities=("x", "qd.streaming-deliveries")), client.receiver("a")):
        target = proton.link_remote_target(link.pn)
        # The engine does not see a source without an address: look at what the router sends.
        assert proton.terminus_get_type(proton.link_source(link.here.pn)) == proton.TERMINUS_SOURCE
        assert proton.terminus_get_type(target) == proton.TERMINUS_TARGET
        assert link.address == "a"
        assert read_symbols(proton.terminus_capabilities(target)) == read_symbols(
            proton.terminus_capabilities(proton.link_target(link.pn))
        )


def test_dynamic_source(world: World) -> None:
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver(dynamic=True, auto=ACCEPTED)
    assert rx.address is not None
    assert rx.address.startswith("amqp:/_topo/0/B/temp.")
    assert proton.terminus_is_dynamic(proton.link_remote_source(rx.pn))
    other = world.client(far).receiver(dynamic=True)
    assert other.address != rx.address
    for tx in (world.client(near).sender(rx.address), world.client(near).sender(None), world.client(far).sender(None)):
        assert tx.credit == 250
        sent = tx.send(message(rx.address))
        world.settle()
        world.check()
        assert sent.state == ACCEPTED
    assert len(rx.contents) == 3


def test_dynamic_target(world: World) -> None:
    router = world.router()
    tx = world.client(router).sender(dynamic=True)
    assert tx.address is not None
    assert tx.address.startswith("amqp:/_$temp.")
    assert tx.credit == 0
    rx = world.client(router).receiver(tx.address)
    world.settle()
    assert tx.credit == 250
    tx.send(b"x")
    world.settle()
    assert rx.contents == [b"x"]


def test_settle_modes_are_the_peer_s(world: World) -> None:
    client = world.client(world.router())
    link = client.receiver("a", settle=SND_SETTLED)
    assert proton.link_remote_snd_settle_mode(link.pn) == SND_SETTLED
    assert link.here.settles


# Inter-router connections.


def test_the_connector_attaches_the_fixed_links(world: World) -> None:
    near, far = world.interior("A"), world.interior("B")
    out, into = world.link(near, far)
    world.settle()
    for connection in (out, into):
        assert len(connection.receivers) == len(connection.senders) == 11
        assert len(connection.sessions) == 11
        assert connection.control_in is not None
        assert connection.control_out is not None
        assert [link.priority for link in connection.data_out if link] == list(range(10))
        data = [link for link in connection.receivers.values() if link.kind is LinkKind.DATA]
        assert [link.priority for link in data] == list(range(10))
        assert all(proton.link_credit(link.pn) > 0 for link in connection.receivers.values())
        assert all(link.credit > 0 for link in connection.senders.values())
    world.check()


def test_fewer_data_links(world: World) -> None:
    """A message takes the link of the highest priority up to its own; without one it has no way (section 2.1)."""
    router = world.interior("A")
    peer = world.client(router, role=Role.INTER_ROUTER, container="B")
    _control = peer.receiver(capabilities=CONTROL), peer.sender(capabilities=CONTROL)
    assert peer.there.data_sender(9) is None
    links = [peer.receiver(capabilities=DATA) for _ in range(3)]
    senders = [peer.there.data_sender(priority) for priority in range(10)]
    assert [sender and sender.priority for sender in senders] == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    links[1].detach()
    found = peer.there.data_sender(1)
    assert found is not None
    assert found.priority == 0
    links[0].detach()
    assert peer.there.data_sender(1) is None


def test_the_eleventh_data_link_is_for_streams(world: World) -> None:
    router = world.interior("A")
    peer = world.client(router, role=Role.INTER_ROUTER, container="B")
    _control = peer.receiver(capabilities=CONTROL), peer.sender(capabilities=CONTROL)
    links = [peer.sender(capabilities=DATA) for _ in range(12)]
    kinds = [link.here.kind for link in links]
    assert kinds == [LinkKind.DATA] * 10 + [LinkKind.ENDPOINT] * 2
    assert [link.here.replenishes_at_once for link in links] == [True] * 10 + [False] * 2
    assert [link.here.priority for link in links[:10]] == list(range(10))


def test_flags_of_a_sender(world: World) -> None:
    client = world.client(world.router())
    for capabilities, flags in (
        ((), 0),
        (("qd.streaming-deliveries",), 1),
        (("qd.resend-released",), 2),
        (("qd.streaming-deliveries", "qd.resend-released"), 3),
    ):
        assert client.sender("a", capabilities=capabilities).here.annotations.flags == flags
        assert client.sender(None, capabilities=capabilities).here.annotations.flags == flags
