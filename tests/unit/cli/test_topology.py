from __future__ import annotations

import io
from typing import cast

import pytest
from proton import int32
from rich.console import Console

from tests.unit.cli.network import FakeNetwork
from vanrouter.cli.topology import Network, as_dot, as_map, as_mermaid, discover, peer_cost, tree_of
from vanrouter.mgmt.client import LOCAL, ManagementClient


def found(fake: FakeNetwork) -> Network:
    return discover(cast("ManagementClient", fake))


def text_of(network: Network) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=80).print(tree_of(network))
    return file.getvalue().splitlines()


@pytest.fixture
def triangle() -> FakeNetwork:
    return FakeNetwork("A", {("A", "B"): 5, ("B", "C"): 1, ("A", "C"): 20}, {"E1": "A", "E2": "C"})


def test_links_have_their_own_costs_and_not_those_of_ways(triangle: FakeNetwork) -> None:
    network = found(triangle)
    assert network.links == {("A", "B"): 5, ("B", "C"): 1, ("A", "C"): 20, ("A", "E1"): None, ("C", "E2"): None}
    assert network.routers == {"A": "interior", "B": "interior", "C": "interior", "E1": "edge", "E2": "edge"}
    assert triangle.target == LOCAL


def test_a_tree_shows_each_router_once(triangle: FakeNetwork) -> None:
    assert text_of(found(triangle)) == [
        "A  (asked)",
        "├── B  cost 5",
        "│   └── also to C  cost 1",
        "├── C  cost 20",
        "│   └── E2  edge",
        "└── E1  edge",
    ]


def test_a_router_that_does_not_answer(triangle: FakeNetwork) -> None:
    triangle.silent = {"C"}
    network = found(triangle)
    assert network.routers["C"] == "unreachable"
    assert ("A", "C") in network.links, "its neighbours tell of it"


def test_one_alone_and_one_at_the_edge() -> None:
    assert text_of(found(FakeNetwork("A", {}))) == ["A  (asked)"]
    edge = FakeNetwork("E", {}, {"E": "A"})
    assert text_of(found(edge)) == ["E  (asked)  edge", "└── A"]


def test_a_part_that_is_cut_off() -> None:
    network = Network(here="A", routers={"A": "interior", "Z": "unreachable"})
    assert text_of(network)[1] == "└── no way known to Z  unreachable"


def test_graphs_for_other_programs(triangle: FakeNetwork) -> None:
    network = found(triangle)
    network.routers['odd "one"'] = "interior"
    dot = "\n".join(as_dot(network))
    assert '"A" -- "B" [label=5];' in dot
    assert r'"odd \"one\"" [label="odd \"one\" (interior)"];' in dot
    mermaid = list(as_mermaid(network))
    assert mermaid[:2] == ["graph LR", '  r0["A (interior)"]']
    assert '  r3(["E1 (edge)"])' in mermaid
    assert "  r0 ---|5| r1" in mermaid
    assert as_map(network)["links"][0] == {"ends": ["A", "B"], "cost": 5}


def test_peer_cost() -> None:
    assert str(peer_cost({"properties": {"qd.inter-router-cost": int32(7)}})) == "7"
    assert peer_cost({"properties": None}) == 1
    assert peer_cost({}) == 1
