"""Heads of HTTP messages as sections of AMQP messages, both encapsulations, both ways.

Layer: 4, pure. Source: HTTP over AMQP, sections 2.2 to 2.5, 3.1 and 6 (which encapsulation a message is in). Header
fields are keys of the application properties, in order, and may come several times. What comes from AMQP is held to the
grammar of HTTP before a codec may write it: an application's text must not become a second request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any

from vanrouter.adaptors.http2_fields import lower
from vanrouter.adaptors.http_exchange import HTTP_1_0, HTTP_1_1, HTTP_2, Header, RequestHead, ResponseHead
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, Head
from vanrouter.engine.sections import Symbol, ULong, decode_pairs, encode_into, encode_pairs
from vanrouter.errors import PeerError

MESSAGE_FLAGS = 0x1
"""Of the router annotations, on requests and on responses: routed as soon as the head is there, so that a response
which breaks off is never overtaken by the outcome of its request (section 2.7)."""

_HEADER_SECTION = b"\x00\x53\x70\xc0\x03\x02\x42\x40"
_PROPERTIES = b"\x00\x53\x73"
_APPLICATION_PROPERTIES = b"\x00\x53\x74"
_FOOTER = b"\x00\x53\x78"

FLOW_ID = Symbol(":flowid")

HOP_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"host", b"te")
)
"""For one connection only, or carried elsewhere: left out of heads."""

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_value = re.compile(rb"[^\x00\r\n]*").fullmatch
_is_target = re.compile(rb"[^\x00-\x20\x7f]+").fullmatch
_is_authority = re.compile(rb"[^\x00-\x20\x7f/?#@\\]*").fullmatch
_is_length = re.compile(rb"[0-9]{1,19}").fullmatch


class Encapsulation(Enum):
    """What a message carries (section 6)."""

    STREAM = "stream"
    HTTP2 = "HTTP2"
    HTTP1 = "HTTP1"
    OTHER = "other"


def encapsulation(head: Head, pairs: Sequence[tuple[Any, Any]]) -> Encapsulation:
    """Tell what a message carries, in the order that section 6 has."""
    if head.content_type == STREAM_CONTENT_TYPE:
        return Encapsulation.STREAM
    keys = {key for key, _ in pairs}
    if ":method" in keys or ":status" in keys:
        return Encapsulation.HTTP2
    if ":path" in keys or ":version" in keys:
        return Encapsulation.HTTP1
    return Encapsulation.OTHER


def _malformed(text: str) -> PeerError:
    return PeerError("amqp:precondition-failed", text)


# --- out --------------------------------------------------------------------------------------------------------------


def _text(octets: bytes) -> str:
    """Return octets as text; what is no UTF-8 has a character for each octet."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _sections(properties: tuple[Any, ...], pairs: list[tuple[Any, Any]]) -> bytes:
    out = bytearray(_HEADER_SECTION + _PROPERTIES)
    encode_into(properties, out)
    out += _APPLICATION_PROPERTIES
    encode_pairs(pairs, out)
    return bytes(out)


def _symbols(headers: Sequence[Header]) -> list[tuple[Any, Any]]:
    return [(Symbol(name.decode("latin-1")), _text(value)) for name, value in headers]


def _strings(headers: Sequence[Header]) -> list[tuple[Any, Any]]:
    return [(name.decode("latin-1").lower(), _text(value)) for name, value in headers if name.lower() not in HOP_FIELDS]


