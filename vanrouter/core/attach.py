"""Attaching: what a peer's attach means, and the links that this router attaches itself.

Layer: 3. Source: router protocol, sections 1.7, 2, 7.8 and 8.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vanrouter.core.guarding import leads_elsewhere
from vanrouter.core.inspection import denied_link
from vanrouter.core.links import PRIORITIES, LinkKind, Receiver, Sender
from vanrouter.core.peer import Role, read_symbols
from vanrouter.core.table import Treatment
from vanrouter.engine import proton
from vanrouter.engine.annotations import originated
from vanrouter.engine.sections import Symbol, encode
from vanrouter.ids import MAX_ADDRESS_LENGTH, random_suffix

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection

logger = logging.getLogger(__name__)

CONTROL = "qd.router"
DATA = "qd.router-data"
INTER_EDGE = "qd.router-inter-edge"
DOWNLINK = "qd.router-edge-downlink"
STREAMING_DELIVERIES = "qd.streaming-deliveries"
RESEND_RELEASED = "qd.resend-released"

STREAM_GRANTS = 8
"""Frames in which the whole credit of a streaming link is given back."""

NOT_ATTACHABLE = ("qd:connection-role", "Link attach forbidden on inter-router connection")
FORBIDDEN = ("qd:forbidden", "Connectivity to the node is forbidden")
NO_ROUTE = ("qd:no-route-to-dest", "No route to the destination node")
NOT_FOUND = ("amqp:not-found", "Node not found")
NO_TRANSACTIONS = ("amqp:not-implemented", "Transactions are not supported")
ADDRESS_TOO_LONG = ("amqp:invalid-field", f"an address may have {MAX_ADDRESS_LENGTH} characters at most")
ADDRESS_NO_TEXT = ("amqp:decode-error", "an address is to be text in UTF-8")
TOO_MANY_LINKS = ("amqp:resource-limit-exceeded", "too many links on this connection")
"""Answers of section 1.7."""


class Attacher:
    """Attaches and answers attaches on one connection."""

    __slots__ = ("_connection", "_router")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._router = connection.router

    # Links of our own.

    def attach_sender(self, session: Any, kind: LinkKind, address: str | None, capability: str | None = None) -> Sender:
        """Attach a link on which this router sends; `address` is the target's, None for an anonymous one."""
        name = f"qdlink.{random_suffix()}"
        pn = proton.sender_new(session, name.encode())
        sender = self._connection.add_sender(pn, name, kind)
        target = proton.link_target(pn)
        proton.terminus_set_type(proton.link_source(pn), proton.TERMINUS_SOURCE)
        proton.terminus_set_type(target, proton.TERMINUS_TARGET)
        if address is not None:
            proton.terminus_set_address(target, address.encode())
        self._open(pn, capability)
        return sender

    def attach_receiver(
        self, session: Any, kind: LinkKind, address: str | None, capability: str | None = None
    ) -> Receiver:
        """Attach a link on which this router receives; `address` is the source's. No credit is given yet."""
        name = f"qdlink.{random_suffix()}"
        pn = proton.receiver_new(session, name.encode())
        receiver = self._connection.add_receiver(pn, name, kind)
        receiver.is_guarded = address is None and not self._connection.role.is_trusted
        source = proton.link_source(pn)
        proton.terminus_set_type(source, proton.TERMINUS_SOURCE)
        proton.terminus_set_type(proton.link_target(pn), proton.TERMINUS_TARGET)
        if address is not None:
            proton.terminus_set_address(source, address.encode())
        self._open(pn, capability)
        return receiver

    def _open(self, pn: Any, capability: str | None) -> None:
        if capability is not None:
            octets = encode(Symbol(capability))
            proton.put_encoded(proton.terminus_capabilities(proton.link_source(pn)), octets)
            proton.put_encoded(proton.terminus_capabilities(proton.link_target(pn)), octets)
        proton.link_set_snd_settle_mode(pn, proton.SND_MIXED)
        proton.link_set_rcv_settle_mode(pn, proton.RCV_FIRST)
        proton.link_open(pn)
        self._connection.loop.dirty.add(self._connection.engine)

    def attach_router_links(self) -> None:
        """Attach the 22 links of an inter-router connection, in order (section 2.1): the connector's task."""
        connection = self._connection
        for number in range(1 + PRIORITIES):
            session = connection.new_session()
            if number == 0:
                receiver = self.attach_receiver(session, LinkKind.CONTROL, None, CONTROL)
                sender = self.attach_sender(session, LinkKind.CONTROL, None, CONTROL)
            else:
                receiver = self.attach_receiver(session, LinkKind.DATA, None, DATA)
                sender = self.attach_sender(session, LinkKind.DATA, None, DATA)
            connection.give_initial_credit(receiver)
            receiver.priority = sender.priority = 9 if number == 0 else number - 1

    # Links of the peer, and its answers.

    def on_link_open(self, pn: Any) -> None:
        """Look at an attach that has come."""
        connection = self._connection
        receiver = connection.receivers.get(pn)
        if receiver is not None:
            self._on_receiver_answered(receiver)
            return
        sender = connection.senders.get(pn)
        if sender is not None:
            self._on_sender_answered(sender)
            return
        if proton.link_state(pn) & proton.LOCAL_CLOSED:
            return
        if len(connection.receivers) + len(connection.senders) >= self._router.max_links:
            self._refuse(pn, TOO_MANY_LINKS)
        elif connection.policy is not None and (denied := denied_link(connection.policy, connection, pn)) is not None:
            self._refuse(pn, denied)
        elif proton.link_is_receiver(pn):
            self._on_peer_sends(pn)
        else:
            self._on_peer_receives(pn)

    def _on_receiver_answered(self, receiver: Receiver) -> None:
        connection = self._connection
        if receiver.kind is LinkKind.CONTROL:
            connection.control_in = receiver
            self._router.on_control_link(connection)
        elif receiver.kind is LinkKind.DATA:
            receiver.priority = connection.data_in_count
            connection.data_in_count += 1
        else:
            self._router.on_own_link_answered(receiver)

    def _on_sender_answered(self, sender: Sender) -> None:
        connection = self._connection
        if sender.kind is LinkKind.CONTROL:
            connection.control_out = sender
            self._router.on_control_link(connection)
        elif sender.kind is LinkKind.DATA:
            self._add_data_sender(sender)
        elif sender.kind is not LinkKind.STREAM:
            self._router.on_own_link_answered(sender)

    def _add_data_sender(self, sender: Sender) -> None:
        connection = self._connection
        if connection.data_out_count < PRIORITIES:
            sender.priority = connection.data_out_count
            connection.set_data_sender(connection.data_out_count, sender)
            connection.data_out_count += 1

    def _refuse(self, pn: Any, condition: tuple[str, str]) -> None:
        """Answer with null termini, then detach."""
        proton.terminus_set_type(proton.link_source(pn), proton.TERMINUS_UNSPECIFIED)
        proton.terminus_set_type(proton.link_target(pn), proton.TERMINUS_UNSPECIFIED)
        proton.link_open(pn)
        proton.set_condition(proton.link_condition(pn), *condition)
        proton.link_close(pn)
        self._router.links_refused += 1
        self._connection.loop.dirty.add(self._connection.engine)

    def _accept(self, pn: Any) -> None:
        """Answer an attach."""
        proton.link_set_snd_settle_mode(pn, proton.link_remote_snd_settle_mode(pn))
        proton.link_set_rcv_settle_mode(pn, proton.RCV_FIRST)
        proton.link_open(pn)
        self._connection.loop.dirty.add(self._connection.engine)

    def _mirror(self, pn: Any) -> None:
        source = proton.link_source(pn)
        proton.terminus_copy(source, proton.link_remote_source(pn))
        if proton.terminus_get_type(source) == proton.TERMINUS_UNSPECIFIED:
            # The engine does not tell a source without an address from none; none in an answer would be a refusal.
            proton.terminus_set_type(source, proton.TERMINUS_SOURCE)
        proton.terminus_copy(proton.link_target(pn), proton.link_remote_target(pn))
        # What is not done is not in the answer: a client that needs it can tell.
        proton.data_clear(proton.terminus_filter(source))
        if proton.terminus_get_distribution_mode(source) == proton.DISTRIBUTION_COPY:
            proton.terminus_set_distribution_mode(source, proton.DISTRIBUTION_MOVE)

    def _role_conflict(self, capabilities: frozenset[str]) -> tuple[str, str] | None:
        """Return why a link with these capabilities cannot be on this connection (section 1.7)."""
        connection = self._connection
        if CONTROL in capabilities or DATA in capabilities:
            return None if connection.role is Role.INTER_ROUTER else FORBIDDEN
        if connection.role is Role.INTER_ROUTER and (connection.control_in is None or connection.control_out is None):
            return NOT_ATTACHABLE
        return None

    def _on_peer_sends(self, pn: Any) -> None:
        connection = self._connection
        target = proton.link_remote_target(pn)
        kind = proton.terminus_get_type(target)
        if kind == proton.TERMINUS_COORDINATOR:
            self._refuse(pn, NO_TRANSACTIONS)
            return
        capabilities = read_symbols(proton.terminus_capabilities(target))
        refusal = self._role_conflict(capabilities)
        if refusal is not None:
            self._refuse(pn, refusal)
            return
        name = proton.text(proton.link_name(pn)) or ""
        self._mirror(pn)
        if CONTROL in capabilities:
            connection.control_in = connection.add_receiver(pn, name, LinkKind.CONTROL)
            connection.control_in.priority = 9
            self._accept(pn)
            connection.give_initial_credit(connection.control_in)
            self._router.on_control_link(connection)
            return
        text = proton.text(proton.terminus_get_address(target))
        if DATA in capabilities or (text is None and not proton.terminus_is_dynamic(target)):
            is_data = DATA in capabilities and connection.data_in_count < PRIORITIES
            link_kind = LinkKind.DATA if is_data else LinkKind.ENDPOINT
            if INTER_EDGE in capabilities and connection.role is Role.INTER_EDGE:
                link_kind = LinkKind.INTER_EDGE
            receiver = connection.add_receiver(pn, name, link_kind)
            if is_data:
                receiver.priority = connection.data_in_count
                connection.data_in_count += 1
            else:
                # A C router now and then sets up its side of a stream just after the first octets behind the header
                # have passed by, and keeps them until something is said about the link: its credit, then, at once.
                receiver.replenishes_streams = connection.is_router and not connection.peer.is_vanrouter
                receiver.replenishes_at_once = False
                if connection.is_router and not receiver.replenishes_streams:
                    # One stream at a time: the peer never waits for the last of its credit.
                    receiver.grants_at = max(1, connection.capacity // STREAM_GRANTS)
            receiver.is_guarded = not connection.role.is_trusted
            self._take_flags(receiver, capabilities)
            self._accept(pn)
            connection.give_initial_credit(receiver)
            return
        self._on_producer(pn, name, target, text, capabilities)

    def _take_flags(self, receiver: Receiver, capabilities: frozenset[str]) -> None:
        flags = (STREAMING_DELIVERIES in capabilities) | (RESEND_RELEASED in capabilities) << 1
        receiver.annotations = originated(flags)

    def _on_producer(self, pn: Any, name: str, target: Any, text: str | None, capabilities: frozenset[str]) -> None:
        """A sender of the peer towards an address."""
        router, connection = self._router, self._connection
        if proton.terminus_is_dynamic(target):
            text = router.space.dynamic_target(random_suffix())
            proton.terminus_set_address(proton.link_target(pn), text.encode())
        assert text is not None
        fault = _fault_of(target, text)
        if fault is not None:
            self._refuse(pn, fault)
            return
        internal = router.internal_receiver(text)
        if internal is not None:
            if not internal.allows(connection):
                self._refuse(pn, NOT_ATTACHABLE)
                return
            if internal.refusal is not None:
                self._refuse(pn, internal.refusal)
                return
            receiver = connection.add_receiver(pn, name, LinkKind.ENDPOINT)
            receiver.on_message = internal.handler(connection)
            receiver.capacity = internal.credit
            self._accept(pn)
            connection.give_initial_credit(receiver)
            return
        key = router.space.key(text)
        if self._is_unavailable(key):
            self._refuse(pn, NOT_FOUND)
            return
        receiver = connection.add_receiver(pn, name, LinkKind.ENDPOINT)
        receiver.target_text = text
        receiver.is_guarded = not connection.role.is_trusted and leads_elsewhere(key, text)
        receiver.is_special |= receiver.is_guarded
        self._take_flags(receiver, capabilities)
        address = router.table.ensure(key)
        router.refresh_priority(address)
        receiver.address = address
        address.producers[receiver] = None
        self._accept(pn)
        if address.is_reachable:
            connection.give_initial_credit(receiver)
        router.on_producer_added(address, receiver)

    def _is_unavailable(self, key: str) -> bool:
        address = self._router.table.get(key)
        if address is not None:
            return address.treatment == Treatment.UNAVAILABLE
        return key[0] == "M" and self._router.table.treatment_of(key)[0] == Treatment.UNAVAILABLE

    def _on_peer_receives(self, pn: Any) -> None:
        connection = self._connection
        source = proton.link_remote_source(pn)
        capabilities = read_symbols(proton.terminus_capabilities(source))
        refusal = self._role_conflict(capabilities)
        if refusal is not None:
            self._refuse(pn, refusal)
            return
        name = proton.text(proton.link_name(pn)) or ""
        self._mirror(pn)
        if CONTROL in capabilities:
            connection.control_out = connection.add_sender(pn, name, LinkKind.CONTROL)
            connection.control_out.priority = 9
            self._accept(pn)
            self._router.on_control_link(connection)
        elif DATA in capabilities:
            sender = connection.add_sender(pn, name, LinkKind.DATA)
            self._accept(pn)
            self._add_data_sender(sender)
        else:
            self._on_consumer(pn, name, source, capabilities)

    def _on_consumer(self, pn: Any, name: str, source: Any, capabilities: frozenset[str]) -> None:
        """A receiver of the peer for an address."""
        router, connection = self._router, self._connection
        text = proton.text(proton.terminus_get_address(source))
        kind = LinkKind.ENDPOINT
        if proton.terminus_is_dynamic(source):
            text = router.space.dynamic_source(random_suffix())
            proton.terminus_set_address(proton.link_source(pn), text.encode())
        if text is None:
            self._refuse(pn, NO_ROUTE)
            return
        fault = _fault_of(source, text)
        if fault is not None:
            self._refuse(pn, fault)
            return
        internal = router.internal_sender(text)
        if internal is not None:
            if not internal.allows(connection):
                self._refuse(pn, NOT_ATTACHABLE)
                return
            sender = connection.add_sender(pn, name, kind)
            self._accept(pn)
            internal.handler(connection, sender)
            return
        if DOWNLINK in capabilities and connection.is_edge:
            kind = LinkKind.EDGE_DOWNLINK
            key = f"H{connection.peer.container}"
        else:
            key = router.space.key(text)
        if key[0] in "RT":
            self._refuse(pn, NO_ROUTE)
            return
        if self._is_unavailable(key):
            self._refuse(pn, NOT_FOUND)
            return
        sender = connection.add_sender(pn, name, kind)
        sender.source_text = text
        sender.settles = proton.link_remote_snd_settle_mode(pn) == proton.SND_SETTLED
        self._accept(pn)
        address = router.table.ensure(key)
        router.refresh_priority(address)
        if key[0] == "L":
            address.is_internal = True
        sender.address = address
        router.table.add_consumer(address, sender)
        router.on_consumer_added(address, sender)


def _fault_of(terminus: Any, text: str) -> tuple[str, str] | None:
    """Return why the address of a peer's terminus, `text`, cannot be one: all routers are told of it."""
    if len(text) > MAX_ADDRESS_LENGTH:
        return ADDRESS_TOO_LONG
    return None if proton.is_utf8(proton.terminus_get_address(terminus)) else ADDRESS_NO_TEXT
