"""Heads as sections: round trips in both encapsulations, and what AMQP may not bring into HTTP."""

from typing import Any

import pytest

from vanrouter.adaptors.http_exchange import HTTP_1_0, HTTP_2, RequestHead, ResponseHead
from vanrouter.adaptors.http_message import (
    Encapsulation,
    Fields,
    decode_footer,
    decode_request,
    decode_response,
    encapsulation,
    encode_data,
    encode_footer,
    encode_request,
    encode_response,
)
from vanrouter.engine.messages import Head, Message, encode_message, encode_stream_head, parse_head
from vanrouter.engine.sections import NEED_MORE, Symbol, ULong
from vanrouter.errors import PeerError

HEADERS = [
    (b"Accept", b"*/*"),
    (b"X-Twice", b"1"),
    (b"X-Twice", b"2"),
    (b"X-Bytes", b"\xff\xfe"),
    (b"X-Text", "é".encode()),
]


def parsed(octets: bytes) -> Head:
    head = parse_head(octets, 0, len(octets), is_complete=True)
    assert head is not NEED_MORE
    return head


def request(is_http2: bool, **more: Any) -> bytes:
    head = RequestHead(b"POST", b"/p?q", HEADERS, authority=b"svc:80", **{"length": None, **more})
    return encode_request(
        head,
        is_http2=is_http2,
        message_id=None if is_http2 else 7,
        to="svc",
        reply_to="temp.1",
        site_id="",
        flow_id="a:1",
    )


def test_a_request_of_http1() -> None:
    octets = request(False)
    assert octets.startswith(b"\x00\x53\x70\xc0\x03\x02\x42\x40\x00\x53\x73")
    head = parsed(octets)
    assert (head.message_id, head.to, head.subject, head.reply_to, head.property_at(10)) == (
        7,
        "svc",
        "POST",
        "temp.1",
        "",
    )
    assert isinstance(head.message_id, ULong)
    pairs = head.application_pairs()
    assert pairs[:4] == [(":flowid", "a:1"), (":version", "1.1"), (":path", "/p?q"), ("Host", "svc:80")]
    assert [type(key) for key, _ in pairs[:4]] == [Symbol, str, str, Symbol]
    assert pairs[-1] == ("Transfer-Encoding", "chunked")
    assert encapsulation(head, pairs) is Encapsulation.HTTP1
    again = decode_request(head, Fields(pairs), is_http2=False, scheme=b"http")
    assert (again.method, again.target, again.authority, again.length) == (b"POST", b"/p?q", b"svc:80", None)
    assert again.headers[:3] == HEADERS[:3]
    assert again.headers[4] == HEADERS[4]


def test_a_request_of_http2() -> None:
    head = parsed(request(True))
    assert (head.message_id, head.subject, head.property_at(10)) == (None, "POST", None)
    pairs = head.application_pairs()
    assert pairs[:5] == [
        (":flowid", "a:1"), (":method", "POST"), (":path", "/p?q"), (":scheme", "http"), (":authority", "svc:80"),
    ]  # fmt: skip
    assert [key for key, _ in pairs].count("x-twice") == 2
    assert encapsulation(head, pairs) is Encapsulation.HTTP2
    again = decode_request(head, Fields(pairs), is_http2=True, scheme=b"http")
    assert (again.method, again.authority, again.version) == (b"POST", b"svc:80", HTTP_2)


def test_te_trailers_is_what_grpc_needs() -> None:
    head = RequestHead(b"POST", b"/", [(b"te", b"trailers")], authority=b"a")
    octets = encode_request(head, is_http2=True, message_id=None, to="s", reply_to="r", site_id="", flow_id="a:1")
    fields = Fields(parsed(octets).application_pairs())
    assert fields.headers == [(b"te", b"trailers")]


