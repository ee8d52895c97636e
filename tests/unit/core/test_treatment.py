"""Closest, balanced (router protocol, sections 7.2 and 7.3) and even (extensions)."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from vanrouter.core.links import LinkKind, Sender
from vanrouter.core.table import Address, Node, Treatment
from vanrouter.core.treatment import choose, is_echo, usable_nodes
from vanrouter.engine.annotations import NO_ANNOTATIONS, Annotations


class Way:
    """A connection, as far as a choice looks at it."""

    def __init__(self, *, has_echo_rules: bool = False, at_edge: bool = False, mesh_id: str | None = None) -> None:
        self.has_echo_rules = has_echo_rules
        self.router = SimpleNamespace(is_edge=at_edge)
        self.mesh_id = mesh_id
        self.outstanding: dict[Address, int] = {}
        self.capacity = 7


def connection() -> Any:
    return Way()


def sender(load: int = 0, *, where: Any = None, capacity: int = 250) -> Sender:
    made = Sender(where or connection(), None, 1, "l", LinkKind.ENDPOINT, capacity)
    made.unsettled = load
    return made


def node(name: str, cost: int = 1, outstanding: int = 0, address: Address | None = None) -> Node:
    made = Node(name)
    made.connection = connection()
    if address is not None and outstanding:
        made.connection.outstanding[address] = outstanding
    made.cost = cost
    return made


class Inside:
    """A service of this process."""

    def __init__(self, open_count: int = 0, weight: int = 1) -> None:
        self.open_count = open_count
        self.weight = weight
        self.capacity = 250
        self.is_stream = True


def service(open_count: int = 0, weight: int = 1) -> Any:
    return Inside(open_count, weight)


def anywhere(_router_id: str, _ingress: str | None) -> bool:
    return True


@pytest.fixture(params=[Treatment.CLOSEST, Treatment.BALANCED])
def address(request: pytest.FixtureRequest) -> Address:
    return Address("Ma", request.param, None)


@pytest.fixture
def balanced() -> Address:
    return Address("Ma", Treatment.BALANCED, None)


@pytest.fixture
def closest() -> Address:
    return Address("Ma", Treatment.CLOSEST, None)


def chosen(address: Address, **options: Any) -> Any:
    return choose(
        address, options.pop("annotations", NO_ANNOTATIONS), options.pop("came_from", None), anywhere, **options
    )


def test_nobody(address: Address) -> None:
    assert chosen(address) is None


def test_consumers_in_turn(address: Address) -> None:
    address.consumers = [sender() for _ in range(3)]
    links = list(address.consumers)
    assert [chosen(address, more=0) for _ in range(6)] == links * 2


def test_tried_ones_are_left_out(address: Address) -> None:
    first, second, far = sender(), sender(), node("B")
    address.consumers = [first, second]
    address.remotes["B"] = far
    assert chosen(address, tried={first}) is second
    assert chosen(address, tried={first, second}) is far
    assert chosen(address, tried={first, second, far.connection}) is None


def test_a_node_without_a_way_is_none(address: Address) -> None:
    far = node("B")
    far.connection = None
    address.remotes["B"] = far
    assert chosen(address) is None


def test_the_origin_must_be_valid(address: Address) -> None:
    address.remotes = {"B": node("B"), "C": node("C")}
    annotations = Annotations(0, None, "0/X", ("0/X",))
    assert usable_nodes(address, annotations, lambda router, _ingress: router == "C", ()) == [address.remotes["C"]]
    found = choose(address, annotations, None, lambda router, ingress: (router, ingress) == ("C", "0/X"))
    assert found is address.remotes["C"]


def test_closest_takes_the_lowest_cost(closest: Address) -> None:
    closest.remotes = {name: node(name, cost) for name, cost in (("B", 2), ("C", 1), ("D", 1))}
    names = [chosen(closest).router_id for _ in range(4)]
    assert sorted(set(names)) == ["C", "D"]
    assert names[:2] == names[2:]
    here = sender(1000)
    closest.consumers = [here]
    assert chosen(closest) is here
    inside = service(1000)
    closest.services = [inside]
    assert chosen(closest) is inside


def test_balanced_takes_the_least_loaded(balanced: Address) -> None:
    light, heavy = sender(2), sender(5)
    balanced.consumers = [heavy, light]
    assert chosen(balanced) is light
    light.moved_streams = 10
    assert chosen(balanced) is heavy
    inside = service(1)
    balanced.services = [inside]
    assert chosen(balanced) is inside


def test_a_remote_has_to_be_strictly_better(balanced: Address) -> None:
    here = sender(1)
    balanced.consumers = [here]
    balanced.remotes["B"] = node("B")
    assert chosen(balanced) is here
    here.unsettled = 2
    assert chosen(balanced) is balanced.remotes["B"]
    balanced.remotes["B"].cost = 3
    assert chosen(balanced) is here


def test_outstanding_deliveries_count(balanced: Address) -> None:
    balanced.remotes = {"B": node("B", 1, 5, balanced), "C": node("C", 3)}
    assert chosen(balanced).router_id == "C"


def test_what_is_full_comes_last(balanced: Address) -> None:
    full = sender(4, capacity=4)
    balanced.consumers = [full]
    far = balanced.remotes["B"] = node("B", 10)
    assert chosen(balanced) is far
    far.connection.outstanding[balanced] = far.connection.capacity - 1
    assert chosen(balanced) is far
    far.connection.outstanding[balanced] = far.connection.capacity
    assert chosen(balanced) is full  # all are full: the least loaded all the same


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=4),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 6)), max_size=3),
)
def test_balanced_is_what_the_specification_says(
    locals_: list[tuple[int, int]], remotes: list[tuple[int, int, int]]
) -> None:
    """Against section 7.3, word for word: load and capacity here; outstanding, cost and capacity towards others."""
    address = Address("Ma", Treatment.BALANCED, None)
    values: dict[Any, tuple[bool, int, bool]] = {}
    for load, capacity in locals_:
        link = sender(load, capacity=capacity)
        address.consumers.append(link)
        values[link] = (not capacity > load, load, False)
    for number, (outstanding, cost, capacity) in enumerate(remotes):
        made = address.remotes[f"N{number}"] = node(f"N{number}", cost, outstanding, address)
        assert made.connection is not None
        made.connection.capacity = capacity
        values[made] = (not capacity > outstanding, outstanding + cost, True)
    found = chosen(address)
    if not values:
        assert found is None
        return
    # The eligible with the smallest value; locals first, a remote has to be strictly better; else the best ineligible.
    assert values[found] == min(values.values())


@pytest.fixture
def even() -> Address:
    return Address("Ma", Treatment.EVEN, None)


def ready(**options: Any) -> Sender:
    made = sender(**options)
    made.credit = 250
    return made


def test_even_follows_the_weights_wherever_they_are(even: Address) -> None:
    inside, link, far = service(weight=3), ready(), node("B", cost=9)
    even.services, even.consumers, even.remotes = [inside], [link], {"B": far}
    even.remote_weights = {"B": 6}
    assert Counter(chosen(even) for _ in range(1000)) == {inside: 300, link: 100, far: 600}


def test_even_counts_what_was_given_not_what_is_open(even: Address) -> None:
    busy, idle = ready(load=200), ready()
    even.consumers = [busy, idle]
    assert Counter(chosen(even) for _ in range(100)) == {busy: 50, idle: 50}


def test_even_passes_over_who_has_no_credit(even: Address) -> None:
    slow, quick = ready(), ready()
    even.consumers = [slow, quick]
    slow.credit = 0
    assert {chosen(even) for _ in range(100)} == {quick}
    slow.credit = 250
    assert Counter(chosen(even) for _ in range(100))[slow] <= 52  # nearly nothing is made up for
    slow.credit = quick.credit = 0
    assert Counter(chosen(even) for _ in range(100)) == {slow: 50, quick: 50}


def test_even_leaves_out_what_must_not_be_taken(even: Address) -> None:
    link, near, far = ready(), node("B"), node("C")
    even.consumers, even.remotes = [link], {"B": near, "C": far}
    for _ in range(10):
        assert chosen(even, tried={link, near.connection}) is far
    link.excluded = True
    far.connection = None
    assert {chosen(even) for _ in range(10)} == {near}
    annotations = Annotations(0, None, "0/X", ("0/X",))
    assert choose(even, annotations, None, lambda _router, _ingress: False) is None
    assert chosen(even) is near


def test_even_shares_out_each_ingress_apart(even: Address) -> None:
    even.remotes = {"B": node("B"), "C": node("C")}
    only_b = Annotations(0, None, "0/X", ("0/X",))
    for _ in range(100):
        assert choose(even, only_b, None, lambda router, _ingress: router == "B") is even.remotes["B"]
    assert Counter(chosen(even).router_id for _ in range(100)) == {"B": 50, "C": 50}


def test_echoes() -> None:
    edge: Any = Way(has_echo_rules=True, mesh_id="mesh")
    other: Any = Way(has_echo_rules=True, mesh_id="mesh")
    link = sender(where=edge)
    assert not is_echo(link, edge, "mesh")
    link.is_guarded = True
    assert is_echo(link, edge, None)
    assert not is_echo(link, other, None)
    assert is_echo(link, other, "mesh")
    assert not is_echo(link, other, "another")
    assert not is_echo(link, None, None)
    edge.router.is_edge = True
    assert is_echo(link, other, None)
    link.excluded = True
    assert is_echo(link, None, None)
