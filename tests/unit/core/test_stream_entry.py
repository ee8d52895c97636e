"""Streams for a service of this process: the short way and the general one come to the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.ends import Answers, Service, Taken
from tests.unit.core.engines import ACCEPTED, MODIFIED, RELEASED, World
from vanrouter.core import forwarder
from vanrouter.core.stream import STREAM_FLAGS, Sink
from vanrouter.engine.encoding import encode
from vanrouter.engine.messages import STREAM_MARKER, encode_stream_head

HEAD = encode_stream_head("svc", "amqp:/_topo/0/A/temp.x", "id:1", http="1")


class Pair:
    """Two routers; a service at the second."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.near, self.far = world.chain("A", "B", **options)
        self.service = Service()
        self.far.subscribe_stream("svc", self.service)
        world.until(lambda: "Msvc" in self.near.table.addresses)
        world.settle()

    def open(self, content: bytes = b"", head: bytes = HEAD) -> tuple[Answers, Sink]:
        answers = Answers()
        sink = self.near.open_stream("svc", head, STREAM_FLAGS, answers)
        if content:
            sink.push(content)
        self.rest()
        return answers, sink

    @property
    def last(self) -> Taken:
        return self.service.streams[-1]

    def rest(self) -> None:
        self.world.settle()
        self.world.check()


@pytest.fixture
def pair(world: World) -> Pair:
    return Pair(world)


class Counted:
    """How many deliveries the forwarder took for pending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        general = forwarder.Pending

        def pending(*arguments: Any) -> Any:
            self.count += 1
            return general(*arguments)

        monkeypatch.setattr(forwarder, "Pending", pending)


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def story(pair: Pair, **more: Any) -> tuple[Any, ...]:
    answers, sink = pair.open(b"hello ", **more)
    taken = pair.last
    before = taken.content
    sink.push(bytes(300_000))
    pair.rest()
    taken.producer.received(5)
    pair.rest()
    sink.finish()
    pair.rest()
    taken.producer.outcome(ACCEPTED, True)
    pair.rest()
    assert taken.content == b"hello " + bytes(300_000)
    return taken.head, before, taken.ended, answers.received_so_far, answers.outcomes


def test_both_ways_come_to_the_same(pair: Pair, general: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    short = story(pair)
    assert general.count == 0
    monkeypatch.setattr(forwarder, "take_beginning", lambda *_: False)
    assert story(pair) == short
    assert general.count == 1


@pytest.mark.parametrize("content_type", [None, "text/plain"])
def test_other_encapsulations_go_the_general_way(pair: Pair, general: Counted, content_type: str | None) -> None:
    properties = encode((None, None, "svc", None, "reply", "id", content_type))
    pair.open(b"x", b"\x00\x53\x73" + properties + b"\x00\x53\x74" + encode({"V": 1}) + STREAM_MARKER)
    assert general.count == 1
    assert pair.last.head.content_type == content_type


@pytest.mark.parametrize(
    "head",
    [HEAD[:-1] + b"\x41", HEAD[:-4] + b"\x00\x53\x75\xa0\x00", HEAD[:40], HEAD.replace(b"svc", b"\xff\xfe\xfd")],
    ids=("another body", "an empty data section", "half a header", "no text"),
)
def test_what_is_wrong_goes_the_general_way(pair: Pair, general: Counted, head: bytes) -> None:
    pair.open(b"x", head)
    assert general.count == 1


def test_a_choice_is_made_by_the_general_way(pair: Pair, general: Counted) -> None:
    other = Service()
    pair.far.subscribe_stream("svc", other)
    for _ in range(4):
        pair.open(b"x")
    assert general.count == 4
    assert len(pair.service.streams) == len(other.streams) == 2


def test_whole_streams(pair: Pair) -> None:
    """They come with all their octets, and their outcome goes back."""
    for state, content in zip((ACCEPTED, RELEASED, ACCEPTED), (b"", b"hello", bytes(16_000)), strict=True):
        answers = Answers()
        assert pair.near.send_stream("svc", HEAD + content, STREAM_FLAGS, answers)
        pair.rest()
        taken = pair.last
        assert (taken.head.to, taken.head.correlation_id, taken.head.http) == ("svc", "id:1", "1")
        assert (taken.content, taken.ended) == (content, "finish")
        assert not answers.outcomes
        taken.producer.outcome(state, True)
        pair.rest()
        assert answers.outcomes == [(state, True)]


def test_more_whole_streams_than_there_is_credit(pair: Pair) -> None:
    answers = Answers()
    sent = sum(pair.near.send_stream("svc", HEAD + b"%d" % number, STREAM_FLAGS, answers) for number in range(400))
    assert sent == 250
    pair.rest()
    assert [taken.content for taken in pair.service.streams] == [b"%d" % number for number in range(250)]
    assert pair.near.send_stream("svc", HEAD, STREAM_FLAGS, answers)
    pair.rest()
    for taken in pair.service.streams:
        taken.producer.outcome(ACCEPTED, True)
    pair.rest()
    assert answers.outcomes == [(ACCEPTED, True)] * 251


def test_a_whole_stream_is_lost_with_its_connection(pair: Pair) -> None:
    answers = Answers()
    assert pair.near.send_stream("svc", HEAD, STREAM_FLAGS, answers)
    pair.rest()
    for connection in list(pair.near.amqp_connections.values()):
        connection.engine.drop(None)
    pair.world.settle()
    assert answers.outcomes == [(MODIFIED, True)]


def test_where_whole_streams_are_not_sent(world: World) -> None:
    """To nobody, to a service of this router, and to a router that is not next to this one."""
    near, middle, far = world.chain("A", "B", "C")
    answers = Answers()
    assert not near.send_stream("nobody", HEAD, STREAM_FLAGS, answers)
    service = Service()
    far.subscribe_stream("svc", service)
    world.until(lambda: "Msvc" in near.table.addresses)
    assert not near.send_stream("svc", HEAD, STREAM_FLAGS, answers)
    assert not far.send_stream("svc", HEAD, STREAM_FLAGS, answers)
    assert middle.send_stream("svc", HEAD, STREAM_FLAGS, answers)
    world.settle()
    assert len(service.streams) == 1