def test_responses() -> None:
    head = ResponseHead(404, [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")], reason=b"Not Found")
    octets = encode_response(head, is_http2=False, correlation_id=ULong(7), to="temp.1", target=b"/x", site_id="s",
                             flow_id="a:1", is_chunked=True)  # fmt: skip
    found = parsed(octets)
    assert (found.subject, found.correlation_id, found.property_at(10)) == ("404", 7, "s")
    assert found.application_pairs()[:3] == [(":version", "1.1"), (":reason", "Not Found"), (":path", "/x")]
    fields = Fields(found.application_pairs())
    again = decode_response(found, fields, is_http2=False, is_head_request=False)
    assert (again.status, again.reason, again.headers, again.length) == (404, b"Not Found", head.headers, None)
    assert fields.is_chunked
    octets = encode_response(head, is_http2=True, correlation_id=None, to="temp.1", target=b"/x", site_id="",
                             flow_id="a:1", is_chunked=False)  # fmt: skip
    found = parsed(octets)
    assert found.application_pairs()[:2] == [(":flowid", "a:1"), (":status", "404")]
    assert decode_response(found, Fields(found.application_pairs()), is_http2=True, is_head_request=False).status == 404


def test_an_applications_answer_needs_a_status_alone() -> None:
    head = parsed(encode_message(Message(to="temp.1", subject="200", correlation_id=ULong(1), body=b"x", is_data=True)))
    fields = Fields(head.application_pairs())
    assert decode_response(head, fields, is_http2=False, is_head_request=False).status == 200
    assert decode_response(head, Fields([("Content-Length", 5)]), is_http2=False, is_head_request=False).length == 5
    assert decode_response(head, Fields([("Content-Length", 5)]), is_http2=False, is_head_request=True).length == 0


def test_versions_and_lengths_of_requests() -> None:
    head = parsed(request(False))
    for pairs, version, length in (
        ([(":path", "/"), (":version", "1.0")], HTTP_1_0, 0),
        ([(":path", "/"), ("Content-Length", "5")], 11, 5),
        ([(":path", "/"), ("content-length", "5"), ("Content-Length", "5")], 11, 5),
    ):
        found = decode_request(head, Fields(pairs), is_http2=False, scheme=b"http")
        assert (found.version, found.length) == (version, length)


@pytest.mark.parametrize(
    "pairs",
    [
        [(5, "x")],
        [("X", [1])],
        [("X", True)],
        [("X Y", "1")],
        [("X", "a\r\nY: b")],
        [("X", "a\0")],
        [("", "a")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "-5")],
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Host", "a"), ("host", "b")],
    ],
)
def test_what_amqp_may_not_bring(pairs: list[tuple[Any, Any]]) -> None:
    with pytest.raises(PeerError):
        Fields(pairs)


def test_requests_and_responses_that_are_none() -> None:
    head = parsed(request(False))
    for pairs in ([], [(":path", "/a b")], [(":path", "/\r\n")], [(":path", "/"), (":method", "G T")],
                  [(":path", "/"), ("Host", "a/b")], [(":path", "/"), (":authority", "a@b")]):  # fmt: skip
        with pytest.raises(PeerError):
            decode_request(head, Fields(pairs), is_http2=False, scheme=b"http")
    for status in ("20", "abc", "099", "1000"):
        with pytest.raises(PeerError):
            decode_response(head, Fields([(":status", status)]), is_http2=True, is_head_request=False)
    with pytest.raises(PeerError):
        decode_response(head, Fields([(":status", "200"), (":reason", "a\r\nb")]), is_http2=True, is_head_request=False)


def test_which_encapsulation() -> None:
    stream = parsed(encode_stream_head("svc", "temp.1", None))
    assert encapsulation(stream, stream.application_pairs()) is Encapsulation.STREAM
    head = parsed(request(False))
    assert encapsulation(head, [(":status", "200"), (":path", "/")]) is Encapsulation.HTTP2
    assert encapsulation(head, [(":version", "1.1")]) is Encapsulation.HTTP1
    assert encapsulation(head, [(":flowid", "a:1")]) is Encapsulation.OTHER


def test_trailers() -> None:
    octets = encode_footer([(b"Grpc-Status", b"0"), (b"x", b"y"), (b"x", b"z")])
    assert decode_footer(octets[3:]) == [(b"grpc-status", b"0"), (b"x", b"y"), (b"x", b"z")]
    for broken in (b"\x45", encode_footer([(b"x", b"a\r\nb")])[3:]):
        with pytest.raises(PeerError):
            decode_footer(broken)
    assert encode_data(b"x") == b"\x00\x53\x75\xa0\x01x"
    assert encode_data(bytes(300))[:8] == b"\x00\x53\x75\xb0\x00\x00\x01\x2c"
