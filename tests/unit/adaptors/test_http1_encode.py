import pytest

from vanrouter.adaptors.http1_encode import (
    SMALL_BYTES,
    encode_error,
    encode_request,
    encode_response,
    encode_trailers,
    write_chunk,
    write_last_chunk,
)
from vanrouter.adaptors.http1_head import RequestParser, ResponseParser
from vanrouter.adaptors.http_exchange import HeadLimits, RequestHead, ResponseHead


@pytest.mark.parametrize("is_last", [True, False])
def test_what_is_encoded_is_parsed(is_last: bool) -> None:
    head = RequestHead(b"PUT", b"/x", [(b"A", b"b"), (b"Content-Length", b"3")], authority=b"h:1", length=3)
    parser = RequestParser(HeadLimits())
    again = parser.parse(encode_request(head, is_last=is_last))
    assert parser.keeps_alive is not is_last
    for name in ("method", "target", "headers", "authority", "length", "upgrade"):
        assert getattr(again, name) == getattr(head, name)


def test_framing_of_requests() -> None:
    assert b"Transfer-Encoding: chunked" in encode_request(RequestHead(b"POST", b"/", [], length=None), is_last=False)
    assert b"Content-Length: 0" in encode_request(RequestHead(b"POST", b"/", [], length=0), is_last=False)
    assert b"Content-Length" not in encode_request(RequestHead(b"GET", b"/", [], length=0), is_last=False)
    given = encode_request(RequestHead(b"POST", b"/", [(b"content-length", b"0")], length=0), is_last=False)
    assert given.lower().count(b"content-length") == 1
    tunnel = encode_request(RequestHead(b"CONNECT", b"a:1", [], authority=b"a:1", length=None), is_last=False)
    assert b"Transfer" not in tunnel


def test_upgrades_say_so() -> None:
    encoded = encode_request(RequestHead(b"GET", b"/", [], upgrade=b"websocket", length=None), is_last=True)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" in encoded
    answer = encode_response(ResponseHead(101, [], upgrade=b"websocket"), connection=b"close", is_chunked=True)
    assert answer == b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_responses() -> None:
    head = ResponseHead(200, [(b"A", b"b")], reason=b"Fine", length=None)
    encoded = encode_response(head, connection=b"close", is_chunked=True)
    assert encoded == b"HTTP/1.1 200 Fine\r\nA: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert encode_response(ResponseHead(299, []), connection=None, is_chunked=False) == b"HTTP/1.1 299 \r\n\r\n"


def test_trailers() -> None:
    assert encode_trailers(()) == b"0\r\n\r\n"
    assert encode_trailers([(b"A", b"b")]) == b"0\r\nA: b\r\n\r\n"


def test_errors_are_for_people() -> None:
    encoded = encode_error(503, "nobody is there", is_head=False, connection=b"close")
    head, _, body = encoded.partition(b"\r\n\r\n")
    assert body == b"503 Service Unavailable: nobody is there\n"
    parsed = ResponseParser(HeadLimits()).parse(head + b"\r\n\r\n", b"GET")
    assert parsed.length == len(body)
    assert encode_error(503, "x", is_head=True, connection=None).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("size", [1, SMALL_BYTES - 1, SMALL_BYTES, 100_000])
def test_chunks(size: int) -> None:
    pieces: list[bytes] = []

    def write(data: bytes | memoryview) -> bool:
        pieces.append(bytes(data))
        return data == b"\r\n"

    assert write_chunk(write, memoryview(bytes(size))) is (size >= SMALL_BYTES), "what the last call answers"
    assert b"".join(pieces) == b"%x\r\n%b\r\n" % (size, bytes(size))
    assert len(pieces) == (1 if size < SMALL_BYTES else 3)


@pytest.mark.parametrize("size", [1, SMALL_BYTES - 1, SMALL_BYTES])
def test_the_last_chunk_and_the_end(size: int) -> None:
    written: list[bytes] = []
    write_last_chunk(lambda data: written.append(bytes(data)) is None, bytes(size))
    assert b"".join(written) == b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))
    assert (len(written) == 1) == (size < SMALL_BYTES)
