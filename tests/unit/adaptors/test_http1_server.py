from typing import Any

import pytest

from tests.unit.adaptors.http_fakes import FakeHandler, FakeTransport
from vanrouter.adaptors.http1_server import Http1Server
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, ResponseHead

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


class Connection:
    def __init__(self, *, is_single: bool = False, limits: HeadLimits | None = None) -> None:
        self.transport = FakeTransport()
        self.handler = FakeHandler()
        self.codec = Http1Server(self.transport, self.handler, limits or HeadLimits(), is_single=is_single)

    def receive(self, *pieces: bytes) -> "Connection":
        for piece in pieces:
            self.codec.receive(memoryview(piece))
        return self

    @property
    def last(self) -> Any:
        return self.handler.last

    def take(self) -> bytes:
        return self.transport.take()


@pytest.fixture
def connection() -> Connection:
    return Connection()


def test_one_after_the_other_on_one_connection(connection: Connection) -> None:
    for number in range(3):
        assert connection.codec.is_idle
        connection.receive(GET % number)
        assert not connection.codec.is_idle
        assert connection.last.head.target == b"/%d" % number
        connection.last.answer(200, b"hi")
        assert connection.take() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert not connection.transport.is_closed


def test_a_pipeline_is_answered_in_order(connection: Connection) -> None:
    connection.receive(b"".join(GET % number for number in range(200)) + b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Le")
    for number in range(200):
        assert len(connection.handler.exchanges) == number + 1
        assert connection.last.head.target == b"/%d" % number
        connection.last.answer()
    connection.receive(b"ngth: 3\r\n\r\nab")
    assert connection.last.body == b"ab"
    connection.receive(b"c" + GET % 7)
    assert connection.last.has_ended
    connection.last.answer()
    assert connection.last.head.target == b"/7"


def test_a_long_pipeline_waits_outside(connection: Connection) -> None:
    connection.receive(GET % 1, *[GET % 2 * 100] * 100)
    assert connection.transport.is_paused
    for _ in range(10_001):
        connection.last.answer()
    assert not connection.transport.is_paused
    assert connection.codec.is_idle


def test_answers_that_nobody_reads_hold_back_the_next_requests(connection: Connection) -> None:
    connection.transport.takes = False
    connection.receive(*(GET % number for number in range(10_000)))
    connection.last.answer(200, b"hi")
    assert connection.transport.is_paused
    assert len(connection.handler.exchanges) == 1
    connection.receive(GET % 10_000)
    assert len(connection.handler.exchanges) == 1
    connection.codec.on_writable()
    assert len(connection.handler.exchanges) == 2, "the answer to it waits for the client again"
    connection.last.answer(204)
    assert len(connection.handler.exchanges) == 2
    connection.transport.takes = True
    connection.codec.on_writable()
    while not connection.codec.is_idle:
        connection.last.answer()
    assert len(connection.handler.exchanges) == 10_001
    assert not connection.transport.is_paused


def test_a_client_that_ends_and_reads_later_is_answered(connection: Connection) -> None:
    connection.transport.takes = False
    connection.receive(GET % 1, GET % 2)
    connection.codec.receive_end()
    connection.last.answer()
    assert not connection.transport.is_closed
    connection.codec.on_writable()
    connection.last.answer()
    connection.codec.on_writable()
    assert connection.transport.calls == ["close"]


def test_bodies_go_through(connection: Connection) -> None:
    connection.receive(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", b"c\r\n0\r\nT: 1\r\n\r\n"
    )
    assert connection.last.body == b"abc"
    assert connection.last.trailers == [(b"T", b"1")]
    connection.last.answer()
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", b"ab", b"cde")
    assert connection.last.body == b"abcde"
    assert connection.last.has_ended


def test_back_pressure_both_ways(connection: Connection) -> None:
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    connection.last.takes = False
    connection.receive(b"ab")
    assert connection.transport.is_paused
    connection.codec.on_resume()
    assert not connection.transport.is_paused
    connection.receive(b"cde")
    connection.transport.takes = False
    connection.codec.on_response(ResponseHead(200, [], length=3))
    assert connection.codec.on_data(b"ab") is False
    connection.codec.on_writable()
    assert connection.last.resumed == 1


def test_answers_without_length_are_chunked(connection: Connection) -> None:
    connection.receive(GET % 1)
    codec = connection.codec
    codec.on_response(ResponseHead(200, [], length=None))
    codec.on_data(b"hello")
    codec.on_data(memoryview(bytes(5000)))
    codec.on_end([(b"T", b"1")])
    written = connection.take()
    assert written.startswith(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1388\r\n\0")
    assert written.endswith(b"\0\r\n0\r\nT: 1\r\n\r\n")
    assert not connection.transport.is_closed


def test_http_1_0(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.0\r\n\r\n")
    connection.codec.on_informational(ResponseHead(103, []))
    connection.codec.on_response(ResponseHead(200, [], length=None))
    connection.codec.on_data(b"hello")
    connection.codec.on_end()
    assert connection.take() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
    assert connection.transport.calls == ["close"]


def test_http_1_0_kept_alive(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    connection.last.answer(200, b"x")
    assert b"Connection: keep-alive\r\n" in connection.take()
    assert not connection.transport.is_closed


def test_close_is_heeded(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET % 2)
    connection.last.answer()
    assert b"Connection: close\r\n" in connection.take()
    assert connection.transport.calls == ["close"]
    assert len(connection.handler.exchanges) == 1


def test_informational_answers(connection: Connection) -> None:
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    assert (b"Expect", b"100-continue") in connection.last.head.headers
    connection.codec.on_informational(ResponseHead(100, []))
    assert connection.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.receive(b"x")
    connection.last.answer()
    assert connection.take().startswith(b"HTTP/1.1 200 OK")


def test_an_answer_before_the_end_of_the_request_closes(connection: Connection) -> None:
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    connection.last.answer(413, b"too much")
    connection.receive(b"defghij" + GET % 1)
    assert connection.transport.calls == ["close"]
    assert len(connection.handler.exchanges) == 1


def test_a_tunnel(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
    assert not connection.last.body
    connection.codec.on_response(ResponseHead(101, [], upgrade=b"echo", length=None))
    assert connection.take().endswith(b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert connection.last.body == b"early"
    connection.receive(b" and late")
    assert connection.last.body == b"early and late"
    connection.codec.on_data(b"back")
    assert connection.take() == b"back"
    connection.codec.receive_end()
    assert connection.last.has_ended
    connection.codec.on_end()
    assert connection.transport.calls == ["close"]


def test_a_tunnel_that_the_server_ends_first(connection: Connection) -> None:
    connection.receive(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    connection.codec.on_response(ResponseHead(200, [], length=None))
    assert connection.take() == b"HTTP/1.1 200 OK\r\n\r\n"
    connection.codec.on_end()
    assert connection.transport.calls == ["finish"]
    connection.receive(b"more")
    assert connection.last.body == b"more"
    connection.codec.receive_end()
    assert connection.transport.calls == ["finish", "close"]


def test_a_tunnel_declined(connection: Connection) -> None:
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + GET % 2)
    connection.last.answer(400)
    assert connection.last.head.target == b"/2"


@pytest.mark.parametrize(
    ("failure", "status"), [(Failure.NO_SERVICE, b"503"), (Failure.UNANSWERED, b"502"), (Failure.TIMED_OUT, b"504")]
)
def test_failures_are_answered(connection: Connection, failure: Failure, status: bytes) -> None:
    connection.receive(GET % 1)
    connection.codec.on_failure(failure)
    assert connection.take().startswith(b"HTTP/1.1 " + status)
    assert not connection.transport.is_closed
    connection.receive(GET % 2)
    connection.last.answer()
    assert connection.take().startswith(b"HTTP/1.1 200")


def test_a_failure_in_the_middle_of_a_request_closes(connection: Connection) -> None:
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    connection.codec.on_failure(Failure.UNANSWERED)
    assert b"Connection: close\r\n" in connection.take()
    assert connection.transport.calls == ["close"]


def test_a_failure_in_the_middle_of_an_answer_is_no_end(connection: Connection) -> None:
    connection.receive(GET % 1)
    connection.codec.on_response(ResponseHead(200, [], length=None))
    connection.codec.on_data(b"x")
    connection.codec.on_failure(Failure.BROKEN)
    assert connection.transport.calls == ["abort"]
    assert not connection.take().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("failure", [Failure.NO_SERVICE, Failure.UNANSWERED])
def test_a_single_exchange_leaves_another_try_to_the_listener(failure: Failure) -> None:
    connection = Connection(is_single=True).receive(GET % 1)
    connection.codec.on_failure(failure)
    assert (connection.transport.calls, connection.transport.failure) == (["abort"], failure)
    assert not connection.take()


def test_a_single_exchange_ends_its_transport() -> None:
    connection = Connection(is_single=True).receive(GET % 1)
    connection.last.answer(200, b"x")
    assert connection.take() == b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    assert connection.transport.calls == ["close"]
    connection = Connection(is_single=True).receive(GET % 1)
    connection.codec.on_failure(Failure.TIMED_OUT)
    assert connection.take().startswith(b"HTTP/1.1 504")


def test_the_client_goes(connection: Connection) -> None:
    connection.receive(GET % 1)
    connection.codec.on_lost(False)
    assert connection.last.cancelled is Failure.CANCELLED


def test_the_client_goes_in_its_request(connection: Connection) -> None:
    connection.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    connection.codec.receive_end()
    assert connection.last.cancelled is Failure.CANCELLED
    assert not connection.last.has_ended
    assert connection.transport.calls == ["abort"]


def test_a_client_that_says_no_more_is_answered(connection: Connection) -> None:
    connection.receive(GET % 1 + GET % 2)
    connection.codec.receive_end()
    connection.last.answer()
    assert connection.last.head.target == b"/2"
    connection.last.answer()
    assert connection.take().count(b"200 OK") == 2
    assert connection.transport.calls == ["close"]


def test_drain(connection: Connection) -> None:
    connection.receive(GET % 1)
    connection.codec.drain()
    assert not connection.transport.is_closed
    connection.last.answer()
    assert connection.transport.calls == ["close"]
    idle = Connection()
    idle.codec.drain()
    assert idle.transport.calls == ["close"]


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\n\nGET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: " + bytes(2000), b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000 + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_refused_is_answered_and_closed(octets: bytes, status: bytes) -> None:
    connection = Connection(limits=HeadLimits(1024, 100)).receive(octets)
    written = connection.take()
    assert written.startswith(b"HTTP/1.1 " + status), written
    assert b"Connection: close\r\n" in written
    assert connection.transport.calls == ["close"]
    if connection.handler.exchanges:
        assert connection.last.cancelled is Failure.BAD_REQUEST
    connection.receive(GET % 1)
    assert not connection.take()


def test_a_broken_body_behind_the_answer(connection: Connection) -> None:
    connection.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.codec.on_response(ResponseHead(200, [], length=None))
    connection.receive(b"zz\r\n")
    assert connection.last.cancelled is Failure.BAD_REQUEST
    assert connection.transport.calls == ["abort"]


def test_empty_lines_before_a_request_are_overlooked(connection: Connection) -> None:
    connection.receive(b"\r", b"\n\r\n" + GET % 1)
    assert connection.last.head.target == b"/1"


def test_a_head_that_is_on_its_way(connection: Connection) -> None:
    assert not connection.codec.is_waiting_for_head
    connection.receive(b"GET /")
    assert connection.codec.is_waiting_for_head
    connection.receive(b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not connection.codec.is_waiting_for_head


def test_an_answer_that_is_the_last(connection: Connection) -> None:
    connection.receive(GET % 1 + GET % 2)
    connection.last.requester.on_response(ResponseHead(405, [(b"Content-Length", b"2")], length=2, is_last=True))
    connection.last.requester.on_data(b"no")
    connection.last.requester.on_end()
    assert connection.take() == b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    assert connection.transport.is_closed
    assert len(connection.handler.exchanges) == 1
