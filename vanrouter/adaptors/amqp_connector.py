"""AMQP connectors: reaching a peer and staying connected, through a proxy if need be, with new credentials in time.

Layer: 4. Source: router protocol, sections 1.5, 1.6 and 1.8; management.md section 8 (connector, proxyProfile).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from random import Random
from typing import Any

from vanrouter.adaptors.amqp import HANDSHAKE_S, AmqpConnections, AmqpSettings, of_family, opened_text, tune
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.engine.sections import ULong
from vanrouter.engine.security import free_domain, tls_domain
from vanrouter.errors import ConfigError
from vanrouter.ids import random_suffix
from vanrouter.net.dial import Address, Connecting, Resolver
from vanrouter.net.tunnel import Tunnel

logger = logging.getLogger("vanrouter.engine.connection")
core_logger = logging.getLogger("vanrouter.core")

FIRST_RETRY_S = 0.25
MAX_RETRY_S = 2.0
"""Back-off of connectors: doubled from the first to the last, with jitter."""

CONNECT_TIMEOUT_S = 5.0
"""For one attempt, name resolution and proxy included."""

SILENT_HELLO_AGES = 2
"""An inter-router connection that is silent for so many hello ages is given up and made anew: waiting for the idle
time-out, or for the next try of a kernel that doubles the distance of its tries, would take longer."""

RETIRED_RETRY_S = 4.0
"""Pause before a data connection that ended to give memory back is made again: once all is freed, so that what is
made then does not hold a page here and a page there of what was large."""


class AmqpConnector:
    """A connector entity: keeps its connections up, control first, data connections beside it."""

    def __init__(self, connections: AmqpConnections, settings: AmqpSettings, random: Random | None = None) -> None:
        self._connections = connections
        self._router = connections.router
        self.settings = settings
        self._domain: Any = None
        self._random = random or Random()
        self.failover: list[tuple[str, str]] = [(settings.host, settings.port)]
        """Hosts and ports in the order they are tried; the first is configured, others come from the peer."""
        self.status = "CONNECTING"
        self.message = ""
        self.correlator = random_suffix() if settings.role is Role.INTER_ROUTER else ""
        self._resolvers: dict[tuple[str, str], Resolver] = {}
        self._dials = self._new_dials()
        self._retired: list[_Dial] = []
        """Of earlier credentials: their connections stay for the streams that are open on them."""
        self.is_closed = False
        self.up_at_s = 0.0
        """When the control connection was last opened, in seconds since 1970; 0: never."""
        self.down_at_s = 0.0
        """When it was last lost, or first could not be made."""
        self.down_count = 0
        self.down_condition = ("", "")
        """Why."""
        self._is_down = False
        self._gone_octets = [0, 0]

    def _new_dials(self) -> list[_Dial]:
        settings = self.settings
        count = settings.data_connections if settings.role is Role.INTER_ROUTER else 0
        return [_Dial(self, None)] + [_Dial(self, Role.INTER_ROUTER_DATA) for _ in range(count)]

    def open(self) -> None:
        """Begin to connect.

        Raises:
            ConfigError: a file of the sslProfile cannot be used.
        """
        self._use_domain(self._new_domain(self.settings))
        for dial in self._dials:
            dial.connect()

    def renewed(self, settings: AmqpSettings) -> Callable[[], None]:
        """Return what puts other settings in force: for new connections, and of a higher ordinal at once (section 1.6).

        Raises:
            ConfigError: a file of the sslProfile cannot be used; nothing has changed.
        """
        domain = self._new_domain(settings)

        def apply() -> None:
            before, self.settings = self.settings, settings
            self._use_domain(domain)
            if before.tls is not None and settings.tls is not None and settings.tls.ordinal > before.tls.ordinal:
                self._dial_anew()

        return apply

    def _dial_anew(self) -> None:
        for dial in self._dials:
            dial.retire()
        self._retired += [dial for dial in self._dials if dial.connection is not None]
        self._dials = self._new_dials()
        for dial in self._dials:
            dial.connect()

    def resolver(self, target: tuple[str, str]) -> Resolver:
        """Return who knows the addresses of a host; all connections of the connector ask the same."""
        if target not in self._resolvers:
            wanted = {target, *self.failover}
            self._resolvers = {name: known for name, known in self._resolvers.items() if name in wanted}
            self._resolvers[target] = Resolver(self._router.reactor, *target)
        return self._resolvers[target]

    def silence_s(self, dial: _Dial) -> float:
        """Return for how long a connection may be silent, 0 for any time.

        HELLOs come on the control connection of an interior peer, the empty frames of AMQP on the others. A peer looks
        whether one is due a quarter of the idle time-out after it has said something, at the next full second, and
        again a quarter later: ten of 16 seconds may pass.
        """
        settings = self.settings
        if not settings.role.is_router:
            return 0.0
        age = self._router.control.plane.settings.hello_max_age_s
        if settings.role is Role.INTER_ROUTER and dial.is_control:
            return SILENT_HELLO_AGES * age
        return max(SILENT_HELLO_AGES * age, settings.idle_timeout_s * 3 / 4) if settings.idle_timeout_s else 0.0

    def end_silent(self, control: Connection) -> float:
        """Make anew what has been silent for too long; return after how long to look again, 0 when it is over.

        Of a group whose control connection is silent, the others count as silent sooner; of one whose peer has moved,
        at once.
        """
        own = self._dials[0]
        is_silent = own.silent_for() >= self.silence_s(own)
        age_s = self.silence_s(own) / SILENT_HELLO_AGES
        has_moved = own.has_moved and own.silent_for() >= age_s
        for dial in (*self._dials, *self._retired):
            limit_s = age_s if is_silent and dial is not own else self.silence_s(dial)
            if dial.connection is not None and (has_moved or 0 < limit_s <= dial.silent_for()):
                reason = f"nothing heard for {dial.silent_for():.0f} s"
                dial.connection.engine.drop(("proton:io", reason))
        if own.connection is not control:
            return 0.0
        silent_s = own.silent_for()
        if silent_s < age_s:
            return age_s - silent_s
        own.ask_where()
        return self.silence_s(own) - silent_s

    def on_refused(self) -> None:
        """The peer has closed the control connection, opened as it was, without a word.

        So C routers do while they hold a connection of the same group, for up to 16 s after it was lost without a
        trace (router protocol, section 1.6). Come back as another group; its data connections have to, too.
        """
        if self.correlator:
            self.correlator = random_suffix()
            for dial in self._dials[1:]:
                if dial.connection is not None:
                    dial.connection.engine.drop(None)

    def forget(self, dial: _Dial) -> None:
        """The connection of earlier credentials is over."""
        if dial in self._retired:
            self._retired.remove(dial)

    def _new_domain(self, settings: AmqpSettings) -> Any:
        """Read the files of the sslProfile."""
        tls = settings.tls
        if tls is None:
            return None
        if tls.ca_file is None and settings.verify_hostname:
            raise ConfigError(f"sslProfile {tls.name}", "caCertFile is needed to check the peer's certificate")
        return tls_domain(
            tls,
            is_server=False,
            verify_peer=tls.ca_file is not None,
            verify_host=settings.verify_hostname,
            allow_plain=False,
        )

    def _use_domain(self, domain: Any) -> None:
        if self._domain is not None:
            free_domain(self._domain)
        self._domain = domain

    def close(self) -> None:
        """Close the connections and try no more."""
        self.is_closed = True
        for dial in (*self._dials, *self._retired):
            dial.close()
        self._use_domain(None)

    @property
    def is_up(self) -> bool:
        """Whether the control connection is open."""
        connection = self._dials[0].connection
        return connection is not None and connection.is_opened

    def octets(self) -> tuple[int, int]:
        """Return the octets sent and received so far, on all its connections."""
        sent, received = self._gone_octets
        for dial in (*self._dials, *self._retired):
            if dial.connection is not None:
                sent += dial.connection.engine.bytes_out
                received += dial.connection.engine.bytes_in
        return sent, received

    @property
    def connection(self) -> Connection | None:
        """The control connection, while there is one."""
        return self._dials[0].connection

    @property
    def domain(self) -> Any:
        """The TLS domain."""
        return self._domain

    @property
    def connections(self) -> AmqpConnections:
        """Maker of connections."""
        return self._connections

    def note_failure(self, dial: _Dial, connection_id: int, condition: tuple[str, str]) -> None:
        """A connection attempt has failed, or a connection was lost with an error."""
        self.note_down(dial, condition)
        host, port = dial.target
        text = f"Connection to {host}:{port} failed: {condition[0]} {condition[1]}".rstrip()
        if dial is self._dials[0]:
            self.status = "CONNECTING"  # it tries again, and the message says why: as the C router has it
        if text != self.message:
            self.message = text
            logger.error("[C%d] %s", connection_id, text)

    def note_down(self, dial: _Dial, condition: tuple[str, str]) -> None:
        """A connection was lost, or could not be made; further attempts in vain are not counted."""
        if dial is not self._dials[0]:
            return
        if not self._is_down:
            self._is_down = True
            self.down_count += 1
            self.down_at_s = self._router.wall_clock()
        self.down_condition = condition

    def note_gone(self, connection: Connection) -> None:
        """Keep the counts of a connection that is over."""
        self._gone_octets[0] += connection.engine.bytes_out
        self._gone_octets[1] += connection.engine.bytes_in

    def note_opened(self, dial: _Dial, connection: Connection, text: str) -> None:
        """A connection has opened; the text is what is known of it."""
        if dial is not self._dials[0]:
            return
        self._is_down = False
        self.up_at_s = self._router.wall_clock()
        self.status, self.message = "SUCCESS", f"[C{connection.id}] {text}"
        entries = connection.peer.failover
        if entries is not None:
            others = [
                (str(entry["network-host"]), str(entry.get("port", "amqp")))
                for entry in entries
                if isinstance(entry.get("network-host"), str)
            ]
            first, current = (self.settings.host, self.settings.port), dial.target
            others = [other for other in others if other != first]
            if current != first and current not in others:
                others.insert(0, current)
            self.failover = [first, *others]
            dial.stay_at(current)

    @property
    def failover_urls(self) -> str:
        """The hosts in the order they will be tried, the present one first."""
        current = self._dials[0].target
        hosts = [current, *[host for host in self.failover if host != current]]
        return ", ".join(f"amqp://{host}:{port}" for host, port in hosts)


class _Dial:
    """One connection of a connector: attempts, back-off, and the connection while it lasts."""

    def __init__(self, connector: AmqpConnector, role: Role | None) -> None:
        self._connector = connector
        self._router = connector.connections.router
        self._role = role
        self._place = 0
        self._attempts_here = 0
        self._retry_s = FIRST_RETRY_S
        self._timer: Any = None
        self._deadline: Any = None
        self._connecting: Connecting | None = None
        self._silence: Any = None
        self._number = 0
        self._round = 0
        self._tunnel: Tunnel | None = None
        self._is_retired = False
        self._peer: tuple[Any, ...] = ()
        """Address and port that the connection leads to."""
        self.has_moved = False
        """The name of the peer no longer has the address that the silent connection leads to."""
        self.connection: Connection | None = None

    @property
    def is_control(self) -> bool:
        """Whether it is not a data connection."""
        return self._role is None

    def silent_for(self) -> float:
        """Return how long nothing has come on the connection."""
        assert self.connection is not None
        return self._router.reactor.now - self.connection.engine.heard_at

    @property
    def target(self) -> tuple[str, str]:
        """Host and port being tried."""
        hosts = self._connector.failover
        return hosts[self._place % len(hosts)]

    def stay_at(self, target: tuple[str, str]) -> None:
        """The list has changed: find the place of a target in it."""
        self._place = self._connector.failover.index(target)

    def connect(self) -> None:
        """Try the present target."""
        self._timer = None
        if self._connector.is_closed or self._is_retired or self.connection is not None:
            return
        self._round += 1
        this_round = self._round
        self._number = self._router.next_connection_id()
        self._deadline = self._router.reactor.call_later(CONNECT_TIMEOUT_S, lambda: self._overdue(this_round))
        proxy = self._connector.settings.proxy
        target = self.target if proxy is None else (proxy.host, proxy.port)
        resolver = self._connector.resolver(target)
        known = resolver.known()
        if known is not None:
            self._resolved(this_round, known)
        else:
            resolver.ask(lambda result: self._resolved(this_round, result))

    def _overdue(self, this_round: int) -> None:
        if this_round == self._round and self.connection is None:
            self._cancel_attempt()
            self._retry_s = FIRST_RETRY_S  # the attempt itself was a pause
            self._failed("Connection timed out")

    def _cancel_attempt(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._tunnel is not None:
            self._tunnel.cancel()

    def _resolved(self, this_round: int, result: list[Address] | Exception) -> None:
        if this_round != self._round or self._connector.is_closed or self._is_retired:
            return
        if isinstance(result, Exception):
            self._failed(str(result.args[-1]) if result.args else str(result))
            return
        targets = of_family(result, self._connector.settings.family)
        if not targets:
            self._failed("no address of the configured family")
            return
        self._connecting = Connecting(self._router.reactor, targets, self)
        self._connecting.start()

    def on_connect_failed(self, error: int) -> None:
        """No address answered."""
        self._failed(os.strerror(error) if error else errno.errorcode.get(error, "failed"))

    def on_tunnel_failed(self, reason: str) -> None:
        """The proxy has refused."""
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        self._round += 1
        if self._connector.settings.proxy is None:
            self._connector.resolver(self.target).doubt()
        self._connector.note_failure(self, self._number, ("proton:io", reason))
        self._attempts_here += 1
        self._retry()

    def _retry(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._connector.is_closed or self._is_retired:
            return
        hosts = self._connector.failover
        if len(hosts) > 1 and self._attempts_here >= 2:
            self._place = (self._place + 1) % len(hosts)
            self._attempts_here = 0
        delay = self._retry_s * (0.5 + 0.5 * self._connector._random.random())  # one room, two classes
        self._retry_s = min(MAX_RETRY_S, self._retry_s * 2)
        self._timer = self._router.reactor.call_later(delay, self.connect)

    def on_connected(self, sock: socket.socket) -> None:
        """The socket is connected, to the peer or to the proxy."""
        proxy = self._connector.settings.proxy
        if proxy is None:
            self.on_tunnel(sock)
        else:
            self._tunnel = Tunnel(self._router.reactor, sock, proxy, *self.target, self)
            self._tunnel.start()

    def on_tunnel(self, sock: socket.socket) -> None:
        """There is a way to the peer: put AMQP on it."""
        connector = self._connector
        settings = connector.settings
        self._round += 1
        self._deadline.cancel()
        tune(sock, settings)
        host, port = self.target
        connection = connector.connections.make(
            sock, settings, connector.domain, is_server=False, host=f"{host}:{port}", role=self._role
        )
        connection.correlator = connector.correlator
        properties = connection.open_properties
        if connector.correlator:
            properties["qd.group-correlator"] = connector.correlator
            if settings.tls is not None:
                connection.ordinal = settings.tls.ordinal
                properties["qd.group-ordinal"] = ULong(connection.ordinal)
        self.connection = connection
        self.has_moved = False
        with contextlib.suppress(OSError):  # it may be over again
            self._peer = sock.getpeername()[:2]
        connection.on_opened = lambda: self.opened(connection)
        connection.on_closed = lambda condition: self._lost(connection, condition)
        self._deadline = self._router.reactor.call_later(HANDSHAKE_S, lambda: self._handshake_overdue(connection))
        connector.connections.start(connection)
        if self.is_control:
            self._listen(connection)

    def _listen(self, connection: Connection) -> None:
        """Notice when nothing comes any more; the control connection looks after its whole group."""
        if self.connection is connection and self._connector.silence_s(self):
            again_s = self._connector.end_silent(connection)
            if again_s > 0:
                reactor = self._router.reactor
                call = reactor.call_later if self.silent_for() > 1.0 or again_s < 1.0 else reactor.call_on_beat
                if self._silence is not None:
                    self._silence.cancel()
                self._silence = call(again_s, lambda: self._listen(connection))

    def ask_where(self) -> None:
        """No HELLO came within its age: is the peer still where its name says? One that has moved is not waited for."""
        connection = self.connection
        if self._connector.settings.proxy is not None or connection is None:
            return

        def told(result: list[Address] | Exception) -> None:
            if self.connection is connection and not isinstance(result, Exception):
                self.has_moved = all(each.address[:2] != self._peer for each in result)
                if self.has_moved:  # not here: the answer may have come at once, within `end_silent`
                    self._router.reactor.call_soon(lambda: self._listen(connection))

        resolver = self._connector.resolver(self.target)
        if not resolver.is_literal:
            resolver.ask(told)

    def _handshake_overdue(self, connection: Connection) -> None:
        if not connection.is_opened and not connection.is_closed:
            connection.engine.drop(("amqp:not-allowed", "Timeout waiting for initial handshake"))

    def opened(self, connection: Connection) -> None:
        """The peer's OPEN has come."""
        self._deadline.cancel()
        self._retry_s = FIRST_RETRY_S
        self._attempts_here = 0
        security = self._connector.connections.opened(connection)
        self._connector.note_opened(self, connection, opened_text(connection, security))

    def _lost(self, connection: Connection, condition: tuple[str, str] | None) -> None:
        self._connector.note_gone(connection)
        if self.connection is not connection or self._is_retired:
            self._connector.forget(self)
            core_logger.info("[C%d] Connection Closed", connection.id)
            return
        self.connection = None
        if self._silence is not None:
            self._silence.cancel()
        core_logger.info("[C%d] Connection Closed", connection.id)
        if not self._connector.is_closed:
            self._connector.note_down(self, condition or ("", "Connection closed by its peer"))
            if self.is_control and connection.is_opened and not connection.was_ready:
                self._connector.on_refused()
            self._connector.status = "CONNECTING"
            if connection.is_opened and self.is_control:
                self._connector.message = ""
            if condition is not None and (condition[0] or not connection.is_opened):
                self._connector.note_failure(self, connection.id, condition)
            if not connection.is_opened:
                self._attempts_here += 1
            if connection.streams.is_retiring:
                self._retry_s = RETIRED_RETRY_S
            self._retry()

    def retire(self) -> None:
        """Try no more; the connection stays as long as it lasts."""
        self._is_retired = True
        if self._timer is not None:
            self._timer.cancel()
        if self.connection is None:
            self.close()

    def close(self) -> None:
        """Stop trying; close the connection."""
        for timer in (self._timer, self._deadline, self._silence):
            if timer is not None:
                timer.cancel()
        self._cancel_attempt()
        if self.connection is not None:
            self.connection.close()
