"""Paths against a naive oracle: next hops, costs, hops, radius and valid origins on graphs with everything odd."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import oracle
from vanrouter.routing.paths import PathMap

NAMES = ["A", "B", "C", "D", "a", "b", "Z", "é", "AA", "r1", "r10", "r2"]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, dict[str, int]]:
    """Directed costs, few distinct ones so that many paths tie; link states missing; routers named but not known."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9, unique=True))
    costs = st.sampled_from(draw(st.sampled_from([[1], [1, 2], [1, 1, 2, 3, 10], [1, 2**31 - 1]])))
    is_symmetric = draw(st.booleans())
    graph: dict[str, dict[str, int]] = {name: {} for name in names}
    for here in names:
        for there in names:
            if here != there and draw(st.integers(0, 2)) == 0:
                graph[here][there] = draw(costs)
                if is_symmetric:
                    graph[there][here] = graph[here][there]
    for name in names[1:]:
        silent = draw(st.integers(0, 9))
        if silent == 0:
            graph[name] = {}
        elif silent == 1:
            del graph[name]
    return graph


@given(graphs())
@settings(max_examples=100)
def test_agrees_with_the_oracle(graph: dict[str, dict[str, int]]) -> None:
    me = next(iter(graph))
    paths = PathMap(me, graph)
    expected = oracle.routes_of(graph, me)
    assert {to: tuple(route) for to, route in paths.routes.items()} == expected
    assert paths.radius == max((hops for _, _, hops in expected.values()), default=0)
    assert {to: set(paths.valid_origins(to)) for to in paths.routes} == oracle.valid_origins_of(graph, me)


changes = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from(NAMES), st.sampled_from([None, 1, 2, 9])), min_size=1, max_size=6
)


@given(graphs(), changes)
@settings(max_examples=100)
def test_one_change_after_another(
    graph: dict[str, dict[str, int]], sequence: list[tuple[int, str, int | None]]
) -> None:
    """What is taken over from the paths before is as good as new, also of graphs with strangers in them."""
    me = next(iter(graph))
    paths = PathMap(me, graph)
    for number, there, cost in sequence:
        here = list(graph)[number % len(graph)]
        peers = {peer: known for peer, known in graph[here].items() if peer != there}
        if cost is not None and here != there:
            peers[there] = cost
        graph = {**graph, here: peers}
        paths = PathMap(me, graph, paths)
        assert {to: tuple(route) for to, route in paths.routes.items()} == oracle.routes_of(graph, me)
        assert {to: set(paths.valid_origins(to)) for to in paths.routes} == oracle.valid_origins_of(graph, me)


@given(graphs())
@settings(max_examples=50)
def test_multicast_reaches_each_router_once(graph: dict[str, dict[str, int]]) -> None:
    """Each router passes a copy to the next hops of those behind it; all together that is the tree of the origin."""
    whole = oracle.complete(graph)
    maps = {name: PathMap(name, whole) for name in whole}
    for origin in whole:
        copies: dict[str, int] = {}
        at = [origin]
        while at:
            here = at.pop()
            behind = maps[here].forwarded_for(origin)
            assert behind is not None
            for there in {maps[here].routes[to].next_hop for to in behind if to in maps[here].routes}:
                copies[there] = copies.get(there, 0) + 1
                assert copies[there] == 1
                at.append(there)
        assert set(copies) == set(maps[origin].routes)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_line(count: int) -> None:
    names = [f"N{number:02}" for number in range(count)]
    graph = {name: {other: 1 for other in names if abs(int(name[1:]) - int(other[1:])) == 1} for name in names}
    paths = PathMap(names[0], graph)
    assert paths.radius == count - 1
    assert all(route.next_hop == names[1] for route in paths.routes.values())
