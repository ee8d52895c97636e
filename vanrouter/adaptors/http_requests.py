"""One request on its way between two codecs: counted, limited in time and, at a listener, tried again elsewhere.

Layer: 4. Source: extensions (retry, requestTimeoutSeconds, forwardedHeaders); RFC 9110 section 9.2.2.

    codec of the client  --Handler.begin-->  RoutedRequest  -->  client codec on a new stream    (at a listener)
    codec of the stream  --Handler.begin-->  ServedRequest  -->  client codec of a connection    (at a connector)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vanrouter.adaptors.http_codecs import CLIENT_CODECS, STREAM_VERSIONS
from vanrouter.adaptors.http_config import SAFE
from vanrouter.adaptors.http_exchange import (
    HTTP_1_0,
    HTTP_1_1,
    HTTP_2,
    ClientCodec,
    Failure,
    Header,
    Requester,
    RequestHead,
    Responder,
    ResponseHead,
)
from vanrouter.adaptors.http_stream import RequestStream
from vanrouter.net.wheel import Timed, Wheel

if TYPE_CHECKING:
    from vanrouter.adaptors.http_connector import HttpConnector
    from vanrouter.adaptors.http_listener import HttpListener
    from vanrouter.adaptors.http_shared import Shared
    from vanrouter.adaptors.http_statistics import PeerCounts, RequestCounts
    from vanrouter.core.flows import FlowRecord, RequestRecord

RETRIES = 8
"""Further tries of one request, elsewhere if there is an elsewhere."""
QUICK_RETRIES_LEFT = RETRIES - 3
LAST_RETRY_S = 0.4
"""Three tries follow at once; then each wait is twice the one before, the last so long: all of them within 0.8 s. In a
network that has just come up, or changes, a router on the way may know less than this one for a moment."""
MAX_REPLAYED_BYTES = 64 * 1024
"""Of a body, kept to be sent again: a request that is longer is not tried again once it is on its way."""


_PROTOCOLS = {HTTP_1_0: "HTTP/1.0", HTTP_1_1: "HTTP/1.1", HTTP_2: "HTTP/2"}
"""As records name them."""


class Nobody:
    """The responder of an exchange that has failed before it began."""

    __slots__ = ()

    def data(self, data: bytes | memoryview) -> bool:
        """Throw away."""
        return True

    def last(self, data: bytes | memoryview) -> None:
        """Throw away."""

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """Nothing to do."""

    def cancel(self, failure: Failure) -> None:
        """Nothing to do."""

    def resume(self) -> None:
        """Nothing to do."""


NOBODY = Nobody()


class RelayedRequest:
    """What both ends of the way have in common: everything is passed on, and counted when it is over."""

    __slots__ = (
        "_began_at",
        "_bytes_in",
        "_bytes_out",
        "_bytes_seen",
        "_counts",
        "_has_ended",
        "_inner",
        "_is_over",
        "_is_tunnel",
        "_latency_s",
        "_limit_s",
        "_outer",
        "_peer",
        "_reactor",
        "_status",
        "_wheel",
        "bucket",
        "head",
    )

    def __init__(
        self,
        head: RequestHead,
        outer: Requester,
        counts: RequestCounts,
        peer: PeerCounts,
        shared: Shared,
        limit_s: float,
    ) -> None:
        self.head = head
        self._outer = outer
        self._inner: Responder = NOBODY
        self._counts = counts
        self._peer = peer
        self._reactor = shared.reactor
        self._wheel = shared.wheel
        self._limit_s = limit_s
        self._began_at = shared.reactor.now
        self._latency_s = -1.0
        self._status = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._bytes_seen = 0
        self._has_ended = head.length == 0
        self._is_tunnel = False
        self._is_over = False
        self.bucket: set[Timed] | None = None
        if limit_s:
            self._limit()

    # Requester of the codec behind.

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx answer."""
        self._outer.on_informational(head)

    def on_response(self, head: ResponseHead) -> None:
        """The final answer begins."""
        self._status = status = head.status
        self._latency_s = self._reactor.now - self._began_at
        if self.bucket is not None:
            Wheel.cancel(self)
        self._is_tunnel = status == 101 or (self.head.method == b"CONNECT" and status < 300)
        if head.length == 0:
            self._over()
        self._outer.on_response(head)

    def on_data(self, data: bytes | memoryview) -> bool:
        """Octets of the answer."""
        self._bytes_out += len(data)
        return self._outer.on_data(data)

    def on_last(self, data: bytes | memoryview) -> None:
        """The last octets of the answer."""
        self._bytes_out += len(data)
        self._over()
        self._outer.on_last(data)

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        """The answer is complete."""
        if self._is_tunnel and not self._has_ended:
            self._is_tunnel = False
        else:
            self._over()
        self._outer.on_end(trailers)

    def on_failure(self, failure: Failure) -> None:
        """There is no answer."""
        self._status = self._status or failure.status
        self._over()
        self._outer.on_failure(failure)

    def on_resume(self) -> None:
        """The codec behind takes octets again."""
        self._outer.on_resume()

    # Responder of the codec in front.

    def data(self, data: bytes | memoryview) -> bool:
        """Octets of the request."""
        self._bytes_in += len(data)
        return self._inner.data(data)

    def last(self, data: bytes | memoryview) -> None:
        """The last octets of the request."""
        self._bytes_in += len(data)
        self._has_ended = True
        inner = self._inner
        if self._status and not self._is_over:  # the other direction has ended before
            self._over()
        inner.last(data)

    def end(self, trailers: Sequence[Header] = ()) -> None:
        """The request is complete; of a tunnel, this direction."""
        self._has_ended = True
        inner = self._inner
        if self._status and not self._is_tunnel and not self._is_over:  # the other direction has ended before
            self._over()
        inner.end(trailers)

    def cancel(self, failure: Failure) -> None:
        """The client has gone."""
        inner = self._inner
        self._status = self._status or failure.status
        self._over()
        inner.cancel(failure)

    def resume(self) -> None:
        """The client takes octets again."""
        self._inner.resume()

    # Its end.

    def _limit(self) -> None:
        """Begin to wait for the answer."""
        self._bytes_seen = self._bytes_in
        self._wheel.schedule(self, self._limit_s)

    def on_deadline(self, now: float) -> None:
        """No answer in time; a request that is still coming in has its time from its last octet on."""
        if self._status or self._is_over:
            return
        if self._bytes_in != self._bytes_seen:
            self._limit()
            return
        inner, self._inner = self._inner, NOBODY
        self._status = Failure.TIMED_OUT.status
        self._over()
        inner.cancel(Failure.TIMED_OUT)
        self._outer.on_failure(Failure.TIMED_OUT)

    def _over(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._inner = NOBODY  # it knows this request: a circle would wait for the collector
        if self.bucket is not None:
            Wheel.cancel(self)
        latency_s = self._latency_s
        if latency_s < 0:
            latency_s = self._reactor.now - self._began_at
        self._counts.count(self._peer, self.head.method, self._status, latency_s, self._bytes_in, self._bytes_out)


class RoutedRequest(RelayedRequest):
    """A request at a listener: it goes out as a stream of its own, to the service that the router chooses."""

    __slots__ = ("_is_too_long", "_listener", "_record", "_replay", "_retries", "_trailers")

    def __init__(self, listener: HttpListener, head: RequestHead, outer: Requester, peer: PeerCounts) -> None:
        shared = listener.shared
        super().__init__(head, outer, listener.counts, peer, shared, listener.config.request_timeout_s)
        self._listener = listener
        self._retries = RETRIES if listener.config.retry == SAFE else 0
        self._record: RequestRecord | None = None
        self._replay: bytearray | None = None
        self._is_too_long = False
        """There is more of its body than is kept."""
        self._trailers: Sequence[Header] = ()

    def record_under(self, flow: FlowRecord) -> None:
        """Have a record of the request written, under that of its connection, if anybody listens."""
        head = self.head
        record = self._listener.shared.recorder.begin_request(flow, _PROTOCOLS[head.version], head.method.decode())
        if record is not None:
            self._record = record
            for name, value in head.headers:
                if name.lower() == b"x-forwarded-for":
                    record.host = value.partition(b",")[0].strip().decode("ascii", "replace")
                    break

    def _over(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            record.result = str(self._status)
            record.octets = self._bytes_in
            record.octets_reverse = self._bytes_out
            if self._latency_s >= 0:
                record.latency_us = int(self._latency_s * 1e6)
            self._listener.shared.recorder.end(record)
        super()._over()

    def begin(self) -> None:
        """Send it, or send it again."""
        listener = self._listener
        if listener.messages is not None:
            self._inner = listener.messages.begin(self.head, self)
            return
        config = listener.config
        stream = RequestStream(listener.shared, listener.shared.replies)
        codec: ClientCodec = CLIENT_CODECS[config.protocol](stream, self, config.limits, is_single=True)
        stream.codec = codec
        stream.open(listener.to, STREAM_VERSIONS[config.protocol], listener.shared.next_flow_identity())
        is_refused = stream.is_lost
        self._inner = codec.begin(self.head, self)
        if is_refused:
            listener.shared.reactor.call_soon(lambda: self.on_failure(Failure.NO_SERVICE))

    # Owner of the codec: it is of one exchange, and nothing follows.

    def on_room(self, codec: ClientCodec) -> None:
        """No other exchange is begun there."""

    def on_gone(self, codec: ClientCodec) -> None:
        """It was for this exchange alone."""

    def data(self, data: bytes | memoryview) -> bool:
        self._keep(data)
        return super().data(data)

    def last(self, data: bytes | memoryview) -> None:
        self._keep(data)
        super().last(data)

    def _keep(self, data: bytes | memoryview) -> None:
        """Keep octets for another try, as long as there may be one."""
        if not self._status and (self._retries or self._inner is NOBODY):
            if self._replay is None:
                self._replay = bytearray()
            self._replay += data
            if len(self._replay) > MAX_REPLAYED_BYTES:
                self._retries = 0
                self._replay = None
                self._is_too_long = True

    def end(self, trailers: Sequence[Header] = ()) -> None:
        self._trailers = trailers
        super().end(trailers)

    def on_failure(self, failure: Failure) -> None:
        if not self._may_retry(failure):
            super().on_failure(failure)
            return
        self._retries -= 1
        self._counts.retried += 1
        if self._retries >= QUICK_RETRIES_LEFT:
            self._repeat()
            return
        self._inner = NOBODY
        delay_s = LAST_RETRY_S / (1 << self._retries)
        self._reactor.call_later(delay_s, lambda: self._repeat_or_fail(failure))

    def _repeat_or_fail(self, failure: Failure) -> None:
        if self._is_over:  # the client has gone, or its time is up
            return
        if self._is_too_long:
            super().on_failure(failure)
            return
        self._repeat()

    def _repeat(self) -> None:
        self.begin()
        if self._replay:
            self._inner.data(bytes(self._replay))
        if self._has_ended and self.head.length != 0:
            self._inner.end(self._trailers)
        self._outer.on_resume()

    def _may_retry(self, failure: Failure) -> bool:
        if not self._retries or self._status or self._is_over or not self._listener.is_reachable:
            return False
        return failure is Failure.NO_SERVICE or (failure is Failure.UNANSWERED and self.head.is_safe)


class ServedRequest(RelayedRequest):
    """A request at a connector: it goes to the server on a connection of the pool."""

    __slots__ = ("_connector", "_may_repeat")

    def __init__(self, connector: HttpConnector, head: RequestHead, outer: Requester) -> None:
        shared = connector.shared
        limit_s = connector.config.request_timeout_s
        super().__init__(head, outer, connector.counts, connector.peer_counts, shared, limit_s)
        self._connector = connector
        self._may_repeat = False

    def begin(self) -> None:
        """Send it to the server."""
        pool = self._connector.pool
        # A server may close an idle connection at the moment when a request is under way to it (RFC 9112, 9.3.1).
        self._may_repeat = bool(pool.ready) and self.head.length == 0 and self.head.is_safe
        self._inner = pool.begin(self.head, self)

    def on_failure(self, failure: Failure) -> None:
        if self._may_repeat and not self._status and failure is Failure.UNANSWERED:
            self._may_repeat = False
            self._counts.retried += 1
            self._inner = self._connector.pool.begin_on_new(self.head, self)
        else:
            super().on_failure(failure)
