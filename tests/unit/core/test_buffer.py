"""The shared buffer and the tags of deliveries."""

from __future__ import annotations

from tests.unit.core.engines import World
from vanrouter.core.buffer import BUFFER, BUFFER_BYTES, POINTER, VIEW, new_delivery
from vanrouter.engine import proton


def test_one_buffer_seen_three_ways() -> None:
    assert len(BUFFER) == len(VIEW) == BUFFER_BYTES
    VIEW[5:8] = b"abc"
    assert BUFFER[5:8] == b"abc"
    assert bytes(proton._unpack(POINTER + 5, 3)) == b"abc"


def test_tags_are_eight_octets_and_never_the_same(world: World) -> None:
    client = world.client(world.router())
    link = client.sender(None)
    seen = set()
    for _ in range(300):
        pn = new_delivery(link.pn)
        tag = bytes(proton._unpack(proton.lib.pn_delivery_tag(pn).start, proton.lib.pn_delivery_tag(pn).size))
        assert len(tag) == 8
        seen.add(tag)
        proton.delivery_settle(pn)
    assert len(seen) == 300
