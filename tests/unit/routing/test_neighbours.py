"""Adjacencies: the full product of states and inputs, the choice among connections, the damping."""

from __future__ import annotations

import itertools

import pytest

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.messages import Hello
from vanrouter.routing.neighbours import TRANSITIONS, Adjacency, FlapDamper, HelloInput, Link, Neighbours

SETTINGS = ControlSettings()


def hear(neighbours: Neighbours, link: Link, peer: str, *, lists_us: bool, now: float) -> float:
    return neighbours.hear(link, Hello(id=peer, instance=1, seen=frozenset("A" if lists_us else "")), now)


def test_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Adjacency, HelloInput))


def test_only_these_lead_to_a_neighbour() -> None:
    ways = {pair for pair, state in TRANSITIONS.items() if state is Adjacency.FULL and pair[0] is not Adjacency.FULL}
    assert ways == {(Adjacency.ONE_WAY, HelloInput.HELLO_WITH_US), (Adjacency.HELD, HelloInput.HOLD_OVER)}


def test_seen_is_what_was_heard_of_late() -> None:
    neighbours = Neighbours("A", SETTINGS)
    first, second = neighbours.add(1, 1), neighbours.add(2, 1)
    assert neighbours.seen(0.0) == []
    hear(neighbours, second, "C", lists_us=False, now=10.0)
    hear(neighbours, first, "B", lists_us=True, now=11.0)
    assert neighbours.seen(12.0) == ["B", "C"]
    assert neighbours.seen(13.0) == ["B"]
    assert list(neighbours.adjacent()) == ["B"]
    assert neighbours.expires_at(first) == 14.0


def test_expiry_and_return() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    hear(neighbours, link, "B", lists_us=True, now=1.0)
    neighbours.expire(link)
    assert neighbours.adjacent() == {}
    hear(neighbours, link, "B", lists_us=True, now=9.0)
    assert neighbours.adjacent() == {"B": link}


def test_another_peer_on_the_same_connection_begins_anew() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    hear(neighbours, link, "B", lists_us=True, now=1.0)
    hear(neighbours, link, "C", lists_us=False, now=2.0)
    assert neighbours.adjacent() == {}
    assert neighbours.seen(2.0) == ["C"]


def test_the_same_hello_again() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    assert not neighbours.hear_again(link, None, 0.0)
    hear(neighbours, link, "B", lists_us=False, now=0.5)
    assert not neighbours.hear_again(link, 1, 0.6)  # it does not list us: no neighbour
    hear(neighbours, link, "B", lists_us=True, now=1.0)
    assert neighbours.hear_again(link, 1, 2.0)
    assert (link.heard_at, link.listed_at) == (2.0, 2.0)
    assert not neighbours.hear_again(link, 2, 3.0)  # it has started again in between
    assert not neighbours.hear_again(link, 1, 5.0)  # too late
    hear(neighbours, link, "B", lists_us=False, now=4.0)
    assert not neighbours.hear_again(link, 1, 4.5)
    other = neighbours.add(2, 1)
    other.inherit(link)
    assert (other.peer_id, other.state, other.hello) == ("B", Adjacency.FULL, link.hello)
    assert (other.heard_at, other.listed_at) == (4.0, 2.0)


def test_the_connections_of_an_earlier_life_end() -> None:
    neighbours = Neighbours("A", SETTINGS)
    dead, live, other = (neighbours.add(number, 1) for number in (1, 2, 3))
    for link, peer in ((dead, "B"), (live, "B"), (other, "C")):
        hear(neighbours, link, peer, lists_us=True, now=1.0)
    assert neighbours.adjacent()["B"] is dead
    assert neighbours.expire_others(live) == [dead]
    assert neighbours.adjacent() == {"B": live, "C": other}


def test_cheapest_then_oldest_connection() -> None:
    neighbours = Neighbours("A", SETTINGS)
    links = [neighbours.add(number, cost) for number, cost in ((1, 5), (2, 1), (3, 1))]
    for link in links:
        hear(neighbours, link, "B", lists_us=True, now=1.0)
    assert neighbours.adjacent() == {"B": links[1]}


def test_damper_forgets() -> None:
    damper = FlapDamper(SETTINGS)
    assert damper.hold_s("B", 0.0) == 0.0
    for _ in range(3):
        damper.note_loss("B", 0.0)
    assert damper.hold_s("B", 0.0) == 0.75
    assert damper.penalty("B", SETTINGS.flap_half_life_s) == pytest.approx(1.5)
    assert damper.hold_s("B", SETTINGS.flap_half_life_s) == 0.0
    for _ in range(20):
        damper.note_loss("B", 0.0)
    assert damper.hold_s("B", 0.0) == SETTINGS.flap_hold_max_s


def test_damper_is_bounded() -> None:
    damper = FlapDamper(ControlSettings(max_routers=3))
    for number in range(10):
        damper.note_loss(f"R{number}", 0.0)
    assert len(damper._penalties) <= 3


def test_flapping_neighbour_is_held() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    for _ in range(3):
        neighbours.note_loss("B", 1.0)
    assert hear(neighbours, link, "B", lists_us=True, now=1.0) == pytest.approx(0.75)
    assert link.state is Adjacency.HELD
    assert hear(neighbours, link, "B", lists_us=True, now=1.1) == 0.0
    assert neighbours.adjacent() == {}
    neighbours.end_hold(link)
    assert neighbours.adjacent() == {"B": link}
