"""Control and data connections of a group, and their succession (router protocol, sections 1.5 and 1.6)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, World, message
from vanrouter.core.connection import Connection
from vanrouter.core.groups import LATELY_S, trunk_of
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.engine.sections import Int, ULong

CORRELATOR = "correlator12345"


class Neighbours:
    """Two interior routers; `N` connects to `F` as often as a test wants, always in the same group."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.near: Router = world.interior("N")
        self.far: Router = world.interior("F")

    def connect(self, ordinal: int | None = None, *, is_data: bool = False) -> tuple[Connection, Connection]:
        """Connect once more; returns both ends."""
        properties: dict[str, object] = {"qd.group-correlator": CORRELATOR}
        if ordinal is not None:
            properties["qd.group-ordinal"] = ULong(ordinal)
        if is_data:
            properties["qd.inter-router-role"] = Int(4)
        near, far = self.world.link(self.near, self.far, open_properties=properties)
        near.correlator, near.ordinal = CORRELATOR, ordinal or 0
        if is_data:
            near.role = Role.INTER_ROUTER_DATA
        self.world.settle()
        return near, far

    def is_linked_by(self, near: Connection) -> bool:
        node = self.near.nodes.get("F")
        return node is not None and node.connection is near

    def carries(self) -> bool:
        """A message gets there and is accepted."""
        rx = self.world.client(self.far).receiver("a", auto=ACCEPTED)
        tx = self.world.client(self.near).sender("a")
        self.world.until(lambda: tx.credit > 0)
        sent = tx.send(message())
        self.world.settle()
        rx.detach()
        tx.detach()
        return sent.state == ACCEPTED


@pytest.fixture
def pair(world: World) -> Neighbours:
    return Neighbours(world)


def test_data_connections_before_and_after_their_parent(world: World, pair: Neighbours) -> None:
    early, early_far = pair.connect(is_data=True)
    control, control_far = pair.connect()
    late, late_far = pair.connect(is_data=True)
    assert control.trunks == [early, late]
    assert control_far.trunks == [early_far, late_far]
    assert trunk_of(control) is early
    early.engine.blocked = True
    assert trunk_of(control) is late
    late.engine.blocked = True
    assert {trunk_of(control), trunk_of(control)} == {early, late}, "all busy: in turn"
    early.engine.drop(None)
    world.settle()
    assert control.trunks == [late]
    assert control_far.trunks == [late_far]


def test_data_connections_wait_for_the_next_parent(world: World, pair: Neighbours) -> None:
    control, _ = pair.connect()
    data, data_far = pair.connect(is_data=True)
    control.engine.drop(None)
    world.settle()
    assert not data.is_closed
    assert data.parent is None
    again, again_far = pair.connect()
    assert again.trunks == [data]
    assert again_far.trunks == [data_far]


def test_a_higher_ordinal_takes_over_without_a_gap(world: World, pair: Neighbours) -> None:
    old, old_far = pair.connect(1)
    world.until(lambda: pair.is_linked_by(old))
    changes = pair.near.control.plane.ls_seq
    new, new_far = pair.connect(2)
    data, _ = pair.connect(2, is_data=True)
    world.until(lambda: pair.is_linked_by(new))
    assert pair.near.control.plane.ls_seq == changes  # the neighbour is the same
    assert not old.is_closed
    assert old.control_out is None
    assert old_far.control_out is None
    assert new.trunks == [data]
    assert pair.carries()
    old.engine.drop(None)
    world.advance(5)
    assert pair.is_linked_by(new)
    assert new_far.control_out is not None


@pytest.mark.parametrize("ordinal", [0, 1])
def test_a_lower_ordinal_is_dropped(world: World, pair: Neighbours, ordinal: int) -> None:
    first, _ = pair.connect(2)
    world.until(lambda: pair.is_linked_by(first))
    late, late_far = pair.connect(ordinal)
    assert late.is_closed
    assert late_far.is_closed
    assert not first.is_closed
    assert pair.carries()


def test_the_same_ordinal_takes_the_place_of_a_dead_connection(world: World, pair: Neighbours) -> None:
    dead, dead_far = pair.connect(1)
    dead_data, dead_data_far = pair.connect(1, is_data=True)
    world.until(lambda: pair.is_linked_by(dead))
    again, again_far = pair.connect(1)
    world.until(lambda: pair.is_linked_by(again))
    assert all(each.is_closed for each in (dead, dead_far, dead_data, dead_data_far))
    assert not again_far.trunks
    assert pair.carries()


def test_which_data_connections_live_on_with_the_next_control_connection(world: World, pair: Neighbours) -> None:
    """A peer is cut off right after it came, as one that moves twice; then its data connections come first."""
    dead = pair.connect(1)
    world.until(lambda: pair.is_linked_by(dead[0]))
    world.advance(0.1)
    dead_data = pair.connect(1, is_data=True)
    ends = [(end.engine, end.engine.heard_at) for end in (*dead, *dead_data)]
    assert dead[0].engine.heard_at < dead_data[0].opened_at, "it was opened after the last word on the other"
    world.advance(2.5)
    living, _ = pair.connect(1, is_data=True)
    for engine, heard_at in ends:
        engine.heard_at = heard_at  # the wires of this world go on
    again, _ = pair.connect(1)
    world.until(lambda: pair.is_linked_by(again))
    assert all(end.is_closed for end in dead_data)
    assert again.trunks == [living]
    assert not living.is_closed
    assert pair.carries()


def test_streams_go_where_the_peer_was_heard(world: World, pair: Neighbours) -> None:
    control, _ = pair.connect()
    first, _ = pair.connect(is_data=True)
    second, _ = pair.connect(is_data=True)
    assert trunk_of(control) is first
    first.engine.heard_at -= 2 * LATELY_S
    assert trunk_of(control) is second
    second.engine.heard_at -= 3 * LATELY_S
    assert trunk_of(control) is first, "both are silent: the one that was heard last"


def test_groups_of_strangers_are_not_mixed(world: World, pair: Neighbours) -> None:
    _, control_far = pair.connect()
    stranger = world.interior("S")
    properties = {"qd.group-correlator": CORRELATOR, "qd.inter-router-role": Int(4)}
    near, far = world.link(stranger, pair.far, open_properties=properties)
    world.settle()
    assert not control_far.trunks
    assert not far.is_closed
    near.engine.drop(None)
    world.settle()


def test_without_a_correlator_a_connection_stands_alone(world: World, pair: Neighbours) -> None:
    near, _ = world.link(pair.near, pair.far)
    world.until(lambda: pair.is_linked_by(near))
    assert trunk_of(near) is near
    assert pair.carries()
