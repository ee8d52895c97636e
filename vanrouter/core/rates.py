"""Settlements a second on each link, for management.

Layer: 3. Source: management.md section 7 (settleRate: averaged over 5 s). Nothing is kept for this on the way of a
delivery: the counters that links have anyway are looked at now and then, on connections that have moved octets since.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from vanrouter.core.links import Receiver, Sender

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

PERIOD_S = 2.0
"""Between two looks; the average is that of one to two periods, 5 s at most."""

AT_ONCE = 1000
PAUSE_S = 0.001
"""After so many links, the pause until the next ones: those of ten thousand flows in one turn took 20 ms.
For so long the rates of some are not exact."""

Link = Receiver | Sender
Table = Mapping[Any, Receiver] | Mapping[Any, Sender]
"""The links of one direction of a connection."""


def settlements(link: Link) -> int:
    """Return the deliveries of a link that are settled, by either side."""
    return link.accepted + link.rejected + link.released + link.modified + link.presettled


class SettleRates:
    """Looks at the counters."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._seen: dict[Connection, tuple[int, int]] = {}
        """Octets of each connection at the last look, and how many looks they have been the same."""
        self._last_at = self._before_at = router.reactor.now

    def start(self) -> None:
        """Look every period from now on."""
        self._router.reactor.call_on_beat(PERIOD_S, self._look)

    def rate(self, link: Link) -> int:
        """Return settlements a second of the last seconds."""
        span = self._router.reactor.now - max(self._before_at, link.connection.opened_at)
        return round((settlements(link) - link.sampled_before) / span) if span > 0 else 0

    def _look(self) -> None:
        self._before_at, self._last_at = self._last_at, self._router.reactor.now
        seen: dict[Connection, tuple[int, int]] = {}
        tables: list[Table] = []
        for connection in self._router.amqp_connections.values():
            octets = connection.engine.bytes_in + connection.engine.bytes_out
            before, looks = self._seen.get(connection, (-1, 0))
            looks = looks + 1 if before == octets else 0
            seen[connection] = (octets, looks)
            if looks <= 2:  # afterwards both samples of its links are what the counters are
                tables += (connection.receivers, connection.senders)
        self._seen = seen
        self._sample(tables)
        self.start()

    def _sample(self, tables: list[Table]) -> None:
        looked_at = 0
        while tables and looked_at < AT_ONCE:
            table = tables.pop()
            looked_at += len(table)
            for link in table.values():
                if link.deliveries:  # as most data links of a neighbour have not
                    link.sampled_before, link.sampled = link.sampled, settlements(link)
        if tables:
            self._router.reactor.call_later(PAUSE_S, partial(self._sample, tables))
