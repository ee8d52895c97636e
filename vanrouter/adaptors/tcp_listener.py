"""A tcpListener: a port that is open while its address can be reached, and the flows of its clients.

Layer: 4. Source: TCP over AMQP, sections 3.1, 4, 9, 11.1; extensions (early data, another try, whenUnreachable).
"""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from vanrouter.adaptors.observer_tap import NONE, Observing, Tap
from vanrouter.adaptors.tcp_config import REFUSE, ListenerConfig
from vanrouter.adaptors.tcp_flow import EARLY_BYTES, RESET, Flow
from vanrouter.adaptors.tcp_shared import _OCTETS, _VIEW, RETRIES, Service, Shared, host_and_port, host_of
from vanrouter.adaptors.tcp_tls import TlsFlow
from vanrouter.adaptors.tcp_window import LEAST_WINDOW_BYTES
from vanrouter.core.flows import UNREACHABLE, ServiceKind, ServiceRecord
from vanrouter.core.stream import (
    COPIED_BYTES,
    MODIFIED,
    NOWHERE,
    REJECTED,
    RELEASED,
    RESEND_RELEASED,
    STREAM_FLAGS,
    Cancellable,
    Producer,
    ReplyAddress,
    Sink,
    StreamHead,
)
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, STREAM_VERSION, encode_stream_head
from vanrouter.errors import ConfigError
from vanrouter.net.dial import Address, keep_alive, literal_addresses, resolve
from vanrouter.net.listener import OUT_OF_DESCRIPTORS, release
from vanrouter.net.reactor import IN
from vanrouter.net.tls import TlsFiles, listener_context

logger = logging.getLogger(__name__)
socket_logger = logging.getLogger("vanrouter.net.listener")
"""The C router writes `Listening on` as module SERVER; programs wait for that line."""

ACCEPTS_PER_TURN = 16
"""Connections taken from one port in one turn, so that a burst does not hold up the flows."""
ACCEPT_PAUSE_S = 1.0
"""After the process or the system ran out of descriptors."""


LISTENER_FLAGS = STREAM_FLAGS | RESEND_RELEASED

QUICK_RETRIES_LEFT = RETRIES - 3
LAST_RETRY_S = 0.4
"""Three tries follow at once; then each wait is twice the one before, the last so long: all of them within 0.8 s."""


