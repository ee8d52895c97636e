"""The load on AMQP routers: producers or consumers of messages, one connection for each.

    python -m bench.load.amqp_client send|receive PORT ADDRESS --links N --seconds S --size OCTETS [--presettled]

Consumers say when all links are attached, and after `seconds` of receiving how many messages came. Producers send until
their input ends. Consumers settle what has come in one read together and keep CREDIT messages of credit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import sys
import time
from typing import Any

from bench.load import amqp_frames as frames
from vanrouter.engine.sections import decode

READ_BYTES = 256 * 1024
CREDIT = 1000
WARM_UP_S = 0.2
STUCK_S = 20.0
"""Nothing at all for so long: the load program gives up, and says it."""


class Connection:
    """One connection with one session and one link."""

    handle_max = 0

    def __init__(self, port: int, container: str, link: list[Any]) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=STUCK_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(READ_BYTES + frames.MAX_FRAME_BYTES)
        self.view = memoryview(self.buffer)
        self.filled = 0
        self.is_attached = False
        self.handshake(container, link)
        self.fd = self.sock.fileno()

    def handshake(self, container: str, link: list[Any]) -> None:
        """Everything until the link is attached."""
        self.sock.sendall(frames.sasl_anonymous())
        self.exactly(8)
        while True:
            size = int.from_bytes(self.exactly(4), "big")
            body = self.exactly(size - 4)
            if body[6] == frames.SASL_OUTCOME:
                break
        self.sock.sendall(frames.openings(container, link, self.handle_max))
        self.exactly(8)
        while not self.is_attached:
            self.read()

    def exactly(self, count: int) -> bytes:
        """Read so many octets; only before frames are read in bulk."""
        octets = b""
        while len(octets) < count:
            data = self.sock.recv(count - len(octets))
            if not data:
                sys.exit("the router closed the connection")
            octets += data
        return octets

    def read(self) -> None:
        """Read what there is and serve each whole frame."""
        count = self.sock.recv_into(self.view[self.filled :])
        if count == 0:
            sys.exit("the router closed the connection")
        octets, end, position = self.buffer, self.filled + count, 0
        while end - position >= 8:
            size = int.from_bytes(octets[position : position + 4], "big")
            if position + size > end:
                break
            if size > 8:
                body = position + 4 * octets[position + 4]
                code = octets[body + 2]
                if code == frames.TRANSFER:
                    self.on_transfer(*frames.transfer(octets, body + 3))
                else:
                    self.on_frame(code, bytes(octets[body : position + size]))
            position += size
        if position:
            octets[: end - position] = octets[position:end]
        self.filled = end - position

    def on_transfer(self, number: int, is_last: bool) -> None:
        """A part of a message."""

    def on_flow(self, fields: list[Any]) -> None:
        """Credit."""

    def on_frame(self, code: int, body: bytes) -> None:
        """Any other frame."""
        if code == frames.DISPOSITION:
            return
        if code == frames.FLOW:
            self.on_flow(decode(body)[0].value)
        elif code == frames.ATTACH:
            self.is_attached = True
        elif code in (frames.DETACH, frames.END, frames.CLOSE):
            sys.exit(f"the router ended the link: {decode(body)[0]}")

    def close(self) -> None:
        """End the connection in order."""
        self.sock.setblocking(False)
        with contextlib.suppress(OSError):
            self.sock.send(frames.frame(frames.CLOSE, []))
        self.sock.close()


class Producer(Connection):
    """Sends as fast as credit allows."""

    def __init__(self, port: int, index: int, address: str, size: int, *, presettled: bool) -> None:
        self.sent = 0
        self.link_limit = 0
        self.window_limit = 0
        self.rest: memoryview | None = None
        self.batch = frames.Batch(size, presettled=presettled)
        name = f"bench-send-{index}"
        super().__init__(port, name, frames.sender_link(name, address, presettled=presettled))
        self.sock.setblocking(False)

    def on_flow(self, fields: list[Any]) -> None:
        self.window_limit = (fields[0] or 0) + fields[1]
        if len(fields) > 6 and fields[4] is not None:
            self.link_limit = (fields[5] or 0) + fields[6]

    @property
    def may_send(self) -> bool:
        """Whether there is something to send, and leave to send it."""
        return self.rest is not None or self.sent < min(self.link_limit, self.window_limit)

    def send(self) -> bool:
        """Send; False when the socket takes no more."""
        while self.may_send:
            data = self.rest
            if data is None:
                data, count = self.batch.ready(self.sent, min(self.link_limit, self.window_limit) - self.sent)
                self.sent += count
            try:
                done = self.sock.send(data)
            except BlockingIOError:
                done = 0
            self.rest = data[done:] if done < len(data) else None
            if self.rest is not None:
                return False
        return True


class Consumer(Connection):
    """Receives and settles."""

    def __init__(self, port: int, index: int, address: str) -> None:
        self.first = self.last = -1
        self.complete = 0
        self.settled = True
        self.granted = 0
        self.total = 0
        name = f"bench-receive-{index}"
        super().__init__(port, name, frames.receiver_link(name, address))

    def on_transfer(self, number: int, is_last: bool) -> None:
        if number >= 0:
            self.last = number
            if self.first < 0:
                self.first = number
        if is_last:
            self.complete += 1

    def answer(self, *, presettled: bool) -> int:
        """Settle what has come since the last time, give credit; returns how many messages that were."""
        count, self.complete = self.complete, 0
        self.total += count
        output = b""
        if count and not presettled:
            output = frames.accept(self.first, self.first + count - 1)
            self.first += count
        if self.granted - self.total < CREDIT // 2:
            self.granted = self.total + CREDIT
            output += frames.credit(self.total, CREDIT)
        if output:
            self.sock.sendall(output)
        return count


def send(options: argparse.Namespace) -> None:
    """Send until the input ends."""
    poller = select.epoll()
    producers = {}
    for index in range(options.links):
        producer = Producer(options.port, index, options.address, options.size, presettled=options.presettled)
        producers[producer.fd] = producer
        poller.register(producer.fd, select.EPOLLIN | select.EPOLLOUT)  # credit may have come with the attach
    poller.register(sys.stdin.fileno(), select.EPOLLIN)
    watched = dict.fromkeys(producers, select.EPOLLIN | select.EPOLLOUT)
    going = True
    while going:
        for fd, mask in poller.poll():
            if fd == sys.stdin.fileno():
                going = False
                break
            producer = producers[fd]
            if mask & ~select.EPOLLOUT:
                producer.read()
            wanted = select.EPOLLIN if producer.send() else select.EPOLLIN | select.EPOLLOUT
            if watched[fd] != wanted:
                watched[fd] = wanted
                poller.modify(fd, wanted)
    for producer in producers.values():
        producer.close()


def receive(options: argparse.Namespace) -> None:
    """Receive for so many seconds, after a moment of warming up that begins with the first message."""
    poller = select.epoll()
    consumers = {}
    for index in range(options.links):
        consumer = Consumer(options.port, index, options.address)
        consumers[consumer.fd] = consumer
        poller.register(consumer.fd, select.EPOLLIN)
        consumer.answer(presettled=options.presettled)
    print(json.dumps({"attached": len(consumers)}), flush=True)
    clock = time.perf_counter
    first = begun = busy = 0.0
    total = before = 0
    while True:
        ready = poller.poll(STUCK_S)
        if not ready:
            sys.exit("no messages")
        for fd, _ in ready:
            consumer = consumers[fd]
            consumer.read()
            total += consumer.answer(presettled=options.presettled)
        if not total:
            continue
        now = clock()
        if not first:
            first = now
        elif not begun:
            if now - first >= WARM_UP_S:
                begun, before, busy = now, total, time.process_time()
        elif now - begun >= options.seconds:
            break
    elapsed = clock() - begun
    busy = (time.process_time() - busy) / elapsed
    print(json.dumps({"count": total - before, "seconds": elapsed, "total": total, "busy": busy}), flush=True)
    for consumer in consumers.values():
        consumer.close()


def main() -> None:
    """Send or receive."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("send", "receive"))
    parser.add_argument("port", type=int)
    parser.add_argument("address")
    parser.add_argument("--links", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--presettled", action="store_true")
    options = parser.parse_args()
    (send if options.kind == "send" else receive)(options)


if __name__ == "__main__":
    main()
