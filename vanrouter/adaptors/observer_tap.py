"""What passes in a flow is shown to an observer, and what that sees is told to the recorder.

Layer: 4. Source: TCP over AMQP, section 10.3; vanflow, section 9. A flow shows its tap what it has read and written.
Where there is nothing to observe, or no longer, it has no tap: what is not observed costs nothing. Nothing that an
observer meets gets through to the flow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from vanrouter.adaptors.http2_frames import PREFACE
from vanrouter.adaptors.observer_exchange import Exchange, Observer, UnobservableError
from vanrouter.adaptors.observer_http1 import Http1Observer
from vanrouter.adaptors.observer_http2 import Budget, Http2Observer
from vanrouter.core.flows import CounterpartRecord, FlowRecord, FlowRecorder
from vanrouter.errors import PeerError

NONE: Final = "none"
AUTO: Final = "auto"
HTTP1: Final = "http1"
HTTP2: Final = "http2"
"""Values of `tcpListener.observer`."""

MAX_EARLY_BYTES = 16_384
"""Octets of a server that speaks first, kept until the client has shown its protocol (section 10.3)."""

MAX_COUNTS = 500
"""Different methods and results of one listener that are counted apart."""

OTHER = ("", "", "")
"""All that are beyond it."""

_http1_logger = logging.getLogger("vanrouter.adaptors.observer_http1")
_loggers = {
    HTTP1: _http1_logger,
    HTTP2: logging.getLogger("vanrouter.adaptors.observer_http2"),
}

Look = Callable[[memoryview | bytes, float], None]


class Clock(Protocol):
    """The loop, as far as its time is concerned."""

    now: float


class _Nothing:
    """Observes nothing: what is in place of an observer that has ended."""

    def look(self, data: memoryview | bytes, now: float) -> None:
        """It is not looked at."""

    from_client = from_server = look

    def close(self, now: float) -> None:
        """Over already."""


NOTHING = _Nothing()


class Observing:
    """What the taps of one listener share."""

    __slots__ = ("budget", "clock", "counts", "kind", "recorder")

    def __init__(
        self,
        kind: str,
        clock: Clock,
        recorder: FlowRecorder,
        budget: Budget,
        counts: dict[tuple[str, str, str], int],
    ) -> None:
        self.kind = kind
        self.clock = clock
        self.recorder = recorder
        self.budget = budget
        self.counts = counts
        """Requests that have ended, by protocol, method and result."""


class Tap:
    """Shows the octets of one connection to an observer.

    Args:
        observing: of the listener.
        record: of the connection (a client's), None when it is not recorded.
        number: of the connection, for the log.
        on_end: told that nothing is observed any more: the flow goes on without this.
    """

    __slots__ = (
        "_client_said",
        "_clock",
        "_from_client",
        "_from_server",
        "_number",
        "_observer",
        "_observing",
        "_on_end",
        "_record",
        "_recorder",
        "_server_said",
        "protocol",
    )

    def __init__(
        self,
        observing: Observing,
        record: FlowRecord | CounterpartRecord | None,
        number: int,
        on_end: Callable[[], None],
    ) -> None:
        self._observing = observing
        self._clock = observing.clock
        self._recorder = observing.recorder
        self._record = record if isinstance(record, FlowRecord) else None
        self._number = number
        self._on_end = on_end
        self.protocol = "tcp"
        """`http1` while requests of HTTP/1 are followed: what the connection counts as."""
        self._observer: Observer = NOTHING
        self._from_client: Look = self._classify
        self._from_server: Look = self._keep
        self._client_said = b""
        self._server_said = b""
        """Before the protocol was known."""

    def from_client(self, data: memoryview | bytes) -> None:
        """Octets have come from the client."""
        look = self._from_client
        try:
            look(data, self._clock.now)
        except PeerError as error:
            self._end(error)

    def from_server(self, data: memoryview | bytes) -> None:
        """Octets have gone to the client."""
        look = self._from_server
        try:
            look(data, self._clock.now)
        except PeerError as error:
            self._end(error)

    def close(self) -> None:
        """The connection is over."""
        observer, self._observer = self._observer, NOTHING
        self._from_client = self._from_server = NOTHING.look
        observer.close(self._clock.now)

    def _end(self, error: PeerError) -> None:
        """There is nothing to observe any more."""
        logger = _loggers.get(self.protocol, _loggers[HTTP2])
        logger.debug("[C%d] Observed no longer: %s", self._number, error.description)
        self.close()
        self.protocol = "tcp"
        self._on_end()

    def _keep(self, data: memoryview | bytes, now: float) -> None:
        """The server speaks before the protocol is known."""
        self._server_said += data
        if len(self._server_said) > MAX_EARLY_BYTES or self._observing.kind == HTTP1:
            raise UnobservableError("the server speaks first")

    def _classify(self, data: memoryview | bytes, now: float) -> None:
        """Find out the protocol by the preface of HTTP/2: what begins otherwise may be HTTP/1."""
        before = self._client_said
        said = before + bytes(data[: len(PREFACE)])
        if len(said) < len(PREFACE) and PREFACE.startswith(said):
            self._client_said = said
            return
        observer = self._observer = self._chosen(now, has_preface=said.startswith(PREFACE))
        self._from_client, self._from_server = observer.from_client, observer.from_server
        server_said, self._server_said, self._client_said = self._server_said, b"", b""
        if before:
            observer.from_client(before, now)
        observer.from_client(data, now)
        if server_said:
            observer.from_server(server_said, now)

    def _chosen(self, now: float, *, has_preface: bool) -> Observer:
        observing = self._observing
        if observing.kind not in (AUTO, HTTP2 if has_preface else HTTP1):
            raise UnobservableError("another protocol than the one configured")
        if not has_preface:
            self.protocol = HTTP1
            return Http1Observer(self)
        if not observing.budget.admits(now):
            raise UnobservableError("too much to observe")
        return Http2Observer(self, observing.budget)

    # What the observer sees.

    def only_counts(self) -> bool:
        """Tell whether nobody takes records, and none is logged: loggers have levels of their own."""
        return _http1_logger.level > logging.DEBUG and not self._recorder.is_wanted

    def counted(self, protocol: str, method: str, result: str) -> None:
        """A request and its answer have passed."""
        if self._record is not None:
            self._record.service.requests += 1
        self._count((protocol, method, result))

    def _count(self, key: tuple[str, str, str]) -> None:
        counts = self._observing.counts
        try:
            counts[key] += 1
        except KeyError:
            if len(counts) >= MAX_COUNTS:
                key = OTHER
            counts[key] = counts.get(key, 0) + 1

    def began(self, exchange: Exchange) -> None:
        """The head of a request has passed."""
        exchange.record = self._recorder.begin_request(
            self._record, exchange.protocol, exchange.method, exchange.stream_id
        )

    def ended(self, exchange: Exchange) -> None:
        """The end of its answer has passed, or there will be none."""
        observing = self._observing
        self._count((exchange.protocol, exchange.method, exchange.result))
        record = exchange.record
        if record is not None:
            record.host = exchange.forwarded_for
            record.result = exchange.result
            record.reason = exchange.reason
            record.octets = exchange.octets
            record.octets_reverse = exchange.octets_reverse
            if exchange.answered_at is not None:
                record.latency_us = int((exchange.answered_at - exchange.began_at) * 1e6)
            self._recorder.end(record)
        logger = _loggers[HTTP2 if exchange.stream_id is not None else HTTP1]
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "[C%d] %s %s %s: %s %s, %d octets there and %d back in %.1f ms",
                self._number,
                exchange.method,
                exchange.path.decode("ascii", "backslashreplace"),
                exchange.protocol,
                exchange.result or "no answer",
                exchange.reason,
                exchange.octets,
                exchange.octets_reverse,
                (observing.clock.now - exchange.began_at) * 1e3,
            )
