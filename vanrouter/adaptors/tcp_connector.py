"""A tcpConnector: takes streams sent to its address and carries each to its server.

Layer: 4. Source: TCP over AMQP, sections 3.2, 9, 13; extensions (refused connector, health checks).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vanrouter.adaptors.tcp_config import ConnectorConfig
from vanrouter.adaptors.tcp_flow import Flow
from vanrouter.adaptors.tcp_shared import Service, Shared, host_of, plain_row
from vanrouter.adaptors.tcp_tls import TlsFlow
from vanrouter.core.flows import COUNTERPART, CounterpartRecord, ServiceKind, ServiceRecord
from vanrouter.core.stream import (
    ACCEPTED,
    MODIFIED,
    NOWHERE,
    REJECTED,
    RELEASED,
    RESEND_RELEASED,
    STREAM_FLAGS,
    Producer,
    Serving,
    Sink,
    StreamHead,
)
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, STREAM_VERSION, encode_stream_head
from vanrouter.errors import ConfigError
from vanrouter.net.dial import Address, Connecting, Resolver, begin_connect
from vanrouter.net.health import Health
from vanrouter.net.reactor import IN, OUT
from vanrouter.net.tls import TlsFiles, connector_context

logger = logging.getLogger(__name__)

REPLY_TRIES = 5
FIRST_RETRY_S = 0.025
"""Waits before a released stream is offered again; each is twice the one before: all of them within 0.8 s. A router
between that has just come up may know the way here before it knows the way back."""

LISTENER_READY_S = 0.02
"""Octets of a server that speaks first wait so long for the listener of a C router. It changes to another way to take
octets a moment after the header has come, and loses some of those that come at this moment: four of 400 flows whose
server sent 2 MB at once were not whole. Octets of its client mean that it has changed."""


class ConnectorFlow(Flow):
    """A connection to the server. Its own stream goes to the client's reply address; the client's comes first."""

    __slots__ = ("alpn", "connecting", "is_resent", "reply_to", "send_next", "tries")

    direction = "out"
    service: ConnectorService

    def __init__(self, service: ConnectorService, head: StreamHead, producer: Producer) -> None:
        super().__init__(service, None, (service.host, service.port))
        self.peer = producer
        self.reply_to = head.reply_to or ""
        self.alpn = head.alpn
        self.is_resent = bool(head.flags & RESEND_RELEASED)
        self.set_peer_kind(head.is_vanrouter)
        if self.is_resent:
            self.report_at = 1  # routers on the way keep the stream for another try until they see a report
        self.backlog = bytearray()
        self.connecting: Connecting | None = None
        self.tries = REPLY_TRIES
        self.send_next: Callable[[memoryview | bytes | bytearray], int] | None = None
        """What writes, while the listener is waited for."""
        recorder = self.shared.recorder
        self.record = recorder.begin_counterpart(head.correlation_id, service.record, self, head.trace)

    # --- before there is a socket -------------------------------------------------------------------------------------

    def connect(self, targets: list[Address]) -> None:
        """Try the addresses of the server."""
        if len(targets) == 1:
            sock, error = begin_connect(targets[0])
            if sock is None:
                # Not before the router has the sink that it asked for.
                self.shared.reactor.call_soon(lambda: self.on_connect_failed(error))
                return
            if error == 0:
                self.on_connected(sock)
                return
            self.connecting = Connecting(self.shared.reactor, [], self)
            self.connecting.adopt(sock)
        else:
            self.connecting = Connecting(self.shared.reactor, targets, self)
            self.shared.reactor.call_soon(self.connecting.start)
        self.shared.wheel.schedule(self, self.service.config.connect_timeout_s)

    def on_resolved(self, result: list[Address] | Exception) -> None:
        """The name of the server has been looked up."""
        if self.peer is None:
            return
        if isinstance(result, Exception):
            if self.record is not None:
                self.record.error = str(result)
            self.service.on_unresolvable(result)
            self.give_up(MODIFIED)
        else:
            self.connect(result)

    def on_connect_failed(self, error: int) -> None:
        """Refused, unreachable or timed out: another connector may try, if nothing stands against it."""
        if self.peer is None:
            return
        if error == errno.ECONNRESET:  # a server that had taken the connection already: it lives, and has had its try
            self.give_up(MODIFIED)
            return
        if self.record is not None:
            self.record.error = f"{os.strerror(error)} - on connect {self.service.host}:{self.service.port}"
        self.service.connect_failures += 1
        self.service.health.flow_refused(error)
        self.give_up(RELEASED if self.is_resent else MODIFIED)

    def give_up(self, state: int) -> None:
        """There will be no connection."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if self.bucket is not None:
            self.shared.wheel.cancel(self)
        self.read_done = True
        self.release_backlog()
        self.settle_output(state)
        self.service.waiting.discard(self)
        record, self.record = self.record, None
        if record is not None:
            self.shared.recorder.end(record)

    def on_connected(self, sock: socket.socket) -> None:
        """The server has taken the connection: tell the client's side at once, then write what has come."""
        self.connecting = None
        if self.bucket is not None:
            self.shared.wheel.cancel(self)
        service = self.service
        service.waiting.discard(self)
        service.health.flow_connected()
        self.take_socket(sock)
        service.on_flow_opened(self)
        if isinstance(self.record, CounterpartRecord):
            name = sock.getsockname()
            self.record.proxy_host, self.record.proxy_port = host_of(name), str(name[1])
            self.shared.recorder.changed(self.record, COUNTERPART)
            logger.debug("[C%d][F%s] Connected by %s", self.id, self.record.identity, service.name)
        self.open_reply()
        self.start_io()

    # --- the server's stream ------------------------------------------------------------------------------------------

    def open_reply(self) -> None:
        """Begin the server's stream."""
        tries = self.tries
        head = encode_stream_head(self.reply_to, None, None)
        out = self.shared.router.open_stream(self.reply_to, head, STREAM_FLAGS, self)
        if self.tries != tries or self.sock is None:
            return  # a listener of this router has released it already
        if self.read_done:
            out.finish()
        else:
            self.out = out

    def outcome(self, state: int, settled: bool) -> None:
        if state == RELEASED and not self.sent and self.tries and self.sock is not None:
            self.try_again()
        else:
            super().outcome(state, settled)

    def try_again(self) -> None:
        """Nobody has taken the server's stream, and nothing has gone out on it: offer it again in a moment."""
        out, self.out = self.out, None
        if out is not None:
            out.finish(True)
        self.blocked = True
        self.hold_input()
        self.service.retried += 1
        self.shared.reactor.call_later(FIRST_RETRY_S * (1 << (REPLY_TRIES - self.tries)), self.offer)
        self.tries -= 1

    def hold_input(self) -> None:
        """Have the server's octets wait in the socket."""
        self.watch(self.mask & ~IN)

    def offer(self) -> None:
        """Begin the server's stream anew."""
        if self.sock is not None:
            self.blocked = False
            self.open_reply()
            self.wait_for_listener()
            self.resume()

    def wait_for_listener(self) -> None:
        """Leave the server's octets in the socket until the listener of a C router takes them as it should."""
        if self.is_reset_known or self.blocked:
            return
        self.blocked = True
        if self.send_next is None:
            self.send_next, self.send = self.send, self.send_first
            self.shared.reactor.call_later(LISTENER_READY_S, self.go_on)

    def send_first(self, data: memoryview | bytes | bytearray) -> int:
        """Stand in for `send` until the client's first octets come."""
        self.go_on()
        return self.send(data)

    def go_on(self) -> None:
        """The listener is ready, as far as can be seen from here."""
        send, self.send_next = self.send_next, None
        if send is None:
            return
        if self.send == self.send_first:
            self.send = send
        if self.out is not None:
            self.writable()

    def start_io(self) -> None:
        """Write what has come, and read."""
        if self.sock is None:
            return
        if self.record is not None:
            self.tell_next()
        self.wait_for_listener()
        self.watch(0 if self.blocked else IN)
        self.start_idle_clock()
        if self.backlog:
            self.drain()
            if self.backlog is not None:
                self.watch(self.mask | OUT)
        else:
            self.release_backlog()
            if self.in_finished:
                self.end_output()

    def abort(self) -> None:
        if self.sock is None:
            self.peer = None
            self.give_up(ACCEPTED)
        else:
            super().abort()

    def break_input(self) -> None:
        # A stream whose header and abort arrive together is thrown away unseen. Where the client's stream has been
        # answered already, nothing else would tell its listener: such a stream is completed.
        if self.peer is None and not self.acked:
            self.is_reset_known = False
        super().break_input()

    def drop(self, is_reset: bool = False) -> None:
        if self.sock is None:
            self.give_up(MODIFIED)
        else:
            super().drop(is_reset)

    on_crash = drop

    def end_output(self) -> None:
        if self.sock is not None:
            super().end_output()

    def on_deadline(self, now: float) -> None:
        if self.sock is None:
            self.on_connect_failed(errno.ETIMEDOUT)
        else:
            super().on_deadline(now)


