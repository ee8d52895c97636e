"""A router in one object for tests of the message form: addresses, whole messages and messages in pieces, outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.unit.adaptors.http2_peers import Service
from vanrouter.adaptors.http_config import HttpConnectorConfig, HttpListenerConfig
from vanrouter.adaptors.http_exchange import Requester, RequestHead, Responder
from vanrouter.core.deliveries import DeliveryConsumer
from vanrouter.core.stream import RELEASED, Producer, Sink
from vanrouter.engine.annotations import originated


class Reactor:
    def __init__(self) -> None:
        self.soon: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def run(self) -> None:
        while self.soon:
            self.soon.popleft()()


class Subscription:
    def __init__(self, router: MessageRouter, address: str) -> None:
        self._router = router
        self.address = address

    def cancel(self) -> None:
        self._router.consumers.pop(self.address, None)


class Awaited:
    def __init__(self, producer: Producer) -> None:
        self.producer: Producer | None = producer
        self.outcomes: list[int] = []

    def forget(self) -> None:
        self.producer = None

    def received(self, total: int) -> None:
        raise AssertionError("nobody reports on messages")

    def outcome(self, state: int, settled: bool) -> None:
        self.outcomes.append(state)
        assert len(self.outcomes) == 1
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.outcome(state, settled)

    def writable(self) -> None:
        if self.producer is not None:
            self.producer.writable()


class MessageRouter:
    """Delivers at once; `sent` has every message as (address, octets)."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.consumers: dict[str, DeliveryConsumer] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.opened = 0
        self.limit = 0
        self._numbers = count(1)

    def new_delivery_address(self, consumer: DeliveryConsumer) -> Subscription:
        return self.subscribe_deliveries(f"temp.{next(self._numbers)}", consumer)

    def subscribe_deliveries(self, address: str, consumer: DeliveryConsumer, weight: int = 1) -> Subscription:
        self.consumers[address] = consumer
        return Subscription(self, address)

    def send_whole(self, to: str, content: bytes, flags: int, producer: Producer) -> Awaited:
        assert flags == 1
        self.sent.append((to, content))
        awaited = Awaited(producer)
        consumer = self.consumers.get(to)

        def deliver() -> None:
            if consumer is None:
                awaited.outcome(RELEASED, True)
                return
            sink = consumer.on_delivery(originated(flags), awaited)
            sink.push(content)
            sink.finish()

        self.reactor.call_soon(deliver)
        return awaited

    def open_message(self, to: str, first: bytes, flags: int, producer: Producer) -> Sink:
        assert flags == 1
        self.opened += 1
        consumer = self.consumers.get(to)
        awaited = Awaited(producer)
        if consumer is None:
            self.reactor.call_soon(lambda: awaited.outcome(RELEASED, True))
            return Nowhere()
        sink = consumer.on_delivery(originated(flags), awaited)
        sink.push(first)
        return sink

    def message_limit(self, to: str) -> int:
        return self.limit


class Nowhere:
    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        return True

    def finish(self, settled: bool = False) -> None: ...

    def abort(self) -> None: ...


class FakeShared:
    def __init__(self) -> None:
        self.router: Any = MessageRouter()
        self.reactor = self.router.reactor
        self._flows = count(1)

    def next_flow_identity(self) -> str:
        return f"test:{next(self._flows)}"


class FakeConnector:
    """What the message form needs of a connector; its server is a `Service` of the test."""

    def __init__(self, shared: FakeShared, **more: Any) -> None:
        self.shared = shared
        self.config = HttpConnectorConfig(name="c", address="svc", port="1", form="message", **more)
        self.speaks_http2 = self.config.protocol == "HTTP2"
        self.scheme = b"http"
        self.service = Service()

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        return self.service.begin(head, requester)


def listener_config(**more: Any) -> HttpListenerConfig:
    return HttpListenerConfig(name="l", address="svc", port="0", form="message", **more)
