"""Heads of HTTP/1 messages: from octets to the model of the seam.

Layer: 4, no input or output of its own. httptools (llhttp) parses; what it lets pass although two servers have been
known to understand it in two ways is refused here: a head is cut at its empty line, checked as a whole, and only then
given to the parser. Source: RFC 9112 sections 2 to 7 and 11.2 (request smuggling), RFC 9110 section 7.6.
"""

from __future__ import annotations

from typing import Any

import httptools

from vanrouter.adaptors.http_exchange import HTTP_1_0, HTTP_1_1, Header, HeadLimits, RequestHead, ResponseHead
from vanrouter.errors import VanrouterError

END_OF_HEAD = b"\r\n\r\n"

SPECIAL = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"keep-alive", b"te", b"upgrade", b"trailer",
     b"proxy-connection", b"http2-settings")
)  # fmt: skip
"""Fields that frame a message or belong to one connection."""
UNFRAMED_STATUS = frozenset((204, 304))
"""Answers without a body whatever their fields say, besides 1xx."""


MAX_KNOWN_HEADS = 256
MAX_KNOWN_BYTES = 1024
"""Heads that are remembered with what they mean, and how long they may be: clients ask for the same again and again,
and servers answer the same, so that most heads of a busy service need not be parsed."""

_PERSONAL = (b"cookie:", b"authorization:")
"""In heads that are not remembered: they are longer in memory than need be otherwise."""


class MessageError(VanrouterError):
    """A message that is not taken.

    Args:
        status: what a client is answered.
        reason: what is wrong, for people.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _HeadParser:
    """What requests and responses have in common: fields, framing, what is for this connection only."""

    __slots__ = (
        "_connection",
        "_has_transfer_encoding",
        "_host",
        "_length",
        "_limits",
        "_upgrade",
        "connection_tokens",
        "headers",
        "is_chunked",
        "keeps_alive",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self.headers: list[Header] = []
        self.keeps_alive = True
        """Of the last head: whether its sender wants to go on with the connection after it."""
        self.is_chunked = False

    def _reset(self) -> None:
        self.headers = []
        self._host: bytes | None = None
        self._length: bytes | None = None
        self._upgrade: bytes | None = None
        self._connection: list[bytes] | None = None
        self._has_transfer_encoding = False
        self.is_chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field from the parser."""
        lower = name.lower()
        if lower not in SPECIAL:
            self.headers.append((name, value.rstrip(b" \t")))
        elif lower == b"host":
            if self._host is not None:
                raise MessageError(400, "two Host fields")
            self._host = value.strip(b" \t")
        elif lower == b"content-length":
            self._length = value.strip(b" \t")
            self.headers.append((name, self._length))
        elif lower == b"connection":
            tokens = [token.strip(b" \t") for token in value.lower().split(b",")]
            self._connection = tokens if self._connection is None else self._connection + tokens
        elif lower == b"transfer-encoding":
            if self._has_transfer_encoding or value.strip(b" \t").lower() != b"chunked":
                raise MessageError(501, "a Transfer-Encoding other than chunked")
            self._has_transfer_encoding = True
        elif lower == b"upgrade":
            self._upgrade = value.strip(b" \t")
        elif lower == b"te":
            if b"trailers" in value.lower():
                self.headers.append((name, b"trailers"))
        elif lower == b"trailer":
            self.headers.append((name, value))

    def _parse(self, head: bytes, parser: Any) -> None:
        """Have a whole head parsed, by a parser of its own: to make one costs a quarter of what a small head does."""
        lines = head.count(b"\r\n")
        if lines != head.count(b"\n") or lines != head.count(b"\r"):
            raise MessageError(400, "a bare CR or LF")
        if b"\r\n " in head or b"\r\n\t" in head:
            raise MessageError(400, "a folded header field")
        if lines - 2 > self._limits.max_fields:
            raise MessageError(431, "too many header fields")
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the head was the last that the parser was to see anyway
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, MessageError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserInvalidMethodError:
            if head[:3].isalpha():
                raise MessageError(501, "an unknown method") from None
            raise MessageError(400, "not a request line") from None
        except httptools.HttpParserError as error:
            raise MessageError(400, str(error)) from None

    def _settle_connection(self, version: int) -> bool:
        """Take out what `Connection` names; say whether it asks for an upgrade."""
        tokens = self._connection
        if tokens is None:
            self.keeps_alive = version >= HTTP_1_1
            return False
        self.keeps_alive = b"close" not in tokens and (version >= HTTP_1_1 or b"keep-alive" in tokens)
        named = {token for token in tokens if token not in (b"close", b"keep-alive", b"upgrade", b"te", b"")}
        if named:
            if b"content-length" in named or b"host" in named:
                raise MessageError(400, "Connection names a field of the message")
            self.headers = [field for field in self.headers if field[0].lower() not in named]
        return b"upgrade" in tokens

    def _framing(self, version: int) -> int | None:
        """Return the length that the fields tell; None when there is none, with `is_chunked` or without."""
        length = self._length
        if self._has_transfer_encoding:
            if length is not None:
                raise MessageError(400, "both Content-Length and Transfer-Encoding")
            if version < HTTP_1_1:
                raise MessageError(400, "Transfer-Encoding in HTTP/1.0")
            self.is_chunked = True
            return None
        if length is None:
            return None
        if not length.isdigit() or len(length) > 18:
            raise MessageError(400, "a Content-Length that is no number")
        return int(length)


