"""TLS on the raw TCP side: between the socket and a flow, records one way and octets the other.

Layer: 4. Source: TCP over AMQP, section 8. Memory buffers instead of a wrapped socket: what has been decrypted is
always passed on in the same turn, so that readiness of the socket tells everything; half-closing works both ways.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from vanrouter.adaptors.tcp_config import TlsFiles
from vanrouter.adaptors.tcp_flow import BUFFER_BYTES, LINGER_S, Flow
from vanrouter.adaptors.tcp_wheel import Wheel
from vanrouter.errors import ConfigError
from vanrouter.net.reactor import ERROR, IN, OUT

LISTENER_PROTOCOLS = ["http/1.1", "h2"]
"""What a listener offers by ALPN, in its own order of preference (section 8.3)."""

HANDSHAKE_TIMEOUT_S = 10.0
"""For a client that connects and says nothing, or half of it."""

_RECORDS = bytearray(BUFFER_BYTES)
_RECORDS_VIEW = memoryview(_RECORDS)


def listener_context(files: TlsFiles, authenticate_peer: bool) -> ssl.SSLContext:
    """Return the context of a listener (section 8.1).

    Raises:
        ConfigError: a file is missing or wrong.
    """
    if not files.cert_file or not files.key_file:
        raise ConfigError("sslProfile", "a tcpListener needs certFile and privateKeyFile")
    if authenticate_peer and not files.ca_file:
        raise ConfigError("sslProfile.caCertFile", "is needed by authenticatePeer")
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    if authenticate_peer:
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(LISTENER_PROTOCOLS)
    return context


def connector_context(files: TlsFiles, verify_hostname: bool, alpn: str | None) -> ssl.SSLContext:
    """Return the context of a connector (section 8.2) that offers `alpn` alone, or nothing.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    if not files.ca_file:
        raise ConfigError("sslProfile.caCertFile", "is needed by a tcpConnector")
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = verify_hostname
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        if files.ca_file:
            context.load_verify_locations(files.ca_file)
        if files.cert_file:
            context.load_cert_chain(files.cert_file, files.key_file, files.password)
        if files.ciphers:
            context.set_ciphers(files.ciphers)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("sslProfile", f"{files.cert_file or files.ca_file}: {error}") from error
    return context


class Tls:
    """One TLS session between a socket and its flow. `recv_into` and `send` behave as a non-blocking socket's."""

    __slots__ = ("_incoming", "_is_eof", "_outgoing", "_sock", "_unsent", "has_ended", "session")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = b""
        self._is_eof = False
        self.has_ended = False
        """The other end's last octets have been read."""
        self.session = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    @property
    def has_unsent(self) -> bool:
        """Whether records wait for the socket."""
        return bool(self._unsent)

    @property
    def is_readable(self) -> bool:
        """Whether something was taken from the socket and not decrypted yet: no event will tell of it."""
        return bool(self._incoming.pending or self.session.pending())

    def flush(self) -> bool:
        """Write records; True when none is left.

        Raises:
            OSError: the socket has failed.
        """
        records = self._unsent
        if self._outgoing.pending:
            records += self._outgoing.read()
        if not records:
            return True
        try:
            count = self._sock.send(records)
        except BlockingIOError:
            count = 0
        self._unsent = records[count:]
        return not self._unsent

    def do_handshake(self) -> bool:
        """Go on with the handshake; True when it is done.

        Raises:
            OSError: it has failed; the alert has been sent.
        """
        with contextlib.suppress(BlockingIOError):
            self._fill()
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except ssl.SSLError:
            self.flush()
            raise
        self.flush()
        return True

    def _fill(self) -> None:
        """Take records from the socket: as many as fit decrypted into one buffer, with what is there already.

        Raises:
            BlockingIOError: nothing has come.
            OSError: the socket has failed.
        """
        room = BUFFER_BYTES - self._incoming.pending
        if self._is_eof or room <= 0:
            return
        count = self._sock.recv_into(_RECORDS, room)
        if count:
            self._incoming.write(_RECORDS_VIEW[:count])
        else:
            self._is_eof = True
            self._incoming.write_eof()

    def recv_into(self, buffer: bytearray, limit: int = 0) -> int:
        """Decrypt what the socket has, into `buffer` or its first `limit` octets; 0 at the end.

        Raises:
            BlockingIOError: no whole record has come.
            OSError: the socket or the session has failed.
        """
        with contextlib.suppress(BlockingIOError):
            self._fill()
        room = limit or len(buffer)
        total = 0
        read = self.session.read
        view = memoryview(buffer)
        try:
            while total < room:
                count = read(room - total, view[total:room])
                if not count:
                    self.has_ended = True
                    break
                total += int(count)
        except ssl.SSLWantReadError:
            if not total:
                self.flush()
                raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.has_ended = True  # with or without the notice, which many clients leave out
        if self._outgoing.pending:
            self.flush()
        return total

    def send(self, data: memoryview | bytes | bytearray) -> int:
        """Encrypt and write.

        Raises:
            BlockingIOError: records of the last call still wait.
            OSError: the socket or the session has failed.
        """
        if self._unsent and not self.flush():
            raise BlockingIOError
        count = len(data)
        if count > BUFFER_BYTES:
            count = BUFFER_BYTES
            data = bytes(data[:count])
        self.session.write(data)
        self.flush()
        return count

    def close_output(self) -> bool:
        """Tell the other end that no more octets come; True when the notice is on its way.

        Raises:
            OSError: the socket has failed.
        """
        with contextlib.suppress(
            ssl.SSLError
        ):  # it would wait for the other end's notice, which is read with its octets
            self.session.unwrap()
        return self.flush()


