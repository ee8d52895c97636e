"""Edge meshes: negotiation by transcript, and whole meshes that agree."""

from __future__ import annotations

import pytest

from vanrouter.errors import PeerError
from vanrouter.routing.mesh import (
    AttachPeerReceiver,
    BindPeer,
    DetachPeerReceiver,
    MeshPair,
    MeshPlane,
    SendMeshPair,
    SetMeshId,
    UnbindPeer,
    parse_pair,
)

LOW, OWN, HIGH, FRESH = (MeshPair(number, f"id{number}") for number in (1, 5, 9, 20))


def test_alone_is_a_mesh() -> None:
    assert MeshPlane(OWN).mesh_id == "id5"


def test_lowest_ordinal_wins() -> None:
    plane = MeshPlane(OWN)
    assert plane.on_peer_up(1, "F") == [
        BindPeer(connection_id=1, peer_id="F"),
        SendMeshPair(connection_id=1, pair=OWN),
    ]
    assert plane.on_pair(1, HIGH, FRESH) == []
    assert plane.on_pair(1, LOW, FRESH) == [SetMeshId(mesh_id="id1")]
    assert plane.mesh_id == "id1"
    assert plane.on_pair(7, LOW, FRESH) == []


def test_same_ordinal_draws_again() -> None:
    plane = MeshPlane(OWN)
    plane.on_peer_up(1, "F")
    assert plane.on_pair(1, MeshPair(5, "theirs"), FRESH) == [
        SendMeshPair(connection_id=1, pair=FRESH),
        SetMeshId(mesh_id="theirs"),
    ]
    assert plane.on_pair(1, MeshPair(30, "again"), FRESH) == [SetMeshId(mesh_id="id20")]


def test_lost_winner_starts_again() -> None:
    plane = MeshPlane(OWN)
    plane.on_peer_up(1, "F")
    plane.on_peer_up(2, "G")
    plane.on_pair(1, LOW, FRESH)
    plane.on_pair(2, HIGH, FRESH)
    assert plane.on_peer_lost(1, FRESH) == [
        UnbindPeer(connection_id=1, peer_id="F"),
        SendMeshPair(connection_id=2, pair=FRESH),
        SetMeshId(mesh_id="id9"),
    ]
    assert plane.on_peer_lost(1, FRESH) == []


def test_lost_loser_changes_nothing() -> None:
    plane = MeshPlane(OWN)
    plane.on_peer_up(1, "F")
    plane.on_pair(1, HIGH, FRESH)
    assert plane.on_peer_lost(1, FRESH) == [UnbindPeer(connection_id=1, peer_id="F")]
    plane.on_peer_up(2, "G")
    assert plane.on_peer_lost(2, FRESH) == [UnbindPeer(connection_id=2, peer_id="G")]


def test_one_of_several_connections_to_a_peer() -> None:
    plane = MeshPlane(OWN)
    plane.on_peer_up(1, "F")
    assert plane.on_peer_up(2, "F") == []
    assert plane.used("F") == 1
    plane.on_pair(1, LOW, FRESH)
    assert plane.on_peer_lost(1, FRESH) == [
        UnbindPeer(connection_id=1, peer_id="F"),
        BindPeer(connection_id=2, peer_id="F"),
        SendMeshPair(connection_id=2, pair=OWN),
    ]
    assert plane.mesh_id == "id1"
    plane.on_peer_up(3, "F")
    assert plane.on_peer_lost(3, FRESH) == []
    plane.on_peer_up(4, "F")
    plane._pairs.clear()
    assert plane.on_peer_lost(2, FRESH)[0] == UnbindPeer(connection_id=2, peer_id="F")
    assert plane.used("F") == 4


def test_consumers_are_announced_to_peers() -> None:
    plane = MeshPlane(OWN)
    assert plane.on_consumer_added("Mfoo") == []
    assert plane.on_peer_up(1, "F")[-1] == AttachPeerReceiver(connection_id=1, address="foo")
    plane.on_peer_up(2, "F")
    assert plane.on_consumer_added("Mbar") == [AttachPeerReceiver(connection_id=1, address="bar")]
    assert plane.on_consumer_added("Mbar") == []
    assert plane.on_consumer_added("HE") == []
    assert plane.on_consumer_removed("Mbar") == [DetachPeerReceiver(connection_id=1, address="bar")]
    assert plane.on_consumer_removed("Mbar") == []


def test_parse_pair() -> None:
    assert parse_pair({"ordinal": 7, "id": "x"}) == MeshPair(7, "x")


@pytest.mark.parametrize(
    "properties",
    [
        None,
        {},
        {"ordinal": 7},
        {"ordinal": True, "id": "x"},
        {"ordinal": -1, "id": "x"},
        {"ordinal": "7", "id": "x"},
        {"ordinal": 7, "id": ""},
        {"ordinal": 7, "id": 7},
        {"ordinal": 7, "id": "x" * 65},
    ],
)
def test_malformed_pairs(properties: object) -> None:
    with pytest.raises(PeerError):
        parse_pair(properties)
