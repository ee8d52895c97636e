"""What no client should send to management: it is answered or thrown away, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from proton import Delivery, Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

from tests.system.harness import COLLECTED_AT, Router
from vanrouter.mgmt.client import ManagementClient

pytestmark = pytest.mark.system

REQUESTS = 10_000
NOWHERE = 1_000
BODY_BYTES = 100 << 20
CHUNK = b"\0" * (256 << 10)
MEMORY_KB = 40_000
"""What a body of that size may add: the bound of messages for the router itself, twice."""
PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    listener = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})
    with Router("R", [listener], tmp_path_factory.mktemp("abuse"), mode="standalone").ready() as running:
        yield running
        running.stop()


@pytest.fixture
def url(router: Router) -> Iterator[str]:
    url = f"amqp://127.0.0.1:{router.port('amqp')}"
    yield url
    with ManagementClient(url) as client:
        assert next(client.query("router"))["id"] == "R", "it still answers"


class _Client(MessagingHandler):  # type: ignore[misc] # Proton has no types
    """Connects, runs until `done`, or fails when its time is over."""

    def __init__(self, url: str) -> None:
        super().__init__(prefetch=500, auto_settle=False)
        self.url = url
        self.connection: Any = None
        self.sender: Any = None
        self.error = ""

    def on_start(self, event: Any) -> None:
        self.connection = event.container.connect(self.url, reconnect=False)
        self.sender = event.container.create_sender(self.connection, "$management")
        self.timer = event.container.schedule(PATIENCE_S, self)

    def on_timer_task(self, event: Any) -> None:
        self.error = "it takes too long"
        self.connection.close()

    def done(self) -> None:
        self.timer.cancel()
        self.connection.close()

    def run(self) -> None:
        Container(self).run()
        assert not self.error, self.error


class _Pipeline(_Client):
    """Sends all requests without waiting for a reply."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = 0
        self.replies: list[tuple[int, int]] = []
        self.receiver: Any = None

    def on_start(self, event: Any) -> None:
        super().on_start(event)
        self.receiver = event.container.create_receiver(self.connection, None, dynamic=True)

    def on_link_opened(self, event: Any) -> None:
        if event.link.is_receiver:
            self.send()

    def on_sendable(self, event: Any) -> None:
        self.send()

    def send(self) -> None:
        reply_to = self.receiver.remote_source.address
        while reply_to and self.sender.credit and self.sent < REQUESTS:
            properties = {"operation": "READ", "type": "org.amqp.management", "name": "self"}
            if self.sent % 100 == 99:
                properties = {"operation": "NOSUCH"}
            self.sender.send(Message(reply_to=reply_to, correlation_id=self.sent, properties=properties, body={}))
            self.sent += 1

    def on_message(self, event: Any) -> None:
        message = event.message
        event.delivery.settle()
        self.replies.append((message.correlation_id, message.properties["statusCode"]))
        if len(self.replies) == REQUESTS:
            self.done()


def test_ten_thousand_requests_at_once(url: str) -> None:
    client = _Pipeline(url)
    client.run()
    assert [number for number, _ in client.replies] == list(range(REQUESTS)), "each once, in order"
    assert {status for number, status in client.replies if number % 100 != 99} == {200}
    assert {status for number, status in client.replies if number % 100 == 99} == {501}


class _Nowhere(_Client):
    """Wants its replies where nobody is."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = 0
        self.outcomes: list[str] = []

    def on_sendable(self, event: Any) -> None:
        while self.sender.credit and self.sent < NOWHERE:
            reply_to = None if self.sent % 2 else "amqp:/_topo/0/R/temp.nobody"
            properties = {"operation": "QUERY", "entityType": "log"}
            self.sender.send(Message(reply_to=reply_to, properties=properties, body={"attributeNames": []}))
            self.sent += 1

    def on_accepted(self, event: Any) -> None:
        event.delivery.settle()
        self.outcomes.append("accepted")
        if len(self.outcomes) == NOWHERE:
            self.done()


def test_replies_to_nowhere(url: str) -> None:
    client = _Nowhere(url)
    client.run()
    assert len(client.outcomes) == NOWHERE


class _Endless(_Client):
    """Sends one body piece by piece, as the window allows: Proton would copy all of it again and again."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.delivery: Any = None
        self.streamed = 0
        self.condition = ""

    def on_sendable(self, event: Any) -> None:
        if self.delivery is None:
            self.delivery = self.sender.delivery("1")
            head = Message(reply_to="x", properties={"operation": "CREATE", "type": "dummy"}).encode()
            # A data section of the whole length: header, properties and application properties before it are whole.
            self.sender.stream(head + b"\x00\x53\x75\xb0" + BODY_BYTES.to_bytes(4, "big"))
            event.container.schedule(0, _Again(self))

    def go_on(self, container: Any) -> None:
        if self.delivery is None or self.error:
            return
        while self.streamed < BODY_BYTES and self.sender.session.outgoing_bytes < 4 * len(CHUNK):
            self.sender.stream(CHUNK)
            self.streamed += len(CHUNK)
        if self.streamed >= BODY_BYTES:
            self.sender.advance()
            self.end()
        else:
            container.schedule(0.001, _Again(self))

    def on_rejected(self, event: Any) -> None:
        self.condition = str(event.delivery.remote.condition.name)
        assert event.delivery.remote_state == Delivery.REJECTED
        self.end()

    def end(self) -> None:
        if self.condition and self.streamed >= BODY_BYTES:
            self.done()


class _Again:
    def __init__(self, client: _Endless) -> None:
        self.client = client

    def on_timer_task(self, event: Any) -> None:
        self.client.go_on(event.container)


def test_a_body_of_a_hundred_megabytes(url: str, router: Router) -> None:
    before = router.memory_kb()
    for _ in range(2):  # the second adds nothing to the first
        client = _Endless(url)
        client.run()
        assert client.streamed == BODY_BYTES
        assert client.condition == "amqp:link:message-size-exceeded"
        assert router.memory_kb() < COLLECTED_AT * before + MEMORY_KB
