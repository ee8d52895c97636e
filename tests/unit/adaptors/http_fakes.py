"""Both sides of a codec, played by the test: a transport that keeps what is written, ends that keep what is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vanrouter.adaptors.http_exchange import Failure, Header, Requester, RequestHead, ResponseHead


class FakeTransport:
    def __init__(self) -> None:
        self.written = bytearray()
        self.calls: list[str] = []
        self.failure: Failure | None = None
        self.takes = True
        """What `write` answers."""
        self.is_paused = False

    def write(self, data: bytes | memoryview) -> bool:
        assert "close" not in self.calls
        assert "abort" not in self.calls
        self.written += data
        return self.takes

    def take(self) -> bytes:
        written, self.written = bytes(self.written), bytearray()
        return written

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def finish(self) -> None:
        self.calls.append("finish")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self, failure: Failure | None = None) -> None:
        self.calls.append("abort")
        self.failure = failure

    @property
    def is_closed(self) -> bool:
        return "close" in self.calls or "abort" in self.calls


class FakeExchange:
    """A responder that keeps the request; the test answers through `requester`."""

    def __init__(self, head: RequestHead, requester: Requester) -> None:
        self.head = head
        self.requester = requester
        self.body = bytearray()
        self.trailers: Sequence[Header] | None = None
        self.has_ended = head.length == 0
        self.cancelled: Failure | None = None
        self.resumed = 0
        self.takes = True

    def data(self, data: bytes | memoryview) -> bool:
        assert not self.has_ended
        self.body += data
        return self.takes

    def last(self, data: bytes | memoryview) -> None:
        self.data(data)
        self.end()

    def end(self, trailers: Sequence[Header] = ()) -> None:
        assert not self.has_ended
        self.has_ended = True
        self.trailers = trailers

    def cancel(self, failure: Failure) -> None:
        assert self.cancelled is None
        self.cancelled = failure

    def resume(self) -> None:
        self.resumed += 1

    def answer(self, status: int = 200, body: bytes = b"", headers: list[Header] | None = None) -> None:
        """Answer with a body of known length."""
        fields = [(b"Content-Length", b"%d" % len(body)), *(headers or [])]
        self.requester.on_response(ResponseHead(status, fields, length=len(body)))
        if body:
            self.requester.on_data(body)
            self.requester.on_end()


class FakeHandler:
    def __init__(self) -> None:
        self.exchanges: list[FakeExchange] = []

    def begin(self, head: RequestHead, requester: Requester) -> FakeExchange:
        self.exchanges.append(FakeExchange(head, requester))
        return self.exchanges[-1]

    @property
    def last(self) -> FakeExchange:
        return self.exchanges[-1]


class FakeRequester:
    def __init__(self) -> None:
        self.informational: list[int] = []
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.trailers: Sequence[Header] | None = None
        self.has_ended = False
        self.failure: Failure | None = None
        self.resumed = 0
        self.takes = True

    def on_informational(self, head: ResponseHead) -> None:
        self.informational.append(head.status)

    def on_response(self, head: ResponseHead) -> None:
        assert self.head is None
        self.head = head
        self.has_ended = head.length == 0

    def on_data(self, data: bytes | memoryview) -> bool:
        assert self.head is not None
        assert not self.has_ended
        self.body += data
        return self.takes

    def on_last(self, data: bytes | memoryview) -> None:
        self.on_data(data)
        self.on_end()

    def on_end(self, trailers: Sequence[Header] = ()) -> None:
        assert not self.has_ended
        self.has_ended = True
        self.trailers = trailers

    def on_failure(self, failure: Failure) -> None:
        assert self.failure is None
        assert not self.has_ended
        self.failure = failure

    def on_resume(self) -> None:
        self.resumed += 1


class FakeOwner:
    def __init__(self) -> None:
        self.with_room: list[Any] = []
        self.gone: list[Any] = []

    def on_room(self, codec: Any) -> None:
        self.with_room.append(codec)

    def on_gone(self, codec: Any) -> None:
        self.gone.append(codec)
