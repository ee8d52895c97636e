"""Who is told of requests, in the tests of observers."""

from __future__ import annotations

from typing import Any

from vanrouter.adaptors.observer_exchange import Exchange, Observer


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.open: list[Exchange] = []
        self.exchanges: list[Exchange] = []

    def began(self, exchange: Exchange) -> None:
        self.open.append(exchange)

    def ended(self, exchange: Exchange) -> None:
        self.open.remove(exchange)
        self.exchanges.append(exchange)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return method, path, result and octets of the bodies of all that has ended."""
        return [
            (seen.method, seen.path.decode(), seen.result, seen.octets, seen.octets_reverse) for seen in self.exchanges
        ]


def feed(observer: Observer, pieces: list[tuple[str, bytes]]) -> None:
    """Show octets: `c` from the client, `s` from the server."""
    for number, (side, data) in enumerate(pieces):
        (observer.from_client if side == "c" else observer.from_server)(memoryview(data), float(number))


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
