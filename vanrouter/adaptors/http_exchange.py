"""The seam between the two ends of one HTTP exchange, and between a codec and what carries its octets.

Layer: 4, no input or output of its own. An exchange is one request and its answer. Whoever speaks HTTP with clients
begins it at a `Handler`; from there on the two ends call each other directly:

    request ->  the requester's end  --begin, data, last, end, cancel-->                                Responder
    answer  <-  Requester  <--on_informational, on_response, on_data, on_last, on_end, on_failure--  the responder's end

Contract:

* A message whose head says `length == 0` ends with its head: neither `data` nor `end` follows. Otherwise `end` closes
  it, or `last`: octets known to be its last, in one call with the end. So most messages cost one frame, not two.
* `begin` calls nothing of the requester before it returns. Every other call may come from within any other.
* `data` takes all octets during the call; a memoryview is valid during the call only. False asks for silence until
  `Requester.on_resume()` (request) or `Responder.resume()` (response); what had been read already may still come.
* After `cancel`, `on_failure` or the end of the response nothing more is called on either end: the exchange is over. A
  response that ends before its request does ends the exchange too.
* Several 1xx heads may come before the one final head. After a head with status 101, and after a 2xx answer to
  CONNECT, the octets of both directions are a tunnel: `data` in both directions, `end` half-closes, and the exchange
  is over when both directions have ended.

Heads carry no framing and nothing that is for one connection only: the codec that reads a head takes out `Connection`
and what it names, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `Upgrade`, `Host` and pseudo header fields,
and the codec that writes one puts in what its protocol needs. `Content-Length` stays in the list, checked; `TE` stays
only as `trailers`. Source: RFC 9110 sections 6 and 7; HTTP over AMQP, section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

Header = tuple[bytes, bytes]
"""Name and value. Names in the letter case of the reader: as they came over HTTP/1.1, lower case over HTTP/2."""

HTTP_1_0, HTTP_1_1, HTTP_2 = 10, 11, 20

SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""What may be sent twice: the idempotent methods (RFC 9110, section 9.2.2)."""


class HeadLimits:
    """How long heads and trailers may be."""

    __slots__ = ("max_bytes", "max_fields")

    def __init__(self, max_bytes: int = 65536, max_fields: int = 128) -> None:
        self.max_bytes = max_bytes
        """Octets of a whole head, its first line included."""
        self.max_fields = max_fields


class RequestHead:
    """The head of a request."""

    __slots__ = ("authority", "headers", "length", "method", "scheme", "target", "upgrade", "version")

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        *,
        authority: bytes | None = None,
        length: int | None = 0,
        scheme: bytes = b"http",
        upgrade: bytes | None = None,
        version: int = HTTP_1_1,
    ) -> None:
        self.method = method
        self.target = target
        """As in the request line: a path with its query, or what CONNECT and OPTIONS have instead."""
        self.headers = headers
        """In their order. Replaced, never changed: heads that were seen before share theirs."""
        self.authority = authority
        """Value of `Host` or `:authority`; None when there was none (HTTP/1.0)."""
        self.length = length
        """Octets of the body, 0 when it has none; None: told by its end. A tunnel: None."""
        self.scheme = scheme
        self.upgrade = upgrade
        """Protocol that the client would like to change to (`Upgrade` when `Connection` names it)."""
        self.version = version
        """Of the connection that it was read from."""

    @property
    def is_safe(self) -> bool:
        """Whether it may be sent twice."""
        return self.method in SAFE_METHODS and self.upgrade is None


class ResponseHead:
    """The head of a response, or of an informational one before it."""

    __slots__ = ("headers", "is_last", "length", "reason", "status", "upgrade", "version")

    def __init__(
        self,
        status: int,
        headers: list[Header],
        *,
        reason: bytes = b"",
        length: int | None = 0,
        upgrade: bytes | None = None,
        version: int = HTTP_1_1,
        is_last: bool = False,
    ) -> None:
        self.status = status
        self.headers = headers
        """In their order. Replaced, never changed: heads that were seen before share theirs."""
        self.reason = reason
        self.length = length
        """Octets that follow: 0 for HEAD, 204, 304 and 1xx whatever `Content-Length` says; None: told by the end."""
        self.upgrade = upgrade
        """With status 101: the protocol changed to."""
        self.version = version
        self.is_last = is_last
        """A connection of HTTP/1 is closed behind it; HTTP/2 knows nothing of the kind."""


