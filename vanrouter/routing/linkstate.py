"""What is known of each other router: instance, link state, addresses, route. Layer: 2. Router protocol section 5.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vanrouter.routing.messages import Advertisement, LinkStateUpdate
from vanrouter.routing.mobile import RemoteAddresses

STALE_INSTANCE_S = 10.0
"""A message of the instance before the present one is taken for a late one for so long. The C router takes each for
another restart."""

LOWER_NUMBERS_S = 2.0
"""RAs that name lower numbers than are stored for so long are right, not late: the stored ones are given up."""

FLOOD_WINDOW_S = 1.0
"""Further copies of an RA within so long need not be passed on; the sender's own repetitions are 4 s apart or more."""


class InstalledRoute(NamedTuple):
    """The route to a router as the host has it."""

    next_hop: str
    connection_id: int
    cost: int
    is_neighbour: bool


class Flood:
    """An RA that was passed on; the last of one instance."""

    __slots__ = ("at", "instance", "ls_seq", "mobile_seq", "trace_length")

    def __init__(self, instance: int, ls_seq: int, mobile_seq: int, trace_length: int, at: float) -> None:
        self.instance = instance
        self.ls_seq = ls_seq
        self.mobile_seq = mobile_seq
        self.trace_length = trace_length
        self.at = at


class Node:
    """Record of one other router."""

    __slots__ = (
        "addresses",
        "announced_ls_seq",
        "announced_mobile_seq",
        "answered",
        "asked_count",
        "flooded",
        "fresh_until",
        "heard_at",
        "id",
        "installed",
        "instance",
        "instance_since",
        "is_confirmed",
        "is_reachable",
        "lower_since",
        "ls_seq",
        "owes_addresses",
        "owes_link_state",
        "peers",
        "previous_instance",
        "wants_addresses",
    )

    def __init__(self, router_id: str) -> None:
        self.id = router_id
        self.instance: int | None = None
        self.previous_instance: int | None = None
        self.instance_since = 0.0
        self.is_confirmed = False  # whether a link state came since the router became reachable
        self.ls_seq = 0
        self.peers: dict[str, int] = {}
        self.fresh_until = 0.0
        self.heard_at: float | None = None
        self.announced_ls_seq = 0
        self.announced_mobile_seq = 0
        self.lower_since: float | None = None
        self.addresses = RemoteAddresses()
        self.is_reachable = False
        self.installed: InstalledRoute | None = None
        self.wants_addresses = False
        self.asked_count = 0
        self.owes_link_state = self.owes_addresses = False
        self.answered = (0, 0.0)  # number and time of the last absolute MAU sent to it
        self.flooded: tuple[Flood, ...] = ()

    @property
    def lacks_link_state(self) -> bool:
        """Whether an LSR is worth sending."""
        return not self.is_confirmed or self.announced_ls_seq > self.ls_seq

    @property
    def lacks_addresses(self) -> bool:
        """Whether a MAR is worth sending."""
        return self.wants_addresses or self.announced_mobile_seq > self.addresses.mobile_seq

    def is_late(self, instance: int, now: float) -> bool:
        """Whether a message comes from the router's life before its restart."""
        return (
            instance != self.instance
            and instance == self.previous_instance
            and now < self.instance_since + STALE_INSTANCE_S
        )

    def take_instance(self, instance: int, now: float) -> bool:
        """Take in the instance of a HELLO or RA; returns whether the router has restarted (section 5.8)."""
        if instance == self.instance:
            return False
        is_restart = self.instance is not None
        self.previous_instance = self.instance
        self.instance = instance
        self.instance_since = now
        if is_restart:
            self.clear_link_state()
            self.announced_mobile_seq = 0
            self.lower_since = None
            self.asked_count = 0
        return is_restart

    def clear_link_state(self) -> None:
        """Forget the link state and its number."""
        self.is_confirmed = False
        self.ls_seq = 0
        self.announced_ls_seq = 0
        self.peers = {}

    def take_numbers(self, advertisement: Advertisement, now: float) -> bool:
        """Take in the numbers of an RA; returns whether they are news.

        Lower numbers than the stored ones come from a late copy. When they stay, what is stored came from somebody
        else, or the router restarted within its second: the number is given up, so that the true state is asked for.
        """
        is_lower = advertisement.ls_seq < max(self.ls_seq, self.announced_ls_seq) or advertisement.mobile_seq < max(
            self.addresses.mobile_seq, self.announced_mobile_seq
        )
        if not is_lower:
            self.lower_since = None
        elif self.lower_since is None:
            self.lower_since = now
        elif now - self.lower_since >= LOWER_NUMBERS_S:
            self._give_up_higher(advertisement)
        before = (self.announced_ls_seq, self.announced_mobile_seq)
        self.announced_ls_seq = max(self.announced_ls_seq, advertisement.ls_seq)
        self.announced_mobile_seq = max(self.announced_mobile_seq, advertisement.mobile_seq)
        return before != (self.announced_ls_seq, self.announced_mobile_seq)

    def _give_up_higher(self, advertisement: Advertisement) -> None:
        self.lower_since = None
        if advertisement.ls_seq < max(self.ls_seq, self.announced_ls_seq):
            self.is_confirmed = False
            self.ls_seq = -1  # any link state is newer; the peers stay until it comes
        if advertisement.mobile_seq < max(self.addresses.mobile_seq, self.announced_mobile_seq):
            self.addresses.mobile_seq = 0
            self.wants_addresses = True
        self.announced_ls_seq = self.announced_mobile_seq = 0

    def take_link_state(self, update: LinkStateUpdate) -> bool:
        """Take in an LSU; returns whether it is of this life of the router, and newer or still to be confirmed."""
        if update.instance is not None:
            if self.instance is None:
                self.instance = update.instance
            elif update.instance != self.instance:
                return False
        if update.ls_seq <= self.ls_seq and (self.is_confirmed or update.ls_seq < self.ls_seq):
            return False
        self.is_confirmed = True
        self.ls_seq = update.ls_seq
        self.peers = update.peers
        return True

    def is_repeated_flood(self, instance: int, ls_seq: int, mobile_seq: int, trace_length: int, now: float) -> bool:
        """Whether passing this copy of an RA on would tell nobody anything; if not, it is noted as passed on.

        So it is when the same numbers, or higher ones, of the same instance were passed on within the window with no
        longer a trace. Two instances are remembered, so that RAs from before and after a restart, both on their way,
        do not take turns in being new.
        """
        for flood in self.flooded:
            if flood.instance == instance:
                break
        else:
            self.flooded = (Flood(instance, ls_seq, mobile_seq, trace_length, now), *self.flooded[:1])
            return False
        if now < flood.at + FLOOD_WINDOW_S:
            is_older = ls_seq <= flood.ls_seq and mobile_seq <= flood.mobile_seq
            is_same = ls_seq == flood.ls_seq and mobile_seq == flood.mobile_seq
            if is_older and (not is_same or trace_length >= flood.trace_length):
                return True
        flood.ls_seq, flood.mobile_seq, flood.trace_length, flood.at = ls_seq, mobile_seq, trace_length, now
        return False


