"""What the control plane asks of its host, and what it is told once: commands and settings. Layer: 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """Intervals and bounds of the routing protocol; defaults of router protocol section 12 where it names them."""

    hello_interval_s: float = 1.0
    hello_max_age_s: float = 3.0
    ra_interval_s: float = 30.0
    ra_interval_flux_s: float = 4.0
    remote_ls_max_age_s: float = 60.0
    unreachable_holdoff_s: float = 1.0
    mau_interval_s: float = 1.0
    """What changes within so long after a differential MAU is gathered; a change after quiet goes out at once."""
    ra_min_gap_s: float = 0.1
    """Least distance of two RAs caused by changes."""
    path_wait_s: float = 0.02
    """Wait between two path computations after remote changes; doubles while changes go on. Own links never wait."""
    path_wait_max_s: float = 0.25
    retry_s: float = 0.5
    """First wait before an unanswered LSR or MAR is repeated; doubles."""
    retry_max_s: float = 4.0
    flap_threshold: float = 2.5
    """Losses of one neighbour, halved every `flap_half_life_s`, from which on its return is held back."""
    flap_half_life_s: float = 10.0
    flap_hold_max_s: float = 2.0
    max_routers: int = 4096
    """Routers known at a time, the own one included. C routers end at 128 (section 12); others are not held to that."""
    max_addresses_per_router: int = 250_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SendControl:
    """Send a control message, pre-settled, on control links only.

    With `connection_id` it goes out on that connection's control link whatever `to` says; without, by `to`: an `R`
    address to the router's next hop, `_topo/0/all/qdrouter` flooded to every neighbour, `_topo/0/all/qdrouter.ma` along
    the own tree. `body` has plain str keys; messages that say the same share one object, not to be changed.
    """

    opcode: str
    to: str
    body: dict[str, object]
    connection_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNode:
    """Install or change the route to a router."""

    router_id: str
    next_hop: str
    connection_id: int
    cost: int
    is_neighbour: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNode:
    """Forget a router: its route and all addresses bound to it."""

    router_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRadius:
    """Take over the largest hop count; a message whose trace is longer than `hops` + 1 is released (section 4.4)."""

    hops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BindAddress:
    """A router has the address, or its attributes changed.

    `hint` is the treatment code 0 to 4, or -1 for the receiver's default; `weight` is None unless the router gave one.
    """

    router_id: str
    key: str
    hint: int
    mesh_id: str | None
    weight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindAddress:
    """A router no longer has the address."""

    router_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChanged:
    """Routes changed; the reason is for the log."""

    reason: str
    is_new_topology: bool = True
    """Routers, links or costs changed, and not only the connections that carry them."""


Command: TypeAlias = SendControl | SetNode | RemoveNode | SetRadius | BindAddress | UnbindAddress | RouteChanged
