"""Deliveries that stand still, and links that wait for credit: found when somebody asks, reported now and then.

Layer: 3. Source: router protocol, section 12 (every 30 s, older than 10 s). Nothing is kept for this on the way of a
delivery but the time it began; what is looked at are the deliveries that are open, not the links.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vanrouter.core.links import Delivery, LinkKind, Receiver, Sender
from vanrouter.engine.proton import link_credit

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.core")

STUCK_S = 10.0
"""An unsettled delivery that is older stands still; a link without credit for so long is blocked."""

SCAN_INTERVAL_S = 30.0

Link = Receiver | Sender


def is_stuck_in(found: object, before: float) -> bool:
    """Tell whether something that comes in on a connection is a delivery that began before some time."""
    if type(found) is Delivery:
        return found.receiver is not None and 0 < found.began < before
    return 0 < getattr(found, "waits_since", 0.0) < before


def is_stuck_out(found: object, before: float) -> bool:
    """The same of something that goes out, or that waits for it."""
    if type(found) is Delivery:
        return 0 < found.began < before
    return 0 < getattr(found, "waits_since", 0.0) < before


def _ends(connection: Connection, before: float) -> Iterator[Link]:
    """Yield the link of each end, on this connection, of a delivery that began before some time."""
    for found in connection.incoming.values():
        if is_stuck_in(found, before):
            yield found.receiver
    for out in connection.outgoing.values():
        if is_stuck_out(out, before):
            yield out.sender
    for sender in connection.senders.values():
        if sender.queue:
            for waiting in sender.queue:
                if is_stuck_out(waiting, before):
                    yield sender


def stuck_deliveries(router: Router, now: float) -> Counter[Link]:
    """Return how many unsettled deliveries of each link stand still; one that came in and went out has two ends."""
    found: Counter[Link] = Counter()
    for connection in router.amqp_connections.values():
        found.update(_ends(connection, now - STUCK_S))
    return found


def zero_credit_s(link: Link, now: float) -> float:
    """Return for how many seconds a client's or a container's link has had no credit, 0 when it has some."""
    since = link.zero_credit_since
    if since is None or link.kind is not LinkKind.ENDPOINT:
        return 0.0
    if isinstance(link, Receiver):
        if link_credit(link.pn) > 0:
            return 0.0
        if link.granted and not link.drained:  # the newest of those that are open took the last credit
            for found in reversed(link.connection.incoming.values()):
                if found.receiver is link:
                    return max(0.0, now - getattr(found, "began", since))
    return now - since


class StuckReport:
    """Writes the log of it."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._known: set[Link] = set()

    def start(self) -> None:
        """Look every 30 s from now on."""
        self._router.reactor.call_on_beat(SCAN_INTERVAL_S, self._scan)

    def _scan(self) -> None:
        found = stuck_deliveries(self._router, self._router.reactor.now)
        for link, count in found.items():
            if link not in self._known:
                logger.info(
                    "[C%d][L%d] Stuck delivery: at least %d deliveries on this link have been unsettled for more than "
                    "%d seconds",
                    link.connection.id,
                    link.id,
                    count,
                    STUCK_S,
                )
        self._known = set(found)
        self.start()
