"""Our client: with our server, with the server of h2, and with one that says what it is told to."""

import h2.config
import h2.connection
import h2.events
import pytest

from tests.unit.adaptors.http2_peers import Asker, Line, Owner, Pair, frame, frames
from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_client import Http2Client
from vanrouter.adaptors.http2_frames import ErrorCode
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, RequestHead, ResponseHead

GET = RequestHead(b"GET", b"/", [(b"Accept", b"*/*")], authority=b"svc")
POST = RequestHead(b"POST", b"/", [], authority=b"svc", length=None)
OK = b"\x88"


class RawServer:
    """A server that says what it is told to."""

    def __init__(self, **arguments: bool) -> None:
        self.line, self.owner = Line(), Owner()
        self.client = Http2Client(self.line, self.owner, HeadLimits(), **arguments)

    def ask(self, head: RequestHead = GET) -> Asker:
        asker = Asker()
        self.client.begin(head, asker)
        return asker

    def say(self, octets: bytes) -> None:
        self.client.receive(octets)

    def resets(self) -> list[tuple[int, int]]:
        heard = self.line.take().removeprefix(wire.PREFACE)
        return [(sid, int.from_bytes(body, "big")) for kind, _, sid, body in frames(heard) if kind == wire.RST_STREAM]


@pytest.fixture
def server() -> RawServer:
    server = RawServer()
    server.first = server.ask()  # type: ignore[attr-defined]
    server.say(wire.settings({}))
    return server


def test_with_the_server_of_h2() -> None:
    line, owner, asker = Line(), Owner(), Asker()
    client = Http2Client(line, owner, HeadLimits())
    other = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    other.initiate_connection()
    responder = client.begin(POST, asker)
    responder.data(b"question")
    responder.end([(b"x-sum", b"1")])
    events = other.receive_data(line.take())
    assert [type(event) for event in events] == [
        h2.events.RemoteSettingsChanged, h2.events.RequestReceived, h2.events.DataReceived,
        h2.events.TrailersReceived, h2.events.StreamEnded,
    ]  # fmt: skip
    assert events[1].headers[:2] == [(b":method", b"POST"), (b":scheme", b"http")]
    other.send_headers(1, [(b":status", b"103"), (b"link", b"<a>")])
    other.send_headers(1, [(b":status", b"200"), (b"x", b"y")])
    other.send_data(1, b"answer")
    other.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    client.receive(other.data_to_send())
    assert [head.status for head in asker.informational] == [103]
    assert asker.head is not None
    assert (asker.head.status, asker.head.headers, asker.head.length) == (200, [(b"x", b"y")], None)
    assert (asker.body, asker.trailers) == (b"answer", ((b"grpc-status", b"0"),))
    assert owner.rooms == 1


def test_many_at_a_time() -> None:
    pair = Pair()
    askers = [pair.ask(GET)[0] for _ in range(50)]
    assert pair.client.room == 50
    pair.settle()
    for number, exchange in reversed(list(enumerate(pair.service.exchanges))):
        exchange.answer(200, b"%d" % number)
    pair.settle()
    assert [asker.body for asker in askers] == [b"%d" % number for number in range(50)]
    assert pair.client.room == 100


def test_the_servers_limit_of_streams(server: RawServer) -> None:
    server.say(wire.settings({wire.MAX_CONCURRENT_STREAMS: 1}))
    assert server.client.room == 0
    server.say(frame(wire.HEADERS, 5, 1, OK))
    assert server.client.room == 1
    assert server.owner.rooms >= 1
    server.say(wire.settings({wire.MAX_CONCURRENT_STREAMS: 0}))
    rooms = server.owner.rooms
    server.say(wire.settings({wire.MAX_CONCURRENT_STREAMS: 5}))
    assert server.owner.rooms == rooms + 1


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (wire.rst_stream(1, ErrorCode.REFUSED_STREAM), Failure.NO_SERVICE),
        (wire.rst_stream(1, ErrorCode.INTERNAL_ERROR), Failure.UNANSWERED),
        (frame(wire.HEADERS, 4, 1, OK) + wire.rst_stream(1, ErrorCode.CANCEL), Failure.BROKEN),
        (wire.goaway(0, ErrorCode.NO_ERROR), Failure.NO_SERVICE),
        (frame(wire.HEADERS, 5, 1, b"\x00\x01x\x01y"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 5, 1, b"\x08\x0299"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 5, 1, b"\x08\x03100"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 4, 1, b"\x08\x03101"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 4, 1, OK) * 2, Failure.BAD_RESPONSE),
        (frame(wire.DATA, 0, 1, b"x"), Failure.BAD_RESPONSE),
        (frame(wire.DATA, 1, 1, b""), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 5, 1, OK + b"\x0f\x0d\x015"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 4, 1, OK + b"\x0f\x0d\x015") + frame(wire.DATA, 1, 1, b"x"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 4, 1, OK) + frame(wire.HEADERS, 4, 1, b"\x00\x01x\x01y"), Failure.BAD_RESPONSE),
        (frame(wire.HEADERS, 4, 1, OK + b"\x00\x01x\x7f\x81\x80\x04" + b"y" * 65792), None),
    ],
)
def test_answers_that_fail(server: RawServer, said: bytes, failure: Failure | None) -> None:
    server.say(said)
    if failure is not None:
        assert server.first.failure is failure  # type: ignore[attr-defined]
        assert server.client.is_idle
    else:
        assert server.line.ended  # a frame beyond 16 KiB


