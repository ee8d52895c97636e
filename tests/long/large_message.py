"""One message of any length, sent or received piece by piece: a program of its own.

    python -m tests.long.large_message send|receive PORT ADDRESS OCTETS

The message is a row of data sections of 1 GiB at most; what it carries is one block again and again, of which the
receiver looks at each octet. Says `ready`, then `done COUNT` and the outcome.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from proton import Delivery
from proton.handlers import Handshaker, MessagingHandler
from proton.reactor import Container

SECTION_BYTES = 1 << 30
BLOCK = bytes(range(256)) * 256
AHEAD_BYTES = 4 << 20
"""Octets that may wait in the engine of the sender."""
TURN_S = 0.001


def pieces(total: int) -> Any:
    """Yield the encoded message piece by piece."""
    while total > 0:
        size = min(total, SECTION_BYTES)
        yield b"\x00\x53\x75\xb0" + size.to_bytes(4, "big")
        whole, rest = divmod(size, len(BLOCK))
        for _ in range(whole):
            yield BLOCK
        yield BLOCK[:rest]
        total -= size


class Send(MessagingHandler):
    """Sends it."""

    def __init__(self, url: str, address: str, total: int) -> None:
        super().__init__()
        self.url, self.address = url, address
        self.pieces = pieces(total)
        self.delivery: Delivery | None = None
        self.is_done = False

    def on_start(self, event: Any) -> None:
        self.sender = event.container.create_sender(event.container.connect(self.url, reconnect=False), self.address)

    def on_sendable(self, event: Any) -> None:
        if self.delivery is None:
            print("ready", flush=True)
            self.delivery = self.sender.delivery("1")
            event.reactor.schedule(TURN_S, self)

    def on_timer_task(self, event: Any) -> None:
        assert self.delivery is not None
        while self.delivery.pending < AHEAD_BYTES:
            piece = next(self.pieces, None)
            if piece is None:
                self.sender.advance()
                self.is_done = True
                return
            if piece:
                self.sender.send(piece)
        event.reactor.schedule(TURN_S, self)

    def on_settled(self, event: Any) -> None:
        is_accepted = event.delivery.remote_state == Delivery.ACCEPTED
        print("done accepted" if is_accepted else f"failed {event.delivery.remote_state}", flush=True)
        event.connection.close()


class Receive(MessagingHandler):
    """Reads it as it comes."""

    def __init__(self, url: str, address: str, total: int) -> None:
        super().__init__(prefetch=0, auto_accept=False)
        self.handlers = [Handshaker()]
        self.url, self.address = url, address
        self.expected = pieces(total)
        self.piece = b""
        self.count = 0

    def on_start(self, event: Any) -> None:
        connection = event.container.connect(self.url, reconnect=False)
        self.receiver = event.container.create_receiver(connection, self.address)
        self.receiver.flow(1)

    def on_link_remote_open(self, event: Any) -> None:
        print("ready", flush=True)

    def on_delivery(self, event: Any) -> None:
        delivery = event.delivery
        while delivery.readable and delivery.pending:
            octets = self.receiver.recv(delivery.pending)
            self.look(octets)
        if delivery.readable and not delivery.partial:
            assert not self.piece
            assert next(self.expected, b"") == b""
            delivery.update(Delivery.ACCEPTED)
            delivery.settle()
            self.receiver.advance()
            print(f"done {self.count}", flush=True)
            event.connection.close()

    def look(self, octets: bytes) -> None:
        self.count += len(octets)
        at = 0
        while at < len(octets):
            if not self.piece:
                self.piece = next(self.expected)
                continue
            size = min(len(self.piece), len(octets) - at)
            if octets[at : at + size] != self.piece[:size]:
                sys.exit("what came is not what was sent")
            self.piece = self.piece[size:]
            at += size


if __name__ == "__main__":
    mode, port, address, total = sys.argv[1:]
    kind = Send if mode == "send" else Receive
    Container(kind(f"amqp://127.0.0.1:{port}", address, int(total))).run()
    os._exit(0)
