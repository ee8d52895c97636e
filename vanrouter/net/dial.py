"""Reaching a server over TCP: name resolution beside the loop, several addresses, one connection.

Layer: 2. Source: TCP over AMQP, sections 9.3 (rule 6) and 12; RFC 8305 for the order of attempts.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vanrouter.net.reactor import ERROR, OUT, Reactor, Timer

ATTEMPT_DELAY_S = 0.25
"""From one address to the next while the first has not answered (RFC 8305, section 5)."""

RESOLVED_FOR_S = 5.0
"""How long the addresses of a name are used without asking again."""

MAX_ADDRESSES = 16
"""Of one name, tried for one connection."""

ASK_AGAIN_S = 1.0
"""A question about a name that has no answer yet is asked once more after so long: the C library sends its own again
after 5 s only, so that a name server which comes back would be noticed late."""

MAX_QUESTIONS = 6
"""About one name at a time; each holds a thread until the C library gives up, 10 s or more."""

OLD_ADDRESSES_AFTER_S = 0.5
"""The addresses that a name had before are used when the name server is silent for so long."""

HOSTS_FILE = Path("/etc/hosts")
HOSTS_BYTES = 64 * 1024
"""Names of this machine, and what is read of them at most: some keep lists of a million others there."""

KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
"""The kernel asks a peer that has said nothing for a minute whether it is still there, and gives it up after another
minute without an answer; of itself it asks after two hours."""

AMQP_PORTS = {"amqp": "5672", "amqps": "5671"}
"""As IANA has them, for machines without a list of services (Debian's small images)."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address that a socket can be connected to or bound to."""

    family: int
    address: tuple[Any, ...]


def literal_addresses(host: str, port: str, *, is_passive: bool = False) -> list[Address] | None:
    """Return the address of an IP literal with a numeric port; None when a name has to be resolved.

    Where to listen, a name of the hosts file is as good: a port on `localhost` is open when the router says that it is
    operational. Servers are looked up beside the loop in any case: their addresses change, and they have more of them.
    """
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV, is_passive)
    except socket.gaierror:
        pass
    if not is_passive or not is_in_hosts_file(host):
        return None
    try:
        return _addresses(host, port, 0, is_passive)
    except socket.gaierror:
        return None


def is_in_hosts_file(name: str) -> bool:
    """Tell whether this machine's own file has the name, so that no name server is asked for it."""
    try:
        with HOSTS_FILE.open(encoding="ascii", errors="replace") as file:
            text = file.read(HOSTS_BYTES)
    except OSError:
        return False
    return any(name.lower() in line.partition("#")[0].lower().split()[1:] for line in text.splitlines())


def resolve(host: str, port: str, *, is_passive: bool = False) -> list[Address]:
    """Resolve a name. Blocks: for threads.

    Raises:
        socket.gaierror: the resolver's own error; the one about the port says which port it is.
    """
    try:
        return _addresses(host, port, 0, is_passive)
    except socket.gaierror as error:
        if error.errno != socket.EAI_SERVICE:
            raise
        if port in AMQP_PORTS:
            return _addresses(host, AMQP_PORTS[port], 0, is_passive)
        text = f"port {port!r} is neither a number nor a service that this machine knows"
        raise socket.gaierror(error.errno, text) from None


def _addresses(host: str, port: str, flags: int, is_passive: bool) -> list[Address]:
    if is_passive:
        flags |= socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    unique = dict.fromkeys(Address(family, address) for family, _, _, _, address in found)
    return _families_in_turn(list(unique))[:MAX_ADDRESSES]


def _families_in_turn(found: list[Address]) -> list[Address]:
    """Keep the resolver's order within each family, and its first family first (RFC 8305, section 4).

    However many addresses of a family cannot be reached, one of the other is tried second.
    """
    first = [each for each in found if each.family == found[0].family]
    others = [each for each in found if each.family != found[0].family]
    mixed = [each for pair in zip(first, others, strict=False) for each in pair]
    return [*mixed, *first[len(others) :], *others[len(first) :]]


