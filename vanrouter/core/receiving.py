"""The receiving half of forwarding: a delivery is taken from the engine, and its address is found.

Layer: 3. Source: router protocol, sections 4.3 to 4.5. A complete message is read into the shared buffer and handed on
from there (`forwarder`); one that comes in pieces goes on in `pending`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER, BUFFER_BYTES, POINTER, VIEW
from vanrouter.core.control import CONTROL_KEYS
from vanrouter.core.guarding import Guarding, leads_elsewhere
from vanrouter.core.links import CONTROL, Delivery, Receiver
from vanrouter.core.refusing import Refusing
from vanrouter.core.settlement import NO_ADDRESS, Settlement, grant
from vanrouter.core.stream import ACCEPTED
from vanrouter.core.table import Address
from vanrouter.engine import proton
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import scan
from vanrouter.engine.proton import (
    ABORTED,
    EOS,
    delivery_link,
    delivery_partial,
    delivery_readable,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    link_advance,
    link_current,
    link_recv,
)
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router


class Receiving(Refusing, Guarding):
    """The part of the forwarder that takes deliveries from links."""

    router: Router
    settlement: Settlement

    def forward(
        self, receiver: Receiver, pn: Any, start: int, size: int, annotations: Annotations, address: Address
    ) -> None:
        """Send a complete message in the shared buffer to where its address says."""
        raise NotImplementedError

    def begin_pieces(self, receiver: Receiver, pn: Any, size: int) -> None:
        """Take a delivery of which the first `size` octets are in the shared buffer, and more is to come."""
        raise NotImplementedError

    def is_for_service(self, receiver: Receiver, pn: Any, size: int, annotations: Annotations) -> bool:
        """Give a complete delivery that is a stream to its service here; False: it is for somebody else."""
        raise NotImplementedError

    def on_other(self, connection: Connection, pn: Any, begun: Any) -> bool:
        """Something has happened to a delivery that did not go out and is not in the middle of coming in.

        `begun`: what it is known as, None for a new one. The answer is that of `Connection.take_delivery`.
        """
        receiver = connection.recent  # mostly it is the same link again, and one question to the engine is enough
        if receiver is None or link_current(receiver.pn) != pn:
            if not delivery_readable(pn):
                if begun is not None:
                    self._on_producer_update(begun, pn)
                return False
            receiver = connection.receivers.get(delivery_link(pn))
            if receiver is None:
                return False
            connection.recent = receiver
        current = receiver.current
        if current is None:
            return self.take(receiver, pn)
        current.more()
        return False

    def take(self, receiver: Receiver, pn: Any) -> bool:
        """A new delivery has begun to come; the answer is that of `Connection.take_delivery`."""
        self.begin(receiver, pn)
        return False

    def take_outcome(self, delivery: Delivery, pn: Any) -> bool:
        """The consumer's side has said something about a delivery; the answer is that of `Connection.take_delivery`."""
        self.settlement.on_outcome(delivery, pn, delivery_remote_state(pn), delivery_settled(pn))
        return False

    def _on_producer_update(self, begun: Any, pn: Any) -> None:
        if type(begun) is Delivery:
            self.settlement.on_producer_update(begun, pn)
        else:
            begun.on_producer_update()

    def begin(self, receiver: Receiver, pn: Any) -> None:
        """Take a new delivery."""
        self.begin_read(receiver, pn, link_recv(receiver.pn, POINTER, BUFFER_BYTES))

    def begin_read(self, receiver: Receiver, pn: Any, size: int) -> None:
        """Take a new delivery that has been read into the shared buffer; `size`: what the engine has answered."""
        if size <= 0:
            if size != EOS:
                if size == ABORTED:
                    link_advance(receiver.pn)
                    delivery_settle(pn)
                    grant(receiver)
                return
            size = 0
        if size == BUFFER_BYTES or delivery_partial(pn):
            self.begin_pieces(receiver, pn, size)
            return
        link_advance(receiver.pn)
        receiver.deliveries += 1
        self.begin_whole(receiver, pn, size)

    def begin_whole(self, receiver: Receiver, pn: Any, size: int) -> None:
        """Take a complete delivery, the first `size` octets of the shared buffer; its link has moved on."""
        if receiver.is_special and self.begin_special(receiver, pn, size):
            return
        start = 0
        if size > 10 and BUFFER[1] == 0x80:
            start = self._skip_annotations(receiver, pn, size)
            if start < 0:
                return
        address = receiver.address
        if address is None:
            self._begin_anonymous(receiver, pn, start, size, receiver.annotations)
            return
        address.deliveries_ingress += 1
        self.forward(receiver, pn, start, size, receiver.annotations, address)

    def _skip_annotations(self, receiver: Receiver, pn: Any, size: int) -> int:
        """A client sent router annotations: they are neither obeyed nor an error (section 4.3)."""
        try:
            annotations = parse_annotations(BUFFER, 0, size)
        except PeerError as error:
            self.reject(receiver, pn, (error.condition, error.description))
            return -1
        return 0 if annotations is NEED_MORE else annotations.length

    def _begin_annotated(self, receiver: Receiver, pn: Any, size: int) -> None:
        """A complete message from another router."""
        annotations: Annotations | Any = receiver.seen
        if annotations is None or annotations.length > size or not BUFFER.startswith(annotations.section):
            try:
                annotations = parse_annotations(BUFFER, 0, size)
            except PeerError as error:
                self.reject(receiver, pn, (error.condition, error.description))
                return
            if annotations is NEED_MORE:
                self.reject(receiver, pn, ("amqp:decode-error", "invalid message format"))
                return
            receiver.seen = annotations if annotations.section else None
        start = annotations.length
        if not start:
            annotations = receiver.annotations
        if receiver.on_message is not None:
            self.take_internal(receiver, pn, bytes(VIEW[:size]), annotations)
        elif receiver.address is not None:
            receiver.address.deliveries_ingress += 1
            self.forward(receiver, pn, start, size, annotations, receiver.address)
        elif not self.is_for_service(receiver, pn, size, annotations):
            self._begin_anonymous(receiver, pn, start, size, annotations)

    def _begin_anonymous(self, receiver: Receiver, pn: Any, start: int, size: int, annotations: Annotations) -> None:
        """The message says where it goes: to-override, or the `to` property (section 4.5)."""
        router = self.router
        is_control = receiver.kind is CONTROL
        if is_control and router.control.take_repeated(receiver, pn, BUFFER, size):
            return
        to = annotations.to_override
        if to is None:
            try:
                scanned = scan(BUFFER, start, size, True)
            except PeerError as error:
                self.reject(receiver, pn, (error.condition, error.description))
                return
            to = None if scanned is NEED_MORE else scanned[1]
            if to is None:
                self.reject(receiver, pn, NO_ADDRESS)
                return
        address = router.address_for(to)
        if address is None:
            unavailable = router.is_unavailable(None, to)
            self.unroutable(receiver, pn, delivery_settled(pn), None, unavailable=unavailable)
            return
        if receiver.is_guarded and leads_elsewhere(address.key, to) and self.holds_back(receiver, pn, start, size):
            return
        if is_control or address.key in CONTROL_KEYS:
            router.control.on_delivery(receiver, pn, bytes(VIEW[:size]), annotations, address)
            return
        if len(annotations.trace) > router.radius + 1 and not router.is_plausible(annotations):
            self.unroutable(receiver, pn, delivery_settled(pn), address)
            return
        address.deliveries_ingress += 1
        self.forward(receiver, pn, start, size, annotations, address)

    def take_internal(self, receiver: Receiver, pn: Any, content: bytes, annotations: Annotations) -> None:
        """A message on a link of the protocol itself."""
        try:
            receiver.on_message(annotations, content[annotations.length :])
        except PeerError as error:
            self.reject(receiver, pn, (error.condition, error.description))
            return
        if not delivery_settled(pn):
            proton.delivery_update(pn, ACCEPTED)
        delivery_settle(pn)
        grant(receiver)

    def next_delivery(self, receiver: Receiver) -> None:
        """A delivery was read to its end: take the next one if it has begun to arrive meanwhile."""
        if receiver.closed or receiver.current is not None:
            return
        pn = link_current(receiver.pn)
        if pn:
            self.router.reactor.call_soon(partial(self._take_next, receiver))

    def _take_next(self, receiver: Receiver) -> None:
        if receiver.closed or receiver.connection.engine.lost or receiver.current is not None:
            return
        pn = link_current(receiver.pn)
        if pn:
            begin = receiver.connection.begin or self.begin
            begin(receiver, pn)
            self.next_delivery(receiver)