def encode_request(
    head: RequestHead,
    *,
    is_http2: bool,
    message_id: int | None,
    to: str,
    reply_to: str | None,
    site_id: str,
    flow_id: str,
) -> bytes:
    """Encode a request's head: everything in front of its body.

    Args:
        head: the model.
        is_http2: in the encapsulation of section 3; otherwise in that of section 2.
        message_id: what the answer names; None over HTTP/2, where the reply address alone does.
        to: service address.
        reply_to: where answers go; None for an event channel.
        site_id: the listener's.
        flow_id: identity of the request's flow record; a real 2.7 router of HTTP/2 cannot do without one.
    """
    method = head.method.decode("latin-1")
    pairs: list[tuple[Any, Any]]
    group_id: str | None
    if is_http2:
        pairs = [
            (FLOW_ID, flow_id),
            (":method", method),
            (":path", _text(head.target)),
            (":scheme", head.scheme.decode("latin-1")),
            (":authority", _text(head.authority or b"")),
            *_strings(head.headers),
        ]
        if any(name.lower() == b"te" for name, _ in head.headers):
            pairs.append(("te", "trailers"))
        group_id = site_id or None
    else:
        pairs = [
            (FLOW_ID, flow_id),
            (":version", "1.0" if head.version == HTTP_1_0 else "1.1"),
            (":path", _text(head.target)),
            (Symbol("Host"), _text(head.authority or b"")),
            *_symbols(head.headers),
        ]
        if head.length is None:
            pairs.append((Symbol("Transfer-Encoding"), "chunked"))
        group_id = site_id
    number = None if message_id is None else ULong(message_id)
    return _sections((number, None, to, method, reply_to, None, None, None, None, None, group_id), pairs)


def encode_response(
    head: ResponseHead,
    *,
    is_http2: bool,
    correlation_id: Any,
    to: str,
    target: bytes,
    site_id: str,
    flow_id: str,
    is_chunked: bool,
) -> bytes:
    """Encode a response's head: everything in front of its body.

    Args:
        head: the model.
        is_http2: in the encapsulation of section 3; otherwise in that of section 2.
        correlation_id: the request's message-id, as it came.
        to: the request's reply-to.
        target: of the request.
        site_id: the connector's.
        flow_id: identity of the request's flow record.
        is_chunked: over HTTP/1, the body has the framing of chunks.
    """
    status = str(head.status)
    pairs: list[tuple[Any, Any]]
    if is_http2:
        pairs = [(FLOW_ID, flow_id), (":status", status), *_strings(head.headers)]
    else:
        pairs = [(":version", "1.1")]
        if head.reason:
            pairs.append((":reason", _text(head.reason)))
        pairs += [(":path", _text(target)), *_symbols(head.headers)]
        if is_chunked:
            pairs.append((Symbol("Transfer-Encoding"), "chunked"))
    return _sections((None, None, to, status, None, correlation_id, None, None, None, None, site_id or None), pairs)


def encode_data(data: bytes | memoryview) -> bytes:
    """Return octets as a data section."""
    size = len(data)
    if size < 256:
        return b"\x00\x53\x75\xa0%c%b" % (size, bytes(data))
    return b"\x00\x53\x75\xb0" + size.to_bytes(4, "big") + data


def encode_footer(trailers: Sequence[Header]) -> bytes:
    """Return trailers as a footer section."""
    out = bytearray(_FOOTER)
    encode_pairs([(name.decode("latin-1").lower(), _text(value)) for name, value in trailers], out)
    return bytes(out)


# --- in ---------------------------------------------------------------------------------------------------------------


