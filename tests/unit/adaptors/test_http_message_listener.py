"""The message form at a listener, with our connector and with whoever else may answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.adaptors.http2_peers import Asker, Exchange
from tests.unit.adaptors.message_router import FakeConnector, FakeShared, MessageRouter, listener_config
from vanrouter.adaptors.http_exchange import Failure, RequestHead, ResponseHead
from vanrouter.adaptors.http_message import encode_data, encode_footer
from vanrouter.adaptors.http_message_connector import MessageRequests
from vanrouter.adaptors.http_message_listener import MessageExchange, MessageForm
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, Producer, Sink
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Message, encode_message, parse_head
from vanrouter.engine.sections import ULong

PROTOCOLS = pytest.mark.parametrize("protocol", ["HTTP1", "HTTP2"])


class Site:
    """A listener and a connector of one router."""

    def __init__(self, protocol: str = "HTTP1", **more: Any) -> None:
        self.shared = FakeShared()
        self.router: MessageRouter = self.shared.router
        self.form = MessageForm(self.shared, listener_config(protocol=protocol), "svc")  # type: ignore[arg-type]
        self.connector = FakeConnector(self.shared, protocol=protocol, **more)
        self.router.subscribe_deliveries("svc", MessageRequests(self.connector))  # type: ignore[arg-type]

    def ask(self, head: RequestHead) -> tuple[Asker, MessageExchange]:
        asker = Asker()
        exchange = self.form.begin(head, asker)
        return asker, exchange

    def run(self) -> None:
        self.router.reactor.run()

    @property
    def served(self) -> Exchange:
        return self.connector.service.last


def get(**more: Any) -> RequestHead:
    return RequestHead(b"GET", b"/", [(b"Accept", b"*/*")], authority=b"svc", **more)


def post() -> RequestHead:
    return RequestHead(b"POST", b"/", [], authority=b"svc", length=None)


@PROTOCOLS
def test_a_request_and_its_answer(protocol: str) -> None:
    site = Site(protocol)
    asker, _ = site.ask(get())
    site.run()
    assert (site.served.head.method, site.served.head.length) == (b"GET", 0)
    site.served.answer(200, b"hello", [(b"X-A", b"1")])
    site.run()
    assert asker.head is not None
    assert (asker.head.status, asker.body, asker.trailers) == (200, b"hello", ())
    assert len(site.router.sent) == 2
    assert site.router.opened == 0
    assert not site.form._common or not site.form._common.pending


@PROTOCOLS
def test_bodies_and_trailers_both_ways(protocol: str) -> None:
    site = Site(protocol)
    asker, exchange = site.ask(post())
    site.run()
    exchange.data(b"question")
    exchange.end([(b"x-sum", b"1")])
    site.run()
    assert (site.served.body, site.served.trailers) == (b"question", ((b"x-sum", b"1"),))
    site.served.requester.on_response(ResponseHead(200, [], length=None))
    site.run()
    assert asker.head is not None  # before any of its body
    site.served.requester.on_data(bytes(200_000))
    site.served.requester.on_end([(b"x-end", b"1")])
    site.run()
    assert (len(asker.body), asker.trailers) == (200_000, ((b"x-end", b"1"),))


@PROTOCOLS
def test_an_answer_that_is_all_head(protocol: str) -> None:
    """gRPC tells an error so."""
    site = Site(protocol)
    asker, exchange = site.ask(post())
    exchange.end()
    site.run()
    assert site.served.head.length in (0, None)
    site.served.requester.on_response(ResponseHead(200, [(b"grpc-status", b"5")], length=0))
    site.run()
    assert asker.head is not None
    assert asker.head.length == 0


def test_informational_answers_travel_over_http1_alone() -> None:
    for protocol, expected in (("HTTP1", [103]), ("HTTP2", [])):
        site = Site(protocol)
        asker, _ = site.ask(get())
        site.run()
        site.served.requester.on_informational(ResponseHead(103, [(b"Link", b"</a>")]))
        site.served.answer(200, b"x")
        site.run()
        assert [head.status for head in asker.informational] == expected
        assert asker.body == b"x"


@PROTOCOLS
def test_many_requests_answered_in_any_order(protocol: str) -> None:
    site = Site(protocol)
    askers = [site.ask(get())[0] for _ in range(10)]
    site.run()
    for number, exchange in reversed(list(enumerate(site.connector.service.exchanges))):
        exchange.answer(200, b"%d" % number)
    site.run()
    assert [asker.body for asker in askers] == [b"%d" % number for number in range(10)]
    if protocol == "HTTP2":
        assert len(site.form._spare) == 10
        site.form.close()
        assert set(site.router.consumers) == {"svc"}


@PROTOCOLS
@pytest.mark.parametrize(
    ("failure", "expected"),
    [(Failure.NO_SERVICE, Failure.NO_SERVICE), (Failure.UNANSWERED, Failure.UNANSWERED)],
)
def test_failures_at_the_server(protocol: str, failure: Failure, expected: Failure) -> None:
    site = Site(protocol)
    asker, _ = site.ask(get())
    site.run()
    site.served.requester.on_failure(failure)
    site.run()
    assert asker.failure is expected


@PROTOCOLS
def test_other_failures_are_answers(protocol: str) -> None:
    site = Site(protocol)
    asker, _ = site.ask(get())
    site.run()
    site.served.requester.on_failure(Failure.TIMED_OUT)
    site.run()
    assert asker.head is not None
    assert asker.head.status == 504


@PROTOCOLS
def test_an_answer_that_breaks_off(protocol: str) -> None:
    site = Site(protocol)
    asker, _ = site.ask(get())
    site.run()
    site.served.requester.on_response(ResponseHead(200, [], length=None))
    site.served.requester.on_data(b"half")
    site.run()
    site.served.requester.on_failure(Failure.BROKEN)
    site.run()
    assert asker.failure is Failure.BROKEN


@PROTOCOLS
def test_a_client_that_goes_away(protocol: str) -> None:
    site = Site(protocol)
    _, exchange = site.ask(post())
    site.run()
    exchange.cancel(Failure.CANCELLED)
    exchange.data(b"late")
    site.run()
    assert site.served.cancelled is Failure.CANCELLED
    _, exchange = site.ask(get())
    site.run()
    exchange.cancel(Failure.CANCELLED)  # it was complete: it is answered into the void
    assert site.served.cancelled is None
    site.served.answer(200, b"late")
    site.run()


@PROTOCOLS
def test_back_pressure_of_the_client(protocol: str) -> None:
    site = Site(protocol)
    asker, exchange = site.ask(get())
    site.run()
    site.served.requester.on_response(ResponseHead(200, [], length=None))
    site.run()
    asker.is_open = False
    assert not site.served.requester.on_data(b"x")
    exchange.resume()
    assert site.served.resumed == 1


def test_what_is_waited_for_at_the_end_still_comes() -> None:
    site = Site()
    asker, _ = site.ask(get())
    site.run()
    site.form.close()
    site.served.answer(200, b"x")
    site.run()
    assert asker.body == b"x"
    assert set(site.router.consumers) == {"svc"}


def test_nobody_there() -> None:
    site = Site()
    site.router.consumers.clear()
    asker, _ = site.ask(get())
    site.run()
    assert asker.failure is Failure.NO_SERVICE


class Application:
    """Takes requests as an application does: accepts at once, answers when it is told to."""

    takes_early = True

    def __init__(self, router: MessageRouter, state: int = ACCEPTED) -> None:
        self.router = router
        self.state = state
        self.content = b""
        router.subscribe_deliveries("svc", self)

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        self.producer = producer
        return self

    def push(self, data: memoryview | bytes) -> bool:
        self.content += bytes(data)
        return True

    def finish(self, settled: bool = False) -> None:
        self.producer.outcome(self.state, True)

    def abort(self) -> None: ...

    @property
    def reply_to(self) -> str:
        head: Any = parse_head(self.content, 0, len(self.content), is_complete=True)
        return str(head.reply_to)

    def answer(self, octets: bytes) -> list[int]:
        awaited = self.router.send_whole(self.reply_to, octets, 1, self)  # type: ignore[arg-type]
        self.router.reactor.run()
        return awaited.outcomes

    def outcome(self, state: int, settled: bool) -> None: ...


def plain(number: Any = 1, **more: Any) -> bytes:
    values = {"subject": "200", "body": b"hi", "is_data": True, **more}
    return encode_message(Message(correlation_id=number, **values))


@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (plain(ULong(1)), b"hi"),
        (plain(1), b"hi"),
        (plain("1"), b"hi"),
        (plain(ULong(1), body="text", is_data=False), b"text"),
        (plain(ULong(1), application_properties={"Content-Length": 2, "X": "y"}), b"hi"),
    ],
)
def test_an_application_answers(octets: bytes, body: bytes) -> None:
    site = Site()
    application = Application(site.router)
    asker, _ = site.ask(get())
    site.run()
    assert not asker.is_over  # accepted says nothing yet
    assert application.answer(octets) == [ACCEPTED]
    assert asker.head is not None
    assert (asker.head.status, asker.body) == (200, body)


@pytest.mark.parametrize(
    ("octets", "failure"),
    [
        (plain(ULong(1), subject="nonsense"), Failure.BAD_RESPONSE),
        (plain(ULong(1), application_properties={"X": "a\r\nb"}), Failure.BAD_RESPONSE),
        (plain(ULong(1), application_properties={"Content-Length": 9}), Failure.BROKEN),
        (plain(ULong(1), application_properties={"Content-Length": 1}), Failure.BROKEN),
        (plain(ULong(1), body=[1], is_data=False), Failure.BROKEN),
    ],
)
def test_an_application_answers_nonsense(octets: bytes, failure: Failure) -> None:
    site = Site()
    application = Application(site.router)
    asker, _ = site.ask(get())
    site.run()
    assert application.answer(octets) == [REJECTED]
    assert asker.failure is failure


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    site = Site()
    application = Application(site.router)
    asker, _ = site.ask(get())
    site.run()
    assert application.answer(plain(ULong(9))) == [ACCEPTED]
    assert application.answer(b"garbage") == [ACCEPTED]
    assert application.answer(plain(ULong(1))) == [ACCEPTED]
    assert application.answer(plain(ULong(1))) == [ACCEPTED]
    assert asker.body == b"hi"


@pytest.mark.parametrize(
    ("protocol", "state", "failure"),
    [
        ("HTTP1", RELEASED, Failure.NO_SERVICE),
        ("HTTP1", MODIFIED, Failure.UNANSWERED),
        ("HTTP1", REJECTED, Failure.BAD_RESPONSE),
        ("HTTP2", REJECTED, Failure.BAD_REQUEST),
    ],
)
def test_outcomes(protocol: str, state: int, failure: Failure) -> None:
    site = Site(protocol)
    Application(site.router, state)
    asker, _ = site.ask(get())
    site.run()
    assert asker.failure is failure


def test_an_outcome_that_overtakes_its_answer() -> None:
    """A real 2.7 listener is taken down by it."""
    site = Site()
    application = Application(site.router, MODIFIED)
    asker, _ = site.ask(get())
    site.run()
    assert asker.failure is Failure.UNANSWERED
    assert application.answer(plain(ULong(1))) == [ACCEPTED]


def test_an_answer_in_pieces_of_any_size() -> None:
    octets = plain(ULong(1))[:-4] + encode_data(b"hi") + encode_footer([(b"x", b"y")])
    octets = encode_message(Message(correlation_id=ULong(1), subject="200", body=b"hi", is_data=True))
    for at in range(1, len(octets)):
        site = Site()
        application = Application(site.router)
        asker, _ = site.ask(get())
        site.run()
        sink = site.router.open_message(application.reply_to, octets[:at], 1, application)  # type: ignore[arg-type]
        site.run()
        sink.push(octets[at:])
        sink.finish()
        assert asker.body == b"hi"
        assert asker.trailers == ()
