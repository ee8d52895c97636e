"""Whether a connector's server answers: what flows saw, and probes where they are asked for.

Layer: 2. Source: extensions (operStatus, healthCheck, refused connector). A server that refuses three flows in a row,
or fails its probes, is withdrawn from the network until a probe succeeds. Where it is the last one of its address it is
asked once more before: a single client refuses itself three times within a millisecond by what is tried again for it,
and a server that is started again would have all ports of its service closed behind it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Protocol

from vanrouter.net.dial import Address, Connecting, Resolver
from vanrouter.net.reactor import IN, Reactor, Timer

logger = logging.getLogger("vanrouter.connections")

UP, DOWN, UNKNOWN = "up", "down", "unknown"

REFUSALS = 3
"""In a row, before the address is withdrawn."""
LOOK_AGAIN_S = 0.5
"""After the third refusal of the last server of an address: refused then, too, it is withdrawn."""
FIRST_PROBE_S = 0.25
"""After a withdrawal; each further probe waits twice as long, up to the interval."""
RESPONSE_BYTES = 4096
"""Of an answer to an HTTP probe: its status line is there or it is none."""


class Probing(Protocol):
    """What a connector's configuration says about its server."""

    @property
    def name(self) -> str:
        """Of the connector, for the log."""

    @property
    def address(self) -> str:
        """Whose consumer it is."""

    @property
    def host(self) -> str:
        """As configured."""

    @property
    def port(self) -> str:
        """As configured."""

    @property
    def connect_timeout_s(self) -> float:
        """For one probe."""

    @property
    def health_check(self) -> str:
        """`none`, `tcp` or `http:PATH`."""

    @property
    def health_check_interval_s(self) -> float:
        """From one probe to the next."""

    @property
    def healthy_threshold(self) -> int:
        """Good probes in a row that make the server up."""

    @property
    def unhealthy_threshold(self) -> int:
        """Failed probes in a row that make it down."""


class Judged(Protocol):
    """The connector whose server is judged."""

    @property
    def is_last(self) -> bool:
        """Whether there is no other server, as far as is known: flows have nowhere else to go."""

    def announce(self) -> None:
        """The server takes flows."""

    def withdraw(self) -> None:
        """It takes none."""


