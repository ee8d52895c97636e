"""Messages of services, sections and all: on one router and across several, with clients, to many at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.core.ends import Answers
from tests.unit.core.engines import ACCEPTED, MODIFIED, REJECTED, RELEASED, World, message
from vanrouter.core import deliveries
from vanrouter.core.router import Router
from vanrouter.core.stream import Producer, Sink
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Message, encode_message


def whole(to: str, body: bytes = b"hello") -> bytes:
    return encode_message(Message(to=to, body=body, is_data=True))


def multicast(*routers: Router) -> None:
    for router in routers:
        router.table.rules.add(AddressRule(pattern="m/#", treatment=Treatment.MULTICAST))


class Taken:
    """A message that has come."""

    def __init__(self, annotations: Annotations, producer: Producer) -> None:
        self.annotations = annotations
        self.producer = producer
        self.content = b""
        self.ended: str | None = None
        self.is_open = True

    def push(self, data: memoryview | bytes) -> bool:
        assert self.ended is None
        self.content += bytes(data)
        return self.is_open

    def finish(self, settled: bool = False) -> None:
        assert self.ended is None
        self.ended = "finish settled" if settled else "finish"

    def abort(self) -> None:
        assert self.ended is None
        self.ended = "abort"


class Service:
    def __init__(self, answer: int | None = None) -> None:
        self.messages: list[Taken] = []
        self.answer = answer
        self.is_open = True

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        taken = Taken(annotations, producer)
        taken.is_open = self.is_open
        self.messages.append(taken)
        if self.answer is not None:
            producer.outcome(self.answer, True)
        return taken

    @property
    def last(self) -> Taken:
        return self.messages[-1]


class Stage:
    def __init__(self, world: World, routers: list[Router], address: str = "svc") -> None:
        self.world = world
        self.near, self.far = routers[0], routers[-1]
        self.service = Service()
        self.far.subscribe_deliveries(address, self.service)
        reached: list[bool] = []
        self.watch = self.near.watch(address, reached.append)
        world.until(lambda: reached[-1])

    def rest(self) -> None:
        self.world.settle()
        self.world.check()


@pytest.fixture(params=[1, 2, 3])
def stage(world: World, request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(world, world.chain(*"ABC"[: request.param]) if request.param > 1 else [world.interior("A")])
    yield stage
    stage.watch.cancel()


@pytest.mark.parametrize("state", [ACCEPTED, REJECTED, RELEASED, MODIFIED, 0])
def test_a_whole_message(stage: Stage, state: int) -> None:
    answers = Answers()
    stage.near.send_whole("svc", whole("svc"), 1, answers)
    assert not answers.outcomes
    stage.rest()
    taken = stage.service.last
    assert (taken.content, taken.ended) == (whole("svc"), "finish")
    assert taken.annotations.flags & 1
    taken.producer.outcome(state, True)
    stage.rest()
    assert answers.outcomes == [(state, True)]


def test_a_message_in_pieces(stage: Stage) -> None:
    answers = Answers()
    content = whole("svc", bytes(1000))
    sink = stage.near.open_message("svc", content[:100], 1, answers)
    stage.rest()
    assert stage.service.last.content == content[:100]
    assert sink.push(memoryview(content)[100:500])
    stage.rest()
    assert stage.service.last.content == content[:500]
    sink.push(content[500:])
    sink.finish()
    stage.rest()
    assert (stage.service.last.content, stage.service.last.ended) == (content, "finish")
    stage.service.last.producer.outcome(ACCEPTED, True)
    stage.rest()
    assert answers.outcomes == [(ACCEPTED, True)]


def test_a_taker_that_asks_for_silence(stage: Stage) -> None:
    answers = Answers()
    stage.service.is_open = False
    sink = stage.near.open_message("svc", whole("svc"), 1, answers)
    stage.rest()
    sent = 0
    while sent < 64 << 20 and sink.push(bytes(65536)):
        sent += 65536
        stage.rest()
    if stage.near is stage.far:
        return  # one call: nothing is kept between the two
    assert sent < 24 << 20  # one window for each router on the way
    taken = stage.service.last
    held = len(taken.content)
    stage.rest()
    assert len(taken.content) == held
    taken.is_open = True
    taken.producer.writable()
    stage.world.until(lambda: answers.writables > 0)
    sink.finish()
    stage.world.until(lambda: taken.ended is not None)
    assert len(taken.content) == len(whole("svc")) + sent + 65536


def test_half_a_message_never_looks_whole(stage: Stage) -> None:
    answers = Answers()
    sink = stage.near.open_message("svc", whole("svc"), 1, answers)
    sink.abort()
    stage.rest()
    assert all(taken.ended == "abort" for taken in stage.service.messages)
    sink = stage.near.open_message("svc", whole("svc"), 1, answers)
    stage.rest()
    sink.abort()
    stage.rest()
    assert stage.service.last.ended == "abort"


def test_an_outcome_in_the_middle(stage: Stage) -> None:
    answers = Answers()
    stage.service.answer = REJECTED
    sink = stage.near.open_message("svc", whole("svc"), 1, answers)
    stage.rest()
    sink.push(bytes(1000))
    sink.finish(settled=True)
    stage.rest()
    assert answers.outcomes[0][0] == REJECTED


def test_messages_in_progress_count_for_balancing(stage: Stage) -> None:
    stage.near.send_whole("svc", whole("svc"), 1, Answers())
    stage.near.open_message("svc", whole("svc"), 1, Answers()).finish()
    stage.rest()
    address = stage.far.table.get("Msvc")
    assert address is not None
    assert [service.open_count for service in address.services] == [2]
    for taken in stage.service.messages:
        taken.producer.outcome(ACCEPTED, True)
    stage.rest()
    assert [service.open_count for service in address.services] == [0]


def test_no_way(world: World) -> None:
    router = world.interior("A")
    answers = Answers()
    router.send_whole("nobody", whole("nobody"), 1, answers)
    router.open_message("nobody", whole("nobody"), 1, answers).push(b"x")
    assert not answers.outcomes
    world.settle()
    assert answers.outcomes == [(RELEASED, True)] * 2


def test_who_forgets_is_told_nothing(stage: Stage) -> None:
    answers = Answers()
    stage.near.send_whole("svc", whole("svc"), 1, answers).forget()
    stage.rest()
    stage.service.last.producer.outcome(ACCEPTED, True)
    stage.rest()
    assert not answers.outcomes


def test_a_reply_address(stage: Stage) -> None:
    mine = Service(ACCEPTED)
    reply = stage.near.new_delivery_address(mine)
    stage.world.until(lambda: stage.far.address_for(reply.address) is not None)
    answers = Answers()
    stage.far.send_whole(reply.address, whole(reply.address), 1, answers)
    stage.rest()
    assert mine.last.content == whole(reply.address)
    assert answers.outcomes == [(ACCEPTED, True)]
    reply.cancel()


def test_a_client_is_sent_messages_and_its_own_are_taken(world: World) -> None:
    router = world.interior("A")
    receiver = world.client(router).receiver("app", credit=10)
    answers = Answers()
    router.send_whole("app", whole("app"), 1, answers)
    world.settle()
    assert receiver.contents == [whole("app")]
    service = Service(ACCEPTED)
    router.subscribe_deliveries("svc", service)
    sent = world.client(router).sender("svc").send(message("svc"))
    world.settle()
    assert service.last.content == message("svc")
    assert sent.state == ACCEPTED


def test_pieces_wait_for_a_clients_link(world: World) -> None:
    """A client's receiver is one link: one message after the other."""
    router = world.interior("A")
    receiver = world.client(router).receiver("app", credit=10)
    first, second, third = Answers(), Answers(), Answers()
    one = router.open_message("app", whole("app", b"1"), 1, first)
    two = router.open_message("app", whole("app", b"2"), 1, second)
    three = router.open_message("app", whole("app", b"3"), 1, third)
    assert not two.push(b"")
    two.finish()
    three.abort()
    world.settle()
    one.finish()
    world.settle()
    assert receiver.contents == [whole("app", b"1"), whole("app", b"2")]
    world.check()


