"""Adjacencies: the full product of states and inputs, the choice among connections, the damping."""

from __future__ import annotations

import itertools

import pytest

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.neighbours import TRANSITIONS, Adjacency, FlapDamper, HelloInput, Neighbours

SETTINGS = ControlSettings()


def test_table_is_complete() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Adjacency, HelloInput))


def test_only_these_lead_to_a_neighbour() -> None:
    ways = {pair for pair, state in TRANSITIONS.items() if state is Adjacency.FULL and pair[0] is not Adjacency.FULL}
    assert ways == {(Adjacency.ONE_WAY, HelloInput.HELLO_WITH_US), (Adjacency.HELD, HelloInput.HOLD_OVER)}


def test_seen_is_what_was_heard_of_late() -> None:
    neighbours = Neighbours("A", SETTINGS)
    first, second = neighbours.add(1, 1), neighbours.add(2, 1)
    assert neighbours.seen(0.0) == []
    neighbours.hear(second, "C", lists_us=False, now=10.0)
    neighbours.hear(first, "B", lists_us=True, now=11.0)
    assert neighbours.seen(12.0) == ["B", "C"]
    assert neighbours.seen(13.0) == ["B"]
    assert list(neighbours.adjacent()) == ["B"]
    assert neighbours.expires_at(first) == 14.0


def test_expiry_and_return() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    neighbours.hear(link, "B", lists_us=True, now=1.0)
    neighbours.expire(link)
    assert neighbours.adjacent() == {}
    neighbours.hear(link, "B", lists_us=True, now=9.0)
    assert neighbours.adjacent() == {"B": link}


def test_another_peer_on_the_same_connection_begins_anew() -> None:
    neighbours = Neighbours("A", SETTINGS)
    link = neighbours.add(1, 1)
    neighbours.hear(link, "B", lists_us=True, now=1.0)
    neighbours.hear(link, "C", lists_us=False, now=2.0)
    assert neighbours.adjacent() == {}
    assert neighbours.seen(2.0) == ["C"]


def test_the_connections_of_an_earlier_life_end() -> None:
    neighbours = Neighbours("A", SETTINGS)
    dead, live, other = (neighbours.add(number, 1) for number in (1, 2, 3))
    for link, peer in ((dead, "B"), (live, "B"), (other, "C")):
        neighbours.hear(link, peer, lists_us=True, now=1.0)
    assert neighbours.adjacent()["B"] is dead
    assert neighbours.expire_others(live) == [dead]
    assert neighbours.adjacent() == {"B": live, "C": other}


def test_cheapest_then_oldest_connection() -> None:
    neighbours = Neighbours("A", SETTINGS)
    links = [neighbours.add(number, cost) for number, cost in ((1, 5), (2, 1), (3, 1))]
    for link in links:
        neighbours.hear(link, "B", lists_us=True, now=1.0)
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
    assert neighbours.hear(link, "B", lists_us=True, now=1.0) == pytest.approx(0.75)
    assert link.state is Adjacency.HELD
    assert neighbours.hear(link, "B", lists_us=True, now=1.1) == 0.0
    assert neighbours.adjacent() == {}
    neighbours.end_hold(link)
    assert neighbours.adjacent() == {"B": link}
