"""Edge meshes: the common mesh id, and the links that edges attach to each other. Layer: 2.

Source: router protocol section 9.6.
Every edge has a pair of an ordinal and an id and tells it to each peer; the id of the lowest ordinal is the mesh's. An
edge alone is a mesh of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from vanrouter.errors import PeerError

MAX_ORDINAL: Final = 2**63 - 1
MAX_MESH_ID_LENGTH: Final = 64


class MeshPair(NamedTuple):
    """What an edge brings into the negotiation.

    `ordinal` is its start in microseconds since the epoch plus a random 0 to 999,999; `mesh_id` 15 random characters.
    """

    ordinal: int
    mesh_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMeshPair:
    """Send the pair to a peer, on the negotiation link of the connection."""

    connection_id: int
    pair: MeshPair


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMeshId:
    """Take over the mesh id: announce it to the interior, add it to what goes up."""

    mesh_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BindPeer:
    """Attach the uplink to a peer edge and use it for `_edge/<peer>/...`."""

    connection_id: int
    peer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindPeer:
    """The connection to a peer edge is gone."""

    connection_id: int
    peer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachPeerReceiver:
    """Attach a receiver with this source address: a local consumer is announced to a peer edge."""

    connection_id: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachPeerReceiver:
    """Detach (closed) such a receiver."""

    connection_id: int
    address: str


MeshCommand: TypeAlias = SendMeshPair | SetMeshId | BindPeer | UnbindPeer | AttachPeerReceiver | DetachPeerReceiver


def parse_pair(properties: object) -> MeshPair:
    """Return the pair of a negotiation message.

    Args:
        properties: its decoded application properties.

    Raises:
        PeerError: one of the two is missing or of the wrong kind.
    """
    found = properties if isinstance(properties, dict) else {}
    ordinal, mesh_id = found.get("ordinal"), found.get("id")
    if not isinstance(ordinal, int) or isinstance(ordinal, bool) or not 0 <= ordinal <= MAX_ORDINAL:
        raise PeerError("amqp:invalid-field", "mesh negotiation: ordinal is missing or not an integer")
    if not isinstance(mesh_id, str) or not 0 < len(mesh_id) <= MAX_MESH_ID_LENGTH:
        raise PeerError("amqp:invalid-field", "mesh negotiation: id is missing or not a text")
    return MeshPair(int(ordinal), str(mesh_id))


class MeshPlane:
    """The mesh as one edge sees it.

    Args:
        pair: the own pair; later ones are handed in with the event that needs them.
    """

    def __init__(self, pair: MeshPair) -> None:
        self.pair = pair
        self.mesh_id = pair.mesh_id
        self._peers: dict[int, str] = {}
        self._pairs: dict[int, MeshPair] = {}
        self._keys: dict[str, None] = {}

    def used(self, peer_id: str) -> int | None:
        """Return the connection in use to a peer: the first of several."""
        return next((number for number, peer in self._peers.items() if peer == peer_id), None)

    def _is_used(self, connection_id: int) -> bool:
        return self.used(self._peers[connection_id]) == connection_id

    def on_peer_up(self, connection_id: int, peer_id: str) -> list[MeshCommand]:
        """Take in an open inter-edge connection."""
        self._peers[connection_id] = peer_id
        return self._begin(connection_id) if self._is_used(connection_id) else []

    def _begin(self, connection_id: int) -> list[MeshCommand]:
        commands: list[MeshCommand] = [BindPeer(connection_id=connection_id, peer_id=self._peers[connection_id])]
        commands.append(SendMeshPair(connection_id=connection_id, pair=self.pair))
        commands += [AttachPeerReceiver(connection_id=connection_id, address=key[1:]) for key in self._keys]
        return commands

    def on_peer_lost(self, connection_id: int, fresh: MeshPair) -> list[MeshCommand]:
        """Take in the end of a connection; another one to the same peer is used instead.

        Args:
            connection_id: the connection.
            fresh: a new pair, used if the lost peer was the winner and is reached no other way.
        """
        if connection_id not in self._peers:
            return []
        was_used = self._is_used(connection_id)
        peer_id = self._peers.pop(connection_id)
        pair = self._pairs.pop(connection_id, None)
        if not was_used:
            return []
        commands: list[MeshCommand] = [UnbindPeer(connection_id=connection_id, peer_id=peer_id)]
        successor = self.used(peer_id)
        if successor is not None:
            if pair is not None:
                self._pairs.setdefault(successor, pair)
            return commands + self._begin(successor)
        if pair is not None and pair.mesh_id == self.mesh_id and self.pair.mesh_id != self.mesh_id:
            commands += self._start_again(fresh)
        return commands + self._elect()

    def on_pair(self, connection_id: int, pair: MeshPair, fresh: MeshPair) -> list[MeshCommand]:
        """Take in the pair of a peer.

        Args:
            connection_id: where it came in.
            pair: the peer's.
            fresh: a new pair, used if the peer has drawn the own ordinal.
        """
        if connection_id not in self._peers:
            return []
        self._pairs[connection_id] = pair
        commands = self._start_again(fresh) if pair.ordinal == self.pair.ordinal else []
        return commands + self._elect()

    def _start_again(self, fresh: MeshPair) -> list[MeshCommand]:
        self.pair = fresh
        return [SendMeshPair(connection_id=number, pair=fresh) for number in self._peers if self._is_used(number)]

    def _elect(self) -> list[MeshCommand]:
        winner = min([self.pair, *self._pairs.values()])
        if winner.mesh_id == self.mesh_id:
            return []
        self.mesh_id = winner.mesh_id
        return [SetMeshId(mesh_id=winner.mesh_id)]

    def on_consumer_added(self, key: str) -> list[MeshCommand]:
        """A key of class `M` has got a local consumer that is neither a proxy nor another edge's link."""
        if not key.startswith("M") or key in self._keys:
            return []
        self._keys[key] = None
        return [AttachPeerReceiver(connection_id=number, address=key[1:]) for number in self._in_use()]

    def on_consumer_removed(self, key: str) -> list[MeshCommand]:
        """The last such consumer is gone."""
        if key not in self._keys:
            return []
        del self._keys[key]
        return [DetachPeerReceiver(connection_id=number, address=key[1:]) for number in self._in_use()]

    def _in_use(self) -> list[int]:
        return [number for number in self._peers if self._is_used(number)]
