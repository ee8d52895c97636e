"""What a delivery is asked by its origin: may it go on from here, and can it have come this way. Layer: 2.

Source: router protocol sections 4.4, 5.1 and 6.3. Asked for each delivery in transit: the paths that answer are
computed once for each topology and origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vanrouter.routing.addresses import bare_id
from vanrouter.routing.complaints import Complaints
from vanrouter.routing.neighbours import Neighbours
from vanrouter.routing.paths import PathMap, Peers


class Origins:
    """The questions of the data path to the present topology; part of the control plane, which sets both."""

    router_id: str
    _paths: PathMap
    _radius: int
    _is_dirty: bool
    """Something has changed since the paths were computed; they are, once they were left alone for long enough."""
    _newest: PathMap | None
    """Paths by what is known now, if somebody asked for them meanwhile."""
    _neighbours: Neighbours
    _complaints: Complaints

    def is_valid_origin(self, router_id: str, origin: str | None) -> bool:
        """Whether a message that entered the network at `origin` may be passed on towards `router_id` (section 6.3).

        No origin, the own id and, as anycast has it, an id that is not known count as this router itself. Multicast
        blocks the latter two: ask `is_known_origin` first. `origin` may be a bare id or in the form of the annotations.

        Do not hold control messages to one router to it: two routers with old link states of each other's neighbours
        would drop each other's questions for ever (the simulator finds this). Those end where they have been before.
        """
        if origin is None:
            return True
        forwarded = self._paths.forwarded_for(origin)
        if forwarded is None:
            origin = bare_id(origin)
            forwarded = self._paths.forwarded_for(origin)
        return forwarded is None or origin == self.router_id or router_id in forwarded

    def may_pass(self, router_id: str, origin: str | None) -> bool:
        """Whether a message for one destination may.

        Also over links that only this end has announced so far, and by link states that came after the last
        computation: they are a quarter of a second ahead of it at most, and the routers behind may have used them.
        """
        if self.is_valid_origin(router_id, origin):
            return True
        origin = bare_id(origin or "")
        return self._paths.passes(origin, router_id) or (
            self._is_dirty and self._newest_paths().passes(origin, router_id)
        )

    def _newest_paths(self) -> PathMap:
        if self._newest is None:
            self._newest = PathMap(self.router_id, self._link_states(), self._paths)
        return self._newest

    def _link_states(self) -> Mapping[str, Peers]:
        """Return the peers of all routers, as known now."""
        raise NotImplementedError

    def is_plausible_trace(self, origin: str, trace_length: int) -> bool:
        """Whether a message that entered the network at `origin` may have passed so many routers.

        More than the radius rule of section 4.4, which drops what takes a way with more hops than any that begins here:
        with unequal costs such ways exist. To be asked when the radius rule would release a message.
        """
        return trace_length <= max(self._radius, self._paths.hops_from(bare_id(origin))) + 1

    def is_known_origin(self, origin: str) -> bool:
        """Whether an ingress is another router that is known here, so that its multicast may be passed on."""
        origin = bare_id(origin)
        return origin != self.router_id and origin in self._paths

    def has_strange_trace(self, trace: Sequence[str], connection_id: int, container: str) -> bool:
        """Whether a control message has not come from the peer that sent it, by its own account; counted.

        What a peer makes up has gone through the peer, and says so: the trace ends with it. `container`: who its OPEN
        says it is; it may also go by the name of its HELLOs.
        """
        if not trace or bare_id(trace[-1]) in self._names(connection_id, container):
            return False
        self._complaints.forged(bare_id(trace[-1]), container, connection_id)
        return True

    def is_forged(
        self, opcode: str, claimed: str, ingress: str | None, trace: Sequence[str], connection_id: int, container: str
    ) -> bool:
        """Whether a control message says that it is of another router than the one where it began; counted.

        Without annotations it began at the peer: under the name of its HELLOs, which the first of them gives it.
        """
        names = self._names(connection_id, container)
        if trace:
            is_right = claimed == bare_id(trace[0]) == bare_id(ingress or claimed)
        else:
            is_right = claimed in names or (opcode == "HELLO" and len(names) == 1)
        if not is_right:
            self._complaints.forged(claimed, container, connection_id)
        return not is_right

    def _names(self, connection_id: int, container: str) -> set[str]:
        link = self._neighbours.links.get(connection_id)
        return {container} if link is None or not link.peer_id else {container, link.peer_id}