def test_pieces_that_wait_when_the_client_leaves(world: World) -> None:
    router = world.interior("A")
    client = world.client(router)
    client.receiver("app", credit=10)
    first, second = Answers(), Answers()
    router.open_message("app", whole("app", b"1"), 1, first)
    router.open_message("app", whole("app", b"2"), 1, second)
    world.settle()
    client.there.engine.drop(None)
    world.settle()
    assert first.outcomes == [(MODIFIED, True)]
    assert second.outcomes == [(RELEASED, True)]


def test_many_takers_and_one_outcome(world: World) -> None:
    near, far = world.chain("A", "B")
    multicast(near, far)
    services = [Service(), Service(), Service()]
    far.subscribe_deliveries("m/svc", services[0])
    far.subscribe_deliveries("m/svc", services[1])
    near.subscribe_deliveries("m/svc", services[2])
    world.advance(5)
    answers = Answers()
    near.send_whole("m/svc", whole("m/svc"), 1, answers)
    world.settle()
    assert [service.last.content for service in services] == [whole("m/svc")] * 3
    for service, state in zip(services, (ACCEPTED, MODIFIED, ACCEPTED), strict=True):
        assert not answers.outcomes
        service.last.producer.outcome(state, True)
        world.settle()
    assert answers.outcomes == [(ACCEPTED, True)]
    # In pieces it is read whole for those copies.
    sent = world.client(near).sender("m/svc").send(whole("m/svc", bytes(2 << 20)))
    world.settle()
    for service in services:
        assert len(service.last.content) > 2 << 20
        assert sent.state == 0
        service.last.producer.outcome(ACCEPTED, True)
        world.settle()
    assert sent.state == ACCEPTED
    world.check()


