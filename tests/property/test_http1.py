"""HTTP/1.1, split anywhere: what is understood does not depend on how the octets come, and garbage is answered once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adaptors.http_fakes import FakeHandler, FakeOwner, FakeRequester, FakeTransport
from vanrouter.adaptors.http1_client import Http1Client
from vanrouter.adaptors.http1_server import Http1Server
from vanrouter.adaptors.http_exchange import Codec, HeadLimits, RequestHead

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=12).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(
    lambda text: text.strip().encode()
)
FIELDS = st.lists(st.tuples(TOKEN.map(lambda name: b"x-" + name), VALUE), max_size=5)
TARGET = st.text("abcdefgh0123456789/?=&%.-_~", max_size=20).map(lambda text: b"/" + text.encode())
BODY = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.lists(st.one_of(st.binary(min_size=1, max_size=30), st.just(b"\r\n\r\n0\r\n\r\n")), max_size=4),
)
"""None, of known length, or in chunks."""


def framed(body: bytes | list[bytes] | None, trailers: list[tuple[bytes, bytes]]) -> tuple[list[bytes], bytes]:
    """Fields and octets of a body."""
    if body is None:
        return [], b""
    if isinstance(body, bytes):
        return [b"Content-Length: %d" % len(body)], body
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in body)
    return [b"Transfer-Encoding: chunked"], chunks + b"0\r\n" + lines(trailers) + b"\r\n"


def lines(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % field for field in fields)


@st.composite
def messages(draw: st.DrawFn, first_line: st.SearchStrategy[bytes]) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """Octets of a message, its body, and the fields that must arrive."""
    fields, body, trailers = draw(FIELDS), draw(BODY), draw(FIELDS)
    framing, octets = framed(body, trailers)
    head = draw(first_line) + b"\r\n" + lines(fields) + b"".join(line + b"\r\n" for line in framing) + b"\r\n"
    return head + octets, b"".join(body) if isinstance(body, list) else body or b"", fields


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD"])
REQUEST_LINE = st.builds(lambda method, target: b"%b %b HTTP/1.1\r\nHost: a" % (method, target), METHODS, TARGET)
STATUS_LINE = st.sampled_from([200, 201, 299, 404, 418, 500, 599]).map(
    lambda status: b"HTTP/1.1 %d Some Reason" % status
)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    return [octets[begin:end] for begin, end in pairwise(places)]


CUTS = st.lists(st.integers(0, 100_000), max_size=8)


def served(octets: list[bytes], count: int) -> list[tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]]:
    """What a server understands of a pipeline, each request answered when it is complete."""
    transport, handler = FakeTransport(), FakeHandler()
    codec = Http1Server(transport, handler, HeadLimits())
    found = []
    for piece in octets:
        codec.receive(piece)
        while len(found) < len(handler.exchanges) and handler.exchanges[len(found)].has_ended:
            exchange = handler.exchanges[len(found)]
            head = exchange.head
            fields = [field for field in head.headers if field[0].startswith(b"x-")]
            found.append((head.method, head.target, bytes(exchange.body), fields))
            exchange.answer()
    assert len(found) == count, transport.written
    assert not transport.is_closed
    assert codec.is_idle
    assert transport.written.count(b"HTTP/1.1 200 OK\r\n") == count
    return found


@given(st.lists(messages(REQUEST_LINE), min_size=1, max_size=4), CUTS)
def test_requests_whole_cut_and_octet_by_octet(
    requests: list[tuple[bytes, bytes, list[tuple[bytes, bytes]]]], cuts: list[int]
) -> None:
    octets = b"".join(request[0] for request in requests)
    whole = served([octets], len(requests))
    assert [(body, fields) for _, _, body, fields in whole] == [(body, fields) for _, body, fields in requests]
    assert served(pieces(octets, cuts), len(requests)) == whole
    assert served([octets[at : at + 1] for at in range(len(octets))], len(requests)) == whole


def answered(octets: list[bytes]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """What a client understands of an answer."""
    transport, owner, requester = FakeTransport(), FakeOwner(), FakeRequester()
    codec = Http1Client(transport, owner, HeadLimits())
    codec.begin(RequestHead(b"GET", b"/", [], authority=b"a"), requester)
    for piece in octets:
        codec.receive(piece)
    codec.receive_end()
    assert requester.has_ended
    assert requester.failure is None
    assert requester.head is not None
    fields = [field for field in requester.head.headers if field[0].startswith(b"x-")]
    return requester.head.status, bytes(requester.body), fields


@given(messages(STATUS_LINE), CUTS)
def test_answers_whole_cut_and_octet_by_octet(
    answer: tuple[bytes, bytes, list[tuple[bytes, bytes]]], cuts: list[int]
) -> None:
    octets, body, fields = answer
    whole = answered([octets])
    assert whole[1:] == (body, fields)
    assert answered(pieces(octets, cuts)) == whole
    assert answered([octets[at : at + 1] for at in range(len(octets))]) == whole


GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b" ", b"\0",
             b"0\r\n\r\n",
             b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Connection: upgrade, close\r\n",
             b"Upgrade: x\r\n", b"5\r\nhello\r\n", b"hello", b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", b": z\r\n"]
        ),
        max_size=12,
    ).map(b"".join),
)  # fmt: skip


def play(codec: Codec, transport: FakeTransport, octets: list[bytes]) -> None:
    """As a transport would: nothing is told after it was closed."""
    for piece in octets:
        if not transport.is_closed:
            codec.receive(piece)
    if not transport.is_closed:
        codec.receive_end()


@given(GARBAGE, CUTS)
def test_garbage_to_a_server(octets: bytes, cuts: list[int]) -> None:
    transport, handler = FakeTransport(), FakeHandler()
    codec = Http1Server(transport, handler, HeadLimits(4096, 20))
    play(codec, transport, pieces(octets, cuts))
    for exchange in handler.exchanges:
        if exchange.cancelled is None and not transport.is_closed:
            exchange.answer()
    assert transport.is_closed
    assert transport.calls.count("close") + transport.calls.count("abort") == 1


@given(GARBAGE, CUTS)
def test_garbage_to_a_client(octets: bytes, cuts: list[int]) -> None:
    transport, owner, requester = FakeTransport(), FakeOwner(), FakeRequester()
    codec = Http1Client(transport, owner, HeadLimits(4096, 20))
    codec.begin(RequestHead(b"GET", b"/", [], authority=b"a"), requester)
    play(codec, transport, pieces(octets, cuts))
    assert requester.has_ended or requester.failure is not None
    assert owner.gone == [codec]
    assert transport.is_closed