class RequestParser(_HeadParser):
    """Parses heads of requests, one after the other."""

    __slots__ = ("_url",)

    def on_url(self, url: bytes) -> None:
        """Take the target, or a part of it."""
        self._url += url

    def parse(self, head: bytes, scheme: bytes = b"http") -> RequestHead:
        """Parse a head, its empty line included.

        Raises:
            MessageError: it is refused.
        """
        known = _known_requests.get(head)
        if known is None or known[3] > self._limits.max_fields:
            parsed = self._parse_new(head, scheme)
            if not _may_be_known(head):
                return parsed
            _remember(_known_requests, head, (parsed, self.keeps_alive, self.is_chunked, self._limits.max_fields))
        else:
            parsed, self.keeps_alive, self.is_chunked, _ = known
        return RequestHead(
            parsed.method, parsed.target, parsed.headers, authority=parsed.authority, length=parsed.length,
            scheme=scheme, upgrade=parsed.upgrade, version=parsed.version,
        )  # fmt: skip

    def _parse_new(self, head: bytes, scheme: bytes) -> RequestHead:
        line = head.find(b"\r\n")
        ending = head[line - 9 : line]
        if ending != b" HTTP/1.1" and ending != b" HTTP/1.0":
            raise _bad_request_line(head[:line])
        version = HTTP_1_1 if ending[-1] == 0x31 else HTTP_1_0
        self._reset()
        self._url = b""
        parser = httptools.HttpRequestParser(self)
        self._parse(head, parser)
        wants_upgrade = self._settle_connection(version)
        length = self._framing(version)
        method: bytes = parser.get_method()
        target, authority = self._url, self._host
        if authority is None and version >= HTTP_1_1:
            raise MessageError(400, "no Host field")
        if target[:1] != b"/":
            target, authority = _other_target(method, target, authority)
        if authority is not None and not _is_authority(authority):
            raise MessageError(400, "a Host that is none")
        upgrade = self._upgrade if wants_upgrade and version >= HTTP_1_1 else None
        if upgrade is not None and upgrade.lower().startswith(b"h2c"):
            upgrade = None  # RFC 9113 has done away with it: who wants HTTP/2 in clear text says so at once
        if method == b"CONNECT":
            if length or self.is_chunked:
                raise MessageError(400, "CONNECT with a body")
            length = None
        elif length is None and not self.is_chunked:
            length = 0
        if upgrade is not None:
            if length == 0:
                length = None
            else:
                upgrade = None  # nobody sends a body before a tunnel, and what would end where is disputed
        return RequestHead(
            method, target, self.headers, authority=authority, length=length, scheme=scheme, upgrade=upgrade,
            version=version,
        )  # fmt: skip


