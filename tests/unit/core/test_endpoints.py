"""Streams between services, on one router and across several (core/stream.py; TCP over AMQP, sections 1, 5 to 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.unit.core.ends import Answers, Service, Taken
from tests.unit.core.engines import ACCEPTED, MODIFIED, RECEIVED, RELEASED, SND_SETTLED, World
from vanrouter.core import endpoints
from vanrouter.core.memory_bound import LEAST_BYTES
from vanrouter.core.router import Router
from vanrouter.core.stream import STREAM_FLAGS, Sink
from vanrouter.engine import proton
from vanrouter.engine.messages import encode_stream_head

PIECE = bytes(range(256)) * 64
MEGABYTES = 1 << 20


def head(to: str) -> bytes:
    return encode_stream_head(to, "amqp:/_topo/0/A/temp.x", "id")


@dataclass
class Stage:
    """A service at the far end, and where streams are opened."""

    world: World
    near: Router
    far: Router
    service: Service

    def open(self, to: str = "svc") -> tuple[Answers, Sink]:
        answers = Answers()
        sink = self.near.open_stream(to, head(to), STREAM_FLAGS, answers)
        self.rest()
        return answers, sink

    def one(self) -> tuple[Answers, Sink, Taken]:
        answers, sink = self.open()
        return answers, sink, self.service.streams[-1]

    def rest(self) -> None:
        self.world.settle()
        self.world.check()


@pytest.fixture(params=[1, 2, 3])
def stage(world: World, request: pytest.FixtureRequest) -> Iterator[Stage]:
    routers = world.chain(*"ABC"[: request.param]) if request.param > 1 else [world.interior("A")]
    service = Service()
    routers[-1].subscribe_stream("svc", service)
    reached: list[bool] = []
    watch = routers[0].watch("svc", reached.append)
    world.until(lambda: reached[-1])
    yield Stage(world, routers[0], routers[-1], service)
    watch.cancel()


def test_a_whole_story(stage: Stage) -> None:
    answers, sink, taken = stage.one()
    assert taken.head.to == "svc"
    assert taken.head.correlation_id == "id"
    assert taken.head.is_vanrouter
    sink.push(b"hello ")
    sink.push(memoryview(b"world"))
    stage.rest()
    assert taken.content == b"hello world"
    taken.producer.received(6)
    stage.rest()
    assert answers.received_so_far == 6
    sink.finish()
    stage.rest()
    assert taken.ended == "finish"
    taken.producer.outcome(ACCEPTED, True)
    stage.rest()
    assert answers.outcomes == [(ACCEPTED, True)]


def test_octets_before_the_first_turn_come_with_the_head(stage: Stage) -> None:
    answers = Answers()
    sink = stage.near.open_stream("svc", head("svc"), STREAM_FLAGS, answers)
    sink.push(b"early")
    sink.finish()
    stage.rest()
    taken = stage.service.streams[-1]
    assert (taken.content, taken.ended) == (b"early", "finish")


def test_settled_by_the_producer(stage: Stage) -> None:
    _answers, sink, taken = stage.one()
    sink.push(b"x")
    sink.finish(settled=True)
    stage.rest()
    assert taken.content == b"x"
    assert taken.ended == "finish settled"


def test_abort(stage: Stage) -> None:
    answers, sink, taken = stage.one()
    sink.push(b"x")
    stage.rest()
    sink.abort()
    stage.rest()
    assert taken.ended == "abort"
    assert answers.outcomes == []
    following = stage.one()[2]
    assert following.ended is None


@pytest.mark.parametrize("state", [RELEASED, MODIFIED, ACCEPTED])
def test_an_early_outcome(stage: Stage, state: int) -> None:
    answers, sink, taken = stage.one()
    taken.producer.outcome(state, True)
    stage.rest()
    assert answers.outcomes[-1][0] == state
    sink.push(b"too late")
    stage.rest()
    sink.finish(settled=True)
    stage.rest()


@pytest.mark.parametrize("content", [b"", b"early"])
def test_refused_at_once(stage: Stage, content: bytes) -> None:
    stage.service.answers = RELEASED
    answers = Answers()
    sink = stage.near.open_stream("svc", head("svc"), STREAM_FLAGS, answers)
    sink.push(content)
    sink.finish()
    stage.rest()
    assert answers.outcomes
    assert answers.outcomes[-1][0] == RELEASED


def test_nobody_there(stage: Stage) -> None:
    answers, sink = stage.open("nobody")
    assert answers.outcomes == [(RELEASED, True)]
    assert sink.push(b"x")
    sink.finish()
    sink.abort()


def test_the_reply_address(stage: Stage) -> None:
    replies = Service()
    subscription = stage.near.new_reply_address(replies)
    answers = Answers()
    sink = stage.far.open_stream(subscription.address, head(subscription.address), STREAM_FLAGS, answers)
    sink.push(b"reply")
    sink.finish(settled=True)
    stage.rest()
    assert replies.streams[0].content == b"reply"
    subscription.cancel()
    answers = Answers()
    stage.far.open_stream(subscription.address, head(subscription.address), STREAM_FLAGS, answers).finish()
    stage.rest()
    assert answers.outcomes[0][0] == RELEASED


def test_many_octets_with_pauses(stage: Stage) -> None:
    """A producer that respects False never has more than its share waiting; all arrives."""
    answers, sink, taken = stage.one()
    sent = pauses = 0
    expected = b""
    while sent < 4 * MEGABYTES:
        takes_more = sink.push(PIECE)
        sent += len(PIECE)
        expected += PIECE
        if not takes_more:
            pauses += 1
            before = answers.writables
            stage.world.settle()
            assert answers.writables > before, "nobody said that it may go on"
    sink.finish()
    stage.rest()
    assert taken.content == expected
    assert taken.ended == "finish"


def test_the_engine_is_asked_rarely_about_few_octets(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pending(pn: object) -> int:
        asked.append(proton.delivery_pending(pn))
        return asked[-1]

    monkeypatch.setattr(endpoints, "delivery_pending", pending)
    _, sink, taken = stage.one()
    for _ in range(100):
        assert sink.push(b"x" * 100)
        stage.world.settle()
    assert len(asked) <= 10_000 // LEAST_BYTES
    assert max(asked, default=0) <= 100
    sink.finish()
    stage.rest()
    assert taken.content == b"x" * 10_000


@pytest.mark.parametrize("size", [1, 100, LEAST_BYTES - 1, LEAST_BYTES])
def test_what_may_wait_is_bounded_however_it_is_cut(world: World, size: int) -> None:
    """Without a turn of the loop between them, nothing of it goes out."""
    router = world.chain("A", "B")[0]
    service = Service()
    world.routers[1].subscribe_stream("svc", service)
    reached: list[bool] = []
    watch = router.watch("svc", reached.append)
    world.until(lambda: reached[-1])
    router.memory.set_limit(1)
    answers = Answers()
    sink = router.open_stream("svc", head("svc"), STREAM_FLAGS, answers)
    world.settle()
    pushed = 0
    while sink.push(b"x" * size):
        pushed += size
        assert pushed < LEAST_BYTES
    assert pushed + size >= LEAST_BYTES
    world.settle()
    assert answers.writables == 1
    sink.finish()
    world.settle()
    assert len(service.streams[-1].content) == pushed + size
    watch.cancel()


def test_a_subscription_that_ends_leaves_its_streams(stage: Stage) -> None:
    subscription = stage.far.subscribe_stream("other", service := Service())
    stage.world.advance(5)
    answers, sink = stage.open("other")
    subscription.cancel()
    stage.world.advance(5)
    sink.push(b"still")
    stage.rest()
    assert service.streams[0].content == b"still"
    assert stage.open("other")[0].outcomes == [(RELEASED, True)]
    sink.finish()
    service.streams[0].producer.outcome(ACCEPTED, True)
    stage.rest()
    assert answers.outcomes[-1] == (ACCEPTED, True)


def test_the_way_is_lost(world: World) -> None:
    near, far = world.chain("A", "B")
    service = Service()
    far.subscribe_stream("svc", service)
    world.advance(5)
    stage = Stage(world, near, far, service)
    running, finished = stage.one(), stage.one()
    running[1].push(b"x")
    finished[1].push(b"x")
    finished[1].finish()
    stage.rest()
    for connection in list(near.amqp_connections.values()):
        connection.engine.drop(None)
    stage.rest()
    assert running[0].outcomes == finished[0].outcomes == [(MODIFIED, True)]
    assert running[2].ended == "abort"
    assert not running[1].push(b"y") or True  # pushed into nothing, without harm
    running[1].finish(settled=True)
    finished[2].producer.outcome(ACCEPTED, True)
    finished[2].producer.received(5)
    stage.rest()


def test_streams_of_clients(world: World) -> None:
    """A client that speaks AMQP reaches a service, in pieces or whole, settled or not."""
    router = world.interior("A")
    service = Service()
    router.subscribe_stream("svc", service)
    client = world.client(router)
    content = head("svc") + PIECE
    for tx in (client.sender("svc", capabilities=("qd.streaming-deliveries",)), client.sender(None)):
        for settled in (False, True):
            for cuts in ([], [3], [10, len(content) - 5], [1, 2, 40, 90]):
                sent = tx.begin(settled=settled)
                at = 0
                for cut in cuts:
                    sent.write(content[at:cut])
                    world.settle()
                    at = cut
                sent.write(content[at:])
                sent.end()
                world.settle()
                world.check()
                taken = service.streams.pop()
                assert not service.streams
                assert taken.content == PIECE
                assert taken.ended == ("finish settled" if settled else "finish")
                if not settled:
                    taken.producer.received(5)
                    world.settle()
                    assert (sent.state, sent.received) == (RECEIVED, 5)
                    taken.producer.outcome(ACCEPTED, True)
                    world.settle()
                    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
                world.check()
        assert tx.credit == 250


@pytest.mark.parametrize("content", [head("svc")[:-2], head("svc")[:20]], ids=range(2))
@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_no_stream_is_refused(world: World, content: bytes, streaming: bool) -> None:
    router = world.interior("A")
    service = Service()
    router.subscribe_stream("svc", service)
    tx = world.client(router).sender("svc", capabilities=("qd.streaming-deliveries",) if streaming else ())
    sent = tx.begin()
    sent.write(content)
    world.settle()
    sent.end()
    world.settle()
    world.check()
    assert sent.is_settled
    following = tx.send(head("svc") + b"x")
    world.settle()
    world.check()
    service.streams[-1].producer.outcome(ACCEPTED, True)
    world.settle()
    assert following.state == ACCEPTED
    assert tx.credit == 250


def test_a_message_without_a_body_is_offered_with_its_head(world: World) -> None:
    """It may be of another encapsulation, and is for the service to release (HTTP over AMQP, section 6)."""
    router = world.interior("A")
    service = Service()
    service.answers = RELEASED
    router.subscribe_stream("svc", service)
    sent = world.client(router).sender("svc").send(b"\x00\x53\x73\x45")
    world.settle()
    assert service.streams[-1].head.content_type is None
    assert sent.state == RELEASED


def test_a_stream_to_a_client(world: World) -> None:
    """The destination need not be a vanrouter, nor one that offers streaming links."""
    router = world.interior("A")
    for capabilities in ((), ("qd.streaming-links",)):
        client = world.client(router, capabilities=capabilities)
        rx = client.receiver("svc", auto=ACCEPTED)
        answers = Answers()
        sink = router.open_stream("svc", head("svc"), STREAM_FLAGS, answers)
        sink.push(b"hello")
        sink.finish()
        world.settle()
        world.check()
        assert answers.outcomes in ([(ACCEPTED, True)], [])
        got = [one for link in client.links.values() for one in link.got]  # type: ignore[union-attr]
        assert bytes(got[0].content) == head("svc") + b"hello"
        for one in got:
            one.accept()
        world.settle()
        assert answers.outcomes == [(ACCEPTED, True)]
        rx.detach()


def test_the_service_that_gets_the_next_stream(world: World) -> None:
    router = world.interior("A")
    services = [Service(), Service()]
    for service in services:
        router.subscribe_stream("svc", service)
    stage = Stage(world, router, router, services[0])
    for _ in range(4):
        stage.open()
    assert [len(service.streams) for service in services] == [2, 2]
    for taken in services[1].streams:
        taken.producer.outcome(ACCEPTED, True)
    for _ in range(2):
        stage.open()
    assert [len(service.streams) for service in services] == [2, 4]


def test_a_consumer_of_settled_deliveries(world: World) -> None:
    router = world.interior("A")
    rx = world.client(router).receiver("svc", settle=SND_SETTLED)
    answers = Answers()
    sink = router.open_stream("svc", head("svc"), STREAM_FLAGS, answers)
    sink.push(b"x")
    sink.finish()
    world.settle()
    world.check()
    assert rx.got[0].content == head("svc") + b"x"
