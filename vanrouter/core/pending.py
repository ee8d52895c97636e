"""Deliveries of which only the beginning has come: kept until it is known where they go.

Layer: 3. Source: router protocol, section 2.5. One that is whole before it was routed is a message like any other, in
a few frames more; what is long, or says that it is a stream, goes on in `transit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER_BYTES, POINTER, VIEW
from vanrouter.core.guarding import leads_elsewhere
from vanrouter.core.links import LinkKind, Receiver
from vanrouter.core.settlement import NO_ADDRESS, UNAVAILABLE, grant
from vanrouter.core.stream import REJECTED
from vanrouter.core.transit import HEAD_BYTES, begin_routed
from vanrouter.engine import proton
from vanrouter.engine.annotations import STREAMING, Annotations
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import scan
from vanrouter.engine.proton import delivery_partial, delivery_pending, delivery_settle, link_advance, link_recv
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder

STREAMING_BYTES = 64 * 4072
"""An incomplete delivery is routed when so much of it has come (section 2.5)."""


class Pending:
    """An incomplete delivery that cannot be routed yet: its beginning is kept."""

    __slots__ = ("_content", "_forwarder", "_pn", "_receiver")

    def __init__(self, forwarder: Forwarder, receiver: Receiver, pn: Any) -> None:
        self._forwarder = forwarder
        self._receiver = receiver
        self._pn = pn
        self._content = b""
        receiver.current = self
        receiver.deliveries += 1

    def first(self, size: int) -> None:
        """Look at what is in the shared buffer."""
        self._content = bytes(VIEW[:size])
        self._consider()

    def more(self) -> None:
        """Read what has come and see whether it is enough."""
        size = link_recv(self._receiver.pn, POINTER, BUFFER_BYTES)
        if size > 0:
            self._content += VIEW[:size]
            self._consider()
        elif size == proton.EOS:
            self._consider()
        elif size < 0:
            self._drop()

    def _drop(self) -> None:
        """Aborted before anything was sent on: nothing is sent (section 7.5)."""
        receiver = self._receiver
        receiver.current = None
        link_advance(receiver.pn)
        delivery_settle(self._pn)
        grant(receiver)
        self._forwarder.next_delivery(receiver)

    def on_link_lost(self) -> None:
        """Nothing was sent on."""
        self._receiver.current = None

    def _consider(self) -> None:
        receiver, content = self._receiver, self._content
        has_more = bool(delivery_pending(self._pn))
        is_complete = not has_more and not delivery_partial(self._pn)
        if is_complete:
            receiver.current = None
            link_advance(receiver.pn)
        try:
            begun = self._begin(receiver, content, is_complete)
        except PeerError as error:
            begun = True
            self._refuse((error.condition, error.description), is_complete=is_complete)
        if not begun:
            if is_complete or len(content) > HEAD_BYTES:
                self._refuse(("amqp:decode-error", "invalid message format"), is_complete=is_complete)
            elif has_more:
                self.more()
        if is_complete:
            self._forwarder.next_delivery(receiver)

    def _refuse(self, error: tuple[str, str], *, is_complete: bool) -> None:
        self._forwarder.discard(self._receiver, self._pn, REJECTED, error, is_complete=is_complete)

    def _begin(self, receiver: Receiver, content: bytes, is_complete: bool) -> bool:
        if is_complete and len(content) <= BUFFER_BYTES:  # a message like any other, in a few frames more
            VIEW[: len(content)] = content
            self._forwarder.begin_whole(receiver, self._pn, len(content))
            return True
        annotations: Annotations | Any = receiver.annotations
        start = 0
        if receiver.carries_annotations:
            annotations = parse_annotations(content, 0, len(content))
            if annotations is NEED_MORE:
                return False
            start = annotations.length
        elif len(content) > 1 and content[1] == 0x80:
            found = parse_annotations(content, 0, len(content))
            if found is NEED_MORE:
                return False
            start = found.length
        if not (is_complete or annotations.flags & STREAMING or len(content) >= STREAMING_BYTES):
            return False
        address = receiver.address
        forwarder = self._forwarder
        if address is None:
            to = annotations.to_override
            if to is None:
                scanned = scan(content, start, len(content), True)
                if scanned is NEED_MORE:
                    return False
                to = scanned[1]
            if to is None:
                raise PeerError(*NO_ADDRESS)
            address = forwarder.router.address_for(to)
            if not receiver.carries_annotations and forwarder.router.is_unavailable(address, to):
                raise PeerError(*UNAVAILABLE)
            router = forwarder.router
            is_far = len(annotations.trace) > router.radius + 1 and not router.is_plausible(annotations)
            if is_far and receiver.kind is not LinkKind.CONTROL:
                address = None
            is_judged = receiver.is_guarded and address is not None and leads_elsewhere(address.key, to)
        else:
            is_judged = receiver.is_guarded
        if is_judged:
            verdict = forwarder.judge(receiver, content, is_complete=is_complete)
            if verdict is NEED_MORE:
                return False
            if verdict is not None:
                forwarder.discard(receiver, self._pn, *verdict, is_complete=is_complete)
                return True
        begin_routed(forwarder, receiver, self._pn, content, annotations, start, address, None, is_complete=is_complete)
        return True
