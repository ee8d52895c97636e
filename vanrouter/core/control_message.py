"""A control message that comes in many pieces: read whole, up to a bound.

Layer: 3. Source: router protocol, section 5.6. An MAU of some thousand addresses is longer than the shared buffer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import VIEW
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import Receiver
from vanrouter.core.stream import ACCEPTED, REJECTED
from vanrouter.core.table import Address
from vanrouter.engine.annotations import Annotations

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder

logger = logging.getLogger("vanrouter.routing.control")

MAX_CONTROL_BYTES = 16 << 20
"""A longer one is refused before anything of it is decoded: some 400,000 addresses, more than are taken of a router."""


class ControlMessage(Incoming):
    """One on its way in."""

    __slots__ = ("_address", "_annotations", "_content")

    def __init__(
        self,
        forwarder: Forwarder,
        receiver: Receiver,
        pn: Any,
        annotations: Annotations,
        address: Address,
        *,
        is_complete: bool,
    ) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self._annotations = annotations
        self._address = address
        self._content = bytearray()

    def begin(self, content: bytes) -> None:
        """Take what has come so far, annotations and all."""
        self._content += content
        if len(self._content) > MAX_CONTROL_BYTES:
            self._refuse()
        elif self.is_complete:
            self.end()
        else:
            self.more()

    def octets(self, count: int) -> bool:
        """Keep them, up to the bound."""
        self._content += VIEW[:count]
        if len(self._content) > MAX_CONTROL_BYTES:
            self._refuse()
            return False
        return True

    def _refuse(self) -> None:
        self.forwarder.router.control.on_oversized(self.receiver)
        error = ("amqp:link:message-size-exceeded", f"longer than {MAX_CONTROL_BYTES} octets")
        self.forwarder.discard(self.receiver, self.pn, REJECTED, error, is_complete=self.is_complete)

    def ended(self) -> None:
        """It is whole."""
        self.report(ACCEPTED, settled=True)
        content = bytes(self._content)
        self.forwarder.router.control.take(self.receiver, content, self._annotations, self._address)

    def lost(self) -> None:
        """Nobody was told of it yet."""
