from typing import Any

import pytest

from tests.unit.adaptors.http_site import FakeProducer
from tests.unit.adaptors.streams import Loop
from vanrouter.adaptors import http_shared
from vanrouter.adaptors.http_shared import Shared
from vanrouter.core.stream import (
    NOWHERE,
    RELEASED,
    StreamHead,
)
from vanrouter.engine.messages import encode_stream_head


class Stream:
    def on_stream(self, head: StreamHead, producer: Any) -> Any:
        return self


def test_reply_addresses_are_used_again_when_they_are_clean(loop: Loop) -> None:
    shared = Shared(loop.router, "t1")
    assert shared.address_prefix == "t1/"
    stream: Any = Stream()
    first = shared.replies.take(stream)
    assert first.on_stream(StreamHead(to=first.address), FakeProducer()) is stream
    shared.replies.give_back(first, is_clean=True)
    shared.replies.give_back(first, is_clean=False)  # once only
    assert shared.replies.take(stream) is first
    shared.replies.give_back(first, is_clean=False)
    second = shared.replies.take(stream)
    assert second.address != first.address
    assert first.address not in loop.router.subscriptions


def test_what_comes_late_is_released(loop: Loop) -> None:
    shared = Shared(loop.router)
    reply = shared.replies.take(Stream())  # type: ignore[arg-type]
    shared.replies.give_back(reply, is_clean=True)
    producer = FakeProducer()
    sink = reply.on_stream(StreamHead(to=reply.address), producer)
    assert sink is NOWHERE
    assert producer.outcomes == [RELEASED]
    assert sink.push(b"x")
    sink.finish()
    sink.abort()


def test_spare_addresses_are_bounded(loop: Loop, monkeypatch: Any) -> None:
    monkeypatch.setattr(http_shared, "MAX_SPARE_REPLIES", 1)
    shared = Shared(loop.router)
    replies = [shared.replies.take(Stream()) for _ in range(3)]  # type: ignore[arg-type]
    for reply in replies:
        shared.replies.give_back(reply, is_clean=True)
    assert len(loop.router.subscriptions) == 1


def test_flow_identities_are_distinct(loop: Loop) -> None:
    shared = Shared(loop.router)
    first, second = shared.next_flow_identity(), shared.next_flow_identity()
    assert first != second
    assert first.split(":")[0] == second.split(":")[0]


def test_heads_differ_in_their_identity_alone(loop: Loop) -> None:
    heads = Shared(loop.router).heads
    for to, protocol, identity in zip("aaabx", "11221", ("x:1", "x:2", "x:3", "x:33", "x:4"), strict=True):
        assert heads.encode(to, "r", identity, protocol) == encode_stream_head(to, "r", identity, http=protocol)
    for identity in ("a", "application/octet-stream", "\x7f", "ü" * 200, "V"):
        for _ in range(2):
            assert heads.encode("to", None, identity) == encode_stream_head("to", None, identity)


def test_heads_are_forgotten_when_there_are_too_many(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.http_shared.MAX_KNOWN_HEADS", 2)
    heads = Shared(loop.router).heads
    for to in "abcabc":
        assert heads.encode(to, None, "x:1") == encode_stream_head(to, None, "x:1")
    assert len(heads._known) <= 2
