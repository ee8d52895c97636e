"""Rows for management."""

from __future__ import annotations

from vanrouter.routing.linkstate import InstalledRoute, Node
from vanrouter.routing.paths import PathMap
from vanrouter.routing.views import view_of, view_of_self

LINE = {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {"B": 1}}


def test_row_of_a_router() -> None:
    node = Node("C")
    paths = PathMap("B", LINE)
    bare = view_of(node, paths, 5.0, is_neighbour=False)
    assert (bare.next_hop, bare.cost, bare.connection_id) == (None, None, None)
    node.installed = InstalledRoute("C", 3, 1, True)
    node.peers = {"B": 1}
    row = view_of(node, paths, 5.0, is_neighbour=True)
    assert (row.next_hop, row.cost, row.connection_id, row.neighbours) == ("C", 1, 3, ("B",))
    assert (row.peers, row.heard_at) == ({"B": 1}, None)
    assert row.valid_origins == ["A"]


def test_own_row() -> None:
    row = view_of_self("B", (7, 2, 3, 4), {"A": 1, "C": 1}, PathMap("B", LINE), 5.0)
    assert (row.instance, row.ls_seq, row.mobile_seq, row.address_count) == (7, 2, 3, 4)
    assert (row.neighbours, row.cost, row.next_hop, row.heard_at) == (("A", "C"), 0, None, None)
