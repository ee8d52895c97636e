"""An httpConnector: takes requests sent to its address and has its server answer them.

Layer: 4. Source: HTTP over AMQP, sections 1 and 6 (design note B); extensions.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vanrouter.adaptors.http_codecs import CLIENT_CODECS, STREAM_CODECS, STREAM_VERSIONS
from vanrouter.adaptors.http_config import HTTP2, MESSAGE, HttpConnectorConfig
from vanrouter.adaptors.http_exchange import Requester, RequestHead, Responder
from vanrouter.adaptors.http_listener import add_forwarded, connection_row
from vanrouter.adaptors.http_message_connector import MessageRequests
from vanrouter.adaptors.http_pool import Pool, ServerConnection
from vanrouter.adaptors.http_requests import ServedRequest
from vanrouter.adaptors.http_shared import Shared
from vanrouter.adaptors.http_statistics import RequestCounts
from vanrouter.adaptors.http_stream import AnswerStream
from vanrouter.core.flows import ServiceKind, ServiceRecord
from vanrouter.core.stream import (
    NOWHERE,
    REJECTED,
    RELEASED,
    Producer,
    Serving,
    Sink,
    StreamHead,
)
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, STREAM_VERSION
from vanrouter.net.dial import Resolver
from vanrouter.net.health import Health
from vanrouter.net.tls import TlsFiles, connector_context

logger = logging.getLogger(__name__)


class HttpConnector:
    """An httpConnector: the consumer at its address, and the handler of the requests that come."""

    entity_type = "httpConnector"

    def __init__(self, shared: Shared, config: HttpConnectorConfig) -> None:
        self.shared = shared
        self.config = config
        self.name = config.name
        self.counts = RequestCounts("out", config.address)
        self.peer_counts = self.counts.peer(config.host)
        self.connections_opened = 0
        self.connections_closed = 0
        self.handshake_failures = 0
        self.is_deleted = False
        self.resolver = Resolver(shared.reactor, config.host, config.port)
        self.health = Health(shared.reactor, config, self.resolver, self)
        self.pool = Pool(self)
        self._authority = None if config.host_override is None else config.host_override.encode()
        protocol = "http2" if self.speaks_http2 else "http1"
        self.record = ServiceRecord(
            ServiceKind.CONNECTOR, config.name, protocol, config.host, config.port, config.address
        )
        self.tls_context: ssl.SSLContext | None = None
        """Of new connections to the server."""
        self._subscription: Serving | None = None

    def start(self) -> None:
        """Take requests."""
        if self.config.tls is not None:  # a broken profile is an error now, not with the first request
            self.tls_context = self._new_context(self.config.tls)
        self.shared.recorder.begin_service(self.record)
        self.announce()
        self.health.start()

    def announce(self) -> None:
        """Be a consumer at the address."""
        if self._subscription is not None or self.is_deleted:
            return
        router = self.shared.router
        if self.config.form == MESSAGE:
            self._subscription = router.subscribe_deliveries(self.config.address, MessageRequests(self))
        else:
            self._subscription = router.subscribe_stream(self.config.address, self)

    @property
    def speaks_http2(self) -> bool:
        """What its server speaks, and its messages carry."""
        return self.config.protocol == HTTP2

    @property
    def scheme(self) -> bytes:
        """Of requests that do not say theirs."""
        return b"http" if self.config.tls is None else b"https"

    def withdraw(self) -> None:
        """Be none, so that no request comes to a server that does not answer."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.cancel()

    @property
    def is_last(self) -> bool:
        """Whether requests to the address have nowhere else to go."""
        return self._subscription is not None and self._subscription.is_last

    def _new_context(self, files: TlsFiles) -> ssl.SSLContext:
        return connector_context(files, self.config.verify_hostname, CLIENT_CODECS[self.config.protocol].alpn)

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A request has come, or a connection of a plain TCP listener."""
        version = head.http or STREAM_VERSIONS[self.config.protocol]
        codec_type = STREAM_CODECS.get(version)
        if head.content_type != STREAM_CONTENT_TYPE or (head.version or 0) > STREAM_VERSION or codec_type is None:
            producer.outcome(RELEASED, True)
            return NOWHERE
        if not head.reply_to:
            producer.outcome(REJECTED, True)
            return NOWHERE
        is_single = head.http is not None
        stream = AnswerStream(self.shared, head.reply_to, head.correlation_id, is_single=is_single)
        stream.codec = codec_type(stream, self, self.config.limits, is_single=is_single)
        return stream.accept(producer)

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """Have the server answer."""
        if self._authority is not None:
            head.authority = self._authority
        if self.config.forwarded_headers:
            add_forwarded(head, self.config.host)
        request = ServedRequest(self, head, requester)
        request.begin()
        return request

    # --- from the pool ------------------------------------------------------------------------------------------------

    def on_opened(self, connection: ServerConnection) -> None:
        """There is a connection to the server."""
        router = self.shared.router
        connection.id = router.next_connection_id()
        router.connections[connection.id] = connection
        self.connections_opened += 1
        self.health.flow_connected()

    def on_closed(self, connection: ServerConnection) -> None:
        """It has ended."""
        if connection.id:
            self.connections_closed += 1
            router = self.shared.router
            router.connections.pop(connection.id, None)
            router.trimmer.note_cycle()

    def handshake_failed(self, error: OSError) -> None:
        """Count and log a TLS handshake that went wrong."""
        self.handshake_failures += 1
        logger.info("Connector %s: TLS handshake with %s failed: %s", self.name, self.config.host, error)

    def on_unresolvable(self, error: Exception) -> None:
        """The host has no address."""
        reason = getattr(error, "strerror", None) or str(error)
        if reason != self.health.last_error:
            self.health.last_error = reason
            logger.error("Connector %s: %s:%s: %s", self.name, self.config.host, self.config.port, reason)

    # --- management ---------------------------------------------------------------------------------------------------

    @property
    def oper_status(self) -> str:
        """What was last observed of the server."""
        return self.health.status

    def connection_row(self, connection: ServerConnection) -> dict[str, Any]:
        """Return the attributes of the `connection` entity."""
        return connection_row(connection, f"{self.config.host}:{self.config.port}")

    def live_attributes(self) -> dict[str, Any]:
        """Return the attributes that change by themselves."""
        return {
            "operStatus": self.oper_status,
            "connectionsOpened": self.connections_opened,
            "connectionsClosed": self.connections_closed,
        }

    def renewed_tls(self, files: TlsFiles) -> Callable[[], None]:
        """Return what lets new connections use other credentials.

        Raises:
            ConfigError: they are wrong; nothing has changed.
        """
        context = self._new_context(files)

        def apply() -> None:
            self.config = replace(self.config, tls=files)
            self.tls_context = context
            self.pool.close_idle()

        return apply

    def delete(self, drop_connections: bool) -> None:
        """Withdraw; connections to the server end now, or when they are idle."""
        self.shut_down()
        if drop_connections:
            self.pool.close()

    def shut_down(self) -> None:
        """Take no more requests; those in progress are answered."""
        if not self.is_deleted:
            self.shared.recorder.end_service(self.record)
        self.is_deleted = True
        self.health.stop()
        self.withdraw()
        self.pool.close_idle()