def test_what_ends_the_connection(server: RawServer) -> None:
    for said in (frame(wire.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + OK), wire.settings({wire.ENABLE_PUSH: 1}),
                 frame(wire.HEADERS, 5, 2, OK), frame(wire.HEADERS, 5, 9, OK)):  # fmt: skip
        server = RawServer()
        asker = server.ask()
        server.say(wire.settings({}))
        server.say(said)
        assert server.line.ended == "closed"
        assert asker.failure is Failure.UNANSWERED
        assert server.owner.gone == 1


def test_a_server_that_is_lost(server: RawServer) -> None:
    second = server.ask()
    server.say(frame(wire.HEADERS, 4, 3, OK))
    server.client.on_lost(False)
    assert server.first.failure is Failure.UNANSWERED  # type: ignore[attr-defined]
    assert second.failure is Failure.BROKEN
    assert (server.owner.gone, server.client.room) == (1, 0)


def test_a_server_that_refused_the_connection() -> None:
    server = RawServer()
    asker = server.ask()
    server.client.on_lost(True)
    assert asker.failure is Failure.NO_SERVICE


def test_the_end_of_file_is_a_loss(server: RawServer) -> None:
    server.client.receive_end()
    assert server.first.failure is Failure.UNANSWERED  # type: ignore[attr-defined]
    assert server.line.ended == "closed"


def test_goaway_lets_finish_what_was_begun(server: RawServer) -> None:
    later = server.ask()
    server.say(wire.goaway(1, ErrorCode.NO_ERROR))
    assert later.failure is Failure.NO_SERVICE
    assert (server.owner.gone, server.client.room, server.line.ended) == (1, 0, "")
    server.say(frame(wire.HEADERS, 5, 1, OK))
    assert server.first.head is not None  # type: ignore[attr-defined]
    assert server.line.ended == "closed"


def test_bodies_that_are_none(server: RawServer) -> None:
    for said in (OK + b"\x0f\x0d\x015", b"\x08\x03204", b"\x8b"):
        asker = server.ask(RequestHead(b"HEAD", b"/", [], authority=b"svc"))
        stream_id = server.client.last_id
        server.say(frame(wire.HEADERS, 4, stream_id, said))
        assert asker.head is not None
        assert asker.head.length == 0
        server.say(frame(wire.DATA, 1, stream_id))
    assert len(server.client.streams) == 1


def test_an_early_answer_resets_the_rest_of_the_request() -> None:
    server = RawServer()
    asker = server.ask(POST)
    server.say(wire.settings({}) + frame(wire.HEADERS, 4, 1, OK) + frame(wire.DATA, 1, 1, b"no"))
    assert (asker.body, asker.trailers) == (b"no", ())
    assert server.resets() == [(1, ErrorCode.CANCEL)]


def test_who_cancels_hears_no_more(server: RawServer) -> None:
    asker = Asker()
    responder = server.client.begin(POST, asker)
    responder.cancel(Failure.TIMED_OUT)
    responder.data(b"late")
    responder.end()
    assert server.resets() == [(3, ErrorCode.CANCEL)]
    server.say(frame(wire.HEADERS, 4, 3, OK) + frame(wire.DATA, 1, 3, b"x"))
    assert asker.head is None


def test_back_pressure_of_the_requester() -> None:
    pair = Pair()
    asker, responder = pair.ask(GET)
    asker.is_open = False
    pair.settle()
    requester = pair.service.last.requester
    requester.on_response(ResponseHead(200, [], length=None))
    assert not requester.on_data(bytes(1 << 20))
    pair.settle()
    assert len(asker.body) == 65535
    asker.is_open = True
    responder.resume()
    pair.settle()
    assert len(asker.body) == 1 << 20
    assert pair.service.last.resumed == 1


def test_one_exchange_only() -> None:
    pair = Pair(is_single=True)
    asker, _ = pair.ask(GET)
    assert pair.client.room == 0
    pair.settle()
    pair.service.last.answer(200, b"x")
    assert pair.server_line.ended == "closed"
    pair.settle()
    assert asker.body == b"x"
    assert pair.client_line.ended == "closed"
    assert (pair.owner.gone, pair.owner.rooms) == (1, 0)


def test_a_websocket() -> None:
    pair = Pair()
    pair.ask(GET)
    pair.settle()  # the server's settings allow it
    head = RequestHead(b"GET", b"/chat", [], authority=b"svc", length=None, upgrade=b"websocket")
    asker, responder = pair.ask(head)
    pair.settle()
    exchange = pair.service.last
    assert (exchange.head.upgrade, exchange.head.target) == (b"websocket", b"/chat")
    exchange.requester.on_response(ResponseHead(101, [], upgrade=b"websocket", length=None))
    pair.settle()
    assert asker.head is not None
    assert (asker.head.status, asker.head.upgrade) == (101, b"websocket")
    responder.data(b"ping")
    exchange.requester.on_data(b"pong")
    pair.settle()
    assert (exchange.body, asker.body) == (b"ping", b"pong")
    responder.end()
    exchange.requester.on_end()
    pair.settle()
    assert (exchange.trailers, asker.trailers) == ((), ())
    assert len(pair.client.streams) == 1


def test_other_changes_of_protocol_are_not_asked_for() -> None:
    pair = Pair()
    head = RequestHead(b"GET", b"/", [], authority=b"svc", length=None, upgrade=b"irc")
    pair.ask(head)
    pair.settle()
    assert (pair.service.last.head.upgrade, pair.service.last.head.length) == (None, 0)
