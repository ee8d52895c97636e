"""What a list of HTTP/2 fields means, and how a head becomes one.

Layer: 4, no input or output of its own. Source: RFC 9113, section 8. What is malformed is refused here, before any of
it can be written as HTTP/1.1 somewhere else, where a line break or a second length would begin a request of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vanrouter.adaptors.http2_frames import ErrorCode, ResetError
from vanrouter.adaptors.http2_hpack import Field
from vanrouter.adaptors.http_exchange import HTTP_2, Header, HeadLimits, RequestHead, ResponseHead

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_value = re.compile(rb"(?:[^\x00\r\n\t ](?:[^\x00\r\n]*[^\x00\r\n\t ])?)?").fullmatch
_is_method = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_path = re.compile(rb"/[^\x00-\x20\x7f#]*|\*").fullmatch
_is_authority = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]+").fullmatch
_is_length = re.compile(rb"[0-9]{1,19}").fullmatch

CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings")
)
"""For one HTTP/1.1 connection only: malformed in HTTP/2 (section 8.2.2)."""

WEBSOCKET = b"websocket"

Trailers = tuple[Header, ...]


class HeadTooLargeError(ResetError):
    """Beyond the limits of a head: 431."""


def _malformed(text: str) -> ResetError:
    return ResetError(ErrorCode.PROTOCOL_ERROR, text)


def check_size(fields: list[Field], limits: HeadLimits) -> None:
    """Hold a head to the limits.

    Raises:
        HeadTooLargeError: it is beyond them.
    """
    if len(fields) > limits.max_fields + 5:  # pseudo header fields
        raise HeadTooLargeError(ErrorCode.ENHANCE_YOUR_CALM, f"{len(fields)} fields, of at most {limits.max_fields}")
    size = sum([len(name) + len(value) + 4 for name, value in fields])
    if size > limits.max_bytes:
        raise HeadTooLargeError(ErrorCode.ENHANCE_YOUR_CALM, f"a head of {size} octets, of at most {limits.max_bytes}")


def _split(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Header], int | None]:
    """Return pseudo header fields, the others, and the content length.

    Raises:
        ResetError: the list is malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: list[Header] = []
    length: int | None = None
    for field in fields:
        name, value = field
        if not _is_value(value):
            raise _malformed("a field value that HTTP does not allow")
        if name[:1] == b":":
            if headers or name in pseudo:
                raise _malformed("a pseudo header field twice, or behind the others")
            pseudo[name] = value
            continue
        if not _is_name(name) or name in CONNECTION_FIELDS:
            raise _malformed("a field name that HTTP/2 does not allow")
        if name == b"content-length":
            if length is not None or not _is_length(value):
                raise _malformed("content-length twice, or not a number")
            length = int(value)
        elif name == b"te" and value.lower() != b"trailers":
            raise _malformed("te may only be trailers")
        headers.append(field)
    return pseudo, headers, length


def parse_request(fields: list[Field], scheme: bytes | None) -> RequestHead:
    """Return the head of a request. Its `length` is the content length or None, whatever the frames say.

    Args:
        fields: as decoded.
        scheme: of the connection that it was read from; None: the head says which, as another router has written it.

    Raises:
        ResetError: it is malformed (section 8.3.1).
    """
    pseudo, headers, length = _split(fields)
    method, path = pseudo.pop(b":method", b""), pseudo.pop(b":path", None)
    authority, protocol = pseudo.pop(b":authority", None), pseudo.pop(b":protocol", None)
    said_scheme = pseudo.pop(b":scheme", b"")
    has_scheme = said_scheme != b""
    if pseudo or not _is_method(method):
        raise _malformed("no method, or a pseudo header field that a request does not have")
    headers = _join_cookies(headers)
    hosts = [value for name, value in headers if name == b"host"]
    if hosts:
        headers = [header for header in headers if header[0] != b"host"]
        if len(hosts) > 1 or (authority is not None and hosts[0].lower() != authority.lower()):
            raise _malformed("host and :authority disagree")
        authority = hosts[0]
    if authority is not None and not _is_authority(authority):
        raise _malformed(":authority is not a host with a port")
    upgrade = None
    if method == b"CONNECT" and protocol is None:
        if path is not None or has_scheme or not authority:
            raise _malformed("CONNECT has an authority and nothing else")
        path, length = authority, None
    elif path is None or not has_scheme or not _is_path(path) or (path == b"*" and method != b"OPTIONS"):
        raise _malformed("no scheme, or no path of the service")
    elif protocol is not None:
        if method != b"CONNECT" or authority is None or protocol.lower() != WEBSOCKET:
            raise _malformed("only websocket can be connected to")
        method, upgrade, length = b"GET", WEBSOCKET, None
    return RequestHead(
        method,
        path,
        headers,
        authority=authority,
        length=length,
        scheme=scheme or (said_scheme if said_scheme in (b"http", b"https") else b"http"),
        upgrade=upgrade,
        version=HTTP_2,
    )


