"""AMQP over WebSocket: the upgrade's headers, and frames as a byte channel under the engine's connection.

Layer: 4. Source: management.md section 13 (AMQP over WebSocket), RFC 6455, the AMQP binding of OASIS
(amqp-wsb-v1.0: binary messages carry the octet stream, message borders mean nothing). Framing is wsproto's.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import generate_accept_token

from vanrouter.adaptors.port_wire import Wire

SUBPROTOCOLS = ("amqp", "binary")
"""The first that the client offers of these is taken."""

VERSION = b"13"

FRAME_BYTES = 64 * 1024
"""Payload of one frame that we send at most: a client may want to see it whole before it uses any of it."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A client's wish to speak WebSocket, looked through.

    `subprotocol` is the one to be echoed, None when the client offers none; `refusal` says why it cannot be, with the
    status to answer.
    """

    key: bytes = b""
    subprotocol: str | None = None
    refusal: str | None = None
    status: int = 400

    def headers(self) -> Headers:
        """Return those of the 101 answer."""
        found: Headers = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", generate_accept_token(self.key)),
        ]
        if self.subprotocol is not None:
            found.append((b"Sec-WebSocket-Protocol", self.subprotocol.encode()))
        return found


def upgrade_of(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Upgrade | None:
    """Return what a request asks for, or None when it asks for no WebSocket.

    Args:
        method: of the request.
        headers: names in lower case, values as they came.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    if b"websocket" not in _tokens(found.get(b"upgrade", [])) or b"upgrade" not in _tokens(
        found.get(b"connection", [])
    ):
        return None
    if method != b"GET":
        return Upgrade(refusal="a WebSocket begins with GET", status=405)
    if found.get(b"sec-websocket-version") != [VERSION]:
        return Upgrade(refusal="this server speaks version 13 of WebSocket", status=426)
    key = found.get(b"sec-websocket-key", [b""])[0].strip()
    if not _is_key(key):
        return Upgrade(refusal="Sec-WebSocket-Key has to be 16 octets in base64")
    offered = _tokens(found.get(b"sec-websocket-protocol", []))
    chosen = next((name for name in offered if name.decode("latin-1") in SUBPROTOCOLS), None)
    if offered and chosen is None:
        return Upgrade(refusal=f"none of the sub-protocols is known: offer {' or '.join(SUBPROTOCOLS)}")
    return Upgrade(key=key, subprotocol=None if chosen is None else chosen.decode("latin-1"))


def _tokens(values: list[bytes]) -> list[bytes]:
    """Return the words of a comma-separated header, in lower case and order."""
    return [word for value in values for part in value.split(b",") if (word := part.strip().lower())]


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def closing_frame(code: CloseReason, reason: str) -> bytes:
    """Return the frame that ends a WebSocket nothing was said on."""
    return Connection(ConnectionType.SERVER).send(CloseConnection(code=code, reason=reason))


class WebSocketChannel:
    """A WebSocket as the engine's connection wants a socket: `recv_into`, `send`, `fileno`, `close`; none blocks.

    What `send` could not write wholly is to be offered again, the same octets first, as for any socket that refuses.

    Args:
        wire: the connection, after the upgrade.
        early: octets that came with the request.
    """

    __slots__ = ("_early", "_ended", "_framed", "_frames", "_wire")

    def __init__(self, wire: Wire, early: bytes = b"") -> None:
        self._wire = wire
        self._early = early
        self._frames = Connection(ConnectionType.SERVER)
        self._framed = 0
        """Octets of the next `send` that stand in a frame already, part of which the socket has not taken."""
        self._ended = False

    @property
    def has_early(self) -> bool:
        """Whether something can be read that no event of the socket will tell of."""
        return bool(self._early)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._wire.fileno()

    def recv_into(self, buffer: bytearray, _limit: int = 0, /) -> int:
        """Read payload; 0 at the end, whether the peer said goodbye or not.

        Args:
            buffer: at least as long as what is taken from the socket in one go; payload is no longer than its frames.

        Raises:
            BlockingIOError: nothing has come, or none of it is payload.
            OSError: the socket or the TLS session has failed.
        """
        if self._ended:
            return 0
        data, self._early = self._early or self._wire.receive(), b""
        if not data:
            return 0
        self._frames.receive_data(data)
        total = 0
        for event in self._frames.events():
            if isinstance(event, BytesMessage):
                end = total + len(event.data)
                buffer[total:end] = event.data
                total = end
            elif isinstance(event, Ping):
                if self._wire.flush():  # a peer that pings and does not read gets one answer, not a queue of them
                    self._wire.write(self._frames.send(event.response()))
            elif isinstance(event, TextMessage):
                self._end(CloseReason.UNSUPPORTED_DATA, "AMQP comes in binary messages")
                break
            elif isinstance(event, CloseConnection):
                self._end(_sendable(event.code), event.reason or "")
                break
        if total == 0 and not self._ended:
            raise BlockingIOError
        return total

    def _end(self, code: int, reason: str) -> None:
        """Answer a goodbye, or a peer that is wrong; the end is read next."""
        self._ended = True
        with contextlib.suppress(OSError):
            if self._wire.flush():
                self._wire.write(self._frames.send(CloseConnection(code=code, reason=reason[:100])))
            self._wire.sock.shutdown(socket.SHUT_RD)  # so that the end is an event, whatever the peer does now

    def send(self, data: memoryview, /) -> int:
        """Write payload; return how many octets of it have left.

        Raises:
            BlockingIOError: none.
            OSError: the socket or the TLS session has failed, or the WebSocket is over.
        """
        if self._ended:
            raise BrokenPipeError("the WebSocket was closed")
        if not self._wire.flush():
            raise BlockingIOError
        total, self._framed = self._framed, 0
        while total < len(data):
            piece = bytes(data[total : total + FRAME_BYTES])
            if not self._wire.write(self._frames.send(BytesMessage(data=piece))):
                self._framed = len(piece)
                break
            total += len(piece)
        if total == 0:
            raise BlockingIOError
        return total

    def close(self) -> None:
        """Say goodbye if nothing else waits, and close the socket."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):
                if self._wire.flush():
                    self._wire.write(self._frames.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE)))
                    self._wire.end_output()
        self._wire.close()


def _sendable(code: int) -> int:
    """Return the code to answer a close frame with: its own, if codes like it may be sent (RFC 6455, section 7.4)."""
    if code in (1004, 1005, 1006, 1015) or not 1000 <= code < 5000:
        return int(CloseReason.NORMAL_CLOSURE)
    return int(code)
