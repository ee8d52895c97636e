"""Connections whose deliveries are looked at first: policy, and the log of messages.

Layer: 3. Source: management.md section 15 (user-id, targets of anonymous senders, size) and section 8
(messageLoggingComponents). A connection without any of it takes the way of `Connection.take_delivery` and costs nothing
more; one that has it gets `Inspection.on_delivery` in its place when it opens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from vanrouter.core.buffer import BUFFER_BYTES, POINTER, VIEW
from vanrouter.core.incoming import Incoming
from vanrouter.core.links import LinkKind, Receiver
from vanrouter.core.pending import Pending
from vanrouter.core.settlement import grant, set_outcome
from vanrouter.core.stream import REJECTED
from vanrouter.engine import proton
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import Head, parse_head
from vanrouter.engine.proton import (
    delivery_link,
    delivery_partial,
    delivery_readable,
    delivery_settle,
    delivery_settled,
    link_advance,
    link_recv,
)
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.forwarder import Forwarder

OVERSIZE = ("amqp:link:message-size-exceeded", "Message size exceeded")
OVERSIZE_CLOSE = ("amqp:connection:forced", "Message size exceeded")
WRONG_TARGET = ("amqp:unauthorized-access", "policy violation on target")
WRONG_USER = ("amqp:unauthorized-access", "user_id proxy violation")
SESSION_DENIED = ("amqp:resource-limit-exceeded", "session disallowed by local policy")
"""Answers of management.md section 15."""

Condition = tuple[str, str]


class LinkPolicy(Protocol):
    """What one connection may do; made when it opens."""

    user: str
    max_message_bytes: int
    """0 = no limit."""
    checks_user_id: bool

    def denies_session(self, open_count: int) -> bool:
        """Tell whether a session more is too many; counts it if so."""

    def denied_sender(self, address: str | None, open_count: int) -> Condition | None:
        """Return why the client may not send to an address (None: an anonymous link)."""

    def denied_receiver(self, address: str | None, is_dynamic: bool, open_count: int) -> Condition | None:
        """Return why the client may not receive from an address."""

    def allows_target(self, address: str) -> bool:
        """Tell whether a message on an anonymous link may go there."""

    def on_oversize(self, receiver: Receiver) -> None:
        """A message was too long."""


class SizeLimit:
    """Counts the octets of the delivery that comes in on one link."""

    __slots__ = ("is_broken", "maximum", "total")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.total = 0
        self.is_broken = False
        """A delivery was longer: the connection ends, and what comes after it is not looked at."""

    def is_over(self, count: int) -> bool:
        """Count what has come; True when that is too much."""
        self.total += count
        return self.total > self.maximum


def denied_link(policy: LinkPolicy, connection: Connection, pn: Any) -> Condition | None:
    """Return why a policy forbids a link that the client attaches."""
    if proton.link_is_receiver(pn):
        target = proton.link_remote_target(pn)
        address = proton.text(proton.terminus_get_address(target))
        if proton.terminus_is_dynamic(target) or proton.terminus_get_type(target) == proton.TERMINUS_COORDINATOR:
            return None
        return policy.denied_sender(address, len(connection.receivers))
    source = proton.link_remote_source(pn)
    address = proton.text(proton.terminus_get_address(source))
    return policy.denied_receiver(address, bool(proton.terminus_is_dynamic(source)), len(connection.senders))


class Inspection:
    """Takes the deliveries of one connection, looks at each, and gives it to the forwarder."""

    __slots__ = ("_connection", "_forwarder", "_looks")

    def __init__(self, connection: Connection, looks: list[Callable[[Receiver, Head, str | None], None]]) -> None:
        """Each look gets link, head and destination (None where the link says); it raises PeerError to refuse."""
        self._connection = connection
        self._forwarder: Forwarder = connection.router.forwarder
        self._looks = looks

    def on_delivery(self, pn: Any) -> bool:
        """Something has happened to a delivery; the answer is that of `Connection.take_delivery`."""
        connection = self._connection
        if pn not in connection.outgoing and delivery_readable(pn):
            receiver = connection.receivers.get(delivery_link(pn))
            if receiver is not None and receiver.current is None:
                self.begin(receiver, pn)
                return False
        return connection.take_delivery(pn)

    def begin(self, receiver: Receiver, pn: Any) -> None:
        """Take a new delivery: `Forwarder.begin`, with a look at it."""
        if receiver.limit is not None and receiver.limit.is_broken:
            return
        size = link_recv(receiver.pn, POINTER, BUFFER_BYTES)
        if size <= 0 and size != proton.EOS:
            if size == proton.ABORTED:
                link_advance(receiver.pn)
                delivery_settle(pn)
                grant(receiver)
            return
        if receiver.limit is not None:
            receiver.limit.total = 0
        if size == BUFFER_BYTES or delivery_partial(pn):
            InspectedPending(self, self._forwarder, receiver, pn).first(max(size, 0))
            return
        link_advance(receiver.pn)
        receiver.deliveries += 1
        size = max(size, 0)
        if receiver.limit is not None and receiver.limit.is_over(size):
            refuse_oversize(self._forwarder, receiver, pn, is_complete=True)
            return
        try:
            self.look(receiver, bytes(VIEW[:size]), is_complete=True)
        except PeerError as error:
            self._forwarder.reject(receiver, pn, (error.condition, error.description))
            return
        self._forwarder.begin_whole(receiver, pn, size)

    def look(self, receiver: Receiver, content: bytes, *, is_complete: bool) -> bool:
        """Look at the head of a delivery; False when too little of it has come.

        Raises:
            PeerError: it is refused.
        """
        start, override = 0, None
        if len(content) > 10 and content[1] == 0x80:
            found = parse_annotations(content, 0, len(content))
            if found is NEED_MORE:
                return False
            start = found.length
            if receiver.carries_annotations:  # those of other clients are not obeyed
                override = found.to_override
        try:
            head = parse_head(content, start, len(content), is_complete)
        except PeerError:
            return True  # the forwarder says what is wrong with it
        if head is NEED_MORE:
            return False
        is_anonymous = receiver.address is None and receiver.kind is LinkKind.ENDPOINT
        for look in self._looks:
            look(receiver, head, override or head.to if is_anonymous else None)
        return True


class InspectedPending(Pending):
    """The beginning of a delivery that comes in pieces and is looked at before it is routed."""

    __slots__ = ("_inspection", "_is_inspected")

    def __init__(self, inspection: Inspection, forwarder: Forwarder, receiver: Receiver, pn: Any) -> None:
        super().__init__(forwarder, receiver, pn)
        self._inspection = inspection
        self._is_inspected = False

    def _begin(self, receiver: Receiver, content: bytes, is_complete: bool) -> bool:
        limit = receiver.limit
        if limit is not None:
            limit.total = len(content)
            if limit.is_over(0):
                refuse_oversize(self._forwarder, receiver, self._pn, is_complete=is_complete)
                return True
        if not self._is_inspected:
            self._is_inspected = self._inspection.look(receiver, content, is_complete=is_complete)
            if not self._is_inspected and not is_complete:
                return False
        return super()._begin(receiver, content, is_complete)


def refuse_oversize(forwarder: Forwarder, receiver: Receiver, pn: Any, *, is_complete: bool) -> None:
    """A delivery is longer than its link may carry: throw it away, then end link and connection."""
    policy = receiver.connection.policy
    if policy is not None:
        policy.on_oversize(receiver)
    if receiver.limit is not None:
        receiver.limit.is_broken = True
    refused = Oversized(forwarder, receiver, pn, is_complete=is_complete)
    if is_complete:
        refused.end()
    else:
        refused.more()


class Oversized(Incoming):
    """The rest of a delivery that is too long: read and thrown away; the connection ends with it."""

    __slots__ = ()

    def __init__(self, forwarder: Forwarder, receiver: Receiver, pn: Any, *, is_complete: bool) -> None:
        super().__init__(forwarder, receiver, pn, is_complete=is_complete)
        self.final = REJECTED
        self.wants_settlement = True

    def octets(self, count: int) -> bool:
        """Throw them away."""
        return True

    def _too_long(self) -> None:
        """That is known."""

    def ended(self) -> None:
        """Say what was wrong, and end."""
        if not delivery_settled(self.pn):
            set_outcome(self.pn, REJECTED, OVERSIZE)
        connection, receiver = self.receiver.connection, self.receiver

        def close() -> None:
            if not connection.is_closed:
                if not receiver.closed:
                    connection.detach(receiver)
                connection.close(OVERSIZE_CLOSE)

        connection.loop.call_soon(close)

    def lost(self) -> None:
        """Nobody else has to do with it."""


def policy_look(policy: LinkPolicy) -> Callable[[Receiver, Head, str | None], None]:
    """Return the check of each message under a policy."""
    user = policy.user.encode()

    def look(_receiver: Receiver, head: Head, to: str | None) -> None:
        if policy.checks_user_id and head.user_id and head.user_id != user:
            raise PeerError(*WRONG_USER)
        if to is not None and not policy.allows_target(to):
            raise PeerError(*WRONG_TARGET)

    return look
