import pytest

from vanrouter.adaptors import http1_head
from vanrouter.adaptors.http1_head import MessageError, RequestParser, ResponseParser
from vanrouter.adaptors.http_exchange import HTTP_1_0, HTTP_1_1, HeadLimits, RequestHead, ResponseHead


def request(*lines: bytes, limits: HeadLimits | None = None) -> tuple[RequestHead, RequestParser]:
    parser = RequestParser(limits or HeadLimits())
    return parser.parse(b"\r\n".join((*lines, b"", b""))), parser


def response(*lines: bytes, method: bytes = b"GET") -> tuple[ResponseHead, ResponseParser]:
    parser = ResponseParser(HeadLimits())
    return parser.parse(b"\r\n".join((*lines, b"", b"")), method), parser


def test_a_request() -> None:
    head, parser = request(b"GET /a?b=c HTTP/1.1", b"Host: example.org", b"X-One: 1", b"x-two:  2 ")
    assert (head.method, head.target, head.authority) == (b"GET", b"/a?b=c", b"example.org")
    assert head.headers == [(b"X-One", b"1"), (b"x-two", b"2")]
    assert (head.length, head.version, head.upgrade) == (0, HTTP_1_1, None)
    assert parser.keeps_alive
    assert not parser.is_chunked


def test_duplicate_fields_stay_in_order() -> None:
    head, _ = request(b"GET / HTTP/1.1", b"Host: a", b"Cookie: 1", b"A: b", b"Cookie: 2")
    assert head.headers == [(b"Cookie", b"1"), (b"A", b"b"), (b"Cookie", b"2")]


def test_what_is_for_this_connection_goes() -> None:
    head, parser = request(
        b"GET / HTTP/1.1", b"Host: a", b"Connection: close, X-Private", b"X-Private: 1", b"Keep-Alive: 5",
        b"Proxy-Connection: x", b"TE: gzip, trailers", b"Upgrade: websocket", b"Stays: yes",
    )  # fmt: skip
    assert head.headers == [(b"TE", b"trailers"), (b"Stays", b"yes")]
    assert not parser.keeps_alive
    assert head.upgrade is None


@pytest.mark.parametrize(
    ("version", "connection", "keeps_alive"),
    [(b"1.1", b"x", True), (b"1.1", b"Close", False), (b"1.0", b"x", False), (b"1.0", b"Keep-Alive", True)],
)
def test_keep_alive(version: bytes, connection: bytes, keeps_alive: bool) -> None:
    head, parser = request(b"GET / HTTP/" + version, b"Host: a", b"Connection: " + connection)
    assert parser.keeps_alive is keeps_alive
    assert head.version == (HTTP_1_1 if version == b"1.1" else HTTP_1_0)