class ListenerFlow(Flow):
    """A client's connection. Its own stream goes to the service; the server's comes to an address of its own."""

    __slots__ = ("address", "alpn", "head", "holds_early", "is_ended", "reply", "retries", "tap")

    service: ListenerService

    def __init__(self, service: ListenerService, sock: socket.socket, remote: Any) -> None:
        super().__init__(service, sock, remote)
        self.tap: Tap | None = None
        self.reply: ReplyAddress | None = None
        self.is_ended = False

    def start(self, alpn: str | None = None) -> None:
        """Begin the client's stream, with what the client has said already."""
        shared = self.shared
        chosen = self.service.choose_address()
        self.address = address = chosen.to
        self.reply = shared.router.new_reply_address(self)
        self.head = encode_stream_head(address, self.reply.address, self.begin_record(chosen), alpn)
        if self.service.observing is not None:
            self.observe(self.service.observing)
        if self.record is not None:
            self.tell_next()
        self.retries = RETRIES
        self.early = bytearray()
        self.limit = max(LEAST_WINDOW_BYTES, min(EARLY_BYTES, shared.memory.window_bytes))
        self.holds_early = False
        self.out = out = shared.router.open_stream(address, self.head, LISTENER_FLAGS, self)
        if self.read_done:
            return
        if out.takes_early:
            self.read()
            self.resume()
        elif self.peer is None:
            self.limit = 0
            self.limited = True
            self.pause()

    def begin_record(self, chosen: ListenerAddress) -> str:
        """Tell of the connection; returns its identity, recorded or not."""
        recorder = self.shared.recorder
        identity = recorder.next_identity()
        host, port = host_of(self.remote), str(self.remote[1])
        self.record = recorder.begin_flow(identity, chosen.record, self, host, port)
        logger.debug(
            "[C%d][F%s] Client %s:%s of %s for %s", self.id, identity, host, port, self.service.name, chosen.to
        )
        return identity

    def observe(self, observing: Observing) -> None:
        """Show an observer what passes, for as long as it can follow."""
        self.tap = tap = Tap(observing, self.record, self.id, self.end_observing)
        self.observe_in, self.observe_out = tap.from_client, tap.from_server

    def end_observing(self) -> None:
        """From now on nothing is shown to anybody."""
        self.tap = self.observe_in = self.observe_out = None

    @property
    def protocol(self) -> str:
        """What the connection counts as (section 10.2)."""
        return "tcp" if self.tap is None else self.tap.protocol

    def read_early(self) -> None:
        early = self.early
        assert early is not None
        try:
            count = self.recv_into(_VIEW, self.limit - self.sent)
        except BlockingIOError:
            return
        except OSError:
            self.read_failed()
            return
        if not count:
            self.end_of_input()
            return
        data = _OCTETS[:count] if count <= COPIED_BYTES else _VIEW[:count]
        if self.observe_in is not None:
            self.observe_in(data)
        early += data
        self.sent += count
        self.shared.hold(self, count)
        if self.sock is None:
            return
        if not self.out.push(data):  # type: ignore[union-attr]  # there is a sink whenever the socket is read
            self.blocked = True
            self.pause()
        elif self.sent >= self.limit:
            self.pause()

    def end_of_input(self) -> None:
        self.is_ended = True
        super().end_of_input()

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """The server's stream has come: from now on the window rules."""
        if self.sock is None or self.peer is not None or self.early is None:
            producer.outcome(RELEASED, True)
            return NOWHERE
        if head.content_type != STREAM_CONTENT_TYPE or (head.version or 0) > STREAM_VERSION:
            producer.outcome(REJECTED, True)
            self.drop()
            return NOWHERE
        self.peer = producer
        early, self.early = self.early, None
        self.forget_early(len(early))
        if self.holds_early and self.out is not None:
            self.holds_early = False
            self.out.push(bytes(early))
            if self.is_ended:
                out, self.out = self.out, None
                out.finish()
        self.set_peer_kind(head.is_vanrouter)
        self.limited = False
        self.resume()
        self.start_idle_clock()
        shared = self.shared
        shared.flow_setup.observe(shared.reactor.now - self.opened_at)
        return self

    def received(self, total: int) -> None:
        if self.early is None:
            super().received(total)
        else:
            # Overtook the server's stream. Something was written: no other connector may get it.
            self.retries = 0
            self.acked = max(self.acked, min(total, self.sent))

    def outcome(self, state: int, settled: bool) -> None:
        if state == RELEASED and self.early is not None and self.sock is not None and self.retries:
            self.try_again()
        else:
            self.retries = 0
            if state in (RELEASED, MODIFIED, REJECTED) and self.early is not None and self.record is not None:
                self.record.error = UNREACHABLE
            super().outcome(state, settled)

    def try_again(self) -> None:
        """Nothing was written anywhere: offer the stream again, to whom it may now be routed."""
        self.retries -= 1
        out, self.out = self.out, None
        if out is not None:
            out.finish(True)
        if not self.service.is_address_reachable(self.address):
            self.retries = 0
            self.outcome(RELEASED, True)
            return
        self.service.retried += 1
        self.blocked = False
        if self.retries >= QUICK_RETRIES_LEFT:
            self.offer()
            return
        # All there are have released it, or the network is not of one mind yet: give it time.
        self.watch(self.mask & ~IN)
        self.shared.reactor.call_later(LAST_RETRY_S / (1 << self.retries), self.offer)

    def offer(self) -> None:
        """Open the stream again, with what the client has said so far."""
        if self.sock is None or self.early is None:
            return
        early = bytes(self.early)  # a server on this router answers before the next line returns
        self.out = out = self.shared.router.open_stream(self.address, self.head, LISTENER_FLAGS, self)
        if early and not out.takes_early and self.early is not None:
            self.holds_early = True
            return
        if early:
            out.push(early)
        if self.is_ended:
            self.out = None
            out.finish()
        elif self.sent < self.limit:
            self.limited = False
            self.resume()

    def forget_early(self, octets: int) -> None:
        """What the client has said is not kept any more."""
        self.shared.release(octets)
        if self.backlog is None:
            self.shared.backlogged.discard(self)

    def close(self, is_reset: bool = False) -> None:
        if self.early and self.sock is not None:
            self.forget_early(len(self.early))
        reply, self.reply = self.reply, None
        if reply is not None:
            reply.cancel()
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.close()
        super().close(is_reset)


class TlsListenerFlow(TlsFlow, ListenerFlow):
    """A client's connection that speaks TLS."""

    def on_handshake(self, alpn: str | None) -> None:
        if self.service.addresses:
            self.start(alpn)
        else:  # the last one was deleted meanwhile
            self.drop(is_reset=True)

    def on_handshake_failed(self, error: OSError) -> None:
        for first in islice(self.service.addresses.values(), 1):
            self.begin_record(first)
        super().on_handshake_failed(error)


class ListenerAddress:
    """One of the addresses of a multi-address listener (`listenerAddress`)."""

    __slots__ = ("address", "connections_opened", "is_reachable", "name", "record", "to", "value", "watch")

    def __init__(self, name: str, address: str, value: int, to: str, record: ServiceRecord) -> None:
        self.name = name
        self.record = record
        self.address = address
        self.to = to
        """The address on the wire: with the tenant in front, where there is one."""
        self.value = value
        self.connections_opened = 0
        self.is_reachable = False
        self.watch: Cancellable | None = None