class TlsFlow(Flow):
    """A flow with a TLS session. Its beginnings mix it in front of their own class.

    Without slots of its own: a class with two bases that have some cannot be.
    """

    tls: Tls
    is_shaking: bool
    has_closed_output: bool
    is_closing: bool

    def begin_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """Shake hands; `on_handshake` follows."""
        assert self.sock is not None
        self.is_shaking = True
        self.has_closed_output = False
        self.is_closing = False
        self.tls = Tls(self.sock, context, server_name)
        self.ends_at = self.shared.reactor.now + HANDSHAKE_TIMEOUT_S
        self.shared.wheel.schedule(self, HANDSHAKE_TIMEOUT_S)
        self.watch(IN)
        self.shake()

    def shake(self) -> None:
        """Go on with the handshake."""
        try:
            is_done = self.tls.do_handshake()
        except OSError as error:
            self.on_handshake_failed(error)
            return
        if is_done:
            self.is_shaking = False
            self.ends_at = 0.0
            Wheel.cancel(self)
            self.recv_into = self.tls.recv_into
            self.send = self.tls.send
            self.on_handshake(self.tls.session.selected_alpn_protocol())
        self.watch_unsent()

    def on_handshake(self, alpn: str | None) -> None:
        """The handshake is done."""

    def on_handshake_failed(self, error: OSError) -> None:
        """The other end does not speak TLS, or is not who it should be."""
        self.service.handshake_failed(self, error)
        self.drop()

    def watch_unsent(self) -> None:
        """Be told when records can be written, if some wait."""
        if self.sock is not None and self.tls.has_unsent:
            self.watch(self.mask | OUT)

    def ready(self, mask: int) -> None:
        if mask & (OUT | ERROR) and self.tls.has_unsent and not self.flush_records():
            return
        if self.sock is None:
            return
        if self.is_shaking:
            self.shake()
            return
        super().ready(mask)
        self.watch_unsent()

    def flush_records(self) -> bool:
        """Write records that wait; False when the flow cannot go on yet."""
        try:
            if not self.tls.flush():
                return False
            if self.is_closing:
                super().close()
                return False
            if self.has_closed_output and self.sock is not None:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            if self.is_closing:
                super().close()
            else:
                self.write_failed()
            return False
        if self.backlog is None or self.is_shaking:
            self.watch(self.mask & ~OUT)
        return True

    def read(self) -> None:
        super().read()
        if self.sock is not None and self.tls.has_ended and not self.read_done:
            self.end_of_input()

    def resume(self) -> None:
        super().resume()
        if self.mask & IN and self.tls.is_readable:
            self.shared.reactor.call_soon(self.read_rest)

    def read_rest(self) -> None:
        """Read what the session holds already."""
        if self.mask & IN:
            self.read()
            self.watch_unsent()

    def push(self, data: memoryview | bytes) -> bool:
        is_open = super().push(data)
        self.watch_unsent()
        return is_open

    def shutdown_output(self) -> None:
        self.has_closed_output = True
        if self.tls.close_output() and self.sock is not None:
            self.sock.shutdown(socket.SHUT_WR)
        else:
            self.watch_unsent()

    def close(self, is_reset: bool = False) -> None:
        if self.sock is not None and not is_reset and not self.is_closing:
            self.is_closing = True
            try:
                is_flushed = self.is_shaking or (self.has_closed_output and not self.tls.has_unsent)
                if not is_flushed and not self.tls.close_output():
                    self.watch(OUT)
                    self.ends_at = self.shared.reactor.now + LINGER_S
                    self.shared.wheel.schedule(self, LINGER_S)
                    return
            except OSError:
                pass  # it takes nothing any more
        super().close(is_reset)

    def encryption(self) -> dict[str, Any]:
        cipher = None if self.is_shaking else self.tls.session.cipher()
        if cipher is None:
            return {}
        return {
            "isEncrypted": True,
            "ssl": True,
            "sslProto": cipher[1] if self.tls.session.version() is None else self.tls.session.version(),
            "sslCipher": cipher[0],
            "sslSsf": cipher[2],
        }