class ResponseParser(_HeadParser):
    """Parses heads of responses, one after the other."""

    __slots__ = ("_reason",)

    def on_status(self, reason: bytes) -> None:
        """Take the reason phrase, or a part of it."""
        self._reason += reason

    def parse(self, head: bytes, method: bytes) -> ResponseHead:
        """Parse a head, its empty line included.

        Args:
            head: the octets.
            method: of the request that it answers.

        Raises:
            MessageError: it is refused.
        """
        key = head if method != b"HEAD" and method != b"CONNECT" else method + head
        known = _known_responses.get(key)
        if known is None or known[3] > self._limits.max_fields:
            parsed = self._parse_new(head, method)
            if not _may_be_known(head):
                return parsed
            _remember(_known_responses, key, (parsed, self.keeps_alive, self.is_chunked, self._limits.max_fields))
        else:
            parsed, self.keeps_alive, self.is_chunked, _ = known
        return ResponseHead(
            parsed.status, parsed.headers, reason=parsed.reason, length=parsed.length, upgrade=parsed.upgrade,
            version=parsed.version,
        )  # fmt: skip

    def _parse_new(self, head: bytes, method: bytes) -> ResponseHead:
        start = head[:9]
        if start != b"HTTP/1.1 " and start != b"HTTP/1.0 ":
            raise MessageError(502, "an answer that is not HTTP/1")
        version = HTTP_1_1 if start[7] == 0x31 else HTTP_1_0
        self._reset()
        self._reason = b""
        parser = httptools.HttpResponseParser(self)
        self._parse(head, parser)
        status: int = parser.get_status_code()
        wants_upgrade = self._settle_connection(version)
        length = self._framing(version)
        upgrade = None
        if status == 101:
            upgrade = self._upgrade if wants_upgrade else None
            if upgrade is None:
                raise MessageError(502, "101 without Upgrade")
            length = None
            self.is_chunked = False
        elif status < 200 or status in UNFRAMED_STATUS or method == b"HEAD":
            length = 0
            self.is_chunked = False
        elif method == b"CONNECT" and status < 300:
            length = None
            self.is_chunked = False
        if self._host is not None:
            self.headers.append((b"Host", self._host))
        return ResponseHead(status, self.headers, reason=self._reason, length=length, upgrade=upgrade, version=version)


_known_requests: dict[bytes, tuple[RequestHead, bool, bool, int]] = {}
_known_responses: dict[bytes, tuple[ResponseHead, bool, bool, int]] = {}
"""What parsing gave: the head (whose list of fields nobody changes), what its sender wants of the connection, the
framing, and the limit that it kept. Whoever reads with a lower limit parses again."""


def _may_be_known(head: bytes) -> bool:
    if len(head) > MAX_KNOWN_BYTES:
        return False
    lower = head.lower()
    return not any(name in lower for name in _PERSONAL)


def _remember(known: dict[bytes, Any], head: bytes, meaning: tuple[Any, ...]) -> None:
    if len(known) >= MAX_KNOWN_HEADS:
        known.clear()
    known[head] = meaning


def _bad_request_line(line: bytes) -> MessageError:
    """Say what is wrong with a request line that does not end in a version of HTTP/1."""
    protocol = line[line.rfind(b" ") + 1 :]
    if protocol.startswith(b"HTTP/") and len(protocol) == 8 and protocol != b"HTTP/0.9":
        return MessageError(505, "a version other than HTTP/1.0 and HTTP/1.1")
    return MessageError(400, "not a request line")


def _is_authority(host: bytes) -> bool:
    """Whether this can be a Host: empty, or free of what separates and of what nobody should see in it."""
    return not any(octet in host for octet in b' \t/?#@\\,;"<>')


def _other_target(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes | None]:
    """Return path and authority of a target that is no path; with a scheme in it, `Host` counts no more."""
    if method == b"CONNECT" or (target == b"*" and method == b"OPTIONS"):
        return target, host
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise MessageError(400, "a target that is no path")
    authority, slash, path = rest.partition(b"/")
    if b"?" in authority:
        authority, mark, query = rest.partition(b"?")
        return b"/?" + query, authority
    return slash + path or b"/", authority
