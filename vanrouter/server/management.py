"""The management node: requests from the network to the agent, and its replies back.

Layer: 5. Source: management.md, sections 1 and 2.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Any

from vanrouter.core.connection import Connection
from vanrouter.core.guarding import Verdict
from vanrouter.core.links import Receiver
from vanrouter.core.stream import ACCEPTED, REJECTED
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Head, Message, decode_message, encode_message
from vanrouter.engine.sections import Int
from vanrouter.errors import PeerError
from vanrouter.mgmt.agent import Reply, Request
from vanrouter.mgmt.permissions import is_reading
from vanrouter.server.gathering import Gatherer
from vanrouter.server.policy import host_of

if TYPE_CHECKING:
    from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.mgmt")

UNREADABLE = ("amqp:decode-error", "the application properties are no map whose keys are all different")

BUSY = Reply(status=500, description="Too many requests wait for the end of a reload; try again later", body={})

ADDRESSES = ("$management", "_local/$management", "_local/$_management_internal")


class ManagementNode:
    """Answers at the management addresses of this router."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.gatherer = Gatherer(site.reactor)
        self.undeliverable = 0
        """Replies whose address nobody consumes any more."""

    def start(self) -> None:
        """Take requests from now on."""
        self._site.router.guard = self._judge
        for address in ADDRESSES:
            self._site.router.subscribe_messages(address, self._on_request, is_announced=False)

    def _on_request(self, _annotations: Annotations, content: bytes, receiver: Receiver | None) -> None:
        try:
            message = decode_message(content)
        except PeerError as error:
            logger.error("Request refused: %s", error.description)
            return
        if message.reply_to is None:
            return
        request = Request.of(
            {str(key): value for key, value in message.application_properties.items()},
            message.body,
            correlation_id=message.correlation_id,
            reply_to=message.reply_to,
            user="anonymous" if receiver is None else user_of(receiver.connection),
            is_trusted=receiver is None or is_trusted(receiver.connection),
        )
        reloader = self._site.reloader
        if reloader.is_changing and not is_reading(str(request.operation).upper()):
            if not reloader.when_done(lambda: self._handle(message, request, receiver)):
                self._reply(message, BUSY)
            return
        self._handle(message, request, receiver)

    def _handle(self, message: Message, request: Request, receiver: Receiver | None) -> None:
        self._site.requester = None if receiver is None else receiver.connection
        reply = self._site.agent.handle(
            request, later=lambda made: self._reply(message, made), gather=self.gatherer.gather
        )
        if reply is not None:
            self._reply(message, reply)

    def _judge(self, connection: Connection, head: Head) -> Verdict | None:
        """Say what becomes of a client's request to another router: None, or how its delivery ends."""
        try:
            pairs = head.application_pairs()
            properties = dict(pairs)
        except (PeerError, TypeError):
            return REJECTED, UNREADABLE
        if len(properties) < len(pairs):  # whoever reads the other one of two would do something else
            return REJECTED, UNREADABLE
        request = Request.of(
            {str(key): value for key, value in properties.items()},
            None,
            reply_to=head.reply_to,
            user=user_of(connection),
            is_trusted=is_trusted(connection),
        )
        refused = self._site.agent.judge(request)
        if refused is None:
            return None
        if head.reply_to is None:
            return REJECTED, ("amqp:unauthorized-access", refused.description)
        self._reply(Message(reply_to=head.reply_to, correlation_id=head.correlation_id), refused)
        return ACCEPTED, None

    def _reply(self, message: Message, reply: Reply) -> None:
        if message.reply_to is None:
            return
        properties: dict[str, Any] = {"statusCode": Int(reply.status), "statusDescription": reply.description}
        octets = encode_message(
            Message(
                to=message.reply_to,
                correlation_id=message.correlation_id,
                durable=False,
                application_properties=properties,
                body=reply.body,
            )
        )
        if not self._site.router.send_message(message.reply_to, octets):
            self.undeliverable += 1


def user_of(connection: Connection) -> str:
    """Return who a peer has proved to be."""
    security = connection.security
    return "anonymous" if security is None else security.user or "anonymous"


def is_trusted(connection: Connection) -> bool:
    """Tell whether a peer may do everything where nothing else is said: a router, or a client of this machine."""
    if connection.role.is_router:
        return connection.role.is_trusted
    if connection.is_outbound:
        return False
    # What comes from a loopback address came over loopback: the kernel drops everything else.
    return _is_loopback(connection.host) or _is_loopback(host_of(connection.host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
