"""Listening sockets: binding, and taking connections without letting a flood of them hold the turn.

Layer: 2.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vanrouter.net.dial import Address, keep_alive
from vanrouter.net.reactor import IN, Reactor

logger = logging.getLogger(__name__)

ACCEPTED_IN_A_TURN = 64
"""Connections taken from one socket in a turn."""

OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

RETRY_ACCEPT_S = 0.2
"""Pause after the process ran out of descriptors: the kernel keeps the connections meanwhile."""

Taken = Callable[[socket.socket, Any], object]
"""Called with each connection's socket, non-blocking, and its peer's address."""


def bind(targets: list[Address], backlog: int = 0) -> list[socket.socket]:
    """Bind and listen on the addresses; those of one port number are one listener.

    Args:
        targets: addresses to bind. With several and port 0, all get the port of the first.
        backlog: of `listen`; 0 or less: the system's limit.

    Raises:
        OSError: an address cannot be bound; none is then.
    """
    sockets: list[socket.socket] = []
    port = 0
    try:
        for target in targets:
            sock = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keep_alive(sock)
            if target.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            address = target.address
            if address[1] == 0 and port:
                address = (address[0], port, *address[2:])
            sock.bind(address)
            port = port or sock.getsockname()[1]
            sock.listen(backlog if backlog > 0 else socket.SOMAXCONN)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def release(reactor: Reactor, sock: socket.socket) -> None:
    """Give the port of a listening socket back at once, as it may be opened again in this very turn.

    The descriptor goes with the turn: another socket that got its number before would get its events, too.
    """
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # with SO_REUSEADDR, one that does not listen any more is in nobody's way
    reactor.call_soon(sock.close)


class Acceptor:
    """Takes the connections of listening sockets until `close()`."""

    def __init__(self, reactor: Reactor, sockets: list[socket.socket], taken: Taken) -> None:
        self._reactor = reactor
        self._sockets = {sock.fileno(): sock for sock in sockets}
        self._taken = taken
        self._is_out = False
        """Out of descriptors since the last connection was taken, and the log has said so."""
        for fd in self._sockets:
            reactor.register(fd, lambda _mask, fd=fd: self._accept(fd), IN)  # type: ignore[misc]

    @property
    def port(self) -> int:
        """Port number that is listened on."""
        return int(next(iter(self._sockets.values())).getsockname()[1])

    def _accept(self, fd: int) -> None:
        listening = self._sockets.get(fd)
        if listening is None:
            return
        for _ in range(ACCEPTED_IN_A_TURN):
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause(fd, error)
                return
            self._is_out = False
            sock.setblocking(False)
            self._taken(sock, address)

    def _pause(self, fd: int, error: OSError) -> None:
        self._reactor.modify(fd, 0)
        self._reactor.call_later(RETRY_ACCEPT_S, lambda: self._resume(fd))
        if not self._is_out:
            self._is_out = True
            logger.warning(
                "Port %d takes no connections for now: %s; if it comes again, raise the limit (ulimit -n, LimitNOFILE)",
                self.port,
                os.strerror(error.errno or 0),
            )

    def _resume(self, fd: int) -> None:
        if fd in self._sockets:
            self._reactor.modify(fd, IN)

    def close(self) -> None:
        """Stop listening; connections taken already go on."""
        for fd, sock in self._sockets.items():
            self._reactor.unregister(fd)
            release(self._reactor, sock)
        self._sockets.clear()


def text_address(address: Any) -> str:
    """Return a socket address as `host:port`."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0])
        host = host.removeprefix("::ffff:")
        return f"{host}:{address[1]}"
    return str(address)
