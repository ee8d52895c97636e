"""TLS on the raw TCP side: a flow whose octets are records on its socket.

Layer: 4. Source: TCP over AMQP, section 8.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from vanrouter.adaptors.tcp_flow import LINGER_S, Flow
from vanrouter.net.reactor import ERROR, IN, OUT
from vanrouter.net.tls import Tls, TlsFiles
from vanrouter.net.wheel import Wheel

HANDSHAKE_TIMEOUT_S = 10.0
"""For a client that connects and says nothing, or half of it."""


class TlsFlow(Flow):
    """A flow with a TLS session. Its beginnings mix it in front of their own class.

    Without slots of its own: a class with two bases that have some cannot be.
    """

    tls: Tls
    credentials: TlsFiles
    """The sslProfile as it was when the flow began."""
    is_shaking = True
    has_closed_output = False
    is_closing = False

    def begin_tls(self, context: ssl.SSLContext, server_name: str | None, credentials: TlsFiles) -> None:
        """Shake hands; `on_handshake` follows."""
        assert self.sock is not None
        self.credentials = credentials
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
        if self.sock is None or self.read_done:
            return
        if self.tls.has_ended:
            self.end_of_input()
        elif self.tls.has_rest and self.mask & IN:
            self.shared.reactor.call_soon(self.read_rest)

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

    def tell_next(self) -> None:
        if self.sock is not None and not self.is_shaking:
            super().tell_next()

    def socket_calls(self) -> tuple[Callable[..., int], Callable[[memoryview | bytes | bytearray], int]]:
        return self.tls.recv_into, self.tls.send

    def encryption(self) -> dict[str, Any]:
        cipher = None if self.is_shaking else self.tls.session.cipher()
        if cipher is None:
            return {}
        return {
            "isEncrypted": True,
            "tlsOrdinal": self.credentials.ordinal,
            "ssl": True,
            "sslProto": cipher[1] if self.tls.session.version() is None else self.tls.session.version(),
            "sslCipher": cipher[0],
            "sslSsf": cipher[2],
        }
