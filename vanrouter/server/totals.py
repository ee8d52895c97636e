"""Sums over everything in a router, taken in slices: the numbers of routerMetrics and of `/metrics`.

Layer: 5. What is gone is kept as totals by the core; what is there is added when somebody asks. A record that ends
between two slices keeps its numbers, and the totals were copied before it ended: nothing is counted twice or lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from vanrouter.core.connection import Connection
from vanrouter.core.links import Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.core.router import CONTAINER_ROLES, COUNTED_IN, COUNTED_OUT, Router
from vanrouter.core.stuck import STUCK_S, is_stuck_in, is_stuck_out, zero_credit_s

SLICE_LINKS = 64
"""Links looked at in one go, less than a tenth of a millisecond."""

SLICE_ROWS = 256
"""Of what costs less."""

_COUNTERS: dict[type[Any], list[tuple[str, Callable[[Any], int]]]] = {
    Receiver: [(name, attrgetter(name)) for name in COUNTED_IN],
    Sender: [(name, attrgetter(name)) for name in COUNTED_OUT],
}

SERVED = frozenset((Role.NORMAL, Role.ROUTE_CONTAINER))


def sliced(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield rows, so many at a time."""
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


class Totals:
    """Sums; complete when `gather` has come to its end."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.counts: dict[str, int] = dict(router.totals)
        """By the core's names of the counters, and `in ROLE`, `out ROLE` of containers' deliveries."""
        self.blocked = 0
        """Links that have had no credit for more than 10 s."""
        self.stuck = 0
        """Ends of deliveries that have been unsettled for more than 10 s."""
        self.queued = 0
        self.unsettled_in = 0
        self.unsettled_out = 0
        table = router.table
        self.ingress, self.egress, self.transit = table.gone_ingress, table.gone_egress, table.gone_transit
        self.services = {"tcp": 0, "amqp": 0, "http1": 0, "http2": 0}
        """Connections of clients and services by protocol."""
        self._before = router.reactor.now - STUCK_S
        self._links = list(router.links.values())
        self._addresses = list(table.addresses.values())

    def gather(self) -> Iterator[None]:
        """Add up; between two steps the loop may go on."""
        for links in sliced(self._links, SLICE_LINKS):
            self._add_counters(links)
            for link in links:
                self._add_link(link)
            yield
        for addresses in sliced(self._addresses, SLICE_ROWS):
            self.ingress += sum(address.deliveries_ingress for address in addresses)
            self.egress += sum(address.deliveries_egress for address in addresses)
            self.transit += sum(address.deliveries_transit for address in addresses)
            yield
        for connections in sliced(list(self._router.connections.values()), SLICE_ROWS):
            for connection in connections:
                self._add_connection(connection)
            yield
        for connection in list(self._router.amqp_connections.values()):
            yield from self._find_stuck(connection)

    def _add_counters(self, links: Sequence[Receiver | Sender]) -> None:
        """Add the columns of counters, which is several times as fast as going from link to link."""
        counts = self.counts
        for kind, counters in _COUNTERS.items():
            found = [link for link in links if type(link) is kind]
            for name, read in counters:
                value = sum(map(read, found))
                if value:
                    counts[name] = counts.get(name, 0) + value

    def _add_link(self, link: Receiver | Sender) -> None:
        is_out = type(link) is Sender
        role = link.connection.role
        if role in CONTAINER_ROLES:
            name = f"{'out' if is_out else 'in'} {role.value}"
            self.counts[name] = self.counts.get(name, 0) + link.deliveries
        if link.closed:
            return
        if isinstance(link, Sender):
            self.unsettled_out += link.unsettled
            if link.queue:
                self.queued += len(link.queue)
                self.stuck += sum(is_stuck_out(waiting, self._before) for waiting in link.queue)
        else:
            self.unsettled_in += link.unsettled
        if link.zero_credit_since is not None:
            self.blocked += zero_credit_s(link, self._router.reactor.now) > STUCK_S

    def _add_connection(self, connection: Any) -> None:
        if not isinstance(connection, Connection):
            self.services[getattr(connection, "protocol", "tcp")] += 1
        elif connection.role in SERVED:
            self.services["amqp"] += 1

    def _find_stuck(self, connection: Connection) -> Iterator[None]:
        before = self._before
        for incoming in sliced(list(connection.incoming.values()), SLICE_ROWS):
            self.stuck += sum(is_stuck_in(found, before) for found in incoming)
            yield
        for outgoing in sliced(list(connection.outgoing.values()), SLICE_ROWS):
            self.stuck += sum(is_stuck_out(found, before) for found in outgoing)
            yield
