"""Who is told of requests, in the tests of observers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vanrouter.adaptors.observer_exchange import Exchange, Observer
from vanrouter.core.stream import COPIED_BYTES


class Seen:
    """Keeps what it is told."""

    def __init__(self, *, only_counts: bool = False) -> None:
        self.open: list[Exchange] = []
        self.exchanges: list[Exchange] = []
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.wants_counts = only_counts

    def only_counts(self) -> bool:
        return self.wants_counts

    def counted(self, protocol: str, method: str, result: str) -> None:
        self.counts[protocol, method, result] += 1

    def began(self, exchange: Exchange) -> None:
        self.open.append(exchange)

    def ended(self, exchange: Exchange) -> None:
        self.open.remove(exchange)
        self.exchanges.append(exchange)
        self.counts[exchange.protocol, exchange.method, exchange.result] += 1

    def rows(self) -> list[tuple[Any, ...]]:
        """Return method, path, result and octets of the bodies of all that has ended."""
        return [
            (seen.method, seen.path.decode(), seen.result, seen.octets, seen.octets_reverse) for seen in self.exchanges
        ]


def feed(observer: Observer, pieces: list[tuple[str, bytes]]) -> None:
    """Show octets: `c` from the client, `s` from the server. Some as copies, some as views, as a flow does."""
    for number, (side, data) in enumerate(pieces):
        shown = data if len(data) <= COPIED_BYTES else memoryview(data)
        (observer.from_client if side == "c" else observer.from_server)(shown, float(number))


def cut(pieces: list[tuple[str, bytes]], sizes: list[int]) -> list[tuple[str, bytes]]:
    """Cut each piece into such sizes, again and again."""
    made: list[tuple[str, bytes]] = []
    turn = 0
    for side, data in pieces:
        while data:
            size = sizes[turn % len(sizes)]
            turn += 1
            made.append((side, data[:size]))
            data = data[size:]
    return made
