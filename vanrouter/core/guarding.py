"""Requests of clients to the management of other routers: judged here, where they enter the network.

Layer: 3. Another router takes what this one passes on as this one's (its management trusts routers), so that a client
who may only read must be held back at the door. Links of routers are not looked at, nor are messages to any other
address: a link whose target is no management address takes the way of all others, and an anonymous one has its `to`
searched for one word. Who may do what is the server's to say (`Router.guard`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import VIEW
from vanrouter.core.links import Receiver
from vanrouter.core.settlement import grant, set_outcome
from vanrouter.core.stream import REJECTED
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import Head, parse_head
from vanrouter.engine.proton import delivery_settle, delivery_settled
from vanrouter.engine.values import NEED_MORE, NeedMore
from vanrouter.errors import PeerError
from vanrouter.routing.addresses import EDGE_KEY

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

MANAGEMENT = "management"
"""In every address of management: `$management`, `$_management_internal`."""

Verdict = tuple[int, tuple[str, str] | None]
"""What becomes of a delivery that is held back: its outcome, and the condition of one that is rejected."""

Guard = Callable[["Connection", Head], Verdict | None]
"""Judges a request by its head; None: it may go on."""


def leads_elsewhere(key: str, text: str) -> bool:
    """Tell whether an address is, or may be, that of the management of another router, edge or network.

    Args:
        key: its key here.
        text: as the client wrote it.
    """
    return MANAGEMENT in text and (key[0] not in "ML" or key == EDGE_KEY)


class Guarding:
    """The part of the forwarder that holds requests back."""

    router: Router

    def begin_special(self, receiver: Receiver, pn: Any, size: int) -> bool:
        """Take a complete message, `size` octets of the shared buffer, on a link that is not plain.

        False: there is nothing special about it after all, it goes the way of all others.
        """
        if receiver.is_guarded and receiver.address is not None and self.holds_back(receiver, pn, 0, size):
            return True
        if receiver.carries_annotations:
            self._begin_annotated(receiver, pn, size)
            return True
        return False

    def _begin_annotated(self, receiver: Receiver, pn: Any, size: int) -> None:
        raise NotImplementedError

    def holds_back(self, receiver: Receiver, pn: Any, start: int, size: int) -> bool:
        """Judge a complete message to management elsewhere, octets `start` to `size` of the shared buffer.

        True: it may not go on; its sender has been told.
        """
        verdict = self.judge(receiver, bytes(VIEW[start:size]), is_complete=True)
        if verdict is None or verdict is NEED_MORE:
            return False
        state, condition = verdict
        if not delivery_settled(pn):
            set_outcome(pn, state, condition)
        if state == REJECTED:
            receiver.rejected += 1
        else:
            receiver.accepted += 1
        delivery_settle(pn)
        grant(receiver)
        return True

    def judge(self, receiver: Receiver, content: bytes, *, is_complete: bool) -> Verdict | NeedMore | None:
        """Judge a message by what has come of it. None: it may go on; NEED_MORE: more of it has to come."""
        guard = self.router.guard
        if guard is None:
            return None
        start = 0
        try:
            if len(content) > 1 and content[1] == 0x80:
                annotations = parse_annotations(content, 0, len(content))
                if annotations is NEED_MORE:
                    return NEED_MORE
                start = annotations.length
            head = parse_head(content, start, len(content), is_complete)
        except PeerError as error:
            return REJECTED, (error.condition, error.description)
        return head if head is NEED_MORE else guard(receiver.connection, head)
