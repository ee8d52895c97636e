"""Requests of clients to the management of other routers: looked at where they enter, links of routers are not."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, REJECTED, Client, Drain, World, message
from vanrouter.core.connection import Connection
from vanrouter.core.guarding import Verdict, leads_elsewhere
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.engine.annotations import encode as encode_annotations
from vanrouter.engine.messages import Head
from vanrouter.routing.addresses import EDGE_KEY

FAR = "_topo/0/B/$management"
DENIED = ("amqp:unauthorized-access", "not you")
BIG = 200_000
"""Octets of a body that comes in many pieces."""


class Guard:
    """Lets pass what says so."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, connection: Connection, head: Head) -> Verdict | None:
        self.seen += 1
        word = head.application_properties().get("may")
        return {"pass": None, "answered": (ACCEPTED, None)}.get(str(word), (REJECTED, DENIED))


@pytest.fixture
def routers(world: World) -> tuple[Router, Router, Guard]:
    near, far = world.chain("A", "B")
    near.guard = guard = Guard()
    return near, far, guard


def taken(far: Router) -> list[bytes]:
    got: list[bytes] = []
    far.subscribe_messages("_local/$management", lambda _a, content, _r: got.append(content), is_announced=False)
    return got


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("RB", FAR, True),
        ("RB", "amqp:/_topo/0/B/$management.", True),
        ("RB", "_topo/0/B/$_management_internal", True),
        ("HE", "_edge/E/$management", True),
        (EDGE_KEY, FAR, True),
        ("Nn", "_xtopo/n/0/B/$management", True),
        ("L$management", "_local/$management", False),
        ("M$management", "$management", False),
        ("RB", "_topo/0/B/temp.1", False),
        ("Mmy.management", "my.management", False),
    ],
)
def test_what_leads_elsewhere(key: str, text: str, wanted: bool) -> None:
    assert leads_elsewhere(key, text) is wanted


@pytest.mark.parametrize("size", [10, 40_000, BIG])
@pytest.mark.parametrize("is_anonymous", [False, True])
@pytest.mark.parametrize(
    ("word", "arrives", "state"), [("pass", 1, ACCEPTED), ("answered", 0, ACCEPTED), ("no", 0, REJECTED)]
)
def test_judged_at_the_door(
    world: World,
    routers: tuple[Router, Router, Guard],
    size: int,
    is_anonymous: bool,
    word: str,
    arrives: int,
    state: int,
) -> None:
    near, far, guard = routers
    got = taken(far)
    source = world.client(near).sender(None if is_anonymous else FAR)
    sent = source.send(message(to=FAR, body="x" * size, application_properties={"may": word}))
    world.settle()
    assert (len(got), sent.state, sent.is_settled) == (arrives, state, True)
    assert guard.seen == 1
    source.send(message(to=FAR, application_properties={"may": "pass"}))
    world.settle()
    assert len(got) == arrives + 1, "the link goes on"
    world.check()


@pytest.mark.parametrize("is_anonymous", [False, True])
def test_presettled_ones_are_held_back_too(
    world: World, routers: tuple[Router, Router, Guard], is_anonymous: bool
) -> None:
    near, far, _ = routers
    got = taken(far)
    source = world.client(near).sender(None if is_anonymous else FAR)
    source.send(message(to=FAR), settled=True)
    world.settle()
    assert got == []
    world.check()


def test_other_addresses_are_not_looked_at(world: World, routers: tuple[Router, Router, Guard]) -> None:
    near, _, guard = routers
    client = world.client(near)
    drain = client.receiver("shop", auto=ACCEPTED)
    for source in (client.sender(None), client.sender("shop")):
        source.send(message(to="shop"))
    world.settle()
    assert (len(drain.got), guard.seen) == (2, 0)
    assert not client.sender("shop").here.is_special


def test_what_a_router_passes_on_is_not_looked_at(world: World) -> None:
    first, middle, last = world.chain("A", "M", "B")
    middle.guard = guard = Guard()
    got = taken(last)
    world.client(first).sender(FAR).send(message(to=FAR))
    world.settle()
    assert (len(got), guard.seen) == (1, 0)


@pytest.mark.parametrize("target", [None, FAR, "shop"])
def test_annotations_of_a_client_are_no_way_round(
    world: World, routers: tuple[Router, Router, Guard], target: str | None
) -> None:
    near, far, guard = routers
    got = taken(far)
    drain: Drain = world.client(far).receiver("shop", auto=ACCEPTED)
    world.until(lambda: (found := near.table.get("Mshop")) is not None and found.is_reachable)
    for strips in (True, False):
        client: Client = world.client(near, strip_annotations="both" if strips else "no")
        section = encode_annotations(0, FAR, None, (), None)
        client.sender(target).send(section + message(to="shop"))
    world.settle()
    assert got == []
    # Without an override that is obeyed, the message goes where its link or its `to` says.
    assert len(drain.got) == {None: 1, FAR: 0, "shop": 2}[target]
    assert guard.seen == {None: 1, FAR: 2, "shop": 0}[target]


def test_an_edge_and_another_network(world: World) -> None:
    interior = world.interior("A")
    edge = world.router("E", "edge")
    edge.guard = guard = Guard()
    world.link(edge, interior, role=Role.EDGE)
    got: list[bytes] = []
    interior.subscribe_messages("_local/$management", lambda _a, content, _r: got.append(content), is_announced=False)
    source = world.client(edge).sender("_topo/0/A/$management")
    world.until(lambda: source.credit)
    source.send(message(application_properties={"may": "no"}))
    source.send(message(application_properties={"may": "pass"}))
    world.settle()
    assert (len(got), guard.seen) == (1, 2)


def test_a_broken_request_is_refused(world: World, routers: tuple[Router, Router, Guard]) -> None:
    near, far, guard = routers
    got = taken(far)
    source = world.client(near).sender(FAR)
    sent = source.send(b"\x00\x53\x74\xd1\xff\xff\xff\xff")
    world.settle()
    assert (sent.state, got, guard.seen) == (REJECTED, [], 0)