class TlsConnectorFlow(TlsFlow, ConnectorFlow):
    """A connection that speaks TLS to the server."""

    def start_io(self) -> None:
        if self.sock is not None:
            files = self.service.config.tls
            assert files is not None  # the class says so
            try:
                context = self.service.tls_context(self.alpn)
            except ConfigError as error:  # a file that could be read before: the router that asks is not to blame
                self.service.handshake_failed(self, error)
                self.drop()
                return
            self.begin_tls(context, self.service.host, files)

    def hold_input(self) -> None:
        if not self.is_shaking:
            super().hold_input()

    def on_handshake(self, alpn: str | None) -> None:  # only what the client's side asked for was offered
        super().start_io()


class EgressRow:
    """The permanent pseudo connection of a connector: owner of the consumer link (section 10.2)."""

    __slots__ = ("id", "opened_at", "service")

    def __init__(self, service: ConnectorService, identity: int) -> None:
        self.service = service
        self.id = identity
        self.opened_at = service.shared.reactor.now

    is_protected = True
    """Management answers 403 to a request to cut it."""

    def management_row(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity."""
        return plain_row(self.id, "egress-dispatch", "out", int(self.service.shared.reactor.now - self.opened_at))

    def force_close(self) -> None:
        """Not possible; who asks has looked at `is_protected`."""


class ConnectorService(Service):
    """A tcpConnector: the consumer at its address."""

    entity_type = "tcpConnector"

    def __init__(self, shared: Shared, config: ConnectorConfig) -> None:
        super().__init__(
            shared, config.name, config.host, config.port, config.idle_timeout_s, config.half_close_timeout_s
        )
        self.config = config
        self.connections_opened = 1
        self.record = ServiceRecord(
            ServiceKind.CONNECTOR, config.name, "tcp", config.host, config.port, config.address, config.process
        )
        self.connect_failures = 0
        """Flows that no address of the server took."""
        self.retried = 0
        """Streams of servers offered again after nobody had taken them."""
        self.waiting: set[ConnectorFlow] = set()
        """Flows without a connection yet."""
        self.resolver = Resolver(shared.reactor, config.host, config.port)
        self.health = Health(shared.reactor, config, self.resolver, self)
        self._contexts: dict[str | None, Any] = {}
        self._subscription: Serving | None = None
        self._row: EgressRow | None = None

    def start(self) -> None:
        """Take streams."""
        if self.config.tls is not None:
            self.tls_context(None)  # a broken profile is an error now, not with the first client
        router = self.shared.router
        self._row = EgressRow(self, router.next_connection_id())
        router.connections[self._row.id] = self._row
        self.shared.recorder.begin_service(self.record)
        self.announce()
        self.health.start()

    def announce(self) -> None:
        """Be a consumer at the address."""
        if self._subscription is None and self._row is not None:
            self._subscription = self.shared.router.subscribe_stream(self.config.address, self, self.config.weight)

    def withdraw(self) -> None:
        """Be none, so that no flow comes to a server that does not answer."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.cancel()

    @property
    def is_last(self) -> bool:
        """Whether flows to the address have nowhere else to go."""
        return self._subscription is not None and self._subscription.is_last

    @property
    def is_announced(self) -> bool:
        """Whether the address counts this connector."""
        return self._subscription is not None

    def tls_context(self, alpn: str | None) -> Any:
        """Return the TLS context that offers `alpn`.

        Raises:
            ConfigError: it is the first of that name, and a file of the sslProfile can be read no more.
        """
        assert self.config.tls is not None
        context = self._contexts.get(alpn)
        if context is None:
            context = connector_context(self.config.tls, self.config.verify_hostname, alpn)
            if len(self._contexts) < 16:
                self._contexts[alpn] = context
        return context

    def renewed_tls(self, files: TlsFiles) -> Callable[[], None]:
        """Return what lets new connections use other credentials.

        Raises:
            ConfigError: they are wrong; nothing has changed.
        """
        context = connector_context(files, self.config.verify_hostname, None)

        def apply() -> None:
            self.config = replace(self.config, tls=files)
            self._contexts = {None: context}

        return apply

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A client somewhere has connected."""
        if head.content_type != STREAM_CONTENT_TYPE or (head.version or 0) > STREAM_VERSION:
            producer.outcome(RELEASED, True)
            return NOWHERE
        if not head.reply_to:
            producer.outcome(REJECTED, True)
            return NOWHERE
        flow = (ConnectorFlow if self.config.tls is None else TlsConnectorFlow)(self, head, producer)
        self.waiting.add(flow)
        targets = self.resolver.known()
        if targets is None:
            self.resolver.ask(flow.on_resolved)
        else:
            flow.connect(targets)
        return flow

    def on_unresolvable(self, error: Exception) -> None:
        """The host has no address."""
        self.connect_failures += 1
        reason = getattr(error, "strerror", None) or str(error)
        if reason != self.health.last_error:
            self.health.last_error = reason
            logger.error("Connector %s: %s:%s: %s", self.name, self.host, self.port, reason)

    @property
    def oper_status(self) -> str:
        """What was last observed of the server."""
        return self.health.status

    def live_attributes(self) -> dict[str, Any]:
        """Return the attributes that change by themselves."""
        return {
            "operStatus": self.oper_status,
            "connectionsOpened": self.connections_opened,
            "connectionsClosed": self.connections_closed,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
        }

    def delete(self, drop_connections: bool) -> None:
        """Withdraw; live flows end, or run to their end."""
        self.shut_down()
        if drop_connections:
            self.drop_flows()

    def drop_flows(self) -> None:
        for flow in list(self.waiting):
            flow.drop()
        super().drop_flows()

    @property
    def has_flows(self) -> bool:
        return bool(self.flows or self.waiting)

    def shut_down(self) -> None:
        """Take no more streams; flows stay."""
        self.health.stop()
        self.withdraw()
        row, self._row = self._row, None
        if row is not None:
            self.shared.recorder.end_service(self.record)
            self.shared.router.connections.pop(row.id, None)