def test_pieces_for_many_go_out_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = world.chain("A", "B")
    multicast(near, far)
    services = [Service(ACCEPTED), Service(ACCEPTED)]
    far.subscribe_deliveries("m/svc", services[0])
    near.subscribe_deliveries("m/svc", services[1])
    world.advance(5)
    content = whole("m/svc", bytes(400_000))
    answers = Answers()
    sink = near.open_message("m/svc", content[:9], 1, answers)
    sink.push(content[9:])
    world.settle()
    assert not services[0].messages
    sink.finish()
    world.settle()
    assert [service.last.content for service in services] == [content] * 2
    assert answers.outcomes == [(ACCEPTED, True)]
    near.open_message("m/svc", content, 1, answers).abort()
    monkeypatch.setattr(deliveries, "MAX_COPY_BYTES", 1000)
    assert (near.message_limit("m/svc"), near.message_limit("svc"), near.message_limit("nobody")) == (1000, 0, 0)
    near.open_message("m/svc", content[:9], 1, answers).push(content)
    world.settle()
    assert answers.outcomes[1:] == [(REJECTED, True)]
    assert [len(service.messages) for service in services] == [1, 1]


def test_nobody_of_many(world: World) -> None:
    router = world.interior("A")
    answers = Answers()
    multicast(router)
    watch = router.watch("m/svc", lambda _: None)
    router.send_whole("m/svc", whole("m/svc"), 1, answers)
    world.settle()
    assert answers.outcomes == [(RELEASED, True)]
    watch.cancel()


def test_a_stream_service_and_a_delivery_service_are_not_mistaken(world: World) -> None:
    router = world.interior("A")
    service = Service(ACCEPTED)
    router.subscribe_deliveries("svc", service)
    answers = Answers()
    router.open_stream("svc", message("svc"), 5, answers)
    world.settle()
    assert [state for state, _ in answers.outcomes] == [RELEASED]
