"""Auto-links: links that this router attaches towards a container, as soon as a connection to it is open.

Layer: 3. Source: router protocol, section 10; management.md section 8 (router.config.autoLink). Each link has a session
of its own: some brokers end the whole session when they refuse one attach.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from vanrouter.core.links import LinkKind, Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.engine import proton

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.core")

ROLES = frozenset((Role.ROUTE_CONTAINER, Role.INTER_NETWORK))
"""Roles of connections on which auto-links are attached."""

FIRST_RETRY_S = 2.0
RETRY_S = 5.0
"""A refused or detached link is tried again after the first, then every so many seconds."""


class AutoLinkState(Enum):
    """States; the values are the words of management."""

    INACTIVE = "inactive"
    ATTACHING = "attaching"
    FAILED = "failed"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoLinkConfig:
    """What an autoLink entity says.

    Args:
        is_in: the router receives from the container; otherwise it sends to it.
        address: address in the router network; None (only with `is_in`): each message says.
        external_address: address at the container, when it is another one.
        container_id: attach on connections to this container.
        connection: attach on connections of the listener or connector of this name.
    """

    is_in: bool
    address: str | None
    external_address: str | None = None
    container_id: str | None = None
    connection: str | None = None

    def is_for(self, connection: Connection) -> bool:
        """Tell whether a link belongs on that connection."""
        if connection.role not in ROLES:
            return False
        if self.container_id is not None:
            return connection.peer.container == self.container_id
        return bool(self.connection) and connection.listener_name == self.connection


class _Attachment:
    """The link of one auto-link on one connection: attached, answered, or waiting to be tried again."""

    __slots__ = ("auto_link", "connection", "failures", "link", "session", "timer")

    def __init__(self, auto_link: AutoLink, connection: Connection) -> None:
        self.auto_link = auto_link
        self.connection = connection
        self.link: Receiver | Sender | None = None
        self.session: Any = None
        self.timer: Any = None
        self.failures = 0


class AutoLink:
    """One auto-link: its links on all connections that match."""

    def __init__(self, auto_links: AutoLinks, config: AutoLinkConfig) -> None:
        self._auto_links = auto_links
        self.config = config
        self.attachments: dict[Connection, _Attachment] = {}
        self.state = AutoLinkState.INACTIVE
        self.last_error: str | None = None

    @property
    def link_id(self) -> int | None:
        """Number of the link, of the newest one where there are several; None while none is attached."""
        found = None
        for attachment in self.attachments.values():
            if attachment.link is not None:
                found = attachment.link.id
        return found

    def cancel(self) -> None:
        """Detach the links and forget about it."""
        self._auto_links.remove(self)


class AutoLinks:
    """All auto-links of a router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._all: dict[AutoLink, None] = {}
        self._connections: dict[Connection, None] = {}
        """Open connections on which auto-links may be attached."""
        self._by_link: dict[Receiver | Sender, _Attachment] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, config: AutoLinkConfig) -> AutoLink:
        """Make an auto-link; it attaches on the connections that are open and on those to come."""
        auto_link = AutoLink(self, config)
        self._all[auto_link] = None
        for connection in tuple(self._connections):
            if config.is_for(connection):
                self._activate(auto_link, connection)
        return auto_link

    def remove(self, auto_link: AutoLink) -> None:
        """Detach the links of an auto-link; it is no more."""
        self._all.pop(auto_link, None)
        for attachment in tuple(auto_link.attachments.values()):
            if attachment.timer is not None:
                attachment.timer.cancel()
            link = attachment.link
            if link is not None:
                del self._by_link[link]
                attachment.connection.detach(link)
                attachment.connection.end_session(attachment.session)
        auto_link.attachments.clear()
        auto_link.state = AutoLinkState.INACTIVE

    # What happens to connections and links.

    def on_connection_opened(self, connection: Connection) -> None:
        """A connection has opened: attach what belongs on it."""
        if connection.role not in ROLES:
            return
        self._connections[connection] = None
        for auto_link in self._all:
            if auto_link.config.is_for(connection):
                self._activate(auto_link, connection)

    def on_connection_lost(self, connection: Connection) -> None:
        """A connection is gone; its links have ended before."""
        if self._connections.pop(connection, self) is self:
            return
        for auto_link in self._all:
            attachment = auto_link.attachments.pop(connection, None)
            if attachment is not None:
                if attachment.timer is not None:
                    attachment.timer.cancel()
                self._set_state(auto_link)

    def on_link_gone(self, link: Receiver | Sender) -> None:
        """A link has ended; if it was one of ours, try again in a while."""
        attachment = self._by_link.pop(link, None) if self._by_link else None
        if attachment is None:
            return
        connection, auto_link = attachment.connection, attachment.auto_link
        attachment.link = None
        if connection.is_closed:
            return
        condition = proton.condition_text(proton.link_remote_condition(link.pn))
        if condition is None:
            condition = proton.condition_text(proton.session_remote_condition(attachment.session))
        auto_link.last_error = "" if condition is None else condition[1] or condition[0]
        delay = RETRY_S if attachment.failures else FIRST_RETRY_S
        attachment.failures += 1
        logger.warning(
            "[C%d][L%d] Auto-link '%s' ended, tried again in %g s: %s",
            connection.id,
            link.id,
            self._title(auto_link.config),
            delay,
            auto_link.last_error or "detached by the peer",
        )
        self._set_state(auto_link)
        session, attachment.session = attachment.session, None
        reactor = self._router.reactor
        if not proton.session_state(session) & proton.REMOTE_CLOSED:
            reactor.call_soon(lambda: connection.end_session(session))
        attachment.timer = reactor.call_later(delay, lambda: self._attach(attachment))

    def on_answered(self, link: Receiver | Sender) -> None:
        """The container has answered an attach; an answer without an address refuses, or knows no auto-links."""
        attachment = self._by_link.get(link)
        if attachment is None:
            return
        auto_link, router = attachment.auto_link, self._router
        config = auto_link.config
        terminus = (
            proton.link_remote_source(link.pn) if isinstance(link, Receiver) else proton.link_remote_target(link.pn)
        )
        if proton.terminus_get_address(terminus) == proton.NULL:
            return
        attachment.failures = 0
        auto_link.last_error = None
        if config.address is None:
            assert isinstance(link, Receiver)
            attachment.connection.give_initial_credit(link)
        else:
            address = router.table.ensure(router.space.key(config.address))
            router.refresh_priority(address)
            link.address = address
            if isinstance(link, Receiver):
                link.target_text = config.address
                address.producers[link] = None
                if address.is_reachable:
                    attachment.connection.give_initial_credit(link)
                router.on_producer_added(address, link)
            else:
                link.source_text = config.address
                router.table.add_consumer(address, link)
                router.on_consumer_added(address, link)
        self._set_state(auto_link)

    # Attaching.

    def _activate(self, auto_link: AutoLink, connection: Connection) -> None:
        attachment = auto_link.attachments[connection] = _Attachment(auto_link, connection)
        self._attach(attachment)

    def _attach(self, attachment: _Attachment) -> None:
        connection, config = attachment.connection, attachment.auto_link.config
        attachment.timer = None
        if connection.is_closed or connection.engine.closing:
            return
        attachment.session = connection.new_session()
        address = config.external_address or config.address
        attach = connection.attacher.attach_receiver if config.is_in else connection.attacher.attach_sender
        link: Any = attach(attachment.session, LinkKind.ENDPOINT, address)
        attachment.link = link
        self._by_link[link] = attachment
        logger.info(
            "[C%d][L%d] Auto-link '%s' attaching, direction %s, address at the container '%s'",
            connection.id,
            link.id,
            self._title(config),
            "in" if config.is_in else "out",
            address,
        )
        self._set_state(attachment.auto_link)

    @staticmethod
    def _title(config: AutoLinkConfig) -> str:
        return config.address or config.external_address or "anonymous"

    def _set_state(self, auto_link: AutoLink) -> None:
        """The best of what the links are: one that works counts for more than one that does not."""
        states = set()
        for attachment in auto_link.attachments.values():
            if attachment.link is None:
                states.add(AutoLinkState.FAILED)
            elif attachment.link.address is not None or getattr(attachment.link, "granted", False):
                states.add(AutoLinkState.ACTIVE)
            else:
                states.add(AutoLinkState.ATTACHING)
        for state in (AutoLinkState.ACTIVE, AutoLinkState.ATTACHING, AutoLinkState.FAILED):
            if state in states:
                auto_link.state = state
                return
        auto_link.state = AutoLinkState.INACTIVE
