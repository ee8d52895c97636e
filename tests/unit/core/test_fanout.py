"""Copies for several destinations (router protocol, section 7.4)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.unit.core.engines import ACCEPTED, MODIFIED, RECEIVED, REJECTED, RELEASED, Drain, World, message
from vanrouter.core.router import Router
from vanrouter.core.table import AddressRule, Treatment

STREAMING = ("qd.streaming-deliveries",)
SIZES = [b"hello", b"x" * 100_000, b"y" * 600_000]
HEAD = message(body="x" * 1000)
PIECE = bytes(range(256)) * 64


def multicast(*routers: Router) -> None:
    for router in routers:
        router.table.rules.add(AddressRule(pattern="m/#", treatment=Treatment.MULTICAST))


@pytest.fixture
def router(world: World) -> Router:
    router = world.router()
    multicast(router)
    return router


@pytest.fixture(params=SIZES, ids=["small", "frames", "large"])
def content(request: pytest.FixtureRequest) -> Any:
    return request.param


def receivers(world: World, router: Router, count: int, **options: Any) -> list[Drain]:
    return [world.client(router).receiver("m/a", **options) for _ in range(count)]


ORDER = [RELEASED, MODIFIED, ACCEPTED, REJECTED]
"""From the weakest to the strongest."""


@pytest.mark.parametrize("outcomes", list(product(ORDER, ORDER)))
@pytest.mark.parametrize("size", [1, 600_000])
def test_the_strongest_outcome_counts(world: World, router: Router, size: int, outcomes: tuple[int, int]) -> None:
    first, second = receivers(world, router, 2)
    tx = world.client(router).sender("m/a")
    sent = tx.send(b"z" * size)
    world.settle()
    world.check()
    first.got[0].settle(outcomes[0])
    world.settle()
    assert (sent.state, sent.is_settled) == (0, False)
    second.got[0].settle(outcomes[1])
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (max(outcomes, key=ORDER.index), True)
    assert sent.error is None  # details are not carried over
    assert tx.credit == 250


@pytest.mark.parametrize("outcome", ORDER)
def test_consumers_that_wait_for_the_settlement(world: World, router: Router, content: bytes, outcome: int) -> None:
    """Receiver settle mode second: the outcome goes to the producer first, its settlement comes back to all."""
    first, second = receivers(world, router, 2)
    tx = world.client(router).sender("m/a")
    sent = tx.send(content)
    world.settle()
    first.got[0].update(outcome)
    world.settle()
    world.check()
    assert sent.state == 0
    second.got[0].update(RELEASED)
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (outcome, False)
    assert not first.got[0].is_settled
    sent.settle()
    world.settle()
    world.check()
    assert first.got[0].is_settled
    assert second.got[0].is_settled
    assert tx.credit == 250


def test_one_consumer_waits_for_the_settlement_and_one_does_not(world: World, router: Router, content: bytes) -> None:
    first, second, third = receivers(world, router, 3)
    sent = world.client(router).sender("m/a").send(content)
    world.settle()
    first.got[0].update(MODIFIED)
    second.got[0].settle(RELEASED)
    third.got[0].update(RELEASED)
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (MODIFIED, False)
    first.client.drop()
    third.got[0].settle()
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)


@pytest.mark.parametrize("state", [0, RECEIVED])
def test_settled_without_an_outcome_counts_as_accepted(
    world: World, router: Router, content: bytes, state: int
) -> None:
    links = receivers(world, router, 2)
    sent = world.client(router).sender("m/a").send(content)
    world.settle()
    links[0].got[0].settle(state)
    links[1].got[0].settle(MODIFIED)
    world.settle()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


@pytest.mark.parametrize("settled", [False, True])
def test_each_gets_one_copy(world: World, content: bytes, settled: bool) -> None:
    near, middle, far = world.chain("A", "B", "C")
    multicast(near, middle, far)
    links = [link for where in (near, middle, far, far) for link in receivers(world, where, 1, auto=ACCEPTED)]
    tx = world.client(near).sender("m/a")
    world.advance(5)
    sent = tx.send(content, settled=settled)
    world.settle()
    world.check()
    assert [link.contents for link in links] == [[content]] * 4
    assert settled or (sent.state, sent.is_settled) == (ACCEPTED, True)
    assert tx.credit == 250


def test_no_copy_comes_back(world: World, content: bytes) -> None:
    """Three routers in a triangle."""
    routers = [world.interior(name) for name in "ABC"]
    multicast(*routers)
    for one, other in ((0, 1), (1, 2), (2, 0)):
        world.link(routers[one], routers[other])
    links = [receivers(world, where, 1, auto=ACCEPTED)[0] for where in routers]
    world.advance(10)
    for where in routers:
        tx = world.client(where).sender("m/a")
        world.until(lambda tx=tx: tx.credit)
        sent = tx.send(content)
        world.settle()
        assert sent.state == ACCEPTED
    assert [len(link.contents) for link in links] == [3, 3, 3]
    world.check()


def test_early_settlement(world: World, router: Router, content: bytes) -> None:
    links = receivers(world, router, 2)
    waiting = receivers(world, router, 1, credit=0)[0]
    tx = world.client(router).sender("m/a")
    sent = tx.send(content)
    world.settle()
    sent.settle()
    world.settle()
    world.check()
    assert all(link.got[0].is_settled for link in links)
    assert tx.credit == 250
    waiting.credit(1)
    world.settle()
    world.check()
    assert waiting.contents == [content]
    assert waiting.got[0].is_settled


def test_one_consumer_is_lost(world: World, router: Router, content: bytes) -> None:
    first, second = receivers(world, router, 2)
    sent = world.client(router).sender("m/a").send(content)
    world.settle()
    first.client.drop()
    world.settle()
    world.check()
    assert not sent.is_settled
    second.got[0].settle(RELEASED)
    world.settle()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)


def test_all_consumers_are_lost(world: World, router: Router, content: bytes) -> None:
    links = receivers(world, router, 2)
    waiting = receivers(world, router, 1, credit=0)
    tx = world.client(router).sender("m/a")
    sent = tx.send(content)
    world.settle()
    for link in links + waiting:
        link.client.drop()
        world.settle()
        world.check()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)


def test_the_producer_is_lost(world: World, router: Router, content: bytes) -> None:
    links = receivers(world, router, 2)
    waiting = receivers(world, router, 1, credit=0)[0]
    producer = world.client(router)
    producer.sender("m/a").send(content)
    world.settle()
    producer.drop()
    world.settle()
    world.check()
    for link in links:
        assert (link.got[0].remote_state, link.got[0].is_settled) == (MODIFIED, True)
        assert not link.client.there.outgoing
    waiting.credit(1)
    world.settle()
    world.check()
    assert not waiting.client.there.outgoing


def test_both_are_lost_in_one_turn(world: World, router: Router, content: bytes) -> None:
    links = receivers(world, router, 2)
    producer = world.client(router)
    producer.sender("m/a").send(content)
    world.settle()
    links[0].client.drop()
    producer.drop()
    links[1].client.drop()
    world.settle()
    world.check()


def test_nobody(world: World, router: Router, content: bytes) -> None:
    link = receivers(world, router, 1)[0]
    tx = world.client(router).sender("m/a")
    link.detach()
    sent = tx.send(content)
    world.settle()
    assert (sent.state, sent.is_settled) == (RELEASED, True)


# In pieces.


def test_copies_go_on_as_octets_come(world: World, router: Router) -> None:
    links = receivers(world, router, 3)
    tx = world.client(router).sender("m/a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    world.check()
    assert [bytes(link.got[0].content) for link in links] == [HEAD] * 3
    sent.write(PIECE)
    sent.end()
    world.settle()
    assert [link.contents for link in links] == [[HEAD + PIECE]] * 3
    for link in links:
        link.got[0].accept()
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_an_abort_reaches_all(world: World, router: Router) -> None:
    links = receivers(world, router, 2)
    waiting = receivers(world, router, 1, credit=0)[0]
    tx = world.client(router).sender("m/a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    sent.abort()
    world.settle()
    world.check()
    assert all(link.got[0].is_aborted for link in links)
    assert tx.credit == 250
    waiting.credit(1)
    following = tx.send(b"next")
    world.settle()
    assert waiting.contents == [b"next"]
    for link in [*links, waiting]:
        link.got[-1].accept()
    world.settle()
    assert following.state == ACCEPTED


@pytest.mark.parametrize("settled", [False, True])
def test_a_slow_copy_holds_a_bounded_part(world: World, router: Router, settled: bool) -> None:
    fast, slow = receivers(world, router, 2)
    fast.keeps_content = slow.keeps_content = False
    slow.reads = False
    producer = world.client(router)
    tx = producer.sender("m/a", capabilities=STREAMING)
    sent = tx.begin(settled=settled)
    sent.write(HEAD)
    for _ in range(16 * 64):
        sent.write(PIECE)
        world.turn()
    world.settle()
    # The fast one has at most what the slow one's window and bound allow it to be ahead.
    assert 1 << 20 <= fast.got[0].size < 3 << 20
    sent.end()
    world.settle()
    slow.read_on()
    world.settle()
    total = len(HEAD) + 16 * 64 * len(PIECE)
    assert fast.got[0].size == slow.got[0].size == total
    if not settled:
        fast.got[0].accept()
        slow.got[0].accept()
        world.settle()
        assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    world.check()
    assert tx.credit == 250


def test_a_slow_copy_that_is_lost_lets_the_others_go_on(world: World, router: Router) -> None:
    fast, slow = receivers(world, router, 2)
    fast.keeps_content = False
    slow.reads = False
    tx = world.client(router).sender("m/a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    for _ in range(8 * 64):
        sent.write(PIECE)
        world.turn()
    sent.end()
    world.settle()
    assert not fast.got[0].is_complete
    slow.client.drop()
    world.settle()
    world.check()
    assert fast.got[0].is_complete
    fast.got[0].accept()
    world.settle()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_an_early_outcome_of_one_copy(world: World, router: Router) -> None:
    first, second = receivers(world, router, 2)
    tx = world.client(router).sender("m/a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    first.got[0].settle(RELEASED)
    world.settle()
    sent.write(PIECE)
    sent.end()
    world.settle()
    world.check()
    assert second.contents == [HEAD + PIECE]
    second.got[0].accept()
    world.settle()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)


def test_early_outcomes_of_all_copies(world: World, router: Router) -> None:
    links = receivers(world, router, 2)
    tx = world.client(router).sender("m/a", capabilities=STREAMING)
    sent = tx.begin()
    sent.write(HEAD)
    world.settle()
    for link in links:
        link.got[0].settle(RELEASED)
    world.settle()
    sent.write(PIECE * 20)
    world.settle()
    assert not sent.is_settled
    sent.end()
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert tx.credit == 250


def test_a_copy_waits_for_its_link(world: World, router: Router) -> None:
    """Two long messages for the same consumers: nobody loses one, none are mixed."""
    links = receivers(world, router, 2)
    first, second = (world.client(router).sender("m/a", capabilities=STREAMING) for _ in range(2))
    one, two = first.begin(), second.begin()
    one.write(HEAD)
    world.settle()
    two.write(b"2" * 1000)
    world.settle()
    small = world.client(router).sender("m/a").send(b"small")
    world.settle()
    world.check()
    two.write(b"2" * 1000)
    two.end()
    world.settle()
    one.end()
    world.settle()
    world.check()
    assert [link.contents for link in links] == [[HEAD, b"2" * 2000, b"small"]] * 2
    for link in links:
        for got in link.got:
            got.accept()
    world.settle()
    world.check()
    assert [sent.state for sent in (one, two, small)] == [ACCEPTED] * 3


@pytest.mark.parametrize("lost", ["producer", "consumer"])
def test_a_copy_that_waits_is_lost(world: World, router: Router, lost: str) -> None:
    links = receivers(world, router, 2)
    clients = [world.client(router) for _ in range(2)]
    first, second = (client.sender("m/a", capabilities=STREAMING) for client in clients)
    one, two = first.begin(), second.begin()
    one.write(HEAD)
    world.settle()
    two.write(b"2" * 1000)
    world.settle()
    if lost == "producer":
        clients[1].drop()
    else:
        links[0].detach()
    world.settle()
    world.check()
    one.end()
    if lost == "consumer":
        two.end()
    world.settle()
    world.check()
    assert links[1].contents == ([HEAD] if lost == "producer" else [HEAD, b"2" * 1000])
    for link in links:
        for got in list(link.got):
            got.accept()
    world.settle()
    assert one.state == ACCEPTED
    assert lost == "producer" or two.state == ACCEPTED


def test_services_get_copies(world: World, router: Router) -> None:
    taken: list[bytes] = []
    subscription = router.subscribe_messages("m/a", lambda _a, content, _r: taken.append(content), is_announced=True)
    tx = world.client(router).sender("m/a")
    sent = tx.send(message(body="x"))
    world.settle()
    world.check()
    assert taken == [message(body="x")]
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    subscription.cancel()


@pytest.mark.parametrize("has_link", [False, True], ids=["services alone", "beside a link"])
@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
def test_services_get_messages_of_any_size(world: World, size: int, has_link: bool) -> None:
    """Takers of whole messages here and at a neighbour, with and without a consumer on a link."""
    routers = world.chain("A", "B")
    got: list[tuple[str, int]] = []
    for router in routers:
        router.table.rules.add(AddressRule(pattern="mc/#", treatment=Treatment.MULTICAST))
        take = lambda _annotations, content, _receiver, name=router.router_id: got.append((name, len(content)))  # noqa: E731
        router.subscribe_messages("mc/x", take, is_announced=True)
    rx = world.client(routers[1]).receiver("mc/x", auto=ACCEPTED) if has_link else None
    tx = world.client(routers[0]).sender("mc/x")
    address = routers[0].table.get("Mmc/x")
    world.until(lambda: tx.credit and address is not None and address.remotes)
    content = message(body="x" * size)
    sent = tx.send(content)
    world.until(lambda: len(got) == 2)
    assert sorted(got) == [("A", len(content)), ("B", len(content))]
    world.until(lambda: sent.state)
    assert sent.state == ACCEPTED
    assert rx is None or [len(each) for each in rx.contents] == [len(content)]
