"""A WebSocket as a byte channel: payload in frames, refusals of the socket, pings, goodbyes, peers that are wrong."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from vanrouter.adaptors.port_websocket import SUBPROTOCOLS, WebSocketChannel, closing_frame, upgrade_of
from vanrouter.adaptors.port_wire import Wire

GOOD = [
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


class Ends:
    """The channel and its client."""

    def __init__(self, early: bytes = b"") -> None:
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.sock.settimeout(10)
        self.channel = WebSocketChannel(Wire(ours), early)
        self.client = Connection(ConnectionType.CLIENT)
        self.buffer = bytearray(256 * 1024)
        self.events: list[object] = []

    def say(self, *events: object) -> None:
        self.sock.sendall(b"".join(self.client.send(event) for event in events))  # type: ignore[arg-type]  # wsproto's

    def read(self) -> bytes:
        """What the channel has now; empty when it has nothing or is at its end."""
        with contextlib.suppress(BlockingIOError):
            return bytes(self.buffer[: self.channel.recv_into(self.buffer)])
        return b""

    def hear(self) -> list[object]:
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.sock.recv(1 << 20):
                self.client.receive_data(data)
                self.events += self.client.events()
        self.sock.settimeout(10)
        heard, self.events = self.events, []
        return heard


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.channel.close()
    made.sock.close()


def test_payload_both_ways(ends: Ends) -> None:
    ends.say(BytesMessage(data=b"AMQP"), BytesMessage(data=b"", message_finished=False), BytesMessage(data=b"\0"))
    assert ends.read() == b"AMQP\0"
    assert ends.read() == b""
    assert ends.channel.send(memoryview(b"answer")) == 6
    (heard,) = ends.hear()
    assert isinstance(heard, BytesMessage)
    assert heard.data == b"answer"
    assert ends.channel.fileno() >= 0


def test_octets_that_came_with_the_request() -> None:
    client = Connection(ConnectionType.CLIENT)
    ends = Ends(bytes(client.send(BytesMessage(data=b"first"))))
    assert ends.channel.has_early
    assert ends.read() == b"first"
    assert not ends.channel.has_early
    ends.channel.close()
    ends.sock.close()


def test_a_socket_that_refuses(ends: Ends) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(500_000))
    rest = memoryview(data)
    heard = b""
    refusals = 0
    while rest:
        try:
            rest = rest[ends.channel.send(rest[: 256 * 1024]) :]
        except BlockingIOError:
            refusals += 1
            heard += b"".join(event.data for event in ends.hear() if isinstance(event, BytesMessage))
    heard += b"".join(event.data for event in ends.hear() if isinstance(event, BytesMessage))
    assert heard == data
    assert refusals


def test_pings_are_answered_and_do_not_pile_up(ends: Ends) -> None:
    ends.say(Ping(payload=b"1"), BytesMessage(data=b"x"), Pong(payload=b"?"))
    assert ends.read() == b"x"
    assert ends.hear() == [Pong(payload=b"1")]
    with contextlib.suppress(BlockingIOError):
        while True:
            ends.channel.send(memoryview(bytes(65536)))
    for _ in range(20):
        ends.say(*(Ping(payload=b"p" * 100) for _ in range(100)))
        assert ends.read() == b""
    assert len(ends.channel._wire._waiting or b"") < 200_000


def test_a_goodbye_is_answered_and_is_the_end(ends: Ends) -> None:
    ends.say(BytesMessage(data=b"last"), CloseConnection(code=4001, reason="done"))
    assert ends.read() == b"last"
    assert ends.channel.recv_into(ends.buffer) == 0
    assert ends.hear() == [CloseConnection(code=4001, reason="done")]
    with pytest.raises(BrokenPipeError):
        ends.channel.send(memoryview(b"x"))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (bytes(Connection(ConnectionType.CLIENT).send(TextMessage(data="AMQP"))), CloseReason.UNSUPPORTED_DATA),
        (b"\x82\x04AMQP", CloseReason.PROTOCOL_ERROR),  # not masked
        (b"\xf2\x84\0\0\0\0AMQP", CloseReason.PROTOCOL_ERROR),  # reserved bits
        (b"\x8b\x80\0\0\0\0", CloseReason.PROTOCOL_ERROR),  # an opcode that does not exist
        (b"\x88\x82\0\0\0\0\x03\xed", CloseReason.PROTOCOL_ERROR),  # 1005 may not be sent
        (b"\x88\x80\0\0\0\0", CloseReason.NORMAL_CLOSURE),  # a goodbye without a code
    ],
)
def test_peers_that_are_wrong(ends: Ends, sent: bytes, code: CloseReason) -> None:
    ends.sock.sendall(sent)
    assert ends.channel.recv_into(ends.buffer) == 0
    (heard,) = ends.hear()
    assert isinstance(heard, CloseConnection)
    assert heard.code == code


def test_the_end_without_a_goodbye(ends: Ends) -> None:
    ends.sock.shutdown(socket.SHUT_WR)
    assert ends.channel.recv_into(ends.buffer) == 0


def test_closing_says_so(ends: Ends) -> None:
    ends.channel.close()
    (heard,) = ends.hear()
    assert isinstance(heard, CloseConnection)
    assert heard.code == CloseReason.NORMAL_CLOSURE
    ends.channel.close()


# The upgrade.


@pytest.mark.parametrize(
    ("offer", "chosen"), [(b"amqp", "amqp"), (b"foo, AMQP", "amqp"), (b"binary,amqp", "binary"), (b"", None)]
)
def test_the_first_known_subprotocol_is_taken(offer: bytes, chosen: str | None) -> None:
    upgrade = upgrade_of(b"GET", [*GOOD, (b"sec-websocket-protocol", offer)])
    assert upgrade is not None
    assert (upgrade.subprotocol, upgrade.refusal) == (chosen, None)
    assert ((b"Sec-WebSocket-Protocol", (chosen or "").encode()) in upgrade.headers()) == (chosen is not None)
    assert "amqp" in SUBPROTOCOLS


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (b"sec-websocket-version", b"12", 426),
        (b"sec-websocket-key", b"short", 400),
        (b"sec-websocket-key", b"\xff" * 24, 400),
        (b"sec-websocket-protocol", b"mqtt", 400),
    ],
)
def test_refusals_say_why(name: bytes, value: bytes, status: int) -> None:
    headers = [entry for entry in GOOD if entry[0] != name]
    upgrade = upgrade_of(b"GET", [*headers, (name, value)])
    assert upgrade is not None
    assert upgrade.status == status
    assert upgrade.refusal


def test_other_methods() -> None:
    upgrade = upgrade_of(b"POST", GOOD)
    assert upgrade is not None
    assert upgrade.status == 405
    assert upgrade_of(b"GET", GOOD[:1]) is None
    assert upgrade_of(b"GET", GOOD[1:]) is None


def test_closing_frame() -> None:
    frame = closing_frame(CloseReason.INTERNAL_ERROR, "cannot-upgrade")
    assert frame == b"\x88\x10\x03\xf3cannot-upgrade"
