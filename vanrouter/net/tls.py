"""TLS between a socket and what speaks through it: records one way and octets the other, and the contexts for it.

Layer: 2. Source: TCP over AMQP, section 8. Memory buffers instead of a wrapped socket: what has been decrypted is
always passed on in the same turn, so that readiness of the socket tells everything; half-closing works both ways.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from vanrouter.errors import ConfigError

LISTENER_PROTOCOLS = ("http/1.1", "h2")
"""What a listener offers by ALPN, in its own order of preference (section 8.3)."""

BUFFER_BYTES = 128 * 1024
"""Decrypted in one go at most."""

_RECORDS = bytearray(BUFFER_BYTES)
_RECORDS_VIEW = memoryview(_RECORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """An sslProfile as raw TLS endpoints use it (section 8)."""

    name: str = ""
    """Of the profile, for what is said of its errors."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    password: str | None = None
    ciphers: str | None = None
    ordinal: int = 0
    """Revision of the credentials."""


def listener_context(
    files: TlsFiles, authenticate_peer: bool, protocols: Sequence[str] = LISTENER_PROTOCOLS
) -> ssl.SSLContext:
    """Return the context of a listener (section 8.1).

    Raises:
        ConfigError: a file is missing or wrong.
    """
    if not files.cert_file:
        raise ConfigError("sslProfile.certFile", f"is needed by a listener (sslProfile: {files.name})")
    if not files.key_file:
        raise ConfigError("sslProfile.privateKeyFile", f"Missing Private Keyfile (sslProfile: {files.name})")
    if authenticate_peer and not files.ca_file:
        raise ConfigError("sslProfile.caCertFile", "is needed by authenticatePeer")
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    if authenticate_peer:
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(protocols))
    return context


def connector_context(files: TlsFiles, verify_hostname: bool, alpn: str | None) -> ssl.SSLContext:
    """Return the context of a connector (section 8.2) that offers `alpn` alone, or nothing.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    if not files.ca_file:
        raise ConfigError("sslProfile.caCertFile", "is needed by a connector")
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = verify_hostname
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    profile = f"for sslProfile '{files.name}'"
    step = wanted = ""
    try:
        if files.ca_file:
            step = f"Failed to configure TLS caCertFile {files.ca_file} {profile}"
            wanted = "one or more certificates in PEM are needed"
            context.load_verify_locations(files.ca_file)
        if files.cert_file:
            step = f"Failed to set TLS certFile '{files.cert_file}' {profile}"
            wanted = "it and privateKeyFile are to be PEM and belong together, and the password is to open the key"
            # Without any password, OpenSSL would ask whoever sits at the terminal, and the loop would wait.
            context.load_cert_chain(files.cert_file, files.key_file, files.password or "")
        if files.ciphers:
            step = f"Failed to configure TLS Ciphers '{files.ciphers}' {profile}"
            wanted = "OpenSSL knows none of them; `openssl ciphers` lists what it knows"
            context.set_ciphers(files.ciphers)
    except ssl.SSLError as error:
        raise ConfigError("sslProfile", f"{step}: {wanted}") from error
    except OSError as error:
        raise ConfigError("sslProfile", f"{step}: {error.strerror or error}") from error
    return context


class Tls:
    """One TLS session between a socket and its flow. `recv_into` and `send` behave as a non-blocking socket's."""

    __slots__ = ("_incoming", "_is_eof", "_outgoing", "_sock", "_unsent", "has_ended", "has_rest", "session")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = b""
        self._is_eof = False
        self.has_ended = False
        """The other end's last octets have been read."""
        self.has_rest = False
        """The last `recv_into` filled its buffer: more may have been taken from the socket, and no event will tell."""
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
            if self._is_eof:
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "end of file in the handshake") from None
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
            # The session is not told: without a notice before it, it would take nothing more to send either, and a
            # client that has shut down its socket alone would get no answer.
            self._is_eof = True

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
            self.has_ended = self._is_eof
            if not total and not self.has_ended:
                self.has_rest = False
                self.flush()
                raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.has_ended = True  # with or without the notice, which many clients leave out
        self.has_rest = total >= room
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
