"""HTTP/1.x, recognised without being touched."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adaptors.observed import Seen, cut, feed
from vanrouter.adaptors.observer_exchange import MAX_HELD_BYTES, MAX_OPEN, UnobservableError
from vanrouter.adaptors.observer_http1 import MAX_CHUNKS_AT_ONCE, Http1Observer

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

CONVERSATIONS = [
    ([("c", GET), ("s", OK)], [("GET", "/a", "200", 0, 5)]),
    (
        [("c", b"POST /p HTTP/1.1\r\ncontent-length:  9 \r\n\r\nStart&End"), ("s", OK)],
        [("POST", "/p", "200", 9, 5)],
    ),
    (
        [
            ("c", b"PUT /p HTTP/1.1\r\n" + CHUNKED + b"5;x=y\r\nabcde\r\n1\r\n\r\r\n0\r\nDigest: z\r\n\r\n"),
            ("s", b"HTTP/1.1 201 Made\r\n" + CHUNKED + b"0a\r\n0123456789\r\n000\r\n\r\n"),
            ("c", GET),
            ("s", OK),
        ],
        [("PUT", "/p", "201", 6, 10), ("GET", "/a", "200", 0, 5)],
    ),
    ([("c", GET + GET + GET), ("s", OK + OK), ("s", OK)], [("GET", "/a", "200", 0, 5)] * 3),
    (
        [("c", b"HEAD / HTTP/1.1\r\n\r\n" + GET), ("s", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + OK)],
        [("HEAD", "/", "200", 0, 0), ("GET", "/a", "200", 0, 5)],
    ),
    (
        [("c", GET + GET), ("s", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\nHTTP/1.1 204\r\n\r\n")],
        [("GET", "/a", "304", 0, 0), ("GET", "/a", "204", 0, 0)],
    ),
    (
        [("c", GET), ("s", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)],
        [("GET", "/a", "200", 0, 5)],
    ),
    (
        [("c", b"\r\nGET / HTTP/1.0\r\n\r\n"), ("s", b"HTTP/1.0 200 OK\r\n\r\nto the end"), ("s", b" of all")],
        [("GET", "/", "200", 0, 17)],
    ),
]


@pytest.mark.parametrize(("pieces", "rows"), CONVERSATIONS)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_conversations_however_they_are_cut(
    pieces: list[tuple[str, bytes]], rows: list[tuple[object, ...]], sizes: list[int]
) -> None:
    for cuts in ([1 << 20], sizes):
        seen = Seen()
        observer = Http1Observer(seen)
        feed(observer, cut(pieces, cuts))
        observer.close(99.0)
        assert seen.rows() == rows
        assert not seen.open


@pytest.mark.parametrize(("pieces", "rows"), CONVERSATIONS)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5), turns=st.lists(st.booleans(), min_size=1))
def test_who_only_counts_counts_the_same(
    pieces: list[tuple[str, bytes]], rows: list[tuple[object, ...]], sizes: list[int], turns: list[bool]
) -> None:
    """Also when that changes in the middle, and for heads that were seen before."""
    whole, brief = Seen(), Seen()
    feed(Http1Observer(whole), pieces)
    observer = Http1Observer(brief)
    for number, piece in enumerate(cut(pieces, sizes)):
        brief.wants_counts = turns[number % len(turns)]
        feed(observer, [piece])
    observer.close(99.0)
    whole_rows = [(method, result) for method, _, result, *_ in rows]
    assert sorted((method, result) for _, method, result in brief.counts.elements()) == sorted(whole_rows)
    assert not brief.open


def test_a_request_that_was_only_counted_is_whole_if_its_answer_is_special() -> None:
    feed(Http1Observer(Seen()), [("c", GET), ("s", OK)])
    seen = Seen(only_counts=True)
    observer = Http1Observer(seen)
    feed(observer, [("c", GET), ("s", OK)])
    assert seen.counts == {("HTTP/1.1", "GET", "200"): 1}
    assert not seen.exchanges
    feed(observer, [("c", GET), ("s", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), ("s", b"other")])
    assert seen.rows() == [("GET", "/a", "200", 0, 9)]
    feed(observer, [("c", GET)])
    observer.close(7.0)
    assert seen.rows()[1:] == [("GET", "/a", "", 0, 0)]
    assert (seen.exchanges[1].began_at, seen.exchanges[1].forwarded_for) == (0.0, "10.0.0.1")


def test_what_a_record_needs() -> None:
    seen = Seen()
    feed(Http1Observer(seen), [("c", GET), ("s", OK[:20]), ("s", OK[20:-2]), ("s", OK[-2:])])
    exchange = seen.exchanges[0]
    assert (exchange.protocol, exchange.reason, exchange.forwarded_for) == ("HTTP/1.1", "OK", "10.0.0.1")
    assert (exchange.began_at, exchange.answered_at, exchange.stream_id) == (0.0, 2.0, None)


def test_an_early_answer_ends_its_request() -> None:
    seen = Seen()
    observer = Http1Observer(seen)
    pieces = [
        ("c", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345"),
        ("s", b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
        ("c", b"67890" + GET),
        ("s", OK),
    ]
    feed(observer, pieces)
    assert [row[2] for row in seen.rows()] == ["413", "200"]


def test_requests_without_an_answer_end_with_their_connection() -> None:
    seen = Seen()
    observer = Http1Observer(seen)
    feed(observer, [("c", GET + GET), ("s", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")])
    observer.close(5.0)
    assert [(row[2], row[4]) for row in seen.rows()] == [("200", 4), ("", 0)]


@pytest.mark.parametrize(
    "pieces",
    [
        [("c", b"\x16\x03\x01\x02\x00\x01\x00")],
        [("c", b"SSH-2.0-OpenSSH_9.2\r\n")],
        [("c", b"\x00" * 8)],
        [("c", b"GET / HTTP/3.0\r\n\r\n")],
        [("c", b"GET /" + b"x" * MAX_HELD_BYTES)],
        [("c", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")],
        [("c", b"GET / HTTP/1.1\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\n")],
        [("c", b"PUT / HTTP/1.1\r\n" + CHUNKED + b"xyz\r\n")],
        [("c", b"PUT / HTTP/1.1\r\n" + CHUNKED + b"1\r\nx\r\n" * (MAX_CHUNKS_AT_ONCE + 1))],
        [("c", b"GET / HTTP/1.1\r\n\r\n" * (MAX_OPEN + 1))],
        [("s", b"220 smtp ready\r\n")],
        [("s", OK)],
        [("c", GET), ("s", b"ICY 200 OK\r\n\r\n")],
        [("c", GET), ("s", OK + OK)],
        [("c", GET), ("s", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello")],
        [("c", b"CONNECT x:1 HTTP/1.1\r\n\r\n"), ("s", b"HTTP/1.1 200 OK\r\n\r\n")],
    ],
)
def test_what_is_not_followed(pieces: list[tuple[str, bytes]]) -> None:
    observer = Http1Observer(Seen())
    with pytest.raises(UnobservableError):
        feed(observer, pieces)
    observer.close(1.0)


def test_an_agreed_protocol_is_the_answer_of_its_request() -> None:
    seen = Seen()
    with pytest.raises(UnobservableError):
        feed(Http1Observer(seen), [("c", GET), ("s", b"HTTP/1.1 101 Switching Protocols\r\n\r\n")])
    assert [row[2] for row in seen.rows()] == ["101"]


PARTS = st.sampled_from(
    [GET, OK, b"\r\n\r\n", b"\r\n", b"HTTP/1.1 ", b"GET ", CHUNKED, b"0\r\n\r\n", b"5\r\n", b"x: y"]
)


@given(st.lists(st.tuples(st.sampled_from("cs"), st.one_of(PARTS, st.binary(max_size=50))), max_size=20))
def test_garbage_only_ends_the_observing(pieces: list[tuple[str, bytes]]) -> None:
    seen = Seen()
    observer = Http1Observer(seen)
    with contextlib.suppress(UnobservableError):
        feed(observer, pieces)
    observer.close(1.0)
    assert not seen.open
