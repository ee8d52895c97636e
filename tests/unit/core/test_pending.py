"""Deliveries of which only the beginning has come (router protocol, section 2.5)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, MODIFIED, REJECTED, RELEASED, World

PIECE = bytes(range(256)) * 64
FRAMES = b"x" * 40_000
"""A message of three frames."""


def rest(world: World) -> None:
    world.settle()
    world.check()


def test_what_is_not_streaming_waits_for_its_end(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=20)
    tx = world.client(router).sender("a")
    sent = tx.begin()
    sent.write(PIECE * 10)
    rest(world)
    assert not rx.got
    sent.write(PIECE * 10)
    rest(world)  # more than 64 buffers now
    assert rx.got
    sent.end()
    rest(world)
    assert rx.contents == [PIECE * 20]


def test_aborted_before_anything_was_sent_on(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=20)
    tx = world.client(router).sender("a")
    sent = tx.begin()
    sent.write(PIECE)
    rest(world)
    sent.abort()
    rest(world)
    assert not rx.got
    assert tx.credit == 250
    assert tx.send(b"next")
    rest(world)
    assert rx.contents == [b"next"]


@pytest.mark.parametrize("outcome", [ACCEPTED, REJECTED, RELEASED, MODIFIED])
def test_a_message_of_several_frames_counts_as_one(world: World, outcome: int) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=40)
    tx = world.client(router).sender("a")
    sent = [tx.send(FRAMES) for _ in range(40)]
    rest(world)
    assert rx.contents == [FRAMES] * 40
    for got in rx.got:
        got.settle(outcome)
    rest(world)
    assert [one.state for one in sent] == [outcome] * 40
    name = {ACCEPTED: "accepted", REJECTED: "rejected", RELEASED: "released", MODIFIED: "modified"}[outcome]
    for link in router.links.values():
        assert (link.deliveries, getattr(link, name), link.unsettled) == (40, 40, 0)


def test_presettled_ones_are_dropped_under_congestion(world: World) -> None:
    """Like small ones (section 2.3); the credit comes back as soon as they are in the queue."""
    router = world.router()
    rx = world.client(router, link_capacity=20).receiver("a", credit=10)
    tx = world.client(router).sender("a")
    for _ in range(40):
        tx.send(FRAMES, settled=True)
        rest(world)
    receiver, sender = (
        next(link for link in router.links.values() if (link.pn in link.connection.senders) == out)
        for out in (False, True)
    )
    assert (receiver.deliveries, receiver.presettled) == (40, 40)
    assert sender.deliveries == 10
    assert sender.dropped_presettled > 0
    assert sender.deliveries == sender.presettled - sender.dropped_presettled
    assert sender.deliveries + len(sender.queue) + sender.dropped_presettled == 40
    assert tx.credit == 250
    rx.credit(100)
    rest(world)
    assert all(content == FRAMES for content in rx.contents)