def test_bodies() -> None:
    head, parser = request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 12")
    assert head.length == 12
    assert (b"Content-Length", b"12") in head.headers
    head, parser = request(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked")
    assert head.length is None
    assert parser.is_chunked
    head, parser = request(b"POST / HTTP/1.1", b"Host: a")
    assert head.length == 0
    assert not parser.is_chunked


def test_upgrades() -> None:
    fields = (b"Host: a", b"Connection: keep-alive, Upgrade")
    head, _ = request(b"GET / HTTP/1.1", *fields, b"Upgrade: websocket")
    assert head.upgrade == b"websocket"
    assert head.length is None
    assert request(b"GET / HTTP/1.1", *fields, b"Upgrade: h2c", b"HTTP2-Settings: x")[0].upgrade is None
    assert request(b"GET / HTTP/1.0", *fields, b"Upgrade: websocket")[0].upgrade is None
    head, _ = request(b"POST / HTTP/1.1", *fields, b"Upgrade: websocket", b"Content-Length: 3")
    assert (head.upgrade, head.length) == (None, 3)
    head, _ = request(b"CONNECT a:443 HTTP/1.1", b"Host: a:443")
    assert (head.method, head.target, head.length) == (b"CONNECT", b"a:443", None)


@pytest.mark.parametrize(
    ("target", "path", "authority"),
    [
        (b"http://b/x?y", b"/x?y", b"b"),
        (b"HTTPS://b:1", b"/", b"b:1"),
        (b"http://b?q/r", b"/?q/r", b"b"),
    ],
)
def test_a_target_with_its_authority_overrides_host(target: bytes, path: bytes, authority: bytes) -> None:
    head, _ = request(b"GET " + target + b" HTTP/1.1", b"Host: a")
    assert (head.target, head.authority) == (path, authority)


POST = (b"POST / HTTP/1.1", b"Host: a")

REFUSED = {
    "no host": (400, [b"GET / HTTP/1.1"]),
    "two hosts": (400, [b"GET / HTTP/1.1", b"Host: a", b"host: b"]),
    "two equal hosts": (400, [b"GET / HTTP/1.1", b"Host: a", b"Host: a"]),
    "a host with a path": (400, [b"GET / HTTP/1.1", b"Host: a/b"]),
    "a host with a user": (400, [b"GET / HTTP/1.1", b"Host: a@b"]),
    "two hosts in one": (400, [b"GET / HTTP/1.1", b"Host: a, b"]),
    "both lengths": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked"]),
    "both lengths, turned": (400, [*POST, b"Transfer-Encoding: chunked", b"Content-Length: 3"]),
    "two lengths": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Content-Length: 3"]),
    "a list of lengths": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3, 3"]),
    "a signed length": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: +3"]),
    "a length with underscores": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1_0"]),
    "an endless length": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 99999999999999999999"]),
    "no length": (400, [b"POST / HTTP/1.1", b"Host: a", b"Content-Length:"]),
    "another coding": (501, [b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip"]),
    "several codings": (501, [b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"]),
    "chunked twice": (400, [*POST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"]),
    "a coding with a tail": (501, [b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked;x"]),
    "a coding in 1.0": (400, [b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked"]),
    "a fold": (400, [b"GET / HTTP/1.1", b"Host: a", b"A: b", b" c"]),
    "a fold by tab": (400, [b"GET / HTTP/1.1", b"Host: a", b"A: b", b"\tc"]),
    "a first field that is a fold": (400, [b"GET / HTTP/1.1", b" Host: a"]),
    "a space before the colon": (400, [b"GET / HTTP/1.1", b"Host : a"]),
    "no colon": (400, [b"GET / HTTP/1.1", b"Host: a", b"nonsense"]),
    "an empty name": (400, [b"GET / HTTP/1.1", b"Host: a", b": x"]),
    "a bare LF": (400, [b"GET / HTTP/1.1", b"Host: a\nX: b"]),
    "a bare CR": (400, [b"GET / HTTP/1.1", b"Host: a", b"X: b\rc"]),
    "CR and LF that balance": (400, [b"GET / HTTP/1.1", b"Host: a", b"X: b\rc", b"Y: d\ne", b"Z: \r"]),
    "a NUL": (400, [b"GET / HTTP/1.1", b"Host: a", b"X: b\0c"]),
    "a control character": (400, [b"GET / HTTP/1.1", b"Host: a", b"X: b\x01"]),
    "a space in the target": (400, [b"GET /a b HTTP/1.1", b"Host: a"]),
    "a target that is no path": (400, [b"GET a HTTP/1.1", b"Host: a"]),
    "a target of another scheme": (400, [b"GET ftp://a/ HTTP/1.1", b"Host: a"]),
    "a method of nobody": (501, [b"BREW / HTTP/1.1", b"Host: a"]),
    "a method in lower case": (501, [b"get / HTTP/1.1", b"Host: a"]),
    "version 2": (505, [b"GET / HTTP/2.0", b"Host: a"]),
    "version 1.2": (505, [b"GET / HTTP/1.2", b"Host: a"]),
    "version 0.9": (400, [b"GET / HTTP/0.9", b"Host: a"]),
    "no version": (400, [b"GET /", b"Host: a"]),
    "another protocol": (400, [b"GET / RTSP/1.0", b"Host: a"]),
    "TLS": (400, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]),
    "a length that Connection names": (400, [*POST, b"Content-Length: 3", b"Connection: content-length"]),
    "CONNECT with a body": (400, [b"CONNECT a:1 HTTP/1.1", b"Host: a", b"Content-Length: 3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    status, lines = REFUSED[name]
    with pytest.raises(MessageError) as refused:
        request(*lines)
    assert refused.value.status == status, refused.value.reason
    assert refused.value.reason


def test_limits() -> None:
    fields = [b"X-%d: y" % index for index in range(9)]
    assert request(b"GET / HTTP/1.1", b"Host: a", *fields, limits=HeadLimits(65536, 10))
    with pytest.raises(MessageError, match="too many") as refused:
        request(b"GET / HTTP/1.1", b"Host: a", *fields, b"One: more", limits=HeadLimits(65536, 10))
    assert refused.value.status == 431


def test_a_parser_is_none_the_worse_for_a_refusal() -> None:
    parser = RequestParser(HeadLimits())
    with pytest.raises(MessageError):
        parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert parser.parse(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").target == b"/x"


def test_a_response() -> None:
    head, parser = response(b"HTTP/1.1 404 Not So Good", b"Content-Length: 3", b"Set-Cookie: a", b"Set-Cookie: b")
    assert (head.status, head.reason, head.length) == (404, b"Not So Good", 3)
    assert [value for name, value in head.headers if name == b"Set-Cookie"] == [b"a", b"b"]
    assert parser.keeps_alive
    head, parser = response(b"HTTP/1.0 200 OK")
    assert head.length is None
    assert not parser.keeps_alive
    assert not parser.is_chunked
    head, parser = response(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
    assert head.length is None
    assert parser.is_chunked


@pytest.mark.parametrize(
    ("status", "method"), [(b"204 None", b"GET"), (b"304 Same", b"GET"), (b"200 OK", b"HEAD"), (b"103 Hints", b"GET")]
)
def test_responses_without_a_body(status: bytes, method: bytes) -> None:
    for framing in ((), (b"Content-Length: 10",), (b"Transfer-Encoding: chunked",)):
        head, parser = response(b"HTTP/1.1 " + status, *framing, method=method)
        assert head.length == 0
        assert not parser.is_chunked


def test_tunnels() -> None:
    head, _ = response(b"HTTP/1.1 101 Switching", b"Connection: upgrade", b"Upgrade: websocket")
    assert (head.length, head.upgrade) == (None, b"websocket")
    head, _ = response(b"HTTP/1.1 200 OK", b"Content-Length: 5", method=b"CONNECT")
    assert head.length is None
    with pytest.raises(MessageError):
        response(b"HTTP/1.1 101 Switching")


@pytest.mark.parametrize(
    "lines",
    [
        [b"HTTP/2.0 200 OK"],
        [b"SSH-2.0-OpenSSH"],
        [b"HTTP/1.1 20 OK"],
        [b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Transfer-Encoding: chunked"],
        [b"HTTP/1.1 200 OK", b"Content-Length: 1", b"Content-Length: 2"],
        [b"HTTP/1.1 200 OK", b"A: b", b" c"],
        [b"HTTP/1.1 200 OK", b"A: b\nC: d"],
    ],
)
def test_refused_responses(lines: list[bytes]) -> None:
    with pytest.raises(MessageError):
        response(*lines)


def test_heads_that_were_seen_before() -> None:
    head = b"GET /again HTTP/1.1\r\nHost: a\r\nConnection: close\r\nA: b\r\n\r\n"
    first, again = RequestParser(HeadLimits()), RequestParser(HeadLimits())
    one, two = first.parse(head), again.parse(head, b"https")
    assert one is not two
    assert (one.target, one.headers, two.target, two.headers) == (b"/again", [(b"A", b"b")]) * 2
    assert (two.scheme, again.keeps_alive, again.is_chunked) == (b"https", False, False)
    with pytest.raises(MessageError):
        RequestParser(HeadLimits(65536, 2)).parse(head)
    one.headers = []
    assert RequestParser(HeadLimits()).parse(head).headers == [(b"A", b"b")]


def test_an_answer_means_what_was_asked() -> None:
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: 9", b"X-Again: 1")
    for _ in range(2):
        assert response(*lines)[0].length == 9
        assert response(*lines, method=b"HEAD")[0].length == 0
        assert response(*lines, method=b"CONNECT")[0].length is None


def test_personal_heads_are_not_remembered() -> None:
    before = len(http1_head._known_requests)
    request(b"GET / HTTP/1.1", b"Host: a", b"COOKIE: secret")
    request(b"GET / HTTP/1.1", b"Host: a", b"Authorization: secret")
    request(b"GET / HTTP/1.1", b"Host: a", b"X: " + b"y" * 2000)
    assert len(http1_head._known_requests) == before
    for number in range(3 * http1_head.MAX_KNOWN_HEADS):
        request(b"GET /%d HTTP/1.1" % number, b"Host: a")
    assert len(http1_head._known_requests) <= http1_head.MAX_KNOWN_HEADS