class ListenerService(Service):
    """A tcpListener."""

    entity_type = "tcpListener"

    def __init__(self, shared: Shared, config: ListenerConfig) -> None:
        super().__init__(
            shared, config.name, config.host, config.port, config.idle_timeout_s, config.half_close_timeout_s
        )
        self.config = config
        self.requests: dict[tuple[str, str, str], int] = {}
        """Requests that observers have seen, by protocol, method and result."""
        self.observing: Observing | None = None
        self.observer = config.observer
        self.addresses: dict[str, ListenerAddress] = {}
        self.connection_msg = ""
        self.retried = 0
        """Streams offered again after a connector had released them."""
        self.refused = 0
        """Connections reset because the address could not be reached (`whenUnreachable: refuse`)."""
        self.bound_port: int | None = None
        self._tls = None if config.tls is None else listener_context(config.tls, config.authenticate_peer)
        self._files = config.tls or TlsFiles()
        self._sockets: dict[int, socket.socket] = {}
        self._attempt = 0
        self._is_out = False
        """Out of descriptors since the last connection was taken, and the log has said so."""
        self._is_deleted = False

    @property
    def observer(self) -> str:
        """What is looked for in the flows accepted from now on; one of the values of `tcpListener.observer`."""
        return NONE if self.observing is None else self.observing.kind

    @observer.setter
    def observer(self, kind: str) -> None:
        shared = self.shared
        self.observing = (
            None
            if kind == NONE
            else Observing(kind, shared.reactor, shared.recorder, shared.observing_budget, self.requests)
        )

    # --- addresses ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Watch the address; the port follows."""
        if self.config.address:
            self.add_address("", self.config.address, 1)
        if self.config.when_unreachable == REFUSE:
            self._open()

    def add_address(self, name: str, address: str, value: int) -> ListenerAddress:
        """Add a service address (`listenerAddress`)."""
        record = ServiceRecord(ServiceKind.LISTENER, self.name, "tcp", self.host, self.port, address)
        self.shared.recorder.begin_service(record)
        to = self.shared.address_prefix + address
        entry = self.addresses[name] = ListenerAddress(name, address, value, to, record)
        entry.watch = self.shared.router.watch(address, partial(self._on_reachable, entry))
        return entry

    def remove_address(self, name: str) -> None:
        """Take a service address away; flows stay."""
        entry = self.addresses.pop(name)
        self.shared.recorder.end_service(entry.record)
        if entry.watch is not None:
            entry.watch.cancel()
        self._on_reachable(entry, False)

    @property
    def is_reachable(self) -> bool:
        """Whether any of the addresses has a consumer somewhere."""
        return any(entry.is_reachable for entry in self.addresses.values())

    def is_address_reachable(self, to: str) -> bool:
        """Whether this one has."""
        return any(entry.is_reachable for entry in self.addresses.values() if entry.to == to)

    def choose_address(self) -> ListenerAddress:
        """Choose where a new client goes (section 11.1), and count it."""
        entries = list(self.addresses.values())
        if len(entries) > 1:
            reachable = [entry for entry in entries if entry.is_reachable] or entries[:1]
            if self.config.strategy == "weighted":
                entries = random.choices(reachable, [max(entry.value, 1) for entry in reachable])
            else:
                entries = [max(reachable, key=lambda entry: entry.value)]
        entries[0].connections_opened += 1
        return entries[0]

    def _on_reachable(self, entry: ListenerAddress, is_reachable: bool) -> None:
        entry.is_reachable = is_reachable
        if self._is_deleted or self.config.when_unreachable == REFUSE:
            return
        if self.is_reachable:
            self._open()
        else:
            self._close()

    # --- the port -----------------------------------------------------------------------------------------------------

    @property
    def oper_status(self) -> str:
        """`up` while the socket is really listening."""
        return "up" if self._sockets else "down"

    def _open(self) -> None:
        if self._sockets:
            return
        self._attempt += 1
        found = literal_addresses(self.host, self.port, is_passive=True)
        if found is not None:
            self._listen(found)
            return
        host, port, attempt = self.host, self.port, self._attempt
        self.shared.reactor.run_in_thread(
            lambda: resolve(host, port, is_passive=True), lambda result: self._on_resolved(attempt, result)
        )

    def _on_resolved(self, attempt: int, result: list[Address] | Exception) -> None:
        if attempt != self._attempt or self._is_deleted:
            return
        if isinstance(result, Exception):
            self._failed(getattr(result, "strerror", None) or str(result))
        else:
            self._listen(result)

    def _listen(self, addresses: list[Address]) -> None:
        is_any = not self.host
        if is_any:
            addresses = any_address(addresses)
        for entry in addresses:
            try:
                sock = listening_socket(entry, self.bound_port, self.config.backlog, is_dual=is_any)
            except OSError as error:
                if not self._sockets:
                    self._failed(f"{os.strerror(error.errno or 0)} - listen on {self.host}:{self.port}")
                continue
            fd = sock.fileno()
            self._sockets[fd] = sock
            name = sock.getsockname()
            if self.bound_port is None:
                self.bound_port = name[1]
            self.shared.reactor.register(fd, partial(self._accept, sock), IN)
            self.connection_msg = ""
            socket_logger.info("Listening on %s (%s)", host_and_port(name), self.name)

    def _failed(self, reason: str) -> None:
        self.connection_msg = reason
        logger.error("Listener %s: %s", self.name, reason)

    def _close(self) -> None:
        self._attempt += 1
        reactor = self.shared.reactor
        for fd, sock in self._sockets.items():
            reactor.unregister(fd)
            release(reactor, sock)
            socket_logger.info("Stopped listening on %s:%s (%s)", self.host, self.port, self.name)
        self._sockets.clear()

    def _accept(self, listening: socket.socket, _mask: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, remote = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause_accepting(listening, error)
                return
            self._is_out = False
            sock.setblocking(False)
            if not self.is_reachable:
                self.refused += 1
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.close()
                continue
            if self._tls is None:
                flow = ListenerFlow(self, sock, remote)
                self.on_flow_opened(flow)
                flow.start()
            else:
                secured = TlsListenerFlow(self, sock, remote)
                self.on_flow_opened(secured)
                secured.begin_tls(self._tls, None, self._files)

    def _pause_accepting(self, listening: socket.socket, error: OSError) -> None:
        fd = listening.fileno()
        self.shared.reactor.unregister(fd)
        if not self._is_out:
            self._is_out = True
            logger.warning(
                "Listener %s takes no connections for now: %s; if it comes again, raise the limit "
                "(ulimit -n, LimitNOFILE)",
                self.name,
                error.strerror,
            )

        def go_on() -> None:
            if fd in self._sockets and self._sockets[fd] is listening:
                self.shared.reactor.register(fd, partial(self._accept, listening), IN)

        self.shared.reactor.call_later(ACCEPT_PAUSE_S, go_on)

    # --- management ---------------------------------------------------------------------------------------------------

    def live_attributes(self) -> dict[str, Any]:
        """Return the attributes that change by themselves."""
        return {
            "operStatus": self.oper_status,
            "connectionMsg": self.connection_msg,
            "connectionsOpened": self.connections_opened,
            "connectionsClosed": self.connections_closed,
            "bytesIn": self.bytes_in,
            "bytesOut": self.bytes_out,
            "observer": self.observer,
        }

    def renewed_tls(self, files: TlsFiles) -> Callable[[], None]:
        """Return what lets new connections use other credentials.

        Raises:
            ConfigError: they are wrong; nothing has changed.
        """
        context = listener_context(files, self.config.authenticate_peer)

        def apply() -> None:
            self._tls, self._files = context, files

        return apply

    def delete(self, drop_connections: bool) -> None:
        """Close the port; live flows end with it, or run to their end."""
        if self.config.strategy != "none" and self.addresses:
            raise ConfigError("tcpListener", f"{self.name} still has addresses: delete them first")
        self.shut_down()
        if drop_connections:
            self.drop_flows()

    def shut_down(self) -> None:
        """Stop listening and watching; flows stay."""
        self._is_deleted = True
        self._close()
        for entry in self.addresses.values():
            self.shared.recorder.end_service(entry.record)
            if entry.watch is not None:
                entry.watch.cancel()
                entry.watch = None


def any_address(addresses: list[Address]) -> list[Address]:
    """Return the one address for all of IPv4 and IPv6, or what there is of it."""
    if socket.has_dualstack_ipv6():
        addresses = [entry for entry in addresses if entry.family == socket.AF_INET6] or addresses
    return addresses[:1]


def listening_socket(entry: Address, port: int | None, backlog: int, *, is_dual: bool) -> socket.socket:
    """Open a listening socket.

    Args:
        entry: where; a port of 0 is any.
        port: what such a port was the last time.
        backlog: connections that wait to be accepted; 0 or less, or too many: as many as the system allows.
        is_dual: an IPv6 socket takes IPv4 as well.

    Raises:
        OSError: the system's reason.
    """
    sock = socket.socket(entry.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        if entry.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if is_dual else 1)
        address = entry.address
        if address[1] == 0 and port:
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError:
                sock.bind(address)
        else:
            sock.bind(address)
        sock.listen(backlog if 0 < backlog <= socket.SOMAXCONN else socket.SOMAXCONN)
    except OSError:
        sock.close()
        raise
    return sock