class NodeTable:
    """The records of all other routers, bounded."""

    def __init__(self, own_id: str, max_routers: int) -> None:
        self._own_id = own_id
        self._nodes: dict[str, Node] = {}
        self.max_routers = max_routers
        self.refused = 0
        self._named: set[str] | None = None
        """Who is among anybody's peers; None after a change, until somebody asks."""

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, router_id: str) -> Node:
        return self._nodes[router_id]

    def get(self, router_id: str) -> Node | None:
        """Return the record of a router."""
        return self._nodes.get(router_id)

    def learn(self, router_id: str) -> Node | None:
        """Return the record of a router, made if there is none; None, counted, when the table is full or it is us."""
        node = self._nodes.get(router_id)
        if node is None and router_id != self._own_id:
            if len(self._nodes) + 1 >= self.max_routers:
                self.refused += 1
                return None
            node = self._nodes[router_id] = Node(router_id)
        return node

    def delete(self, node: Node) -> None:
        """Remove a record."""
        del self._nodes[node.id]

    def is_named(self, router_id: str) -> bool:
        """Whether any router has this one among its peers.

        Asked of many in a row: when a large network starts, of each router that is not reached within seconds.
        """
        if self._named is None:
            self._named = set().union(*[node.peers for node in self._nodes.values()])
        return router_id in self._named

    def note_change(self) -> None:
        """Take in that some router's peers have changed."""
        self._named = None

    def link_states(self, own_peers: dict[str, int]) -> dict[str, dict[str, int]]:
        """Return the input of path computation, the own link state first."""
        states = {self._own_id: own_peers}
        for node in self._nodes.values():
            states[node.id] = node.peers
        return states
