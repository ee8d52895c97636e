"""Deliveries as they come off their links: what is remembered of the last one holds for no other (section 4)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import vanrouter
from tests.unit.core.engines import ACCEPTED, REJECTED, World, message
from vanrouter.core.peer import Role
from vanrouter.engine.annotations import encode

PACKAGE = str(Path(vanrouter.__file__).parent)
CORE = str(Path(PACKAGE) / "core")


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


# What a delivery costs, in steps: the same at each run and on each machine.


def exchange(world: World, tx: Any, rx: Any, count: int) -> None:
    for _ in range(count):
        tx.send(b"x" * 100)
    world.settle()
    assert len(rx.contents) == count
    rx.got.clear()


def lines_run(action: Callable[[], None]) -> int:
    """How many lines of the router's code ran, each round of a loop anew."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def engine_calls(action: Callable[[], None]) -> Counter[str]:
    """The calls of the engine that the core has made, by name."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and arg.__name__.startswith("pn_") and frame.f_code.co_filename.startswith(CORE):
            calls[arg.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def test_a_delivery_takes_no_more_steps_beside_idle_links_and_addresses(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=1000, auto=ACCEPTED)
    tx = world.client(router).sender("a")
    exchange(world, tx, rx, 100)
    alone = lines_run(partial(exchange, world, tx, rx, 100))
    idle = world.client(router)
    for number in range(300):
        idle.receiver(f"idle.{number}")
        idle.sender(f"idle.{number}")
        tx.client.receiver(f"beside.{number}")
    exchange(world, tx, rx, 100)
    more = lines_run(partial(exchange, world, tx, rx, 100)) - alone
    assert abs(more) < 50, "one line for each delivery is 100, one look at each idle link 300"


def test_engine_calls_of_a_delivery(world: World) -> None:
    """Each costs more than most lines of Python: one more for each delivery has to have a reason."""
    router = world.router()
    rx = world.client(router).receiver("a", credit=1000, auto=ACCEPTED)
    tx = world.client(router).sender("a")
    exchange(world, tx, rx, 100)
    calls = engine_calls(partial(exchange, world, tx, rx, 100))
    for_each = {name: round(count / 100) for name, count in calls.items() if count > 50}
    assert for_each == {
        # in, and out again
        "pn_link_current": 1,
        "pn_link_recv": 1,
        "pn_delivery_partial": 1,
        "pn_link_advance": 2,
        "pn_delivery_settled": 2,
        "pn_delivery": 1,
        "pn_link_send": 1,
        # the outcome
        "pn_delivery_remote_state": 1,
        "pn_delivery_update": 1,
        "pn_delivery_settle": 2,
        # the events of both
        "pn_collector_peek": 2,
        "pn_event_delivery": 2,
        "pn_collector_pop": 2,
    }
    assert sum(count for count in calls.values() if count <= 50) < 20