def _join_cookies(headers: list[Header]) -> list[Header]:
    """Return the headers with one cookie of all crumbs (section 8.2.3)."""
    crumbs = [value for name, value in headers if name == b"cookie"]
    if len(crumbs) < 2:
        return headers
    joined: list[Header] = []
    for header in headers:
        if header[0] != b"cookie":
            joined.append(header)
        elif crumbs:
            joined.append((b"cookie", b"; ".join(crumbs)))
            crumbs = []
    return joined


def copy_request(head: RequestHead, length: int | None) -> RequestHead:
    """Return a head of its own, for who may change it, with the length that the frames tell."""
    return RequestHead(
        head.method,
        head.target,
        head.headers.copy(),
        authority=head.authority,
        length=length,
        scheme=head.scheme,
        upgrade=head.upgrade,
        version=HTTP_2,
    )


def parse_response(fields: list[Field]) -> ResponseHead:
    """Return the head of a response. Its `length` is the content length or None, whatever the frames say.

    Raises:
        ResetError: it is malformed (section 8.3.2).
    """
    pseudo, headers, length = _split(fields)
    status = pseudo.pop(b":status", b"")
    if pseudo or len(status) != 3 or not status.isdigit() or status < b"100":
        raise _malformed("no status, or a pseudo header field that a response does not have")
    return ResponseHead(int(status), headers, length=length, version=HTTP_2)


def copy_response(head: ResponseHead, length: int | None) -> ResponseHead:
    """Return a head of its own, for who may change it, with the length that holds for this exchange."""
    return ResponseHead(head.status, head.headers.copy(), length=length, version=HTTP_2)


def parse_trailers(fields: list[Field]) -> Trailers:
    """Return the fields behind a body.

    Raises:
        ResetError: they are malformed (section 8.1).
    """
    pseudo, headers, _ = _split(fields)
    if pseudo:
        raise _malformed("a pseudo header field behind the body")
    return tuple([header for header in headers if header[0] not in NOT_IN_TRAILERS])


NOT_IN_TRAILERS = frozenset((b"content-length", b"host", b"te", b"trailer", b"authorization", b"set-cookie"))
"""Framing, routing and secrets, which mean nothing behind the body (RFC 9110, section 6.5.1): left out."""


def request_fields(head: RequestHead, *, is_extended: bool = False) -> list[Field]:
    """Return the fields of a request.

    Args:
        head: as read from any version of HTTP.
        is_extended: ask for `head.upgrade` by extended CONNECT (RFC 8441).
    """
    fields: list[Field]
    if head.method == b"CONNECT":
        return [(b":method", b"CONNECT"), (b":authority", head.authority or head.target), *lowered(head)]
    fields = [
        (b":method", b"CONNECT" if is_extended else head.method),
        (b":scheme", head.scheme),
        (b":path", head.target or b"/"),
    ]
    if head.authority:
        fields.append((b":authority", head.authority))
    if is_extended:
        assert head.upgrade is not None
        fields.insert(1, (b":protocol", head.upgrade))
    fields += lowered(head)
    return fields


_STATUS_FIELDS: dict[int, Field] = {status: (b":status", b"%d" % status) for status in range(100, 1000)}


def response_fields(head: ResponseHead) -> list[Field]:
    """Return the fields of a response, informational or final."""
    return [_STATUS_FIELDS[head.status], *lowered(head)]


def lowered(head: RequestHead | ResponseHead) -> Sequence[Field]:
    """Return the headers of a head as fields; those that were read as such are such."""
    return head.headers if head.version == HTTP_2 else lower(head.headers)


def lower(headers: Sequence[Header]) -> list[Field]:
    """Return headers as fields. Those that are lower case already stay the same objects, and keep their mark."""
    fields: list[Field] = []
    for header in headers:
        name = header[0]
        if not name.islower():
            name = name.lower()
            header = (name, header[1])
        if name not in CONNECTION_FIELDS:
            fields.append(header)
    return fields
