"""Counts of requests: by method and status, by peer, and how long answers took. Plain counters that views read.

Layer: 4. Source: HTTP over AMQP, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vanrouter.histogram import Histogram

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets; one more holds what took longer."""

MAX_PEERS = 1024
"""Rows of one service; the requests of further peers are counted in one of no name."""

MAX_DETAILS = 256
"""Methods and statuses of one peer that are counted apart: a client may call its methods what it likes."""
OTHER_METHOD = b"OTHER"
"""Of those beyond it."""


class PeerCounts:
    """Requests of one peer: the client's host at a listener, the server's at a connector."""

    __slots__ = ("bytes_in", "bytes_out", "details", "max_latency_s", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.max_latency_s = 0.0
        self.details: dict[tuple[bytes, int], int] = {}


class RequestCounts:
    """Requests of one listener or connector.

    Args:
        direction: `in` or `out`.
        address: service address.
    """

    def __init__(self, direction: str, address: str) -> None:
        self.direction = direction
        self.address = address
        self.peers: dict[str, PeerCounts] = {}
        self.latency = Histogram(LATENCY_BOUNDS_S)
        """Requests by the seconds to the head of their answer."""
        self.retried = 0
        """Requests sent again, each time counted."""

    def peer(self, host: str) -> PeerCounts:
        """Return where the requests of a peer are counted."""
        found = self.peers.get(host)
        if found is None:
            if len(self.peers) >= MAX_PEERS:
                host = ""
            found = self.peers.setdefault(host, PeerCounts())
        return found

    def count(
        self, peer: PeerCounts, method: bytes, status: int, latency_s: float, bytes_in: int, bytes_out: int
    ) -> None:
        """A request is over.

        Args:
            peer: whose it was.
            method: as in the request line.
            status: of the answer.
            latency_s: seconds from its head to that of its answer.
            bytes_in: octets of bodies, from the peer.
            bytes_out: octets of bodies, to the peer.
        """
        peer.requests += 1
        peer.bytes_in += bytes_in
        peer.bytes_out += bytes_out
        if latency_s > peer.max_latency_s:
            peer.max_latency_s = latency_s
        details = peer.details
        key = (method, status)
        if key not in details and len(details) >= MAX_DETAILS:
            key = (OTHER_METHOD, status)
        details[key] = details.get(key, 0) + 1
        self.latency.observe(latency_s)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return the rows of `httpRequestInfo`."""
        prefix = "i" if self.direction == "in" else "o"
        for host, peer in list(self.peers.items()):
            name = f"{prefix}_{host}_{self.address}"
            yield {
                "name": name,
                "identity": name,
                "direction": self.direction,
                "address": self.address,
                "host": host,
                "site": None,
                "requests": peer.requests,
                "bytesIn": peer.bytes_in,
                "bytesOut": peer.bytes_out,
                "maxLatency": int(peer.max_latency_s * 1000),
                "details": {f"{method.decode()}:{status}": count for (method, status), count in peer.details.items()},
            }
