"""Fields: what is malformed is refused, what is well formed becomes a head and back."""

import pytest

from vanrouter.adaptors import http2_fields as fields
from vanrouter.adaptors.http2_frames import ErrorCode, ResetError
from vanrouter.adaptors.http2_hpack import Field
from vanrouter.adaptors.http_exchange import HeadLimits, RequestHead, ResponseHead

GET: list[Field] = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"svc:80")]


def test_a_request() -> None:
    head = fields.parse_request([*GET, (b"accept", b"*/*"), (b"te", b"trailers"), (b"content-length", b"5")], b"https")
    assert (head.method, head.target, head.authority, head.length) == (b"GET", b"/a?b", b"svc:80", 5)
    assert (head.scheme, head.version, head.upgrade) == (b"https", 20, None)
    assert head.headers == [(b"accept", b"*/*"), (b"te", b"trailers"), (b"content-length", b"5")]


def test_the_scheme_is_the_connections_or_the_other_routers() -> None:
    said = [GET[0], (b":scheme", b"https"), *GET[2:]]
    assert fields.parse_request(said, b"http").scheme == b"http"
    assert fields.parse_request(said, None).scheme == b"https"
    assert fields.parse_request([GET[0], (b":scheme", b"gopher"), *GET[2:]], None).scheme == b"http"


def test_host_stands_in_for_authority() -> None:
    head = fields.parse_request([*GET[:3], (b"host", b"svc")], b"http")
    assert (head.authority, head.headers) == (b"svc", [])
    assert fields.parse_request([*GET, (b"host", b"SVC:80")], b"http").headers == []


def test_cookies_are_joined_where_the_first_stood() -> None:
    crumbs = [(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]
    head = fields.parse_request([*GET, *crumbs], b"http")
    assert head.headers == [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")]


def test_tunnels() -> None:
    head = fields.parse_request([(b":method", b"CONNECT"), (b":authority", b"far:443")], b"http")
    assert (head.method, head.target, head.length) == (b"CONNECT", b"far:443", None)
    asked = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    head = fields.parse_request(asked, b"http")
    assert (head.method, head.target, head.upgrade, head.length) == (b"GET", b"/a?b", b"websocket", None)
    assert sorted(fields.request_fields(head, is_extended=True)) == sorted(asked)


@pytest.mark.parametrize(
    "broken",
    [
        GET[1:],
        [*GET, (b":method", b"GET")],
        [*GET, (b":status", b"200")],
        [*GET, (b"a", b"b"), (b":x", b"y")],
        [GET[0], (b":scheme", b"http"), (b":path", b""), GET[3]],
        [GET[0], (b":scheme", b"http"), (b":path", b"no-slash")],
        [GET[0], (b":scheme", b"http"), (b":path", b"*")],
        [GET[0], (b":scheme", b"http"), (b":path", b"/a b")],
        [GET[0], (b":scheme", b"http"), (b":path", b"/ HTTP/1.1\r\nx: y")],
        [GET[0], (b":path", b"/")],
        [(b":method", b"G T"), *GET[1:]],
        [*GET[:3], (b":authority", b"user@svc")],
        [*GET[:3], (b":authority", b"svc/../x")],
        [*GET, (b"host", b"other")],
        [*GET, (b"host", b"svc:80"), (b"host", b"svc:80")],
        [*GET, (b"Upper", b"x")],
        [*GET, (b"sp ace", b"x")],
        [*GET, (b"co:lon", b"x")],
        [*GET, (b"", b"x")],
        [*GET, (b"a", b"x\r\ny: z")],
        [*GET, (b"a", b"x\x00")],
        [*GET, (b"a", b" x")],
        [*GET, (b"a", b"x\t")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"content-length", b"5"), (b"content-length", b"5")],
        [*GET, (b"content-length", b"+5")],
        [*GET, (b"content-length", b"5, 5")],
        [*GET, (b"content-length", b"")],
        [(b":method", b"CONNECT"), *GET[1:]],
        [(b":method", b"CONNECT")],
        [(b":method", b"CONNECT"), (b":protocol", b"ipsec"), *GET[1:]],
        [*GET, (b":protocol", b"websocket")],
    ],
)
def test_malformed_requests(broken: list[Field]) -> None:
    with pytest.raises(ResetError) as caught:
        fields.parse_request(broken, b"http")
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_responses() -> None:
    head = fields.parse_response(
        [(b":status", b"200"), (b"content-length", b"3"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    )
    assert (head.status, head.length, len(head.headers)) == (200, 3, 3)
    for broken in ([], [(b":status", b"20")], [(b":status", b"2000")], [(b":status", b"099")], [(b":status", b"20x")],
                   [(b":status", b"200"), (b":path", b"/")]):  # fmt: skip
        with pytest.raises(ResetError):
            fields.parse_response(list(broken))


def test_trailers() -> None:
    assert fields.parse_trailers([(b"grpc-status", b"0"), (b"content-length", b"3")]) == ((b"grpc-status", b"0"),)
    with pytest.raises(ResetError):
        fields.parse_trailers([(b":status", b"200")])


def test_limits() -> None:
    limits = HeadLimits(100, 3)
    fields.check_size([(b"a", b"b")] * 8, limits)
    for large in ([(b"a", b"b")] * 9, [(b"a", b"x" * 100)]):
        with pytest.raises(fields.HeadTooLargeError):
            fields.check_size(large, limits)


def test_heads_of_http1_become_fields() -> None:
    head = RequestHead(b"POST", b"/x", [(b"Accept", b"*/*"), (b"x", b"y")], authority=b"svc", length=None)
    assert fields.request_fields(head) == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"svc"),
        (b"accept", b"*/*"), (b"x", b"y"),
    ]  # fmt: skip
    head = RequestHead(b"GET", b"/", [(b"Keep-Alive", b"5"), (b"Upgrade", b"x")])
    assert fields.request_fields(head) == [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
    head = RequestHead(b"CONNECT", b"far:443", [], authority=b"far:443", length=None)
    assert fields.request_fields(head) == [(b":method", b"CONNECT"), (b":authority", b"far:443")]
    response = ResponseHead(404, [(b"Set-Cookie", b"a"), (b"Connection", b"close")], reason=b"Not Found")
    assert fields.response_fields(response) == [(b":status", b"404"), (b"set-cookie", b"a")]


def test_a_copy_is_its_own() -> None:
    head = fields.parse_request(GET, b"http")
    copy = fields.copy_request(head, 0)
    copy.headers.append((b"x", b"y"))
    assert head.headers == []
    answer = fields.parse_response([(b":status", b"200")])
    fields.copy_response(answer, 0).headers.append((b"x", b"y"))
    assert answer.headers == []
