"""Octets of one connection of the HTTP port: its socket, TLS if there is any, and what the socket has not taken yet.

Layer: 4. HTTP and WebSocket stand on this. Nothing blocks; whoever writes calls `flush` when the socket can take more.
"""

from __future__ import annotations

import socket

from vanrouter.net.tls import BUFFER_BYTES, Tls

READ_BYTES = 64 * 1024
"""Octets taken from a socket without TLS in one go."""

_PLAIN = bytearray(2 * BUFFER_BYTES)
"""Read into by all connections; nothing stays in it between two calls. Twice what a TLS session takes from its socket,
so that all that was taken comes out decrypted: no event would tell of the rest."""


class Wire:
    """A connected non-blocking socket and its TLS session."""

    __slots__ = ("_tls", "_waiting", "sock")

    def __init__(self, sock: socket.socket, tls: Tls | None = None) -> None:
        self.sock = sock
        self._tls = tls
        self._waiting: memoryview | None = None

    @property
    def tls(self) -> Tls | None:
        """The TLS session, where there is one."""
        return self._tls

    def secure(self, tls: Tls) -> None:
        """Go on over TLS; its handshake is done."""
        self._tls = tls

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.sock.fileno()

    def receive(self) -> bytes:
        """Return what has come; empty at the end.

        Raises:
            BlockingIOError: nothing has.
            OSError: the socket or the TLS session has failed.
        """
        if self._tls is None:
            return self.sock.recv(READ_BYTES)
        count = self._tls.recv_into(_PLAIN)
        return bytes(memoryview(_PLAIN)[:count])

    def write(self, data: bytes) -> bool:
        """Write after what waits already; True when the socket has taken everything.

        Raises:
            OSError: the socket or the TLS session has failed.
        """
        waiting = self._waiting
        self._waiting = memoryview(data if waiting is None else bytes(waiting) + data)
        return self.flush()

    def flush(self) -> bool:
        """Write what waits; True when nothing is left.

        Raises:
            OSError: the socket or the TLS session has failed.
        """
        while self._waiting is not None:
            try:
                count = self.sock.send(self._waiting) if self._tls is None else self._tls.send(self._waiting)
            except BlockingIOError:
                return False
            self._waiting = self._waiting[count:] if count < len(self._waiting) else None
        return self._tls is None or self._tls.flush()

    def end_output(self) -> None:
        """Tell the peer that no more comes.

        Raises:
            OSError: the socket has failed.
        """
        if self._tls is not None:
            self._tls.close_output()
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; what waits is lost."""
        self._waiting = None
        self.sock.close()
