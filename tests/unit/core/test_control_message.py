"""Control messages of many frames."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import World
from vanrouter.core.peer import Role
from vanrouter.core.router import Router

MANY = 12_000


def announce(router: Router, count: int) -> None:
    for number in range(count):
        router.control.plane._own.add(_descriptor(f"Mservice.{number:06}.of.many"))
    router.control._execute(router.control.plane.on_address_added("Mlast", 3, router.reactor.now))


def _descriptor(key: str) -> object:
    from vanrouter.routing.messages import Descriptor

    return Descriptor(key, 3, None, None)


def test_a_router_of_many_addresses_is_known_across_another(world: World) -> None:
    """Its complete set has 400 kB, more than the shared buffer; it is asked for by who comes late."""
    first, second = world.chain("A", "B")
    announce(first, MANY)
    world.until(lambda: first.control.plane._own.mobile_seq and len(second.control._bound.get("A", ())) > MANY)
    third = world.interior("C")
    world.link(third, second)
    world.until(lambda: len(third.control._bound.get("A", ())) == MANY + 1)
    assert third.table.addresses["Mlast"].remotes.keys() == {"A"}


def test_one_without_end_is_refused_before_it_is_decoded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.core.control_message.MAX_CONTROL_BYTES", 300_000)
    first, second = world.chain("A", "B")
    announce(first, MANY)
    world.until(lambda: second.control.plane.counters.malformed["other"])
    assert not second.control._bound.get("A")
    assert second.nodes["A"].cost == 1  # the neighbour stays
    assert [each.role for each in second.amqp_connections.values()] == [Role.INTER_ROUTER]
