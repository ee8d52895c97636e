from collections.abc import Callable

import pytest

from tests.unit.adaptors.http_fakes import FakeOwner, FakeRequester, FakeTransport
from vanrouter.adaptors.http1_client import MAX_INFORMATIONAL, Http1Client
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, RequestHead


class Connection:
    def __init__(self, *, is_single: bool = False) -> None:
        self.transport = FakeTransport()
        self.owner = FakeOwner()
        self.codec = Http1Client(self.transport, self.owner, HeadLimits(), is_single=is_single)
        self.requester = FakeRequester()

    def ask(self, method: bytes = b"GET", **more: object) -> "Connection":
        self.requester = FakeRequester()
        head = RequestHead(method, b"/", [], authority=b"a", **more)  # type: ignore[arg-type]
        self.codec.begin(head, self.requester)
        return self

    def receive(self, *pieces: bytes) -> "Connection":
        for piece in pieces:
            self.codec.receive(memoryview(piece))
        return self

    @property
    def body(self) -> bytes:
        return bytes(self.requester.body)


@pytest.fixture
def connection() -> Connection:
    return Connection()


BODIES: dict[str, tuple[bytes, bytes]] = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"hello",
    ),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "informational": (b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
}


@pytest.mark.parametrize("name", BODIES)
def test_answers_whole_and_octet_by_octet(name: str) -> None:
    octets, body = BODIES[name]
    connection = Connection()
    for split in (lambda: [octets], lambda: [octets[at : at + 1] for at in range(len(octets))]):
        assert connection.codec.room == 1
        connection.ask()
        assert connection.codec.room == 0
        connection.receive(*split())
        assert connection.requester.has_ended
        assert connection.body == body
        assert connection.codec.is_idle
    assert len(connection.owner.with_room) == 2
    assert connection.transport.take().count(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == 2
    assert not connection.transport.is_closed


def test_an_answer_that_ends_with_the_connection(connection: Connection) -> None:
    connection.ask().receive(b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo")
    assert not connection.requester.has_ended
    connection.codec.receive_end()
    assert (connection.requester.has_ended, connection.body) == (True, b"hello")
    assert connection.owner.gone == [connection.codec]
    assert connection.transport.calls == ["close"]


@pytest.mark.parametrize("fields", [b"Connection: close\r\n", b""])
def test_connections_that_are_not_kept(fields: bytes) -> None:
    connection = Connection(is_single=not fields).ask()
    connection.receive(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 1\r\n\r\nx")
    assert connection.requester.has_ended
    assert connection.owner.gone == [connection.codec]
    assert not connection.owner.with_room
    assert connection.transport.calls == ["close"]


def test_a_single_request_says_that_it_is_the_last() -> None:
    connection = Connection(is_single=True).ask(b"POST", length=None)
    connection.codec.data(b"hello")
    connection.codec.data(bytes(5000))
    connection.codec.end([(b"T", b"1")])
    written = connection.transport.take()
    assert written.startswith(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1388\r\n\0"
    )
    assert written.endswith(b"\r\n0\r\nT: 1\r\n\r\n")
    assert not connection.transport.calls  # a plain server would take a half-close for a client that has gone


def test_head_has_no_body(connection: Connection) -> None:
    connection.ask(b"HEAD").receive(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert connection.requester.has_ended
    assert connection.codec.is_idle
    assert connection.requester.head is not None
    assert (b"Content-Length", b"500") in connection.requester.head.headers


def test_an_answer_before_the_end_of_the_request(connection: Connection) -> None:
    connection.ask(b"PUT", length=10)
    connection.codec.data(b"abc")
    connection.receive(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
    assert connection.requester.has_ended
    assert connection.transport.calls == ["close"]
    assert connection.owner.gone


def test_back_pressure_both_ways(connection: Connection) -> None:
    connection.ask(b"PUT", length=10)
    connection.transport.takes = False
    assert connection.codec.data(b"abc") is False
    connection.codec.on_writable()
    assert connection.requester.resumed == 1
    connection.codec.data(b"defghij")
    connection.codec.end()
    connection.requester.takes = False
    connection.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
    assert connection.transport.is_paused
    connection.codec.resume()
    assert not connection.transport.is_paused
    connection.receive(b"def")
    assert connection.transport.is_paused is False  # room for the next, whoever has taken the last octets
    assert connection.codec.is_idle


def test_a_tunnel(connection: Connection) -> None:
    connection.ask(upgrade=b"echo", length=None)
    assert b"Connection: Upgrade\r\nUpgrade: echo\r\n" in connection.transport.take()
    connection.receive(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
    assert connection.body == b"early"
    connection.codec.data(b"to")
    connection.receive(b" late")
    assert connection.transport.take() == b"to"
    assert connection.body == b"early late"
    connection.codec.end()
    assert connection.transport.calls == ["finish"]
    connection.codec.receive_end()
    assert connection.requester.has_ended
    assert connection.transport.calls == ["finish", "close"]


def test_a_tunnel_that_the_server_ends_first(connection: Connection) -> None:
    connection.ask(b"CONNECT", length=None).receive(b"HTTP/1.1 200 OK\r\n\r\n")
    connection.codec.receive_end()
    assert connection.requester.has_ended
    assert not connection.transport.is_closed
    connection.codec.data(b"x")
    connection.codec.end()
    assert connection.transport.calls == ["close"]
    assert connection.owner.gone


def test_a_tunnel_declined(connection: Connection) -> None:
    connection.ask(upgrade=b"echo", length=None)
    connection.receive(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    assert connection.requester.has_ended
    assert connection.codec.is_idle


LOST: list[tuple[bytes, Failure]] = [
    (b"", Failure.UNANSWERED),
    (b"HTTP/1.1 20", Failure.UNANSWERED),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", Failure.BROKEN),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Failure.BROKEN),
]


@pytest.mark.parametrize(("octets", "failure"), LOST)
@pytest.mark.parametrize("end", [lambda codec: codec.receive_end(), lambda codec: codec.on_lost(False)])
def test_servers_that_go(octets: bytes, failure: Failure, end: Callable[[Http1Client], None]) -> None:
    connection = Connection().ask().receive(octets)
    end(connection.codec)
    assert connection.requester.failure is failure
    assert connection.owner.gone == [connection.codec]
    assert connection.codec.room == 0


def test_a_connection_refused(connection: Connection) -> None:
    connection.ask().codec.on_lost(True)
    assert connection.requester.failure is Failure.NO_SERVICE


def test_an_answer_without_end_to_a_lost_connection(connection: Connection) -> None:
    connection.ask().receive(b"HTTP/1.1 200 OK\r\n\r\nabc").codec.on_lost(False)
    assert connection.requester.failure is Failure.BROKEN


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 103 Hints\r\n\r\n" * (MAX_INFORMATIONAL + 1),
    ],
)
def test_what_is_not_http(octets: bytes) -> None:
    connection = Connection().ask().receive(octets)
    assert connection.requester.failure is Failure.BAD_RESPONSE
    assert connection.transport.calls == ["abort"]
    assert connection.owner.gone


@pytest.mark.parametrize("body", [b"Content-Length: 1\r\n\r\nx", b"Content-Length: 0\r\n\r\n",
                                  b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])  # fmt: skip
def test_octets_behind_an_answer_belong_to_nobody(body: bytes) -> None:
    connection = Connection().ask().receive(b"HTTP/1.1 200 OK\r\n" + body + b"HTTP/1.1 200 OK\r\n")
    assert connection.requester.has_ended
    assert connection.transport.calls == ["close"]
    assert not connection.owner.with_room


def test_octets_without_a_request(connection: Connection) -> None:
    connection.receive(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert connection.transport.calls == ["abort"]
    assert connection.owner.gone


def test_an_idle_connection_ends(connection: Connection) -> None:
    connection.codec.receive_end()
    assert connection.owner.gone
    assert connection.transport.is_closed


def test_nobody_waits_any_more(connection: Connection) -> None:
    connection.ask().codec.cancel(Failure.CANCELLED)
    assert connection.transport.calls == ["abort"]
    assert connection.owner.gone
    connection.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    assert connection.requester.head is None
