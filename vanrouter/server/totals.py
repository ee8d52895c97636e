"""Sums over all links of a router, taken in slices: the numbers of routerMetrics and of `/metrics`.

Layer: 5. Totals of links that are gone are kept by the core; those that are there are added when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from vanrouter.core.links import Receiver, Sender
from vanrouter.core.router import CONTAINER_ROLES, COUNTED_IN, COUNTED_OUT, Router
from vanrouter.core.stuck import STUCK_S, zero_credit_s

SLICE_LINKS = 100
"""Links looked at in one go, a fifth of a millisecond."""


class Totals:
    """Sums over links; complete when `gather` has come to its end."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.counts: dict[str, int] = dict(router.totals)
        """By the core's names of the counters, and `in ROLE`, `out ROLE` of containers' deliveries."""
        self.blocked = 0
        """Links that have had no credit for more than 10 s."""
        self.queued = 0
        self.unsettled_in = 0
        self.unsettled_out = 0

    def gather(self) -> Iterator[None]:
        """Add up; between two steps the loop may go on."""
        links = list(self._router.links.values())
        for begin in range(0, len(links), SLICE_LINKS):
            for link in links[begin : begin + SLICE_LINKS]:
                # One that ends meanwhile keeps its counts, and the core's totals were copied before.
                self._add(link)
            yield

    def _add(self, link: Receiver | Sender) -> None:
        counts = self.counts
        is_in = isinstance(link, Receiver)
        for name in COUNTED_IN if is_in else COUNTED_OUT:
            value = getattr(link, name)
            if value:
                counts[name] = counts.get(name, 0) + value
        role = link.connection.role
        if role in CONTAINER_ROLES:
            name = f"{'in' if is_in else 'out'} {role.value}"
            counts[name] = counts.get(name, 0) + link.deliveries
        if link.closed:
            return
        if isinstance(link, Sender):
            self.queued += len(link.queue)
            self.unsettled_out += link.unsettled
        else:
            self.unsettled_in += link.unsettled
        self.blocked += zero_credit_s(link, self._router.reactor.now) > STUCK_S