class Failure(Enum):
    """Why an exchange ended before its response did: status and words for the client, and error code of HTTP/2."""

    NO_SERVICE = (503, 0x7, "no service took the request")
    """Nothing of it reached a server, and anybody else may try (REFUSED_STREAM)."""
    UNANSWERED = (502, 0x2, "the server was lost before it answered")
    """Some of the request reached it (INTERNAL_ERROR)."""
    BAD_RESPONSE = (502, 0x1, "the server's answer is not HTTP")
    """PROTOCOL_ERROR."""
    BROKEN = (502, 0x2, "the server was lost in the middle of its answer")
    """INTERNAL_ERROR."""
    TIMED_OUT = (504, 0x8, "the server did not answer in time")
    """CANCEL."""
    BAD_REQUEST = (400, 0x1, "the request is not HTTP")
    """Found in its body (PROTOCOL_ERROR)."""
    TOO_LONG = (413, 0x8, "a request that goes to several services at once is kept whole: it may have 16 MiB")
    """`core.fanout.MAX_COPY_BYTES` (CANCEL)."""
    ANSWERS_TOO_LONG = (502, 0x2, "the answers of all services together are longer than the 16 MiB that are collected")
    """`http_aggregation.MAX_COLLECTED_BYTES` (INTERNAL_ERROR)."""
    CANCELLED = (499, 0x8, "the client did not wait for the answer")
    """CANCEL. The status is for statistics only."""

    def __init__(self, status: int, error_code: int, reason: str) -> None:
        self.status = status
        self.error_code = error_code
        self.reason = reason


class Requester(Protocol):
    """The end that the request comes from; what is answered goes to it."""

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx answer, 101 excepted."""

    def on_response(self, head: ResponseHead) -> None:
        """The final answer, or 101."""

    def on_data(self, data: bytes | memoryview) -> bool:
        """Octets of the response; False: no more until `Responder.resume()`."""

    def on_last(self, data: bytes | memoryview) -> None:
        """The last octets of the response, which is complete; not of a tunnel."""

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        """The response is complete."""

    def on_failure(self, failure: Failure) -> None:
        """There will be no (more) response; the exchange is over."""

    def on_resume(self) -> None:
        """The responder takes octets again, after a `data` that answered False."""


class Responder(Protocol):
    """The end that the request goes to."""

    def data(self, data: bytes | memoryview) -> bool:
        """Octets of the request; False: no more until `Requester.on_resume()`."""

    def last(self, data: bytes | memoryview) -> None:
        """The last octets of the request, which is complete; not of a tunnel."""

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """The request is complete."""

    def cancel(self, failure: Failure) -> None:
        """The requester has gone, or broken its request off; the exchange is over."""

    def resume(self) -> None:
        """The requester takes octets again, after an `on_data` that answered False."""


class Handler(Protocol):
    """Takes exchanges."""

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """An exchange begins. What cannot be served is told by `on_failure`, after this call."""


class Transport(Protocol):
    """Carries the octets of one connection: a socket, or a pair of streams through the router."""

    def write(self, data: bytes | memoryview) -> bool:
        """Take all of `data` during the call; False: please no more until `Codec.on_writable()`."""

    def pause(self) -> None:
        """Call `Codec.receive` no more until `resume()`; what had been read already may still come."""

    def resume(self) -> None:
        """Go on."""

    def finish(self) -> None:
        """No more octets go out (half-close), after those that wait."""

    def close(self) -> None:
        """Both directions have ended well: write what waits, then end. No call of the codec follows."""

    def abort(self, failure: Failure | None = None) -> None:
        """End at once, in the middle of something. No call of the codec follows.

        `failure`: what a server codec with `is_single` says when nothing of an answer has gone out and its exchange
        ended with NO_SERVICE or UNANSWERED: the other end decides whether to try elsewhere. Other failures it answers.
        """


class Codec(Protocol):
    """Speaks HTTP on a transport. The transport calls; it never calls from within a call of its own."""

    def receive(self, data: bytes | memoryview) -> None:
        """Octets have come; a memoryview is valid during the call only."""

    def receive_end(self) -> None:
        """The other end sends no more (half-close)."""

    def on_lost(self, is_refused: bool) -> None:
        """The transport is gone, both ways. `is_refused`: nothing that was written has reached anybody."""

    def on_writable(self) -> None:
        """The transport takes octets again, after a `write` that answered False."""


class ServerCodec(Codec, Protocol):
    """Speaks with a client: reads requests, begins exchanges at a handler, writes the answers.

    Made as `codec(transport, handler, limits, scheme=b"http", is_single=False)`. `is_single`: the transport carries one
    exchange, which ends it.
    """

    def drain(self) -> None:
        """Take no new requests; close when those in progress are answered."""


class ClientCodec(Codec, Protocol):
    """Speaks with a server: a handler that takes as many exchanges at a time as it has `room` for.

    Made as `codec(transport, owner, limits, is_single=False)`. `is_single`: the transport carries one exchange; what is
    written on it must end by itself, since a plain TCP connector may take it to a server (HTTP over AMQP, section 6).
    """

    room: int
    """Exchanges that may begin now: 0 or 1 over HTTP/1.1, up to the server's limit over HTTP/2."""

    def begin(self, head: RequestHead, requester: Requester) -> Responder:
        """An exchange begins; `room` must have been above 0."""


class ClientOwner(Protocol):
    """Who keeps client codecs: the pool of connections to a server, or the one stream of a request."""

    def on_room(self, codec: ClientCodec) -> None:
        """An exchange is over, and `room` is above 0."""

    def on_gone(self, codec: ClientCodec) -> None:
        """No exchange may begin there any more; those in progress may still be answered."""
