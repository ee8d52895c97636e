"""What a producer is told whose complete message goes nowhere.

Layer: 3. Source: router protocol, sections 4.1, 4.5 and 7.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.links import Receiver
from vanrouter.core.settlement import UNAVAILABLE, grant, set_outcome
from vanrouter.core.stream import REJECTED, RELEASED
from vanrouter.engine.proton import delivery_settle, delivery_update

if TYPE_CHECKING:
    from vanrouter.core.router import Router
    from vanrouter.core.table import Address


class Refusing:
    """The part of the forwarder that answers for deliveries without a destination."""

    router: Router
    dirty: set[Any]

    def reject(self, receiver: Receiver, pn: Any, error: tuple[str, str]) -> None:
        """Refuse a complete delivery for what it is."""
        set_outcome(pn, REJECTED, error)
        receiver.rejected += 1
        delivery_settle(pn)
        grant(receiver)

    def unroutable(
        self,
        receiver: Receiver,
        pn: Any,
        settled: bool,
        address: Address | None,
        *,
        unavailable: bool = False,
    ) -> None:
        """There is nowhere to go (section 7.7)."""
        if settled:
            receiver.presettled += 1
            receiver.dropped_presettled += 1
            delivery_settle(pn)
            grant(receiver)
            return
        is_client = not receiver.connection.is_router
        if receiver.address is None and is_client and (unavailable or self.router.is_unavailable(address)):
            set_outcome(pn, REJECTED, UNAVAILABLE)
            receiver.rejected += 1
        else:
            delivery_update(pn, RELEASED)
            receiver.released += 1
        delivery_settle(pn)
        if receiver.address is not None and not receiver.replenishes_at_once and not receiver.address.is_reachable:
            receiver.connection.drain(receiver)
        else:
            grant(receiver)
        self.dirty.add(receiver.connection.engine)
