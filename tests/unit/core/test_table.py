"""Addresses, their rules, and who is told of changes (router protocol, sections 3.4, 5.6 and 7.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.core.table import Address, AddressRule, AddressRules, AddressTable, Node, Treatment


@pytest.fixture
def changes() -> list[tuple[str, bool]]:
    return []


@pytest.fixture
def table(changes: list[tuple[str, bool]]) -> AddressTable:
    return AddressTable(
        Treatment.BALANCED, lambda address: changes.append((address.key, address.has_local_destination))
    )


class Consumer:
    """A link, as far as the table looks at it."""

    def __init__(self, echo: bool) -> None:
        self.is_special = echo


def consumer(*, echo: bool = False) -> Any:
    return Consumer(echo)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", "a"),
        ("a/b", "a/*"),
        ("a.b", "a/*"),
        ("a/b/c", "a/#"),
        ("a/b/d", "a/b/d"),
        ("a/x/d", "a/*/d"),
        ("b", None),
        ("c", "c/#"),
        ("c/1/2/3", "c/#"),
        ("x/1/end", "#/end"),
        ("end", "#/end"),
        ("", None),
    ],
)
def test_the_most_specific_rule_counts(table: AddressTable, path: str, expected: str | None) -> None:
    for pattern in ("a", "a/*", "a/#", "a/b/d", "a.*.d", "c/#", "#/end"):
        table.rules.add(AddressRule(pattern=pattern, treatment=Treatment.CLOSEST))
    for _ in range(2):  # remembered the second time
        rule = table.rules.match(path)
        assert (rule and rule.pattern.replace(".", "/")) == expected


def test_rules_come_and_go(table: AddressTable) -> None:
    assert "a" not in table.rules
    table.rules.add(AddressRule(pattern="a", treatment=Treatment.CLOSEST, priority=7))
    assert "a" in table.rules
    assert table.treatment_of("Ma") == (Treatment.CLOSEST, 7)
    table.rules.add(AddressRule(pattern="a", treatment=Treatment.MULTICAST))
    assert table.treatment_of("Ma") == (Treatment.MULTICAST, None)
    table.rules.remove("a")
    table.rules.remove("a")
    assert table.treatment_of("Ma") == (Treatment.BALANCED, None)


def test_patterns_cost_what_they_match(table: AddressTable) -> None:
    """Many wildcards in a row must not make the search exponential."""
    table.rules.add(AddressRule(pattern="/".join(["#", "a"] * 8), treatment=Treatment.CLOSEST))
    assert table.rules.match("/".join(["a"] * 40 + ["b"])) is None
    assert table.rules.match("/".join(["a"] * 40)) is not None


def test_empty_tokens_of_a_pattern_are_nothing(table: AddressTable) -> None:
    for pattern in ("a", "a//b", "/a/b/c/"):
        table.rules.add(AddressRule(pattern=pattern, treatment=Treatment.CLOSEST))
    assert [bool(table.rules.match(path)) for path in ("a", "a/b", "a/b/c", "a/c")] == [True, True, True, False]


@pytest.mark.parametrize(
    ("key", "hint", "default", "expected"),
    [
        ("Ma", None, Treatment.BALANCED, Treatment.BALANCED),
        ("Ma", 1, Treatment.BALANCED, Treatment.MULTICAST),
        ("Ma", 2, Treatment.BALANCED, Treatment.CLOSEST),
        ("Ma", 77, Treatment.CLOSEST, Treatment.CLOSEST),
        ("Ma", -1, Treatment.UNAVAILABLE, Treatment.BALANCED),
        ("Ma", None, Treatment.UNAVAILABLE, Treatment.UNAVAILABLE),
        ("RA", None, Treatment.UNAVAILABLE, Treatment.CLOSEST),
        ("Tx", None, Treatment.BALANCED, Treatment.MULTICAST),
        ("Ltemp.1", None, Treatment.UNAVAILABLE, Treatment.BALANCED),
    ],
)
def test_treatments(key: str, hint: int | None, default: Treatment, expected: Treatment) -> None:
    assert AddressTable(default, lambda _address: None).treatment_of(key, hint)[0] == expected


def test_local_destinations_are_announced(table: AddressTable, changes: list[tuple[str, bool]]) -> None:
    address = table.ensure("Ma")
    first, second = consumer(), consumer()
    table.add_consumer(address, first)
    table.add_consumer(address, second)
    assert changes == [("Ma", True)]
    table.remove_consumer(address, first)
    table.remove_consumer(address, first)
    assert changes == [("Ma", True)]
    table.remove_consumer(address, second)
    assert changes == [("Ma", True), ("Ma", False)]
    assert table.get("Ma") is None


class Weighted:
    """A service of this process."""

    def __init__(self, weight: int) -> None:
        self.weight = weight


def test_a_changed_weight_is_announced(table: AddressTable, changes: list[tuple[str, bool]]) -> None:
    address = table.ensure("Ma")
    light, heavy = Weighted(1), Weighted(9)
    seen = []
    table.add_service(address, light)  # type: ignore[arg-type]  # has what the table looks at
    seen.append(address.weight)
    table.add_service(address, heavy)  # type: ignore[arg-type]
    seen.append(address.weight)
    table.remove_service(address, heavy)  # type: ignore[arg-type]
    seen.append(address.weight)
    assert seen == [None, 10, None]
    assert changes == [("Ma", True)] * 3


def test_numbers_of_consumers_are_news_for_even_alone(table: AddressTable, changes: list[tuple[str, bool]]) -> None:
    for key in ("Ma", "Mb"):
        address = table.ensure(key)
        address.treatment = Treatment.EVEN if key == "Mb" else Treatment.BALANCED
        for _ in range(3):
            table.add_consumer(address, consumer())
    assert changes == [("Ma", True), ("Mb", True), ("Mb", True), ("Mb", True)]


def test_weights_of_other_routers(table: AddressTable) -> None:
    address, other = table.ensure("Ma"), table.ensure("Mb")
    table.set_remote_weight(address, "B", 9)
    table.bind_remote(address, Node("B"))
    before = address.generation
    table.set_remote_weight(address, "B", 9)
    assert address.generation == before
    table.set_remote_weight(address, "B", 8)
    assert address.generation > before
    assert (address.remote_weights, other.remote_weights) == ({"B": 8}, {})
    table.set_remote_weight(address, "B", None)
    assert address.remote_weights == {}
    table.set_remote_weight(address, "B", 2)
    table.unbind_remote(address, "B")
    assert address.remote_weights == {}


def test_a_weight_says_that_even_was_meant(table: AddressTable) -> None:
    balanced, closest = int(Treatment.BALANCED), int(Treatment.CLOSEST)
    assert table.ensure("Ma", balanced).treatment == Treatment.BALANCED
    assert table.ensure("Mb", balanced, is_weighted=True).treatment == Treatment.EVEN
    assert table.ensure("Mc", closest, is_weighted=True).treatment == Treatment.CLOSEST
    table.rules.add(AddressRule(pattern="d", treatment=Treatment.BALANCED))
    assert table.ensure("Md", balanced, is_weighted=True).treatment == Treatment.BALANCED


def test_internal_addresses_are_not(table: AddressTable, changes: list[tuple[str, bool]]) -> None:
    address = table.ensure("Ma")
    address.is_internal = True
    table.add_consumer(address, consumer())
    assert not changes


def test_watches(table: AddressTable) -> None:
    address = table.ensure("Ma")
    seen: list[bool] = []
    watch = table.watch(address, seen.append)
    assert seen == [False]
    node = Node("B")
    table.bind_remote(address, node)
    table.bind_remote(address, node)
    link = consumer()
    table.add_consumer(address, link)
    table.unbind_remote(address, "B")
    table.unbind_remote(address, "B")
    assert seen == [False, True]
    table.remove_consumer(address, link)
    assert seen == [False, True, False]
    assert table.get("Ma") is address  # somebody watches it
    watch.cancel()
    watch.cancel()
    assert table.get("Ma") is None


def test_a_watch_that_ends_itself(table: AddressTable) -> None:
    address = table.ensure("Ma")
    seen: list[bool] = []

    def once(state: bool) -> None:
        seen.append(state)
        if state:
            watch.cancel()

    watch = table.watch(address, once)
    other = table.watch(address, seen.append)
    link = consumer()
    table.add_consumer(address, link)
    table.remove_consumer(address, link)
    assert seen == [False, False, True, True, False]
    other.cancel()


def test_the_only_destination(table: AddressTable) -> None:
    address = table.ensure("Ma")
    first, second = consumer(), consumer()
    table.add_consumer(address, first)
    assert address.sole is first
    generation = address.generation
    table.add_consumer(address, second)
    assert address.sole is None
    assert address.generation > generation
    table.remove_consumer(address, first)
    assert address.sole is second
    table.bind_remote(address, Node("B"))
    assert address.sole is None
    table.unbind_remote(address, "B")
    assert address.sole is second


@pytest.mark.parametrize(("key", "echo"), [("Ma", True), ("Mclosed", False)])
def test_an_only_destination_of_which_rules_are_asked(table: AddressTable, key: str, echo: bool) -> None:
    table.rules.add(AddressRule(pattern="closed", treatment=Treatment.UNAVAILABLE))
    address = table.ensure(key)
    table.add_consumer(address, consumer(echo=echo))
    assert address.sole is None


@pytest.mark.parametrize(("key", "is_sole"), [("Mc/a", False), ("Ma", True)])
def test_the_only_consumer_at_an_edge(table: AddressTable, key: str, is_sole: bool) -> None:
    table.rules.add(AddressRule(pattern="c/#", treatment=Treatment.MULTICAST))
    table.is_edge = True
    address = table.ensure(key)
    table.add_consumer(address, consumer())
    assert (address.sole is not None) is is_sole


def test_permanent_addresses_stay(table: AddressTable) -> None:
    address = table.ensure("Ma")
    address.permanent = True
    table.drop_if_unused(address)
    assert table.ensure("Ma") is address
    stranger = Address("Ma", Treatment.BALANCED, None)
    table.drop_if_unused(stranger)
    assert table.get("Ma") is address


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "a/b", "a/*", "a/#", "#", "b/#", "a.b", "*/b"]))))
def test_rules_that_come_and_go_leave_nothing_behind(steps: list[tuple[bool, str]]) -> None:
    rules, present = AddressRules(Treatment.BALANCED), {}
    for is_added, pattern in steps:
        if is_added:
            rule = present[pattern.replace(".", "/")] = AddressRule(pattern=pattern, treatment=Treatment.CLOSEST)
            rules.add(rule)
        else:
            present.pop(pattern.replace(".", "/"), None)
            rules.remove(pattern)
        fresh = AddressRules(Treatment.BALANCED)
        for rule in present.values():
            fresh.add(rule)
        assert rules._tree == fresh._tree
        for path in ("a", "a/b", "a/c", "b/b", "c"):
            assert rules.match(path) == fresh.match(path)
