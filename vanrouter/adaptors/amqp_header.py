"""The first octets of a client: TLS that is asked for inside AMQP is refused at once, not waited for.

Layer: 4. Source: AMQP 1.0 part 2, section 2.2, and part 5, section 5.2. The engine takes the header of protocol id 2
and waits for a handshake that its peer begins only after an answer, so both would wait for ever. TLS is here what comes
before any AMQP header. The channel of a connection is this until its first octets have come, and never again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vanrouter.engine.connection import Channel, EngineConnection

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
TLS_HEADER = b"AMQP\x02"
REFUSED = "TLS inside AMQP (protocol id 2) is not offered: it comes before any AMQP header"


class FirstOctets:
    """A channel that looks at what comes first, and puts the real one in its place."""

    __slots__ = ("_channel", "_engine")

    def __init__(self, engine: EngineConnection) -> None:
        self._engine = engine
        self._channel: Channel = engine.channel

    def recv_into(self, buffer: bytearray, limit: int = 0, /) -> int:
        """Receive as the channel does.

        Raises:
            ConnectionAbortedError: the peer wants TLS inside AMQP; it has been told what there is.
            OSError: the channel's own.
        """
        count = self._channel.recv_into(buffer, limit)
        self._engine.channel = self._channel
        if count >= len(TLS_HEADER) and buffer.startswith(TLS_HEADER):
            self._channel.send(memoryview(AMQP_HEADER))
            raise ConnectionAbortedError(REFUSED)
        return count

    def send(self, data: memoryview, /) -> int:
        """Send as the channel does."""
        return self._channel.send(data)

    def fileno(self) -> int:
        """Return the channel's descriptor."""
        return self._channel.fileno()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