def _octets(value: Any) -> bytes:
    """Return a property's value as octets; applications write numbers, too."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(int(value)).encode()
    raise _malformed(f"a header field that is a {type(value).__name__}, where text belongs")


class Fields:
    """The application properties of a message, sorted into what HTTP has.

    Raises:
        PeerError: they are not what HTTP allows.
    """

    __slots__ = ("headers", "host", "is_chunked", "length", "special")

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self.special: dict[str, bytes] = {}
        """Those that begin with a colon."""
        self.headers: list[Header] = []
        self.host: bytes | None = None
        self.length: int | None = None
        self.is_chunked = False
        for key, value in pairs:
            if not isinstance(key, str):
                raise _malformed("an application property whose key is no text")
            octets = _octets(value)
            if key[:1] == ":":
                self.special[key] = octets
            else:
                self._take(key.encode(), octets)
        self._check_framing()

    def _check_framing(self) -> None:
        if self.length is not None and self.is_chunked:
            raise _malformed("Content-Length and Transfer-Encoding")

    def _take(self, name: bytes, value: bytes) -> None:
        value = value.strip(b" \t")
        if not _is_name(name) or not _is_value(value):
            raise _malformed("a header field that HTTP does not allow")
        low = name.lower()
        if low == b"content-length":
            if not _is_length(value) or self.length not in (None, int(value)):
                raise _malformed("Content-Length twice, or not a number")
            if self.length is not None:
                return
            self.length = int(value)
        elif low == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise _malformed("a Transfer-Encoding other than chunked")
            self.is_chunked = True
        elif low == b"host":
            if self.host is not None:
                raise _malformed("Host twice")
            self.host = value
        elif low == b"te" and value.lower() == b"trailers":
            self.headers.append((name, value))
        if low not in HOP_FIELDS:
            self.headers.append((name, value))


def decode_request(head: Head, fields: Fields, *, is_http2: bool, scheme: bytes) -> RequestHead:
    """Return the head of a request (section 2.4).

    Args:
        head: the sections in front of the body.
        fields: its application properties.
        is_http2: which encapsulation.
        scheme: where the message does not say.

    Raises:
        PeerError: something is missing, or not what HTTP allows.
    """
    special = fields.special
    method = special.get(":method", (head.subject or "").encode())
    target = special.get(":path")
    authority = special.get(":authority") or fields.host
    if not _is_name(method) or target is None or not _is_target(target):
        raise _malformed("a request without a method in its subject, or without :path")
    if authority is not None and not _is_authority(authority):
        raise _malformed("an authority that is not a host with a port")
    version = HTTP_2 if is_http2 else HTTP_1_0 if special.get(":version") == b"1.0" else HTTP_1_1
    # What the encapsulation of HTTP/1 says nothing about has no body; over HTTP/2 the end tells.
    length = fields.length if fields.length is not None else None if is_http2 or fields.is_chunked else 0
    return RequestHead(
        method,
        target,
        lower(fields.headers) if is_http2 else fields.headers,
        authority=authority,
        length=length,
        scheme=special.get(":scheme", scheme),
        version=version,
    )


def decode_response(head: Head, fields: Fields, *, is_http2: bool, is_head_request: bool) -> ResponseHead:
    """Return the head of a response; an application's may have a status in its subject and nothing else.

    Raises:
        PeerError: something is missing, or not what HTTP allows.
    """
    status = fields.special.get(":status", (head.subject or "").encode())
    if len(status) != 3 or not status.isdigit() or not status >= b"100":
        raise _malformed("a response without a status in its subject")
    number = int(status)
    reason = fields.special.get(":reason", b"")
    if not _is_value(reason):
        raise _malformed("a reason phrase that HTTP does not allow")
    has_none = is_head_request or number < 200 or number in (204, 304)
    return ResponseHead(
        number,
        lower(fields.headers) if is_http2 else fields.headers,
        reason=reason,
        length=0 if has_none else fields.length,
        version=HTTP_2 if is_http2 else HTTP_1_0 if fields.special.get(":version") == b"1.0" else HTTP_1_1,
    )


def decode_footer(octets: bytes) -> list[Header]:
    """Return the trailers in the value of a footer section.

    Raises:
        PeerError: it is not a map of texts, or not what HTTP allows.
    """
    trailers = []
    for key, value in decode_pairs(octets):
        if not isinstance(key, str):
            raise _malformed("a trailer whose key is no text")
        name, content = key.encode(), _octets(value).strip(b" \t")
        if not _is_name(name) or not _is_value(content):
            raise _malformed("a trailer that HTTP does not allow")
        if name.lower() not in HOP_FIELDS and name.lower() != b"content-length":
            trailers.append((name, content))
    return trailers
