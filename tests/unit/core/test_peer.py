"""What a peer's OPEN says (router protocol, sections 1.1, 1.3 and 1.4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.engines import World
from vanrouter.core.peer import CAPABILITIES, Peer, Role, put_symbols, read_symbols, read_value
from vanrouter.engine import proton
from vanrouter.engine.sections import Array, Int, Symbol, UInt, encode


def test_roles() -> None:
    assert [role.value for role in Role if not role.is_router] == ["normal", "route-container"]


def opened(world: World, *, capabilities: tuple[str, ...] = (), properties: dict[str, Any] | None = None) -> Peer:
    return world.client(
        world.router(), container="X", capabilities=capabilities, properties=properties or {}
    ).there.peer


def test_a_plain_client(world: World) -> None:
    peer = opened(world)
    assert peer.container == "X"
    said = peer.offers_streaming_links, peer.offers_trunking, peer.is_vanrouter, peer.is_data_connection
    assert not any(said)
    assert (peer.cost, peer.correlator, peer.ordinal, peer.failover) == (1, "", 0, None)


def test_a_vanrouter(world: World) -> None:
    peer = opened(
        world,
        capabilities=(*CAPABILITIES, "vanrouter"),
        properties={
            "qd.inter-router-cost": Int(7),
            "qd.inter-router-role": Int(4),
            "qd.group-correlator": "x" * 40,
            "qd.group-ordinal": UInt(3),
            "failover-server-list": [{"network-host": "h"}, 5],
        },
    )
    assert peer.offers_streaming_links
    assert peer.offers_trunking
    assert peer.is_vanrouter
    assert peer.is_data_connection
    assert (peer.cost, peer.ordinal) == (7, 3)
    assert peer.correlator == "x" * 15
    assert peer.failover == ({"network-host": "h"},)


@pytest.mark.parametrize(
    "properties",
    [
        {"qd.inter-router-cost": "7"},
        {"qd.inter-router-cost": Int(-3)},
        {"qd.inter-router-cost": True},
        {"qd.group-correlator": Symbol("s")},
        {"failover-server-list": "h"},
    ],
)
def test_values_of_wrong_types_are_as_if_absent(world: World, properties: dict[str, Any]) -> None:
    peer = opened(world, properties=properties)
    assert (peer.cost, peer.correlator, peer.failover) == (1, "", None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Symbol("a"), {"a"}),
        (Array(Symbol, [Symbol("a"), Symbol("b")]), {"a", "b"}),
        ([Symbol("a"), "text"], {"a"}),
        ("text", set()),
        (5, set()),
    ],
)
def test_capabilities(value: object, expected: set[str]) -> None:
    data = proton.data_new(16)
    proton.put_encoded(data, encode(value))
    assert read_symbols(data) == expected
    proton.data_free(data)


def test_written_capabilities_are_read() -> None:
    data = proton.data_new(16)
    assert read_value(data) is None
    put_symbols(data, ("a", "b"))
    assert read_symbols(data) == {"a", "b"}
    proton.data_free(data)
