"""Deliveries in pieces that are released before they were begun with (router protocol, section 7.6)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, MODIFIED, RECEIVED, RELEASED, Drain, World, message
from vanrouter.core.resending import MAX_KEPT_BYTES
from vanrouter.engine import proton

HEAD = message("a", "x" * 1000)
FLAGS = ("qd.resend-released", "qd.streaming-deliveries")


def answer(drain: Drain, state: int, *, settles: bool) -> None:
    """Answer the newest delivery of a link."""
    pn = drain.got[-1].pn
    proton.delivery_update(pn, state)
    if settles:
        proton.delivery_settle(pn)
        drain.got[-1].is_over = True
    drain.client.touch()
    drain.client.world.settle()


@pytest.mark.parametrize("is_complete", [False, True])
def test_the_next_consumer_gets_all_of_it(world: World, is_complete: bool) -> None:
    router = world.router()
    drains = [world.client(router).receiver("a") for _ in range(3)]
    sent = world.client(router).sender("a", capabilities=FLAGS).begin()
    body = message("a", "x" * 300_000)
    sent.write(body[:1000])
    world.settle()
    sent.write(body[1000:])
    if is_complete:
        sent.end()
    world.settle()
    for _ in range(2):
        reached = next(drain for drain in drains if drain.got and not drain.got[-1].is_over)
        answer(reached, RELEASED, settles=True)
        assert not sent.is_settled
    last = next(drain for drain in drains if drain.got and not drain.got[-1].is_over)
    if not is_complete:
        sent.end()
        world.settle()
    assert last.contents == [body]
    answer(last, ACCEPTED, settles=True)
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    world.check()


def test_without_another_it_is_released(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a")
    sent = world.client(router).sender("a", capabilities=FLAGS).begin()
    sent.write(HEAD)
    world.settle()
    answer(drain, RELEASED, settles=True)
    assert sent.state == RELEASED
    sent.write(b"more")
    sent.end()
    world.settle()
    assert sent.is_settled
    world.check()


@pytest.mark.parametrize("state", [MODIFIED, RECEIVED])
def test_any_other_answer_ends_the_search(world: World, state: int) -> None:
    router = world.router()
    first = world.client(router).receiver("a")
    sent = world.client(router).sender("a", capabilities=FLAGS).begin()
    sent.write(HEAD)
    world.settle()
    other = world.client(router).receiver("a")
    answer(first, state, settles=state != RECEIVED)
    if state == RECEIVED:
        answer(first, RELEASED, settles=True)
    sent.end()
    world.settle()
    assert not other.got
    assert sent.state == (RELEASED if state == RECEIVED else state)


def test_what_is_too_long_is_not_kept(world: World) -> None:
    router = world.router()
    first = world.client(router).receiver("a")
    first.keeps_content = False
    sent = world.client(router).sender("a", capabilities=FLAGS).begin()
    sent.write(HEAD)
    for _ in range(MAX_KEPT_BYTES // 65536 + 1):
        sent.write(b"x" * 65536)
        world.settle()
    other = world.client(router).receiver("a")
    answer(first, RELEASED, settles=True)
    sent.end()
    world.settle()
    assert not other.got
    assert sent.state == RELEASED
