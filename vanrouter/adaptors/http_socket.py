"""A socket as the transport of a codec: plain or TLS, accepted or still to be connected.

Layer: 4. What a codec writes in one turn of the loop goes out in one call at its end, so that the small answers of a
pipeline share a segment; large pieces go out at once and are copied only as far as the socket refuses them.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vanrouter.net.dial import Address, Connecting, begin_connect
from vanrouter.net.reactor import ERROR, IN, OUT
from vanrouter.net.tls import Tls
from vanrouter.net.wheel import Timed, Wheel

if TYPE_CHECKING:
    from vanrouter.adaptors.http_exchange import Codec, Failure
    from vanrouter.net.reactor import Reactor

BUFFER_BYTES = 128 * 1024
"""One read of one connection in one turn at most."""

_BUFFER = bytearray(BUFFER_BYTES)
_VIEW = memoryview(_BUFFER)

DIRECT_BYTES = 16 * 1024
"""From this size on a piece is not copied to wait for the end of the turn."""
HIGH_BYTES = 64 * 1024
"""Octets that wait for the socket before the codec is asked for silence."""

LINGER_S = 2.0
"""After the last answer: how long the other end may take to close, while what it still sends is thrown away (RFC 9112,
section 9.6: an answer could be lost to a reset otherwise)."""

HANDSHAKE_TIMEOUT_S = 10.0
"""For an end that connects and says nothing, or half of it."""

_RESET = struct.pack("ii", 1, 0)


def _nothing(_octets: bytes | bytearray | memoryview) -> int:
    """Before there is a socket."""
    raise BlockingIOError


class SocketTransport:
    """One connection. Subclasses say what is told when it ends (`on_closed`) and when a deadline has come."""

    can_wait = False
    """A request's answer is written in its turn."""

    __slots__ = (
        "_closing",
        "_connecting",
        "_fd",
        "_finished",
        "_has_said_end",
        "_is_full",
        "_is_paused",
        "_is_shaking",
        "_is_shut",
        "_is_watched",
        "_mask",
        "_pending",
        "_server_name",
        "_tls_context",
        "bucket",
        "bytes_in",
        "bytes_out",
        "codec",
        "ends_at",
        "reactor",
        "recv_into",
        "remote",
        "send",
        "sock",
        "tls",
        "wheel",
    )

    def __init__(self, reactor: Reactor, wheel: Wheel, remote: Any) -> None:
        self.reactor = reactor
        self.wheel = wheel
        self.remote = remote
        self.codec: Codec | None = None
        self.sock: socket.socket | None = None
        self.tls: Tls | None = None
        self.bucket: set[Timed] | None = None
        self.ends_at = 0.0
        """Reactor time at which the connection, its handshake or its lingering is given up; 0: not at all."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.recv_into: Callable[[bytearray], int] = _nothing
        self.send: Callable[[bytes | bytearray | memoryview], int] = _nothing
        self._fd = -1
        self._mask = 0
        self._is_watched = False
        self._pending = bytearray()
        self._is_full = False
        self._is_paused = False
        self._is_shaking = False
        self._finished = False
        self._has_said_end = False
        self._is_shut = False
        self._closing = False
        self._connecting: Connecting | None = None
        self._tls_context: ssl.SSLContext | None = None
        self._server_name: str | None = None

    # --- beginning ----------------------------------------------------------------------------------------------------

    def secure(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Speak TLS; before `take` or `connect`. `server_name`: None for the side of the server."""
        self._tls_context = context
        self._server_name = server_name

    def take(self, sock: socket.socket) -> None:
        """Own a connected, non-blocking socket."""
        self.sock = sock
        self._fd = sock.fileno()
        self.recv_into = sock.recv_into
        self.send = sock.send
        if self._tls_context is None:
            self._watch(0 if self._is_paused else IN)
            self.on_ready(None)
            if self._pending or self._finished:
                self.reactor.dirty.add(self)
            return
        self._is_shaking = True
        self.tls = Tls(sock, self._tls_context, self._server_name)
        self.deadline(HANDSHAKE_TIMEOUT_S)
        self._watch(IN)
        self._shake()

    def connect(self, targets: list[Address], timeout_s: float) -> None:
        """Connect to the first of the addresses that answers. Nothing is told before this returns."""
        if len(targets) == 1:
            sock, error = begin_connect(targets[0])
            if sock is None:
                self.reactor.call_soon(lambda: self.on_connect_failed(error))
                return
            if error == 0:
                self.take(sock)
                return
            self._connecting = Connecting(self.reactor, [], self)
            self._connecting.adopt(sock)
        else:
            self._connecting = Connecting(self.reactor, targets, self)
            self.reactor.call_soon(self._connecting.start)
        self.deadline(timeout_s)

    def on_connected(self, sock: socket.socket) -> None:
        """The server has taken the connection."""
        self._connecting = None
        self.deadline(0)
        self.take(sock)

    def on_connect_failed(self, error: int) -> None:
        """No address of the server answered."""
        if self._closing:
            return
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.on_refused(error)
        self._lost(is_refused=True)

    def on_refused(self, error: int) -> None:
        """For subclasses: there was no connection."""

    def on_ready(self, alpn: str | None) -> None:
        """For subclasses: octets can be carried now. `alpn`: what the TLS handshake agreed upon."""

    def on_closed(self) -> None:
        """For subclasses: the connection is gone; called once."""

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def _shake(self) -> None:
        tls = self.tls
        assert tls is not None
        try:
            is_done = tls.do_handshake()
        except OSError as error:
            self.on_handshake_failed(error)
            self._lost(is_refused=True)
            return
        if is_done:
            self._is_shaking = False
            self.deadline(0)
            self.recv_into = tls.recv_into
            self.send = tls.send
            self.on_ready(tls.session.selected_alpn_protocol())
            if self.sock is not None and tls.is_readable:
                self.reactor.call_soon(self._read_rest)
            if self._pending or self._finished:
                self.reactor.dirty.add(self)
        self._watch_unsent()

    def on_handshake_failed(self, error: OSError) -> None:
        """For subclasses: the other end does not speak TLS, or is not who it should be."""

    def _watch_unsent(self) -> None:
        if self.sock is not None and self.tls is not None and self.tls.has_unsent:
            self._watch(self._mask | OUT)

    # --- events -------------------------------------------------------------------------------------------------------

    def _watch(self, mask: int) -> None:
        if mask == self._mask and self._is_watched:
            return
        self._mask = mask
        if self._is_watched:
            self.reactor.modify(self._fd, mask)
        else:
            self._is_watched = True
            self.reactor.register(self._fd, self.ready, mask)

    def ready(self, mask: int) -> None:
        """The socket can be read or written, or has failed."""
        if self._is_shaking:
            self._shake()
            return
        if mask & (OUT | ERROR):
            self._write_pending()
        if self.sock is None:
            return
        if mask & self._mask & IN:
            self._read()
        elif mask & ERROR and self._mask & IN == 0:
            if mask & 0x8:  # EPOLLERR: reset by its other end, which nothing would tell while reading pauses
                self._lost()
            elif self._is_watched and not self._mask:
                self._is_watched = False
                self.reactor.unregister(self._fd)
        self._watch_unsent()

    def _read(self) -> None:
        try:
            count = self.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not count:
            self._end_of_input()
            return
        self.bytes_in += count
        if self._closing:
            return
        self.codec.receive(_VIEW[:count])  # type: ignore[union-attr]  # there is one whenever the socket is read
        tls = self.tls
        if tls is not None and self.sock is not None:
            if tls.has_ended:
                self._end_of_input()
            elif tls.is_readable and not self._is_paused:
                self.reactor.call_soon(self._read_rest)

    def _read_rest(self) -> None:
        """Read what the session holds already: no event will tell of it."""
        if self.sock is not None and self._mask & IN:
            self._read()
            self._watch_unsent()

    def _end_of_input(self) -> None:
        if self._closing:
            self._release()
            return
        self._watch(self._mask & ~IN)
        if self.codec is not None:
            self.codec.receive_end()

    def flush(self) -> None:
        """Write what this turn has queued."""
        if not self._mask & OUT:
            self._write_pending()

    def _write_pending(self) -> None:
        sock, pending = self.sock, self._pending
        if sock is None or self._is_shaking:
            return
        if pending:
            try:
                count = self.send(pending)
            except BlockingIOError:
                count = 0
            except OSError:
                self._lost()
                return
            self.bytes_out += count
            if count < len(pending):
                del pending[:count]
                self._watch(self._mask | OUT)
                return
            self._pending = bytearray()
        if self.tls is not None and self.tls.has_unsent and not self._flush_records():
            return
        if self._mask & OUT:
            self._watch(self._mask & ~OUT)
        if self._finished:
            self._shut_down_output()
        elif self._is_full:
            self._is_full = False
            if self.codec is not None:
                self.codec.on_writable()

    def _flush_records(self) -> bool:
        assert self.tls is not None
        try:
            is_flushed = self.tls.flush()
        except OSError:
            self._lost()
            return False
        if not is_flushed:
            self._watch(self._mask | OUT)
        return is_flushed

    def _shut_down_output(self) -> None:
        if self._is_shut or self.sock is None:
            return
        try:
            if self.tls is not None and not self._has_said_end:
                self._has_said_end = True
                if not self.tls.close_output():
                    self._watch(self._mask | OUT)
                    return
            self._is_shut = True
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lost()

    # --- from the codec -----------------------------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> bool:
        """Take octets; False: please no more for now."""
        if self._finished or self._closing:
            return True
        pending = self._pending
        if len(data) >= DIRECT_BYTES and self.sock is not None and not (self._mask & OUT or self._is_shaking):
            return self._write_direct(data)
        if not pending:
            self.reactor.dirty.add(self)
        pending += data
        if len(pending) < HIGH_BYTES:
            return True
        self._is_full = True
        return False

    def _write_direct(self, data: bytes | memoryview) -> bool:
        """Write what waits and then this, without a copy of it."""
        pending = self._pending
        if pending:
            count = self._try_to_send(pending)
            if count < len(pending):
                del pending[:count]
                pending += data
                return self._wait_for_room()
            self._pending = pending = bytearray()
        count = self._try_to_send(data)
        if count < len(data):
            pending += data[count:]
            return self._wait_for_room()
        self._watch_unsent()
        return True

    def _try_to_send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            count = self.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.reactor.call_soon(self._lost)  # the codec is not called from within a call of its own
            return 0
        self.bytes_out += count
        return count

    def _wait_for_room(self) -> bool:
        self._is_full = True
        self._watch(self._mask | OUT)
        return False

    def pause(self) -> None:
        """Read no more for now."""
        self._is_paused = True
        if self.sock is not None and not self._is_shaking:
            self._watch(self._mask & ~IN)

    def resume(self) -> None:
        """Go on reading."""
        self._is_paused = False
        if self.sock is not None and not self._is_shaking:
            self._watch(self._mask | IN)
            if self.tls is not None and self.tls.is_readable:
                self.reactor.call_soon(self._read_rest)

    def finish(self) -> None:
        """Half-close, after what waits."""
        if not self._finished:
            self._finished = True
            if self.sock is not None and not self._mask & OUT:
                self.reactor.dirty.add(self)

    def close(self) -> None:
        """Write what waits, wait for the other end to see it, and close."""
        if self._closing:
            return
        self._closing = True
        if self.sock is None:
            self._release()
            return
        self.finish()
        self.deadline(LINGER_S)
        if not self._is_shaking:
            self._watch(self._mask | IN)

    def abort(self, failure: Failure | None = None) -> None:
        """Close with a reset."""
        if self.sock is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._closing = True
        self._release()

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _lost(self, is_refused: bool = False) -> None:
        if self.codec is None:
            return
        was_closing, self._closing = self._closing, True
        codec = self.codec
        self._release()
        if not was_closing:
            codec.on_lost(is_refused)

    def on_crash(self) -> None:
        """A handler of this connection has failed."""
        self._lost()

    def _release(self) -> None:
        """Let go of everything. The socket itself goes at the end of the turn: no late event meets its number."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self.bucket is not None:
            Wheel.cancel(self)
        sock, self.sock = self.sock, None
        self._pending = bytearray()
        if sock is not None:
            if self._is_watched:
                self._is_watched = False
                self.reactor.unregister(self._fd)
            self._mask = 0
            self.reactor.call_soon(sock.close)
        if self.codec is not None:
            self.codec = None
            self.on_closed()

    def deadline(self, delay_s: float) -> None:
        """Give the connection up after so long; 0: no deadline."""
        if delay_s:
            self.ends_at = self.reactor.now + delay_s
            self.wheel.schedule(self, delay_s)
        else:
            self.ends_at = 0.0
            if self.bucket is not None:
                Wheel.cancel(self)

    def on_deadline(self, now: float) -> None:
        """The wheel's call."""
        if self._closing:
            self._release()
        elif self._connecting is not None:
            self.on_connect_failed(errno.ETIMEDOUT)
        elif self._is_shaking:
            self._lost(is_refused=True)

    def encryption(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity that tell about TLS."""
        cipher = None if self.tls is None or self._is_shaking else self.tls.session.cipher()
        if cipher is None or self.tls is None:
            return {}
        return {
            "isEncrypted": True,
            "ssl": True,
            "sslProto": self.tls.session.version() or cipher[1],
            "sslCipher": cipher[0],
            "sslSsf": cipher[2],
        }
