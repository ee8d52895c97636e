"""What an observer of a protocol sees: requests with their answers, told as they pass.

Layer: 4, no input or output of its own. Source: TCP over AMQP, section 10.3; vanflow, section 9. An observer is given a
copy of the octets of both directions and the time, and calls a `Requests`. It never changes an octet; what it cannot
follow ends the observing (`UnobservableError`) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from vanrouter.errors import PeerError

MAX_HELD_BYTES = 65_535
"""Octets of an incomplete head, line or frame that are kept; a longer one ends the observing (section 10.3)."""

MAX_OPEN = 1000
"""Requests of one connection without an answer; more end the observing."""


class UnobservableError(PeerError):
    """The octets are not of the protocol, or not such that it is worth while to follow them."""

    def __init__(self, reason: str) -> None:
        super().__init__("vanrouter:unobservable", reason)


class Exchange:
    """A request and its answer, as far as they have been seen."""

    __slots__ = (
        "answered_at",
        "began_at",
        "forwarded_for",
        "method",
        "octets",
        "octets_reverse",
        "path",
        "protocol",
        "reason",
        "record",
        "result",
        "stream_id",
    )

    def __init__(
        self, protocol: str, method: str, path: bytes, began_at: float, stream_id: int | None, forwarded_for: str
    ) -> None:
        self.protocol = protocol
        """`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""
        self.method = method
        self.path = path
        """Without the query."""
        self.began_at = began_at
        """Seconds of the loop's clock."""
        self.answered_at: float | None = None
        """When the head of the final answer passed."""
        self.stream_id = stream_id
        self.forwarded_for = forwarded_for
        """The first of X-Forwarded-For; empty without one."""
        self.result = ""
        """Status code; empty without an answer."""
        self.reason = ""
        self.octets = 0
        """Of the body of the request."""
        self.octets_reverse = 0
        """Of the body of the answer."""
        self.record: Any = None
        """For who is told."""


class Requests(Protocol):
    """Who is told of them."""

    def only_counts(self) -> bool:
        """Tell whether requests are only counted at the moment, and nobody wants to know when they began."""

    def counted(self, protocol: str, method: str, result: str) -> None:
        """A request and its answer have passed of which `began` and `ended` were not told."""

    def began(self, exchange: Exchange) -> None:
        """The head of a request has passed."""

    def ended(self, exchange: Exchange) -> None:
        """The end of its answer has passed, or there will be none."""


class Observer(Protocol):
    """Follows one connection. After UnobservableError, or any PeerError, it is not to be called but for `close`."""

    @property
    def from_client(self) -> Callable[[memoryview | bytes, float], None]:
        """To be called with octets that have come from the client, and the time."""

    @property
    def from_server(self) -> Callable[[memoryview | bytes, float], None]:
        """To be called with octets that have gone to the client, and the time."""

    def close(self, now: float) -> None:
        """The connection is over, or is observed no longer: so are its requests."""


def first_of(forwarded_for: bytes) -> str:
    """Return the first address of an X-Forwarded-For field."""
    return forwarded_for.partition(b",")[0].strip().decode("latin-1")