class Probe:
    """One question to the server. Answers `done(reason)` once: an empty reason is a healthy server."""

    __slots__ = ("_connecting", "_done", "_reactor", "_request", "_sock", "_timeout")

    def __init__(self, reactor: Reactor, timeout_s: float, request: bytes, done: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._request = request
        self._done: Callable[[str], None] | None = done
        self._connecting: Connecting | None = None
        self._sock: socket.socket | None = None
        self._timeout: Timer = reactor.call_later(timeout_s, lambda: self.finish(os.strerror(errno.ETIMEDOUT)))

    def on_resolved(self, result: list[Address] | Exception) -> None:
        """The addresses are known, or not."""
        if self._done is None:
            return
        if isinstance(result, Exception):
            self.finish(getattr(result, "strerror", None) or str(result))
        else:
            self._connecting = Connecting(self._reactor, result, self)
            self._connecting.start()

    def on_connected(self, sock: socket.socket) -> None:
        """The server takes connections: enough, or ask it something."""
        self._connecting = None
        self._sock = sock
        if not self._request:
            self.finish("")
            return
        self._reactor.register(sock.fileno(), self._on_ready, IN)
        try:
            sock.send(self._request)
        except OSError as error:
            self.finish(os.strerror(error.errno or 0))

    def on_connect_failed(self, error: int) -> None:
        """No connection."""
        self._connecting = None
        self.finish(os.strerror(error))

    def _on_ready(self, _mask: int) -> None:
        assert self._sock is not None
        try:
            answer = self._sock.recv(RESPONSE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.finish(os.strerror(error.errno or 0))
            return
        parts = answer.split(b" ", 2)
        is_good = len(parts) > 1 and parts[0].startswith(b"HTTP/1.") and parts[1][:1] in (b"2", b"3")
        self.finish("" if is_good else f"answered {answer[:40]!r}")

    def finish(self, reason: str) -> None:
        """Release everything and answer."""
        done, self._done = self._done, None
        self._timeout.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        sock, self._sock = self._sock, None
        if sock is not None:
            if self._request:
                self._reactor.unregister(sock.fileno())
            self._reactor.call_soon(sock.close)
        if done is not None:
            done(reason)

    def cancel(self) -> None:
        """Ask no more."""
        self._done = None
        self.finish("")


class Health:
    """Judges one server."""

    __slots__ = ("_config", "_connector", "_delay_s", "_failures", "_is_doubted", "_is_down", "_is_running", "_probe",
                 "_reactor", "_refusals", "_resolver", "_successes", "_timer", "last_error", "probes", "status",
                 "withdrawals")  # fmt: skip

    def __init__(self, reactor: Reactor, config: Probing, resolver: Resolver, connector: Judged) -> None:
        self._reactor = reactor
        self._config = config
        self._resolver = resolver
        self._connector = connector
        self.status = UNKNOWN
        self.last_error = ""
        self.probes = 0
        self.withdrawals = 0
        self._refusals = 0
        self._failures = 0
        self._successes = 0
        self._is_running = False
        self._is_down = False
        self._is_doubted = False
        """It has refused, and is asked once more."""
        self._delay_s = FIRST_PROBE_S
        self._timer: Timer | None = None
        self._probe: Probe | None = None

    @property
    def _is_checking(self) -> bool:
        return self._config.health_check != "none"

    def start(self) -> None:
        """Begin to probe, if the connector says so."""
        self._is_running = True
        if self._is_checking:
            self._begin_probe()

    def stop(self) -> None:
        """Probe no more."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    def flow_connected(self) -> None:
        """A flow has its connection."""
        self._refusals = 0
        self._is_doubted = False
        if not self._is_checking:
            self.status = UP

    def flow_refused(self, error: int) -> None:
        """A flow has none."""
        self.last_error = os.strerror(error)
        self._refusals += 1
        if not self._is_checking:
            self.status = DOWN
        if self._refusals < REFUSALS or self._is_down or self._is_doubted:
            return
        if self._connector.is_last:
            self._is_doubted = True
        else:
            self._take_down()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probe is None:
            self._schedule()

    def _take_down(self) -> None:
        self._is_down = True
        self._is_doubted = False
        self.status = DOWN
        self.withdrawals += 1
        config = self._config
        logger.warning(
            "Connector %s withdraws address %s: %s:%s does not answer (%s); looked at until it does",
            config.name,
            config.address,
            config.host,
            config.port,
            self.last_error,
        )
        self._delay_s = FIRST_PROBE_S
        self._successes = 0
        self._connector.withdraw()

    def _schedule(self) -> None:
        if not self._is_running:
            return
        delay_s = self._config.health_check_interval_s
        if self._is_down:
            delay_s = min(self._delay_s, delay_s)
            self._delay_s *= 2
        elif self._is_doubted:
            delay_s = LOOK_AGAIN_S
        self._timer = self._reactor.call_later(delay_s, self._begin_probe)

    def _begin_probe(self) -> None:
        self._timer = None
        self.probes += 1
        kind, _, path = self._config.health_check.partition(":")
        request = b""
        if kind == "http":
            host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
            place = f"{host}:{self._config.port}"
            request = f"GET {path or '/'} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
        self._probe = Probe(self._reactor, self._config.connect_timeout_s, request, self._on_answer)
        known = self._resolver.known()
        if known is None:
            self._resolver.ask(self._probe.on_resolved)
        else:
            self._probe.on_resolved(known)

    def _on_answer(self, reason: str) -> None:
        self._probe = None
        if reason:
            self.last_error = reason
            self._successes = 0
            self._failures += 1
            if not self._is_down and (self._is_doubted or self._failures >= self._config.unhealthy_threshold):
                self._take_down()
        else:
            self._failures = 0
            self._refusals = 0
            self._is_doubted = False
            self._successes += 1
            if self._successes >= self._config.healthy_threshold:
                self.status = UP
                if self._is_down:
                    self._is_down = False
                    logger.info("Connector %s announces address %s again", self._config.name, self._config.address)
                    self._connector.announce()
        if self._is_checking or self._is_down:
            self._schedule()
