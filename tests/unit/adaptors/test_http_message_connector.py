"""The message form at a connector: what it insists on, what it never says (HTTP over AMQP, sections 2.4 and 2.7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.adaptors.message_router import Awaited, FakeConnector, FakeShared
from tests.unit.adaptors.test_http_message_listener import Site, get
from vanrouter.adaptors.http_exchange import Failure, ResponseHead
from vanrouter.adaptors.http_message_connector import MessageRequests
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, Producer, Sink
from vanrouter.engine.annotations import Annotations, originated
from vanrouter.engine.messages import Message, encode_message, encode_stream_head
from vanrouter.engine.sections import ULong


class Client:
    """Sends request messages, and takes what is answered."""

    takes_early = True

    def __init__(self, **more: Any) -> None:
        self.shared = FakeShared()
        self.router = self.shared.router
        self.connector = FakeConnector(self.shared, **more)
        self.requests = MessageRequests(self.connector)  # type: ignore[arg-type]
        self.router.subscribe_deliveries("reply", self)
        self.answers: list[bytes] = []
        self.said: list[str] = []
        self.producer: Producer | None = None

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        self.answers.append(b"")
        self.producer = producer
        return self

    def push(self, data: memoryview | bytes) -> bool:
        self.answers[-1] += bytes(data)
        return True

    def finish(self, settled: bool = False) -> None:
        self.said.append("answered")

    def abort(self) -> None:
        self.said.append("broken off")

    def outcome(self, state: int, settled: bool) -> None:
        self.said.append(
            {ACCEPTED: "accepted", REJECTED: "rejected", RELEASED: "released", MODIFIED: "modified"}[state]
        )

    def received(self, total: int) -> None: ...

    def writable(self) -> None: ...

    def send(self, octets: bytes, *, is_complete: bool = True) -> Sink:
        sink = self.requests.on_delivery(originated(1), Awaited(self))
        sink.push(octets)
        if is_complete:
            sink.finish()
        self.router.reactor.run()
        return sink

    def run(self) -> list[str]:
        self.router.reactor.run()
        return self.said


def request(**more: Any) -> bytes:
    values: dict[str, Any] = {
        "message_id": ULong(1), "subject": "GET", "reply_to": "reply", "application_properties": {":path": "/"},
        "body": b"", "is_data": True,
    }  # fmt: skip
    return encode_message(Message(**{**values, **more}))


def test_the_least_that_is_a_request() -> None:
    client = Client()
    client.send(request())
    client.connector.service.last.answer(200, b"hi")
    assert client.run() == ["answered", "accepted"]


@pytest.mark.parametrize(
    "more",
    [
        {"message_id": None},
        {"message_id": "text"},
        {"reply_to": None},
        {"subject": None},
        {"application_properties": {":version": "1.1"}},
        {"application_properties": {":path": "/", "X": "a\r\nb"}},
        {"application_properties": {":path": "/", "Content-Length": 5}},
        {"body": [1], "is_data": False, "application_properties": {":path": "/", "Content-Length": 5}},
    ],
)
def test_what_is_insisted_on(more: dict[str, Any]) -> None:
    client = Client()
    client.send(request(**more))
    assert client.said == ["rejected"]
    assert all(exchange.cancelled for exchange in client.connector.service.exchanges)


@pytest.mark.parametrize(
    ("protocol", "octets"),
    [
        ("HTTP1", encode_stream_head("svc", "reply", None)),
        ("HTTP1", request(application_properties={":path": "/", ":method": "GET"})),
        ("HTTP2", request()),
        ("HTTP1", request(application_properties={":flowid": "a:1"})),
        ("HTTP1", b"\x00\x53\x73\x45"),
    ],
)
def test_another_encapsulation_is_released(protocol: str, octets: bytes) -> None:
    client = Client(protocol=protocol)
    client.send(octets)
    assert client.said == ["released"]
    assert not client.connector.service.exchanges


def test_octets_one_by_one() -> None:
    octets = request(application_properties={":path": "/", "Content-Length": 3}, body=b"abc")
    client = Client()
    sink = client.requests.on_delivery(originated(1), Awaited(client))
    for at in range(len(octets)):
        sink.push(octets[at : at + 1])
    sink.finish()
    exchange = client.connector.service.last
    assert (exchange.body, exchange.trailers) == (b"abc", ())


def test_an_answer_that_breaks_off_does_so_before_its_request_is_modified() -> None:
    client = Client()
    client.send(request())
    requester = client.connector.service.last.requester
    requester.on_response(ResponseHead(200, [], length=None))
    client.run()
    requester.on_data(b"half")
    requester.on_failure(Failure.BROKEN)
    assert client.run() == ["broken off", "modified"]
    requester.on_data(b"more")
    requester.on_end()
    assert client.run() == ["broken off", "modified"]


def test_a_request_that_breaks_off() -> None:
    client = Client()
    sink = client.send(request(application_properties={":path": "/", "Content-Length": 9}), is_complete=False)
    sink.abort()
    exchange = client.connector.service.last
    assert exchange.cancelled is Failure.CANCELLED
    exchange.answer(200, b"late")
    assert client.run() == []


def test_a_client_that_is_gone_when_its_answer_comes() -> None:
    client = Client()
    client.send(request())
    client.router.consumers.clear()
    requester = client.connector.service.last.requester
    requester.on_response(ResponseHead(200, [], length=None))
    client.run()
    assert client.connector.service.last.cancelled is Failure.CANCELLED
    assert client.said == ["modified"]


def test_an_event_channel_throws_answers_away() -> None:
    client = Client(event_channel=True)
    client.send(request(subject="POST", reply_to=None, message_id=None))
    client.connector.service.last.answer(500, b"whatever")
    assert client.run() == ["accepted"]
    assert not client.answers
    client.send(request(subject="POST", reply_to=None))
    client.connector.service.last.requester.on_failure(Failure.UNANSWERED)
    assert client.run() == ["accepted", "modified"]


def test_aggregation_waits_for_the_answer_to_be_settled() -> None:
    client = Client(aggregation="json")
    client.send(request())
    client.connector.service.last.answer(200, b"hi")
    assert client.run() == ["answered"]
    assert client.producer is not None
    client.producer.outcome(ACCEPTED, True)
    assert client.run() == ["answered", "accepted"]


def test_every_message_of_http2_has_what_a_real_router_needs() -> None:
    site = Site("HTTP2")
    site.ask(get())
    site.run()
    site.served.answer(200, b"x")
    site.run()
    for _, octets in site.router.sent:
        assert octets.count(b"\xa3\x07:flowid") == 1
        assert b"\xa1\x03GET" in octets or b"\xa1\x03200" in octets
