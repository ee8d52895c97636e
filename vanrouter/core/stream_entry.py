"""Streams for a service of this process, taken off a link between routers in the fewest steps.

Layer: 3. Source: router protocol, section 2.5; TCP over AMQP, section 5. This is what almost every stream that ends
here looks like: a header as routers write it, all of it in the first frame, to an address that one service has. All
others, and all that is wrong with one, are for the forwarder's general way (`pending`, `transit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import BUFFER, VIEW
from vanrouter.core.endpoints import Inlet
from vanrouter.core.links import CONTROL, Receiver
from vanrouter.core.stream import make_head
from vanrouter.core.table import MULTICAST, UNAVAILABLE, LocalService
from vanrouter.engine.annotations import STREAMING, Annotations, parse
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, STREAM_MARKER, scan_stream_head
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder
    from vanrouter.core.router import Router

_MARKER_BYTES = len(STREAM_MARKER)


def take_beginning(forwarder: Forwarder, receiver: Receiver, pn: Any, size: int) -> bool:
    """The same for a delivery of which the first `size` octets are in the shared buffer, on a link of any kind."""
    if not receiver.carries_annotations or receiver.address is not None or receiver.on_message is not None:
        return False
    try:
        annotations = parse(BUFFER, 0, size)
    except PeerError:
        return False
    if annotations is NEED_MORE:
        return False
    return take_stream(forwarder, receiver, pn, size, annotations, is_complete=False)


def take_stream(
    forwarder: Forwarder, receiver: Receiver, pn: Any, size: int, annotations: Annotations, *, is_complete: bool
) -> bool:
    """Give a stream to its service; False: it is something else, and nothing has been done.

    Args:
        forwarder: of this router.
        receiver: an anonymous link of another router.
        pn: the delivery; when it is complete its link has moved on.
        size: octets of it in the shared buffer.
        annotations: what stands before its sections.
        is_complete: all of it is in the buffer.
    """
    if not annotations.flags & STREAMING or receiver.kind is CONTROL:
        return False
    if receiver.is_guarded or receiver.limit is not None:
        return False
    try:
        scanned = scan_stream_head(BUFFER, annotations.length, size)
    except PeerError:
        return False
    if scanned is None:
        return False
    texts, properties, offset = scanned
    body = offset + _MARKER_BYTES
    if texts[6] != STREAM_CONTENT_TYPE or BUFFER[offset:body] != STREAM_MARKER or body > size:
        return False
    service = _only_service(forwarder.router, annotations.to_override or texts[2], annotations)
    if service is None:
        return False
    head = make_head(texts, properties, annotations)
    if not is_complete:
        receiver.deliveries += 1
    Inlet(forwarder, receiver, pn, is_complete=is_complete).begin(service, head, bytes(VIEW[body:size]))
    return True


def _only_service(router: Router, to: str | None, annotations: Annotations) -> LocalService | None:
    """Return the service that an address leads to, if there is nothing to choose and no rule to be asked."""
    if to is None or len(annotations.trace) > router.radius + 1:
        return None
    address = router.address_for(to)
    if address is None or address.consumers or address.remotes or len(address.services) != 1:
        return None
    service = address.services[0]
    if not service.is_stream or service.takes_sections:
        return None
    if address.treatment <= MULTICAST or address.treatment == UNAVAILABLE:
        return None
    address.deliveries_ingress += 1
    address.deliveries_to_container += 1
    return service