class Resolver:
    """The addresses of one server.

    A name server that is silent or fails does not take away what it said before: those addresses are tried on.
    """

    __slots__ = (
        "_addresses",
        "_again",
        "_expires",
        "_fallback",
        "_host",
        "_is_literal",
        "_port",
        "_questions",
        "_reactor",
        "_waiting",
    )

    def __init__(self, reactor: Reactor, host: str, port: str) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._waiting: list[Callable[[list[Address] | Exception], None]] = []
        self._expires = 0.0
        self._questions = 0
        self._again: Timer | None = None
        self._fallback: Timer | None = None
        found = literal_addresses(host, port)
        self._is_literal = found is not None
        self._addresses: list[Address] = found or []

    def known(self) -> list[Address] | None:
        """Return the addresses if nothing has to be asked."""
        if self._is_literal or (self._addresses and self._reactor.now < self._expires):
            return self._addresses
        return None

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address itself."""
        return self._is_literal

    def doubt(self) -> None:
        """Nobody was reached: ask again before the next attempt, the server may have moved."""
        self._expires = 0.0

    def ask(self, done: Callable[[list[Address] | Exception], None]) -> None:
        """Call `done` with the addresses or the error; one question serves all that wait."""
        self._waiting.append(done)
        if len(self._waiting) > 1:
            return
        self._put_question()
        if self._addresses:
            self._fallback = self._reactor.call_later(OLD_ADDRESSES_AFTER_S, self._use_old)

    def _put_question(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = self._reactor.call_later(ASK_AGAIN_S, self._put_another)
        if self._questions < MAX_QUESTIONS:
            self._questions += 1
            host, port = self._host, self._port
            self._reactor.run_in_thread(lambda: resolve(host, port), self._on_resolved)

    def _put_another(self) -> None:
        self._again = None
        if self._waiting:
            self._put_question()

    def _use_old(self) -> None:
        self._fallback = None
        self._answer(self._addresses)

    def _on_resolved(self, result: Any) -> None:
        self._questions -= 1
        if not isinstance(result, Exception):
            self._addresses = result
            self._expires = self._reactor.now + RESOLVED_FOR_S
        elif self._addresses:
            result = self._addresses
        self._answer(result)

    def _answer(self, result: list[Address] | Exception) -> None:
        for timer in (self._again, self._fallback):
            if timer is not None:
                timer.cancel()
        self._again = self._fallback = None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            self._reactor.call_apart(partial(done, result))


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice that the other end has vanished without a word; sockets accepted from this one inherit it.

    A machine without power sends no reset, and neither does Linux for a connection that its program has closed, when
    what was left to send finds no room for long enough (`tcp_orphan_retries`). A peer that is idle is not disturbed.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def begin_connect(target: Address) -> tuple[socket.socket | None, int]:
    """Begin a connection without waiting.

    The second call asks how the first went: to a server on the same host, the handshake is over by then, and a turn
    of the loop is saved.

    Returns:
        The socket, and 0 when it is connected or EALREADY while it is not; no socket and another error number when it
        cannot be: refused, or the process has no descriptor left.
    """
    sock: socket.socket | None = None
    try:
        sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        error = sock.connect_ex(target.address)
        if error == errno.EINPROGRESS:
            error = sock.connect_ex(target.address)
    except OSError as failure:
        error = failure.errno or errno.EINVAL
    if error == errno.EISCONN:
        error = 0
    if sock is not None and error not in (0, errno.EALREADY):
        sock.close()
        sock = None
    return sock, error


class ConnectOwner(Protocol):
    """Who wants the connection."""

    def on_connected(self, sock: socket.socket) -> None:
        """There it is; the owner has to close it."""

    def on_connect_failed(self, error: int) -> None:
        """No address answered; the error number of the last."""


class Connecting:
    """Attempts at the addresses of one server, in turn; the first that succeeds wins."""

    __slots__ = ("_last_error", "_open", "_owner", "_reactor", "_targets", "_timer")

    def __init__(self, reactor: Reactor, targets: list[Address], owner: ConnectOwner) -> None:
        self._reactor = reactor
        self._targets = targets[::-1]
        self._owner: ConnectOwner | None = owner
        self._open: dict[int, socket.socket] = {}
        self._timer: Timer | None = None
        self._last_error = errno.EHOSTUNREACH

    def start(self) -> None:
        """Try the first address; the owner may be called before this returns."""
        while self._targets and self._owner is not None:
            sock, error = begin_connect(self._targets.pop())
            if sock is None:
                self._last_error = error
            elif error == 0:
                self._succeed(sock)
            else:
                self.adopt(sock)
                return
        if not self._open and self._owner is not None:
            owner, self._owner = self._owner, None
            owner.on_connect_failed(self._last_error)

    def cancel(self) -> None:
        """Give up; the owner is not called any more."""
        self._owner = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for fd, sock in self._open.items():
            self._reactor.unregister(fd)
            self._reactor.call_soon(sock.close)
        self._open.clear()

    def adopt(self, sock: socket.socket) -> None:
        """Wait for a connection that has been begun."""
        fd = sock.fileno()
        self._open[fd] = sock
        self._reactor.register(fd, lambda _mask: self._on_ready(fd), OUT | ERROR)
        if self._targets:
            self._timer = self._reactor.call_later(ATTEMPT_DELAY_S, self.start)

    def _on_ready(self, fd: int) -> None:
        sock = self._open.get(fd)
        if sock is None:
            return
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error == 0:
            try:
                sock.getpeername()
            except OSError:
                return  # an event of this number's last owner: not connected yet
        del self._open[fd]
        self._reactor.unregister(fd)
        if error == 0:
            self._succeed(sock)
            return
        self._last_error = error
        self._reactor.call_soon(sock.close)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.start()

    def _succeed(self, sock: socket.socket) -> None:
        owner = self._owner
        self.cancel()
        if owner is not None:
            owner.on_connected(sock)
