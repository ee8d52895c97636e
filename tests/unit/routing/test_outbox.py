"""Commands in the making: addresses and bodies of messages, counts, routes and bindings."""

from __future__ import annotations

from vanrouter.routing.commands import BindAddress, RemoveNode, SendControl, SetNode, SetRadius, UnbindAddress
from vanrouter.routing.linkstate import InstalledRoute, Node
from vanrouter.routing.messages import Descriptor, MobileUpdate
from vanrouter.routing.mobile import OwnAddresses
from vanrouter.routing.outbox import Outbox
from vanrouter.routing.views import ControlCounters

FOO = Descriptor("Mfoo", 3, None, 2)


def outbox() -> tuple[Outbox, ControlCounters]:
    counters = ControlCounters()
    return Outbox("A", 7, counters), counters


def test_every_message_has_its_address() -> None:
    box, counters = outbox()
    node, own = Node("B"), OwnAddresses()
    own.add(FOO)
    box.hello([1, 2], ["B"])
    box.advertisement(1, 2)
    box.link_state_request(node)
    box.link_state(node, 1, {"B": 1}, 5)
    box.mobile_request(node)
    box.publication(own.publish())
    box.addresses(node, own)
    sent = [command for command in box.take() if isinstance(command, SendControl)]
    assert [(command.opcode, command.to, command.connection_id) for command in sent] == [
        ("HELLO", "amqp:/_local/qdhello", 1),
        ("HELLO", "amqp:/_local/qdhello", 2),
        ("RA", "amqp:/_topo/0/all/qdrouter", None),
        ("LSR", "amqp:/_topo/0/B/qdrouter", None),
        ("LSU", "amqp:/_topo/0/B/qdrouter", 5),
        ("MAR", "amqp:/_topo/0/B/qdrouter.ma", None),
        ("MAU", "_topo/0/all/qdrouter.ma", None),
        ("MAU", "amqp:/_topo/0/B/qdrouter.ma", None),
    ]
    assert sent[0].body is sent[1].body
    assert counters.sent == {"HELLO": 2, "RA": 1, "LSR": 1, "LSU": 1, "MAR": 1, "MAU": 2}
    assert box.take() == []


def test_routes_are_set_when_they_differ() -> None:
    box, _ = outbox()
    node = Node("C")
    assert box.install(node, InstalledRoute("B", 1, 2, False))
    assert not box.install(node, InstalledRoute("B", 1, 2, False))
    box.put(SetRadius(hops=2))
    box.remove(node)
    box.remove(node)
    assert box.take() == [
        SetNode(router_id="C", next_hop="B", connection_id=1, cost=2, is_neighbour=False),
        SetRadius(hops=2),
        RemoveNode(router_id="C"),
    ]


def test_bindings() -> None:
    box, _ = outbox()
    node = Node("B")
    box.bind(node, MobileUpdate(id="B", mobile_seq=1, exist={"Mfoo": FOO}, added={}, removed=frozenset()))
    box.bind(node, MobileUpdate(id="B", mobile_seq=2, exist=None, added={}, removed=frozenset(["Mfoo"])))
    assert box.take() == [
        BindAddress(router_id="B", key="Mfoo", hint=3, mesh_id=None, weight=2),
        UnbindAddress(router_id="B", key="Mfoo"),
    ]
