"""Policy in force: asks the rules when connections open, and holds what they answer against links and messages.

Layer: 5. Source: management.md, section 15. The rules themselves are in `mgmt.policy`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vanrouter.core.connection import Connection
from vanrouter.core.inspection import policy_look
from vanrouter.core.links import Receiver
from vanrouter.engine import proton
from vanrouter.errors import ConfigError
from vanrouter.mgmt.entities import EntityConfig
from vanrouter.mgmt.policy import Lookup, Permit, Policies
from vanrouter.mgmt.schema import InvalidEntityError
from vanrouter.mgmt.syntax import parse_json
from vanrouter.mgmt.types_policy import VHOST

if TYPE_CHECKING:
    from vanrouter.adaptors.amqp import AmqpSettings

logger = logging.getLogger("vanrouter.policy")

REFUSED = ("amqp:resource-limit-exceeded", "connection disallowed by local policy")
LINK_LIMIT = ("amqp:resource-limit-exceeded", "link disallowed by local policy")
LINK_DENIED = ("amqp:unauthorized-access", "link disallowed by local policy")

Condition = tuple[str, str]


def host_of(peer: str) -> str:
    """Return the address in `address:port`."""
    return peer.rpartition(":")[0].strip("[]")


class Governed:
    """What one connection may do: the permit held against its links and messages."""

    def __init__(self, connection: Connection, permit: Permit) -> None:
        group = permit.group
        self._permit = permit
        self._connection = connection
        self._number = connection.id
        self.user = permit.user
        self.max_message_bytes = 0 if connection.is_interior_link else permit.max_message_bytes
        self.checks_user_id = not group.allows_user_id_proxy
        self._may_send = group.targets.for_user(permit.user)
        self._may_receive = group.sources.for_user(permit.user)
        self.sessions = self.senders = self.receivers = 0
        """Let in so far."""

    def _deny(self, what: str, address: str | None, reason: str) -> None:
        permit = self._permit
        logger.info(
            "[C%d] DENY AMQP Attach %s link '%s' for user '%s', rhost '%s', vhost '%s' based on %s",
            self._number,
            what,
            address or "",
            permit.user,
            permit.host,
            permit.vhost,
            reason,
        )

    def denies_session(self, open_count: int) -> bool:
        limit = self._permit.group.max_sessions
        if not limit or open_count < limit:
            self.sessions += 1
            return False
        self._permit.counts.sessions_denied += 1
        logger.info(
            "[C%d] DENY AMQP Begin Session due to session limit. user: '%s', rhost: '%s', vhost: '%s'",
            self._number,
            self._permit.user,
            self._permit.host,
            self._permit.vhost,
        )
        return True

    def denied_sender(self, address: str | None, open_count: int) -> Condition | None:
        group = self._permit.group
        if open_count >= group.max_senders:
            self._deny("sender", address, "maxSenders limit")
            answer = LINK_LIMIT
        elif address is None and not group.allows_anonymous_sender:
            self._deny("sender", address, "anonymous sender not allowed")
            answer = LINK_DENIED
        elif address is not None and not self._may_send(address):
            self._deny("sender", address, "link target name")
            answer = LINK_DENIED
        else:
            self.senders += 1
            return None
        self._permit.counts.senders_denied += 1
        return answer

    def denied_receiver(self, address: str | None, is_dynamic: bool, open_count: int) -> Condition | None:
        group = self._permit.group
        if open_count >= group.max_receivers:
            self._deny("receiver", address, "maxReceivers limit")
            answer = LINK_LIMIT
        elif is_dynamic:
            if group.allows_dynamic_source:
                self.receivers += 1
                return None
            self._deny("receiver", address, "dynamic source not allowed")
            answer = LINK_DENIED
        elif address is None or not self._may_receive(address):
            self._deny("receiver", address, "link source name")
            answer = LINK_DENIED
        else:
            self.receivers += 1
            return None
        self._permit.counts.receivers_denied += 1
        return answer

    def allows_target(self, address: str) -> bool:
        return self._may_send(address)

    def on_oversize(self, receiver: Receiver) -> None:
        self._permit.counts.oversize_denied += 1
        logger.info(
            "[C%d][L%d] DENY AMQP Transfer maxMessageSize exceeded: %d octets are allowed",
            self._number,
            receiver.id,
            self.max_message_bytes,
        )


class PolicyGate:
    """Lets connections in, or not."""

    def __init__(self, policy: Mapping[str, object], lookup: Lookup) -> None:
        """`policy`: the attributes of that entity; `lookup`: finds the addresses of hosts."""
        size = policy.get("maxMessageSize")
        self.is_on = policy.get("enableVhostPolicy") is True
        self.policies = Policies(
            default_vhost=str(policy.get("defaultVhost") or ""),
            has_patterns=policy.get("enableVhostNamePatterns") is True,
            max_message_bytes=size if isinstance(size, int) else 0,
            lookup=lookup,
        )
        self._denied = 0

    def admit(self, connection: Connection, settings: AmqpSettings, user: str | None) -> bool:
        """Judge a connection at its OPEN; True: it may go on, under what its group allows.

        A connection that is refused gets its CLOSE here.
        """
        if connection.is_outbound:
            return self._admit_outbound(connection, settings, user)
        hostname = proton.text(proton.connection_remote_hostname(connection.engine.connection))
        name = settings.policy_vhost or hostname or ""
        host = host_of(connection.host)
        permit = self.policies.begin(name, user, host, connection.host)
        who = (user or "anonymous", host, name)
        if not isinstance(permit, Permit):
            self._denied += 1
            logger.info("[C%d] DENY AMQP Open for user '%s', rhost '%s', vhost '%s': %s", connection.id, *who, permit)
            connection.close(REFUSED)
            return False
        logger.debug("[C%d] ALLOW AMQP Open for user '%s', rhost '%s', vhost '%s'", connection.id, *who)
        self._govern(connection, permit)
        return True

    def _admit_outbound(self, connection: Connection, settings: AmqpSettings, user: str | None) -> bool:
        permit = self.policies.connector(settings.policy_vhost, user, host_of(connection.host), connection.host)
        if permit is None:
            self._denied += 1
            logger.error(
                "[C%d] Failed to find policyVhost settings for connection '%s', policyVhost: '%s'",
                connection.id,
                connection.host,
                settings.policy_vhost,
            )
            connection.close(REFUSED)
            return False
        self._govern(connection, permit)
        return True

    def _govern(self, connection: Connection, permit: Permit) -> None:
        group = permit.group
        transport = connection.engine.transport
        if not connection.is_outbound:
            if group.max_frame_bytes:
                connection.max_frame_bytes = group.max_frame_bytes
                proton.transport_set_max_frame(transport, group.max_frame_bytes)
            if group.max_sessions:
                proton.transport_set_channel_max(transport, group.max_sessions - 1)
        if group.max_session_window_bytes:
            connection.window_frames = max(2, group.max_session_window_bytes // connection.max_frame_bytes)
        governed = Governed(connection, permit)
        connection.policy = governed
        connection.allows_admin_delete = group.allows_admin_update
        connection.inspect(policy_look(governed))
        on_closed = connection.on_closed

        def closed(condition: Any) -> None:
            self.policies.end(permit)
            logger.debug(
                "[C%d] Connection '%s' closed with resources n_sessions=%d, n_senders=%d, n_receivers=%d, "
                "sessions_denied=%d, senders_denied=%d, receivers_denied=%d, nConnections= %d.",
                connection.id,
                connection.host,
                governed.sessions,
                governed.senders,
                governed.receivers,
                permit.counts.sessions_denied,
                permit.counts.senders_denied,
                permit.counts.receivers_denied,
                permit.counts.current,
            )
            if on_closed is not None:
                on_closed(condition)

        connection.on_closed = closed

    # What management shows.

    def totals(self) -> dict[str, int]:
        """Return the live attributes of the policy entity that come from vhosts."""
        counts = self.policies.counts.values()
        links = sum(found.links_denied for found in counts)
        oversize = sum(found.oversize_denied for found in counts)
        sessions = sum(found.sessions_denied for found in counts)
        return {
            "linksDenied": links,
            "maxMessageSizeDenied": oversize,
            "totalDenials": self._denied + links + oversize + sessions,
        }

    def rows(self) -> Iterable[dict[str, object]]:
        """Return the rows of vhostStats."""
        for found in self.policies.counts.values():
            yield {
                "identity": f"vhostStats/{found.hostname}",
                "name": f"vhostStats/{found.hostname}",
                "hostname": found.hostname,
                "connectionsApproved": found.approved,
                "connectionsDenied": found.denied,
                "connectionsCurrent": found.current,
                "perUserState": {user: list(peers) for user, peers in found.per_user.items()},
                "perHostState": {host: list(peers) for host, peers in found.per_host.items()},
                "sessionDenied": found.sessions_denied,
                "senderDenied": found.senders_denied,
                "receiverDenied": found.receivers_denied,
                "maxMessageSizeDenied": found.oversize_denied,
            }


def vhost_entities(folder: str) -> Iterable[EntityConfig]:
    """Yield the vhosts in all `*.json` files of a folder: lists of `["vhost", {...}]`.

    Raises:
        ConfigError: a file cannot be read, or holds something else.
    """
    for path in sorted(Path(folder).glob("*.json")):
        try:
            sections = parse_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("vhost", str(error), file=str(path)) from error
        for section in sections:
            if section.name != VHOST.short:
                raise ConfigError(section.name, "only vhost belongs here", file=str(path), line=section.line)
            try:
                attributes = VHOST.complete(VHOST.convert(section.values))
            except InvalidEntityError as error:
                raise ConfigError(error.key, error.reason, file=str(path), line=section.line) from error
            explicit = frozenset(section.values)
            yield EntityConfig(
                type=VHOST.short, attributes=attributes, explicit=explicit, file=str(path), line=section.line
            )
