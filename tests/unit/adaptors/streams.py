"""A router of one process for tests of adaptors: joins streams locally, by the contract of `core/stream.py`."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from vanrouter.core.memory_bound import MemoryBound
from vanrouter.core.stream import RELEASED, Producer, Sink, StreamConsumer, parse_stream_head
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.sections import NEED_MORE
from vanrouter.net.memory import Trimmer
from vanrouter.net.reactor import Reactor

DEADLINE_S = 10.0
RESET = struct.pack("ii", 1, 0)

_sockets: list[socket.socket] = []
"""Sockets of the running test; closed at its end."""


class FakeSubscription:
    def __init__(self, router: FakeRouter, address: str, consumer: StreamConsumer) -> None:
        self.router = router
        self.address = address
        self.consumer = consumer

    @property
    def is_last(self) -> bool:
        return self.router.subscriptions[self.address] == [self]

    def cancel(self) -> None:
        self.router.remove(self)


class FakeWatch:
    def __init__(self, router: FakeRouter, address: str, callback: Callable[[bool], object]) -> None:
        self.router = router
        self.address = address
        self.callback = callback

    def cancel(self) -> None:
        self.router.watches.remove(self)


class NoSink:
    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        return True

    def finish(self, settled: bool = False) -> None: ...

    def abort(self) -> None: ...


class FakeRouter:
    """Streams go to the consumers of their address in turn."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.trimmer = Trimmer(reactor)
        self.memory = MemoryBound()
        self.connections: dict[int, Any] = {}
        self.subscriptions: dict[str, list[FakeSubscription]] = defaultdict(list)
        self.watches: list[FakeWatch] = []
        self.heads: list[Any] = []
        self.is_c_router = False
        """Streams seem to come from the C router."""
        self._connection_id = 0
        self._reply = 0

    def next_connection_id(self) -> int:
        self._connection_id += 1
        return self._connection_id

    def open_stream(self, to: str, head: bytes, flags: int, producer: Producer) -> Sink:
        parsed = parse_stream_head(head, 0, len(head), Annotations(flags))
        assert parsed is not NEED_MORE
        assert parsed[1] == len(head)
        assert parsed[0].to == to
        known = replace(parsed[0], is_vanrouter=parsed[0].is_vanrouter and not self.is_c_router)
        self.heads.append(known)
        consumers = self.subscriptions[to]
        if not consumers:
            self.reactor.call_soon(lambda: producer.outcome(RELEASED, True))
            return NoSink()
        consumers.append(consumers.pop(0))
        return consumers[-1].consumer.on_stream(known, producer)

    def send_stream(self, to: str, octets: bytes, flags: int, producer: Producer) -> bool:
        return False

    def subscribe_stream(self, address: str, consumer: StreamConsumer, weight: int = 1) -> FakeSubscription:
        subscription = FakeSubscription(self, address, consumer)
        self.subscriptions[address].append(subscription)
        self._tell(address)
        return subscription

    def new_reply_address(self, consumer: StreamConsumer) -> FakeSubscription:
        self._reply += 1
        return self.subscribe_stream(f"amqp:/_topo/0/A/temp.{self._reply}", consumer)

    def remove(self, subscription: FakeSubscription) -> None:
        self.subscriptions[subscription.address].remove(subscription)
        if not self.subscriptions[subscription.address]:
            del self.subscriptions[subscription.address]
        self._tell(subscription.address)

    def watch(self, address: str, callback: Callable[[bool], object]) -> FakeWatch:
        watch = FakeWatch(self, address, callback)
        self.watches.append(watch)
        callback(bool(self.subscriptions.get(address)))
        return watch

    def _tell(self, address: str) -> None:
        for watch in list(self.watches):
            if watch.address == address:
                watch.callback(bool(self.subscriptions.get(address)))


class Loop:
    """A reactor in a thread of its own; the test's thread plays the programs with blocking sockets."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.router = FakeRouter(self.reactor)
        self.at_end: list[Callable[[], object]] = []
        """Called in the loop before it stops."""
        self._thread = threading.Thread(target=self.reactor.run, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Any]) -> Any:
        """Run `work()` in the loop."""
        done = threading.Event()
        answer: list[Any] = []

        def run() -> None:
            try:
                answer.append(work())
            except Exception as error:  # noqa: BLE001  # raised again in the thread that asked
                answer.append(error)
            finally:
                done.set()

        self.reactor.call_from_thread(run)
        assert done.wait(DEADLINE_S), "the loop does not answer"
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Ask `condition()` in the loop at the end of its turns until it is true."""
        done = threading.Event()
        answer: list[Any] = []
        given_up = False

        def ask() -> None:
            value = condition()
            if value:
                answer.append(value)
                done.set()
            elif not given_up:
                self.reactor.call_later(0.002, ask)

        self.reactor.call_from_thread(ask)
        came = done.wait(DEADLINE_S)
        given_up = True
        assert came, "it never came true"
        return answer[0]

    def close(self) -> None:
        for work in self.at_end:
            self.call(work)
        self.reactor.call_from_thread(self.reactor.stop)
        self._thread.join(DEADLINE_S)
        crashes = self.reactor.crashes
        self.reactor.close()
        assert not crashes, "a callback raised"


@contextlib.contextmanager
def running_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        try:
            loop.close()
        finally:
            while _sockets:
                _sockets.pop().close()


def listening() -> socket.socket:
    """A server socket of the test."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    return opened(sock)


def opened(sock: socket.socket) -> socket.socket:
    """Close this one at the end of the test."""
    sock.settimeout(DEADLINE_S)
    _sockets.append(sock)
    return sock


def accepted(server: socket.socket) -> socket.socket:
    return opened(server.accept()[0])


def connected(port: int) -> socket.socket:
    return opened(socket.create_connection(("127.0.0.1", port), DEADLINE_S))


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"end of file after {len(data)} of {count} octets"
        data += piece
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(1 << 16):
        data += piece
    return bytes(data)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
