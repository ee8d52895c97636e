"""Deliveries as they come off their links: what is remembered of the last one holds for no other (section 4)."""

from __future__ import annotations

from typing import Any

from tests.unit.core.engines import ACCEPTED, REJECTED, World, message
from vanrouter.core.peer import Role
from vanrouter.engine.annotations import encode


def from_router(world: World) -> tuple[Any, Any, Any]:
    """A router, the data link of another one, and consumers of two addresses."""
    router = world.interior("A")
    peer = world.client(router, role=Role.INTER_ROUTER, container="X")
    data = peer.sender(capabilities=("qd.router-data",))
    consumers = {name: world.client(router).receiver(name, auto=ACCEPTED) for name in ("one", "two", "three")}
    return data, consumers, peer


def section(to: str, trace: tuple[str, ...] = ("0/X",)) -> bytes:
    return encode(0, to, "0/X", trace)


def test_annotations_that_repeat_and_those_that_differ(world: World) -> None:
    data, consumers, _ = from_router(world)
    order = ["one", "one", "two", "one", "three", "three", "three", "two", "one"]
    sent = [data.send(section(to) + message(body=f"{number}")) for number, to in enumerate(order)]
    world.settle()
    world.check()
    assert all(one.state == ACCEPTED for one in sent)
    for name, consumer in consumers.items():
        assert consumer.contents == [message(body=f"{number}") for number, to in enumerate(order) if to == name]


def test_a_message_without_annotations_after_one_with(world: World) -> None:
    data, consumers, _ = from_router(world)
    data.send(section("one") + message("two", body=1))
    data.send(message("two", body=2))
    data.send(section("one") + message("two", body=3))
    world.settle()
    world.check()
    assert consumers["one"].contents == [message("two", body=1), message("two", body=3)]
    assert consumers["two"].contents == [message("two", body=2)]


def test_annotations_that_break_off_where_the_last_ones_go_on(world: World) -> None:
    """What the last message left in the buffer is not taken for the rest of this one."""
    data, consumers, _ = from_router(world)
    whole = section("one")
    sent = data.send(whole + message(body=1))
    world.settle()
    assert sent.state == ACCEPTED
    for length in (len(whole) - 1, len(whole) // 2, 12):
        broken = data.send(whole[:length])
        world.settle()
        assert (broken.state, broken.is_settled) == (REJECTED, True)
    world.check()
    assert len(consumers["one"].contents) == 1


def test_a_trace_that_grew_is_looked_at_again(world: World) -> None:
    """The same destination, but beyond the radius."""
    data, consumers, _ = from_router(world)
    near = data.send(section("one") + message(body=1))
    far = data.send(section("one", tuple(f"0/{name}" for name in "XYZVW")) + message(body=2))
    world.settle()
    assert near.state == ACCEPTED
    assert far.state != ACCEPTED
    assert len(consumers["one"].contents) == 1


def test_links_of_one_connection_in_turn(world: World) -> None:
    router = world.router()
    consumers = {name: world.client(router).receiver(name) for name in "ab"}
    client = world.client(router)
    links = {name: client.sender(name) for name in "ab"}
    order = "aabbabaaabbb"
    sent = []
    for number, name in enumerate(order):
        sent.append(links[name].send(b"%d" % number))
    world.settle()
    for consumer in consumers.values():
        for got in list(consumer.got):
            got.accept()
    world.settle()
    world.check()
    assert all(one.state == ACCEPTED for one in sent)
    for name, consumer in consumers.items():
        assert consumer.contents == [b"%d" % number for number, to in enumerate(order) if to == name]


def test_a_link_ends_after_its_delivery_and_others_go_on(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", auto=ACCEPTED)
    client = world.client(router)
    first, second = client.sender("a"), client.sender("a")
    first.send(b"1")
    world.settle()
    first.detach()
    world.settle()
    assert client.there.recent is None
    second.send(b"2")
    world.settle()
    world.check()
    assert rx.contents == [b"1", b"2"]
