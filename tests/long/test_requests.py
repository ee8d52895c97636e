"""Requests and answers at scale: ten thousand requests in flight between two sites before the first answer comes."""

from __future__ import annotations

from typing import Any

import pytest
from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

from tests.system.conftest import StartSites
from tests.system.harness import Router

COUNT = 10_000
TIMEOUT_S = 120

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


class Both(MessagingHandler):
    """A server at one site, and a client at the other that does not wait for an answer before it asks again."""

    def __init__(self, near: str, far: str) -> None:
        super().__init__(prefetch=100)
        self.near, self.far = near, far
        self.held: list[Message] = []
        self.answers: dict[int, str] = {}
        self.sent = self.accepted = self.answered = 0
        self.most_open = 0
        self.client: Any = None
        self.error: str | None = None

    def on_start(self, event: Any) -> None:
        self.deadline = event.reactor.schedule(TIMEOUT_S, self)
        server = event.container.connect(self.far, reconnect=False)
        self.requests = event.container.create_receiver(server, "service")
        self.replies = event.container.create_sender(server, None)

    def on_link_opened(self, event: Any) -> None:
        if event.receiver == self.requests:
            self.client = event.container.connect(self.near, reconnect=False)
            self.inbox = event.container.create_receiver(self.client, dynamic=True)
        elif self.client is not None and event.receiver == self.inbox:
            self.asking = event.container.create_sender(self.client, "service")

    def on_sendable(self, event: Any) -> None:
        if event.sender == self.replies:
            self.answer()
            return
        while event.sender.credit and self.sent < COUNT:
            self.sent += 1
            reply_to = self.inbox.remote_source.address
            event.sender.send(Message(id=self.sent, reply_to=reply_to, body=f"request {self.sent}"))

    def on_message(self, event: Any) -> None:
        message = event.message
        if event.receiver == self.requests:
            self.held.append(message)
            self.most_open = max(self.most_open, len(self.held))
            if len(self.held) == COUNT:  # all of them are open now
                self.answer()
            return
        assert message.correlation_id not in self.answers, "answered twice"
        self.answers[message.correlation_id] = message.body
        if len(self.answers) == COUNT:
            self.finish(event)

    def answer(self) -> None:
        while self.replies.credit and self.most_open == COUNT and self.held:
            request = self.held.pop()
            self.replies.send(Message(address=request.reply_to, correlation_id=request.id, body=request.body.upper()))

    def on_accepted(self, event: Any) -> None:
        self.accepted += 1

    def on_released(self, event: Any) -> None:
        self.error = f"{event.delivery.remote_state} after {self.accepted}"
        self.finish(event)

    on_rejected = on_modified = on_released

    def on_timer_task(self, event: Any) -> None:
        self.error = f"{self.sent} sent, {len(self.held)} held, {len(self.answers)} answered after {TIMEOUT_S} s"
        self.finish(event)

    def finish(self, event: Any) -> None:
        self.deadline.cancel()
        for connection in (self.client, self.requests.connection):
            connection.close()


def url_of(router: Router) -> str:
    return f"amqp://127.0.0.1:{router.port('amqp')}"


def test_ten_thousand_in_flight(start_sites: StartSites) -> None:
    sites = start_sites()
    both = Both(url_of(sites.a), url_of(sites.b))
    Container(both).run()
    assert both.error is None
    assert both.most_open == COUNT
    assert both.answers == {number: f"REQUEST {number}" for number in range(1, COUNT + 1)}
