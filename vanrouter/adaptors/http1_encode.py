"""Heads, chunks and error answers of HTTP/1.1 as octets.

Layer: 4, pure. Source: RFC 9112 sections 3 to 7; RFC 9110 sections 8.6 and 10.1.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vanrouter.adaptors.http_exchange import HTTP_1_1, Header, RequestHead, ResponseHead

REASONS = {
    100: b"Continue", 101: b"Switching Protocols", 102: b"Processing", 103: b"Early Hints", 200: b"OK", 201: b"Created",
    202: b"Accepted", 204: b"No Content", 206: b"Partial Content", 301: b"Moved Permanently", 302: b"Found",
    303: b"See Other", 304: b"Not Modified", 307: b"Temporary Redirect", 308: b"Permanent Redirect",
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 409: b"Conflict", 410: b"Gone", 411: b"Length Required", 412: b"Precondition Failed",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 416: b"Range Not Satisfiable",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip
"""For answers that come without a reason phrase, over HTTP/2 or of our own."""

NEEDS_LENGTH = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods whose requests say that they have no body (RFC 9110, section 8.6)."""

LAST_CHUNK = b"0\r\n\r\n"

SMALL_BYTES = 4096
"""A chunk of fewer octets is written at once with its framing."""


def _lines(headers: Sequence[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in headers])


def has_field(headers: Sequence[Header], name: bytes) -> bool:
    """Whether there is a field of this name, given in lower case."""
    return any(field[0].lower() == name for field in headers)


def is_chunked_request(head: RequestHead) -> bool:
    """Whether the body of a request goes out in chunks."""
    return head.length is None and head.upgrade is None and head.method != b"CONNECT"


def encode_request(head: RequestHead, *, is_last: bool) -> bytes:
    """Encode the head of a request, in HTTP/1.1.

    Args:
        head: the model.
        is_last: it is the only one of its connection.
    """
    authority = head.authority if head.authority is not None else b""
    out = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (head.method, head.target, authority) + _lines(head.headers)
    if head.upgrade is not None:
        return out + b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade
    if is_last:
        out += b"Connection: close\r\n"
    if head.length is None:
        if head.method != b"CONNECT":
            out += b"Transfer-Encoding: chunked\r\n"
    elif head.length == 0 and head.method in NEEDS_LENGTH and not has_field(head.headers, b"content-length"):
        out += b"Content-Length: 0\r\n"
    return out + b"\r\n"


def encode_response(head: ResponseHead, *, connection: bytes | None, is_chunked: bool) -> bytes:
    """Encode the head of a response, in HTTP/1.1.

    Args:
        head: the model.
        connection: value of the `Connection` field, if there is to be one; with 101, `Upgrade` is there besides.
        is_chunked: how its body goes out.
    """
    status = head.status
    out = b"HTTP/1.1 %d %b\r\n" % (status, head.reason or REASONS.get(status, b"")) + _lines(head.headers)
    if status == 101:
        return out + b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (head.upgrade or b"")
    if connection is not None:
        out += b"Connection: %b\r\n" % connection
    if is_chunked:
        out += b"Transfer-Encoding: chunked\r\n"
    return out + b"\r\n"


def write_chunk(write: Callable[[bytes | memoryview], bool], data: bytes | memoryview) -> bool:
    """Write octets of a body as one chunk; return what the last `write` answers. Large ones are not copied for it."""
    if len(data) < SMALL_BYTES:
        return write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
    write(b"%x\r\n" % len(data))
    write(data)
    return write(b"\r\n")


def write_last_chunk(write: Callable[[bytes | memoryview], bool], data: bytes | memoryview) -> bool:
    """Write the last octets of a body, and its end; return what the last `write` answers."""
    if len(data) < SMALL_BYTES:
        return write(b"".join((b"%x\r\n" % len(data), data, b"\r\n", LAST_CHUNK)))
    write_chunk(write, data)
    return write(LAST_CHUNK)


def encode_trailers(trailers: Sequence[Header]) -> bytes:
    """Encode the last chunk with the trailers behind it."""
    return b"0\r\n%b\r\n" % _lines(trailers) if trailers else LAST_CHUNK


def encode_error(
    status: int, reason: str, *, is_head: bool, connection: bytes | None, version: int = HTTP_1_1
) -> bytes:
    """Encode an answer of the router's own, with a line of text for people.

    Args:
        status: its status.
        reason: what is wrong.
        is_head: the request was HEAD: the text is left out.
        connection: value of the `Connection` field, if there is to be one.
        version: of the request.
    """
    text = b"%d %b: %b\n" % (status, REASONS.get(status, b""), reason.encode())
    headers: list[Header] = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(text))]
    head = ResponseHead(status, headers, version=version)
    return encode_response(head, connection=connection, is_chunked=False) + (b"" if is_head else text)
