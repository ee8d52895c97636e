"""The pool of streaming links (router protocol, section 2.5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.ends import Answers, Service
from tests.unit.core.engines import ACCEPTED, MODIFIED, World, message
from vanrouter.core.router import SCRUB_INTERVAL_S
from vanrouter.core.stream import STREAM_FLAGS
from vanrouter.core.stream_links import BUSY_BYTES_PER_S, BUSY_LINKS, LOOK_S, StreamLinks
from vanrouter.engine import proton
from vanrouter.engine.messages import encode_stream_head

STREAMING = ("qd.streaming-deliveries",)


def test_stream_links_are_scrubbed(world: World) -> None:
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver("a", credit=1000, auto=ACCEPTED)
    client = world.client(near)
    links = [client.sender("a", capabilities=STREAMING) for _ in range(140)]
    world.until(lambda: links[0].credit)
    halves = [link.begin() for link in links]
    for half in halves:
        half.write(message(body="x" * 100))
    world.settle()
    connection = next(found for found in near.amqp_connections.values() if found.is_router)
    assert len(connection.senders) == 11 + 140
    sessions = len(connection.sessions)
    for half in halves:
        half.end()
    world.settle()
    assert len(rx.contents) == 140
    world.advance(100)
    kept = len(connection.senders) - 11
    assert kept <= 128
    assert len(connection.sessions) <= sessions - (140 - kept)
    world.check()
    # An idle link whose last stream waits for its outcome stays.
    rx.auto = None
    halves = [link.begin() for link in links]
    for half in halves:
        half.write(message(body="x" * 100))
    world.settle()
    for half in halves:
        half.end()
    world.settle()
    world.advance(100)
    assert len(connection.senders) == 11 + 140
    assert not any(half.is_settled for half in halves)
    rx.auto = ACCEPTED
    for got in rx.got[140:]:
        got.accept()
    world.settle()
    assert all(half.state == ACCEPTED for half in halves)
    half = links[0].begin()
    half.write(message(body="x"))
    half.end()
    world.settle()
    assert half.state == ACCEPTED


def test_a_peer_that_ends_the_common_session(world: World) -> None:
    """Streams go on in a new one."""
    near, far = world.chain("A", "B")
    service = Service()
    subscription = far.subscribe_stream("svc", service)
    world.advance(5)
    head = encode_stream_head("svc", None, None)
    for number in range(3):
        answers = Answers()
        sink = near.open_stream("svc", head, STREAM_FLAGS, answers)
        sink.push(b"x")
        world.settle()
        assert service.streams[number].content == b"x"
        connection = next(found for found in far.amqp_connections.values() if found.is_router)
        stream = next(link for link in connection.receivers.values() if link.unsettled)
        proton.session_close(stream.session)
        connection.loop.dirty.add(connection.engine)
        world.settle()
        assert answers.outcomes == [(MODIFIED, True)]
        sink.finish(settled=True)
        world.settle()
        world.check()
    subscription.cancel()


def test_links_are_used_in_the_order_they_became_idle(world: World) -> None:
    near, far = world.chain("A", "B")
    service = Service()
    subscription = far.subscribe_stream("svc", service)
    world.advance(5)
    connection = next(found for found in near.amqp_connections.values() if found.is_router)
    head = encode_stream_head("svc", None, None)
    for _ in range(20):
        sinks = [near.open_stream("svc", head, STREAM_FLAGS, Answers()) for _ in range(3)]
        world.settle()
        for sink in sinks:
            sink.finish(settled=True)
        world.settle()
    assert len(connection.senders) == 11 + 3
    assert len({link.session for link in connection.senders.values()}) == 11 + 1
    assert len(service.streams) == 60
    world.check()
    subscription.cancel()


def test_a_large_connection_is_looked_at_until_it_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last stream may end with an outcome that comes long after its link went back to the pool."""
    near, _ = world.chain("A", "B")
    connection = next(found for found in near.amqp_connections.values() if found.is_router)
    looks = 0
    retired: list[None] = []

    def look(_: StreamLinks) -> bool:
        nonlocal looks
        looks += 1
        return looks == 4

    monkeypatch.setattr(StreamLinks, "is_large", True)
    monkeypatch.setattr(StreamLinks, "may_retire", property(lambda _: not retired))
    monkeypatch.setattr(StreamLinks, "can_retire", property(look))
    monkeypatch.setattr(StreamLinks, "retire", lambda _: retired.append(None))
    near.scrub_later(connection)
    world.advance(10 * SCRUB_INTERVAL_S)
    assert len(retired) == 1
    assert looks == 4, "and not once more"


