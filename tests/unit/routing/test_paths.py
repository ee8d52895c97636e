"""Paths on graphs small enough to see; the oracle is in tests/property."""

from __future__ import annotations

from vanrouter.routing.paths import PathMap, Route

DIAMOND = {"A": {"B": 1, "C": 1}, "B": {"A": 1, "D": 1}, "C": {"A": 1, "D": 1}, "D": {"B": 1, "C": 1}}


def test_alone() -> None:
    paths = PathMap("A", {"A": {}})
    assert paths.routes == {}
    assert paths.radius == 0
    assert paths.forwarded_for("A") == frozenset()
    assert paths.valid_origins("B") == []


def test_equal_costs_go_by_the_least_id() -> None:
    paths = PathMap("A", DIAMOND)
    assert paths.routes == {"B": Route("B", 1, 1), "C": Route("C", 1, 1), "D": Route("B", 2, 2)}
    assert paths.radius == 2


def test_costs_are_directed() -> None:
    paths = PathMap("A", {"A": {"B": 5, "C": 1}, "B": {"A": 1}, "C": {"B": 1, "A": 1}})
    assert paths.routes["B"] == Route("C", 2, 2)
    back = PathMap("B", {"A": {"B": 5, "C": 1}, "B": {"A": 1}, "C": {"B": 1, "A": 1}})
    assert back.routes["A"] == Route("A", 1, 1)


def test_valid_origins() -> None:
    at_b = PathMap("B", DIAMOND)
    assert at_b.valid_origins("D") == ["A"]
    assert at_b.valid_origins("A") == ["D"]
    assert at_b.valid_origins("C") == []
    at_c = PathMap("C", DIAMOND)
    assert at_c.valid_origins("D") == []
    assert at_b.forwarded_for("A") == {"D"}
    assert at_b.forwarded_for("nobody") is None
    assert PathMap("A", DIAMOND).forwarded_for("A") == {"B", "C", "D"}


def test_silent_router_is_a_leaf_and_unknown_one_is_provisional() -> None:
    silent = PathMap("A", {"A": {"B": 1}, "B": {}})
    assert silent.routes == {"B": Route("B", 1, 1)}
    provisional = PathMap("A", {"A": {"X": 3}})
    assert provisional.routes == {"X": Route("X", 3, 1)}
    assert "X" in provisional
    named_twice = PathMap("A", {"A": {"X": 1, "B": 9}, "B": {"X": 1}})
    assert named_twice.routes["B"] == Route("B", 9, 1)  # X is linked with A alone, which named it first


def test_what_has_not_changed_is_taken_over() -> None:
    before = PathMap("A", DIAMOND)
    after = PathMap("A", {**DIAMOND, "B": {"A": 1, "D": 3}}, before)
    assert after.routes["D"] == Route("C", 2, 2)
    assert [old is new for old, new in zip(before._edges, after._edges, strict=True)] == [True, False, True, True]
    stranger = PathMap("A", {**DIAMOND, "D": {"B": 1, "C": 1, "X": 1}}, after)
    assert stranger.routes["X"] == Route("B", 3, 3)
    assert "X" not in PathMap("A", DIAMOND, stranger)


def test_hops_from() -> None:
    line = {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {"B": 1}}
    paths = PathMap("C", line)
    assert paths.hops_from("A") == 2
    assert paths.hops_from("C") == 0
    assert paths.hops_from("nobody") == 0
    assert PathMap("C", {**line, "Z": {}}).hops_from("Z") == 0


def test_passes_over_a_link_that_only_this_end_has_announced() -> None:
    fresh = PathMap("B", {"A": {}, "B": {"A": 1, "C": 1}, "C": {"B": 1}})
    assert fresh.forwarded_for("A") == frozenset()
    assert fresh.passes("A", "C")
    assert fresh.passes("C", "A")
    assert not fresh.passes("A", "A")
    assert not fresh.passes("nobody", "C")
    assert fresh.forwarded_for("A") == frozenset()  # copies of a multicast still wait for the link state
    elsewhere = PathMap("B", {"A": {"C": 1}, "B": {"A": 1, "C": 1}, "C": {"A": 1}})
    assert not elsewhere.passes("A", "C")
