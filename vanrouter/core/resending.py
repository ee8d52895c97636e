"""Deliveries that come in pieces and are sent again when they are released (router protocol, section 7.6).

Layer: 3. Complete small messages are sent again by the forwarder itself; here are those that are kept while they pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import VIEW
from vanrouter.core.links import Receiver, Sender
from vanrouter.core.stream import RELEASED
from vanrouter.core.transit import Transit, begin_routed
from vanrouter.core.treatment import Retry
from vanrouter.engine import proton
from vanrouter.engine.proton import delivery_remote_state, delivery_settle

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder

MAX_KEPT_BYTES = 4 << 20
"""A delivery is kept for another path up to this; a released one that is longer stays released."""


class RetriedTransit(Transit):
    """One that goes another way when it is released before its consumer has begun with it (section 7.6)."""

    __slots__ = ("_retry",)

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        sender: Sender,
        moved_from: Sender | None,
        retry: Retry,
        *,
        is_complete: bool,
    ) -> None:
        super().__init__(forwarder, receiver, pn, sender, moved_from, is_complete=is_complete)
        self._retry: Retry | None = retry

    def octets(self, count: int) -> bool:
        """Keep them while they may be needed again, and pass them on."""
        retry = self._retry
        if retry is not None:
            retry.content += VIEW[:count]
            if len(retry.content) > MAX_KEPT_BYTES:
                self._retry = None
        return super().octets(count)

    def on_update(self, pn: Any) -> None:
        """Try the next path when this one has released it."""
        state = delivery_remote_state(pn)
        retry = self._retry
        if state:
            self._retry = None
        if retry is None or state != RELEASED or self.is_settled:
            super().on_update(pn)
            return
        if self.is_complete:
            delivery_settle(pn)
        else:
            proton.delivery_abort(pn)
        self._forget_out(RELEASED)
        self._free_link()
        self.forwarder.dirty.add(self.sender.connection.engine)
        content, address = bytes(retry.content), retry.address
        begin_routed(
            self.forwarder,
            self.receiver,
            self.pn,
            content,
            retry.annotations,
            0,
            address,
            None,
            is_complete=self.is_complete,
            tried=retry.tried,
        )