def test_what_makes_a_connection_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    near, _far = world.chain("A", "B")
    connection = next(found for found in near.amqp_connections.values() if found.is_router)
    world.advance(1)
    links = StreamLinks(connection)
    assert not links.is_busy(), "what was carried before counts for a second at most"
    connection.engine.bytes_in += BUSY_BYTES_PER_S
    assert not links.is_busy(), "it is not looked at for every stream"
    world.advance(LOOK_S)
    assert links.is_busy()
    world.advance(LOOK_S)
    assert not links.is_busy()
    connection.engine.bytes_out += 2 * BUSY_BYTES_PER_S
    world.advance(10)
    assert links.is_busy(), "it was idle for long, and then it was not"
    world.advance(LOOK_S)
    monkeypatch.setattr(connection.engine, "blocked", True)
    assert links.is_busy()
    monkeypatch.setattr(connection.engine, "blocked", False)
    assert not links.is_busy()
    attached = dict.fromkeys(range(BUSY_LINKS - len(connection.receivers)))
    monkeypatch.setattr(connection, "senders", attached)
    assert links.is_busy()


def test_a_connection_that_is_replaced_ends_its_links_a_few_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vanrouter.core.stream_links.ENDED_AT_ONCE", 2)
    near, far = world.chain("A", "B")
    service = Service()
    subscription = far.subscribe_stream("svc", service)
    world.until(lambda: "Msvc" in near.table.addresses)
    world.settle()
    connection, there = (
        next(found for found in router.amqp_connections.values() if found.is_router) for router in (near, far)
    )
    head = encode_stream_head("svc", None, None)
    sinks = [near.open_stream("svc", head, STREAM_FLAGS, Answers()) for _ in range(5)]
    world.settle()
    for sink in sinks:
        sink.finish(settled=True)
    world.settle()
    counts = len(connection.senders), len(there.receivers)
    connection.streams.retire()
    assert connection.streams.idle == 0
    assert len(connection.senders) == counts[0] - 2
    world.advance(0.1)
    assert (len(connection.senders), len(there.receivers)) == (counts[0] - 5, counts[1] - 5)
    subscription.cancel()


def test_a_connection_that_is_lost_while_its_links_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.core.stream_links.ENDED_AT_ONCE", 1)
    near, far = world.chain("A", "B")
    service = Service()
    subscription = far.subscribe_stream("svc", service)
    world.until(lambda: "Msvc" in near.table.addresses)
    world.settle()
    connection = next(found for found in near.amqp_connections.values() if found.is_router)
    head = encode_stream_head("svc", None, None)
    for sink in [near.open_stream("svc", head, STREAM_FLAGS, Answers()) for _ in range(3)]:
        sink.finish(settled=True)
    world.settle()
    connection.streams.retire()
    connection.engine.drop(None)
    world.advance(0.1)
    assert not connection.senders
    subscription.cancel()


def test_a_session_that_the_peer_ends_while_its_links_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.core.stream_links.ENDED_AT_ONCE", 1)
    near, far = world.chain("A", "B")
    service = Service()
    subscription = far.subscribe_stream("svc", service)
    world.until(lambda: "Msvc" in near.table.addresses)
    world.settle()
    connection, there = (
        next(found for found in router.amqp_connections.values() if found.is_router) for router in (near, far)
    )
    head = encode_stream_head("svc", None, None)
    for sink in [near.open_stream("svc", head, STREAM_FLAGS, Answers()) for _ in range(3)]:
        sink.finish(settled=True)
    world.settle()
    session = connection.streams.session
    name = next(sender.name for sender in connection.senders.values() if sender.session == session)
    its_session = next(receiver.session for receiver in there.receivers.values() if receiver.name == name)
    closed: list[Any] = []
    close = proton.session_close

    def noted(each: Any) -> None:
        closed.append(each)
        close(each)

    connection.streams.retire()
    monkeypatch.setattr(proton, "session_close", noted)
    there.end_session(its_session)
    world.advance(0.1)
    assert closed.count(session) == 1, "it is freed with the answer"
    assert not connection.is_closed
    subscription.cancel()
