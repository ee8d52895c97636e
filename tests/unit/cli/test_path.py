from __future__ import annotations

from typing import cast

import pytest

from tests.unit.cli.network import FakeNetwork
from vanrouter.cli import path
from vanrouter.mgmt.client import LOCAL, ManagementClient


@pytest.fixture
def line() -> FakeNetwork:
    network = FakeNetwork("A", {("A", "B"): 1, ("B", "C"): 1, ("C", "D"): 1}, {"E": "D"})
    network.addresses = {"shop": ("D", "B"), "here": ("A", "D")}
    return network


def client(network: FakeNetwork) -> ManagementClient:
    return cast("ManagementClient", network)


@pytest.mark.parametrize(
    ("text", "kind", "hosts"),
    [("A", "router", ("A",)), ("D", "router", ("D",)), ("E", "edge", ("D",)), ("shop", "address", ("B", "D")),
     ("here", "address", ("A", "D"))],
)  # fmt: skip
def test_where_things_are(line: FakeNetwork, text: str, kind: str, hosts: tuple[str, ...]) -> None:
    found = path.find(client(line), text)
    assert (found.kind, found.hosts) == (kind, hosts)


def test_nowhere(line: FakeNetwork) -> None:
    with pytest.raises(path.NoWayError, match="nothing: A knows no router"):
        path.find(client(line), "nothing")


def test_hops_answer_for_themselves(line: FakeNetwork) -> None:
    hops = path.trace(client(line), path.find(client(line), "E"))
    assert [hop.router for hop in hops] == ["A", "B", "C", "D", "E"]
    assert [asked for asked, _ in line.called] == ["A", "B", "C", "D", "E"]
    assert all(hop.seconds is not None and hop.seconds >= 0 for hop in hops)
    assert [hop.cost for hop in hops] == [None, 1, 2, 3, None]
    assert line.target == LOCAL


def test_a_hop_that_is_silent(line: FakeNetwork) -> None:
    found = path.find(client(line), "E")
    line.silent = {"E"}
    assert path.as_row(path.trace(client(line), found)[-1]) == {"hop": 4, "router": "E", "ms": None, "cost": None}


def test_a_neighbour_may_be_nearer_by_another() -> None:
    network = FakeNetwork("A", {("A", "B"): 5, ("B", "C"): 1, ("A", "C"): 20})
    assert path.way(client(network), "A", "C") == ["A", "B", "C"]
    network.links["A", "C"] = 6
    assert path.way(client(network), "A", "C") == ["A", "C"]


def test_no_way(line: FakeNetwork) -> None:
    with pytest.raises(path.NoWayError, match="A knows no way to Z"):
        path.way(client(line), "A", "Z")
    assert line.target == LOCAL


def test_round_trips(line: FakeNetwork) -> None:
    times = iter([10.0, 10.5])
    assert path.round_trip(client(line), LOCAL, clock=lambda: next(times)) == 0.5
    line.silent = {"B"}
    assert path.round_trip(client(line), "_topo/0/B/$management") is None


@pytest.mark.parametrize(
    ("text", "target"),
    [("A", LOCAL), ("E", "_edge/E/$management"), ("D", "_topo/0/D/$management"), ("here", LOCAL)],
)
def test_targets(line: FakeNetwork, text: str, target: str) -> None:
    assert path.target_of(client(line), path.find(client(line), text)) == target
