"""Shortest paths, hop counts and valid origins from the link states of a network. Layer: 2. Router protocol section 6.

Every router must come to the same trees, so the order is fixed: routers are finished in ascending order of (cost, id)
and the first that gives a router its lowest cost stays its predecessor. Ids are numbered in ascending order, and
`cost * count + number` is the heap's key: one integer that compares as (cost, id) does.

Routes are computed once for the own root. Trees of other roots, needed for valid origins only, are computed when a
message with that ingress is seen and kept until the next topology.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

Peers = Mapping[str, int]
"""Link state of one router: neighbour id to cost, at least 1."""


class Route(NamedTuple):
    """The way to one router: the first router on it, its cost, and its hops along the tree."""

    next_hop: str
    cost: int
    hops: int


class PathMap:
    """Paths in one unchanging topology.

    Args:
        own_id: the root of the routes.
        link_states: peers of each known router, the own one among them; the order matters only for routers that are
            named without being known: they count as linked, at cost 1, with the first that names them (section 6.1).
            Kept: a router's new link state is another map, never a changed one.
        previous: the paths before; what of the graph is the same is taken over from them.
    """

    def __init__(self, own_id: str, link_states: Mapping[str, Peers], previous: PathMap | None = None) -> None:
        self.own_id = own_id
        self._link_states = link_states
        self._has_strangers = False
        """Whether routers are named without being known."""
        if previous is None or not self._take_over(previous):
            self._build()
        self._heard = self._links_heard(link_states.get(own_id, {}))
        """Links to this router that their other ends have not announced (yet): router and link."""
        self._passed: dict[str, frozenset[str]] = {}
        self._forwarded: dict[str, frozenset[str]] = {}
        self._hops_from: dict[str, int] = {}
        self.radius = 0
        self.routes = self._own_routes()

    def __contains__(self, router_id: object) -> bool:
        return router_id in self._numbers

    def _build(self) -> None:
        link_states = self._link_states
        named_by: dict[str, str] = {}
        for router_id, peers in link_states.items():
            for peer in peers:
                if peer not in link_states and peer not in named_by:
                    named_by[peer] = router_id
        self._has_strangers = bool(named_by)
        self._ids = sorted({self.own_id, *link_states, *named_by})
        self._numbers = {router_id: number for number, router_id in enumerate(self._ids)}
        self._edges: list[list[tuple[int, int]]] = [[] for _ in self._ids]
        for router_id, peers in link_states.items():
            self._edges[self._numbers[router_id]] = self._row(peers)
        for peer, router_id in named_by.items():
            self._edges[self._numbers[peer]] = [(self._numbers[router_id], 1)]

    def _row(self, peers: Peers) -> list[tuple[int, int]]:
        numbers = self._numbers
        return [(numbers[peer], cost) for peer, cost in peers.items()]

    def _take_over(self, previous: PathMap) -> bool:
        """Begin from an earlier graph of the same routers, but for the rows that differ; returns whether that could be.

        In a large network most of a computation is else the numbering of what has not changed.
        """
        before, now = previous._link_states, self._link_states
        if previous._has_strangers or before.keys() != now.keys():
            return False
        self._ids, self._numbers = previous._ids, previous._numbers
        self._edges = previous._edges.copy()
        for router_id, peers in now.items():
            if peers is not before[router_id]:
                if not peers.keys() <= now.keys():
                    return False
                self._edges[self._numbers[router_id]] = self._row(peers)
        return True

    def _links_heard(self, own_peers: Peers) -> list[tuple[int, tuple[int, int]]]:
        me = self._numbers[self.own_id]
        return [
            (number, (me, cost))
            for number, cost in ((self._numbers[peer], cost) for peer, cost in own_peers.items())
            if all(there != me for there, _ in self._edges[number])
        ]

    def _tree(self, root: int) -> tuple[list[int], list[int], list[int]]:
        """Return the routers in the order in which they were finished, the predecessors and the costs (-1: no path)."""
        count = len(self._ids)
        costs = [-1] * count
        before = [-1] * count
        edges = self._edges
        finished: list[int] = []
        costs[root] = 0
        heap = [root]
        while heap:
            cost, here = divmod(heappop(heap), count)
            if cost > costs[here]:
                continue
            finished.append(here)
            for there, step in edges[here]:
                known = costs[there]
                if known < 0 or cost + step < known:
                    costs[there] = cost + step
                    before[there] = here
                    heappush(heap, (cost + step) * count + there)
        return finished, before, costs

    def _own_routes(self) -> dict[str, Route]:
        me = self._numbers[self.own_id]
        finished, before, costs = self._tree(me)
        first = list(range(len(self._ids)))
        hops = [0] * len(self._ids)
        routes: dict[str, Route] = {}
        for here in finished[1:]:
            previous = before[here]
            if previous != me:
                first[here] = first[previous]
            hops[here] = hops[previous] + 1
            routes[self._ids[here]] = Route(self._ids[first[here]], costs[here], hops[here])
        self.radius = max(hops)
        return routes

    def forwarded_for(self, origin: str) -> frozenset[str] | None:
        """Return the routers towards which this router passes on what entered the network at `origin`.

        Those behind this router on the tree of `origin`; None when `origin` is not known here.
        """
        known = self._forwarded.get(origin)
        if known is None and origin in self._numbers:
            known = self._forwarded[origin] = frozenset(self._behind(origin))
        return known

    def passes(self, origin: str, router_id: str) -> bool:
        """Tell whether this router passes on to `router_id` what has one destination and entered at `origin`.

        Besides the valid origins (section 6.3) those that are valid over links which only this end has announced: a
        neighbour is among the own peers once its HELLO has named this router, so it has the link too, and its link
        state that says so is on the way. Without them the first flows of a fresh network end in its middle. Copies of a
        multicast do not follow: until all have the same link states they could come twice.
        """
        behind = self.forwarded_for(origin)
        if behind is None or router_id in behind:
            return behind is not None
        if not self._heard:
            return False
        passed = self._passed.get(origin)
        if passed is None:
            for number, link in self._heard:
                self._edges[number].append(link)
            passed = self._passed[origin] = frozenset(self._behind(origin))
            for number, _ in self._heard:
                self._edges[number].pop()
        return router_id in passed

    def hops_from(self, origin: str) -> int:
        """Return the hops that a message from `origin` takes to here; 0 when it has no way.

        Not the hops to `origin`: of two ways of one cost, or of two costs of one link, either direction takes its own.
        """
        self.forwarded_for(origin)
        return self._hops_from.get(origin, 0)

    def _behind(self, origin: str) -> Iterable[str]:
        me = self._numbers[self.own_id]
        finished, before, costs = self._tree(self._numbers[origin])
        if origin == self.own_id:
            return [self._ids[here] for here in finished[1:]]
        if costs[me] >= 0:
            here, hops = me, 0
            while before[here] >= 0:
                here, hops = before[here], hops + 1
            self._hops_from[origin] = hops
        is_behind = bytearray(len(self._ids) + 1)  # the last one answers for the root's predecessor, -1
        is_behind[me] = 1
        behind: list[str] = []
        for here in finished:
            if is_behind[before[here]]:
                is_behind[here] = 1
                behind.append(self._ids[here])
        return behind

    def valid_origins(self, router_id: str) -> list[str]:
        """Return the origins, this router apart, from which messages are passed on towards `router_id` (section 6.3).

        Computes the trees of all routers: for management, not for deliveries.
        """
        if router_id not in self.routes:
            return []
        return [
            origin for origin in self._ids if origin != self.own_id and router_id in (self.forwarded_for(origin) or ())
        ]
