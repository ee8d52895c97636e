"""Messages that go nowhere (router protocol, section 7.7)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import REJECTED, RELEASED, World, message
from vanrouter.core.table import AddressRule, Treatment


def test_anonymous_to_nobody(world: World) -> None:
    router = world.router()
    tx = world.client(router).sender(None)
    sent = tx.send(message("nobody"))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert tx.credit == 250


def test_presettled_to_nobody_is_dropped(world: World) -> None:
    router = world.router()
    client = world.client(router)
    tx = client.sender(None)
    tx.send(message("nobody"), settled=True)
    tx.send(message("nobody", "x" * 100_000), settled=True)
    tx.send(message("nobody", "x" * 600_000), settled=True)
    world.settle()
    world.check()
    assert tx.credit == 250
    link = tx.here
    assert (link.deliveries, link.presettled, link.dropped_presettled, link.released) == (3, 3, 3, 0)
    rx = world.client(router).receiver("a")
    named = client.sender("a")
    rx.detach()
    named.send(b"1", settled=True)
    world.settle()
    assert not client.there.incoming


@pytest.mark.parametrize("size", [1, 100_000, 600_000])
def test_an_unavailable_address(world: World, size: int) -> None:
    router = world.router()
    router.table.rules.add(AddressRule(pattern="closed", treatment=Treatment.UNAVAILABLE))
    tx = world.client(router).sender(None)
    sent = tx.send(message("closed", "x" * size))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (REJECTED, True)
    assert sent.error == ("amqp:not-found", "Deliveries cannot be sent to an unavailable address")
    assert tx.credit == 250
