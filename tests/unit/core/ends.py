"""Two ends of a stream in this process: a service that notes what it is told, and a producer that does."""

from __future__ import annotations

from vanrouter.core.stream import Producer, Sink, StreamHead


class Service:
    """A consumer of streams: each becomes a `Taken`."""

    def __init__(self) -> None:
        self.streams: list[Taken] = []
        self.answers: int | None = None
        """Outcome given at once to each stream."""

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        taken = Taken(head, producer)
        self.streams.append(taken)
        if self.answers is not None:
            producer.outcome(self.answers, True)
        return taken


class Taken:
    """A stream that has come to a service."""

    def __init__(self, head: StreamHead, producer: Producer) -> None:
        self.head = head
        self.producer = producer
        self.content = b""
        self.ended: str | None = None
        """How it ended: `finish`, `finish settled`, `abort`."""

    def push(self, data: memoryview | bytes) -> bool:
        assert self.ended is None
        self.content += bytes(data)
        return True

    def finish(self, settled: bool = False) -> None:
        assert self.ended is None
        self.ended = "finish settled" if settled else "finish"

    def abort(self) -> None:
        assert self.ended is None
        self.ended = "abort"


class Answers:
    """The producer of a stream, as far as it is answered to."""

    def __init__(self) -> None:
        self.received_so_far = 0
        self.outcomes: list[tuple[int, bool]] = []
        self.writables = 0

    def received(self, total: int) -> None:
        assert total >= self.received_so_far
        self.received_so_far = total

    def outcome(self, state: int, settled: bool) -> None:
        self.outcomes.append((state, settled))

    def writable(self) -> None:
        self.writables += 1
