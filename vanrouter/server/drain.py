"""The end that lets flows finish: no new ones, the neighbours told, then the rest of `router.drainSeconds`.

Layer: 5. Source: extensions (routing). Ports of services close and their addresses are withdrawn at once; routers that
pass through here see a cost that sends them another way, if there is one. Clients of AMQP are closed when nothing of
theirs is on its way, with a condition after which they may come back to another router.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.core.auto_links import AutoLink
from vanrouter.core.connection import Connection
from vanrouter.core.links import LinkKind, Sender
from vanrouter.core.peer import Role
from vanrouter.server.port import PortListener

if TYPE_CHECKING:
    from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.core.router")

LOOK_INTERVAL_S = 0.1
"""How often it is looked what is still open; there is no other work by then that a look could hold up."""

QUIET_LOOKS = 2
"""Looks in a row that must find nothing: a withdrawal needs its time to reach those who are about to begin."""

LAST_RESORT_COST = 1_000_000
"""Of the ways through this router: taken only where there is no other."""

CLOSED = ("amqp:connection:forced", "The router is ending; connect to another one")


class Drain:
    """One drain, from the signal to the end of the loop."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._reactor = site.reactor
        self._ends_at = 0.0
        self._quiet = 0

    @property
    def is_on(self) -> bool:
        """Whether it has begun."""
        return self._ends_at > 0.0

    def begin(self, limit_s: float) -> None:
        """Take nothing new, and end the router when all has finished or the time is over.

        Args:
            limit_s: seconds from now, more than 0.
        """
        self._ends_at = self._reactor.now + limit_s
        logger.info("Draining for up to %g s; another signal ends at once", limit_s)
        self._reactor.call_soon(self._look)  # before anything that could fail: it ends in any case
        self._stop_accepting()
        self._send_others_elsewhere()

    def on_crash(self) -> None:
        """A bug of a look (the loop's crash boundary): there is no other, so the router ends now."""
        self._site.shut_down()

    def _stop_accepting(self) -> None:
        for live in list(self._site.objects.values()):
            if isinstance(live, PortListener):
                continue  # its health probe is what tells that no more traffic is wanted
            if isinstance(live, AmqpListener):
                live.close()
            elif isinstance(live, AutoLink):
                live.cancel()
            elif hasattr(live, "shut_down"):  # a service: its flows stay
                live.shut_down()

    def _send_others_elsewhere(self) -> None:
        router = self._site.router
        for connection in list(router.amqp_connections.values()):
            if router.is_interior and connection.role is Role.INTER_ROUTER and connection.is_opened:
                connection.cost = LAST_RESORT_COST
                router.control.on_cost_changed(connection)

    def _look(self) -> None:
        if self._site.is_shutting_down:
            return
        flows, clients, deliveries = self.remaining()
        now = self._reactor.now
        if flows or clients or deliveries:
            self._quiet = 0
        else:
            self._quiet += 1
        if self._quiet >= QUIET_LOOKS:
            logger.info("Drained: nothing is open any more")
        elif now >= self._ends_at:
            logger.warning(
                "The time to drain is over: %d flows, %d clients and %d deliveries end now", flows, clients, deliveries
            )
        else:
            self._reactor.call_later(min(LOOK_INTERVAL_S, max(self._ends_at - now, 0.001)), self._look)
            return
        self._site.shut_down()

    def remaining(self) -> tuple[int, int, int]:
        """Return the open flows of services, clients and unfinished deliveries; close clients that have none."""
        router = self._site.router
        unfinished: dict[Connection, int] = {}
        for link in router.links.values():
            if link.kind is LinkKind.CONTROL or link.closed:
                continue
            count = link.unsettled + (len(link.queue) if isinstance(link, Sender) else 0)
            if count:
                unfinished[link.connection] = unfinished.get(link.connection, 0) + count
        flows = clients = 0
        for connection in list(router.connections.values()):
            if not isinstance(connection, Connection):
                flows += not getattr(connection, "is_protected", False)
            elif not connection.role.is_router:
                clients += 1
                if connection not in unfinished and not connection.is_closed and not connection.engine.closing:
                    connection.close(CLOSED)
        return flows, clients, sum(unfinished.values())
