"""Records of links and deliveries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vanrouter.core.links import Delivery, LinkKind, Receiver, Sender

CONNECTION: Any = SimpleNamespace()


@pytest.mark.parametrize("made", [Receiver, Sender])
def test_every_slot_has_its_first_value(made: Any) -> None:
    link = made(CONNECTION, None, 7, "name", LinkKind.ENDPOINT, 250)
    assert not hasattr(link, "__dict__")
    for slot in made.__slots__:
        getattr(link, slot)
    assert (link.id, link.name, link.capacity, link.closed) == (7, "name", 250, False)


def test_every_slot_of_a_delivery() -> None:
    link = Sender(CONNECTION, None, 1, "s", LinkKind.ENDPOINT, 250)
    delivery = Delivery(None, None, link, None)
    assert not hasattr(delivery, "__dict__")
    for slot in Delivery.__slots__:
        getattr(delivery, slot)


def test_ready() -> None:
    link = Sender(CONNECTION, None, 1, "s", LinkKind.ENDPOINT, 250)
    link.update_ready()
    assert not link.ready
    link.credit = 1
    link.update_ready()
    assert link.ready
    link.queue.append(Delivery(None, None, link, None))
    link.update_ready()
    assert not link.ready
    link.queue.clear()
    link.busy = object()
    link.update_ready()
    assert not link.ready
    link.busy, link.closed = None, True
    link.update_ready()
    assert not link.ready
