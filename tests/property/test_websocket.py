"""Payload comes out of a WebSocket as it went in: whatever the messages, fragments and masks, split at every octet."""

from __future__ import annotations

import contextlib
import socket

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from vanrouter.adaptors.port_websocket import WebSocketChannel
from vanrouter.adaptors.port_wire import Wire

messages = st.lists(st.tuples(st.binary(max_size=300), st.booleans(), st.booleans()), max_size=12)


class Feed(Wire):
    """A wire whose other end is the test: gives what it is told, takes everything."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(ours)
        self.given: list[bytes] = []
        self.written = bytearray()

    def receive(self) -> bytes:
        if not self.given:
            raise BlockingIOError
        return self.given.pop(0)

    def write(self, data: bytes) -> bool:
        self.written += data
        return True

    def close(self) -> None:
        super().close()
        self.theirs.close()


def framed(script: list[tuple[bytes, bool, bool]]) -> tuple[bytes, bytes]:
    """Octets of a client's frames, and the payload in them."""
    client = Connection(ConnectionType.CLIENT)
    stream = b""
    for data, is_last, pings in script:
        if pings:
            stream += client.send(Ping(payload=data[:100]))
        stream += client.send(BytesMessage(data=data, message_finished=is_last))
    return stream, b"".join(data for data, _, _ in script)


def read(channel: WebSocketChannel, wire: Feed) -> bytes:
    buffer = bytearray(256 * 1024)
    got = b""
    while wire.given:
        with contextlib.suppress(BlockingIOError):
            count = channel.recv_into(buffer)
            if count == 0:
                break
            got += buffer[:count]
    return got


@given(messages)
def test_split_at_every_octet(script: list[tuple[bytes, bool, bool]]) -> None:
    stream, payload = framed(script)
    for cuts in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        wire = Feed()
        channel = WebSocketChannel(wire)
        wire.given = [piece for piece in cuts if piece]
        assert read(channel, wire) == payload
        channel.close()


@given(messages, st.data())
def test_cut_in_two_anywhere(script: list[tuple[bytes, bool, bool]], data: st.DataObject) -> None:
    stream, payload = framed(script)
    at = data.draw(st.integers(0, len(stream)))
    wire = Feed()
    channel = WebSocketChannel(wire)
    wire.given = [piece for piece in (stream[:at], stream[at:]) if piece]
    assert read(channel, wire) == payload
    channel.close()


@given(st.lists(st.binary(min_size=1, max_size=200)))
def test_any_octets_give_payload_or_an_end(pieces: list[bytes]) -> None:
    wire = Feed()
    channel = WebSocketChannel(wire)
    wire.given = list(pieces)
    read(channel, wire)
    channel.close()
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(bytes(wire.written))
    assert isinstance(list(client.events())[-1], CloseConnection)


@given(st.lists(st.binary(min_size=1, max_size=100_000), max_size=5))
def test_what_is_sent_arrives(pieces: list[bytes]) -> None:
    wire = Feed()
    channel = WebSocketChannel(wire)
    for piece in pieces:
        assert channel.send(memoryview(piece)) == len(piece)
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(bytes(wire.written))
    assert b"".join(event.data for event in client.events() if isinstance(event, BytesMessage)) == b"".join(pieces)
    channel.close()
