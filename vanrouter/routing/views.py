"""What management may see of the control plane: routers as rows, and counters. Layer: 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from vanrouter.routing.linkstate import Node
from vanrouter.routing.paths import PathMap


@dataclass(slots=True)
class ControlCounters:
    """Totals since the start; the four maps count by opcode, unknown ones as `other`."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Copies of RAs that were not worth passing on."""
    path_computations: int = 0
    restarts_seen: int = 0
    held_neighbours: int = 0
    oversized_updates: int = 0
    forged: int = 0
    """Messages that say they are of another router than the one where they began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One router as this one sees it. `next_hop`, `cost` and `connection_id` are None without an installed route."""

    id: str
    instance: int | None
    peers: Mapping[str, int]
    """Its neighbours and the costs of its links to them, by its link state."""
    heard_at: float | None
    """Monotonic seconds of its last RA or LSU; None of the router itself, or before the first."""
    next_hop: str | None
    cost: int | None
    is_neighbour: bool
    connection_id: int | None
    ls_seq: int
    mobile_seq: int
    address_count: int
    last_topology_change: float
    """Monotonic seconds."""
    paths: PathMap = field(repr=False, compare=False)

    @property
    def neighbours(self) -> tuple[str, ...]:
        """Ids of its neighbours."""
        return tuple(self.peers)

    @property
    def valid_origins(self) -> list[str]:
        """Origins from which messages are passed on towards this router (section 6.3); computed when it is read."""
        return self.paths.valid_origins(self.id)


def view_of_self(
    router_id: str,
    numbers: tuple[int, int, int, int],
    peers: Mapping[str, int],
    paths: PathMap,
    last_topology_change: float,
) -> NodeView:
    """Return the own row; `numbers`: instance, of the link state, of the addresses, and how many these are."""
    return NodeView(
        id=router_id,
        instance=numbers[0],
        peers=peers,
        heard_at=None,
        next_hop=None,
        cost=0,
        is_neighbour=False,
        connection_id=None,
        ls_seq=numbers[1],
        mobile_seq=numbers[2],
        address_count=numbers[3],
        last_topology_change=last_topology_change,
        paths=paths,
    )


def view_of(node: Node, paths: PathMap, last_topology_change: float, *, is_neighbour: bool) -> NodeView:
    """Return the row of another router."""
    route = node.installed
    return NodeView(
        id=node.id,
        instance=node.instance,
        peers=node.peers,
        heard_at=node.heard_at,
        next_hop=None if route is None else route.next_hop,
        cost=None if route is None else route.cost,
        is_neighbour=is_neighbour,
        connection_id=None if route is None else route.connection_id,
        ls_seq=node.ls_seq,
        mobile_seq=node.addresses.mobile_seq,
        address_count=len(node.addresses.by_key),
        last_topology_change=last_topology_change,
        paths=paths,
    )
