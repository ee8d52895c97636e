"""The log of messages: their properties in the text form of AMQP values, where a listener or connector asks for it.

Layer: 3. Source: management.md section 8 (messageLoggingComponents) and section 18. Only connections that ask are
looked at (`inspection`); the forwarder gets another `put` when the first of them opens.
"""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

from vanrouter.core.buffer import VIEW
from vanrouter.engine.annotations import parse as parse_annotations
from vanrouter.engine.messages import Head, parse_head
from vanrouter.engine.sections import Symbol, Timestamp
from vanrouter.engine.values import NEED_MORE
from vanrouter.errors import PeerError

if TYPE_CHECKING:
    from vanrouter.core.forwarder import Forwarder
    from vanrouter.core.links import Delivery, Receiver, Sender

logger = logging.getLogger("vanrouter.message")

PROPERTIES = (
    "message-id", "user-id", "to", "subject", "reply-to", "correlation-id", "content-type", "content-encoding",
    "absolute-expiry-time", "creation-time", "group-id", "group-sequence", "reply-to-group-id",
)  # fmt: skip
"""In the order of the properties section (AMQP 1.0, part 3.2.4)."""
APPLICATION = "app-properties"
MAX_VALUE_CHARACTERS = 256


def components_of(text: str) -> frozenset[str]:
    """Return what `messageLoggingComponents` names; empty for none."""
    words = {word.strip() for word in text.split(",")} - {"", "none"}
    return frozenset((*PROPERTIES, APPLICATION)) if "all" in words else frozenset(words)


def shown(value: object) -> str:
    """Return a value in the text form of AMQP values."""
    if isinstance(value, Timestamp):
        moment = datetime.datetime.fromtimestamp(int(value) / 1000, datetime.UTC).astimezone()
        return f'"{moment:%Y-%m-%d %H:%M:%S}.{int(value) % 1000:03d} {moment:%z}"'
    if isinstance(value, Symbol):
        return f':"{str(value)[:MAX_VALUE_CHARACTERS]}"'
    if isinstance(value, str):
        return f'"{value[:MAX_VALUE_CHARACTERS]}"'
    if isinstance(value, bytes):
        return f'b"{value[:MAX_VALUE_CHARACTERS].decode("ascii", "backslashreplace")}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(key)}={shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


class MessageLog:
    """Writes the messages of one listener's or connector's connections."""

    def __init__(self, components: frozenset[str]) -> None:
        self._components = components

    def received(self, receiver: Receiver, head: Head, _to: str | None) -> None:
        """A message has come in."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("[C%d][L%d] Received Message{%s}", receiver.connection.id, receiver.id, self._described(head))

    def sent(self, sender: Sender, content: bytes) -> None:
        """A message, or its beginning, has gone out."""
        if not logger.isEnabledFor(logging.DEBUG):
            return
        start = 0
        try:
            if len(content) > 10 and content[1] == 0x80:
                found = parse_annotations(content, 0, len(content))
                start = 0 if found is NEED_MORE else found.length
            head = parse_head(content, start, len(content))
        except PeerError:
            return
        if head is not NEED_MORE:
            logger.debug("[C%d][L%d] Sent Message{%s}", sender.connection.id, sender.id, self._described(head))

    def _described(self, head: Head) -> str:
        parts = []
        for position, name in enumerate(PROPERTIES):
            value = head.property_at(position)
            if value is not None and name in self._components:
                parts.append(f"{name}={shown(value)}")
        if APPLICATION in self._components:
            try:
                application = head.application_properties()
            except PeerError:
                application = {}
            if application:
                parts.append(f"{APPLICATION}={shown(application)}")
        return ", ".join(parts)


def log_sent(forwarder: Forwarder) -> None:
    """Have the forwarder look, from now on, whether what it sends is to be logged."""
    put: Any = forwarder.put
    if getattr(put, "logs", False):
        return

    def logged(delivery: Delivery, section: bytes | None, content: bytes | None, start: int, end: int) -> None:
        sender = delivery.sender
        before = sender.deliveries
        put(delivery, section, content, start, end)
        log = sender.connection.message_log
        if log is not None and sender.deliveries != before:
            log.sent(sender, bytes(VIEW[start:end]) if content is None else content)

    logged.logs = True  # type: ignore[attr-defined]  # asked for above
    forwarder.put = logged  # type: ignore[method-assign]  # the way without a log stays as quick as it was
