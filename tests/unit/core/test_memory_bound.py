"""The bound on what is held for slow readers (extensions, limits)."""

from __future__ import annotations

from tests.unit.core.ends import Answers, Service
from tests.unit.core.engines import MODIFIED, World
from vanrouter.core.connection import RESUMED_IN_A_FLUSH, Connection
from vanrouter.core.memory_bound import (
    ENGINE_BYTES,
    LEAST_BYTES,
    UNFLUSHED_BYTES,
    UNSENT_BYTES,
    MemoryBound,
    buffer_size,
)
from vanrouter.core.router import Router
from vanrouter.core.stream import STREAM_FLAGS
from vanrouter.engine.messages import encode_stream_head

MEBIBYTE = 1 << 20
PIECE = bytes(16 * 1024)


def test_each_delivery_gets_less_the_more_the_engine_has() -> None:
    memory = MemoryBound(1 << 30)
    assert (memory.unsent_bytes, memory.unflushed_bytes, memory.read_bytes) == (
        UNSENT_BYTES,
        UNFLUSHED_BYTES,
        UNSENT_BYTES,
    )
    seen = []
    memory.watch(lambda: seen.append(memory.read_bytes))
    while memory.engine < 2 * ENGINE_BYTES:
        before = memory.unsent_bytes
        memory.add_engine(MEBIBYTE)
        assert LEAST_BYTES <= memory.unsent_bytes <= before
        assert memory.read_bytes <= memory.unsent_bytes
    assert seen == [UNSENT_BYTES >> step for step in range(6)]
    assert memory.unflushed_bytes == LEAST_BYTES
    memory.add_engine(-memory.engine)
    assert (memory.unsent_bytes, memory.read_bytes) == (UNSENT_BYTES, UNSENT_BYTES)


def test_flows_share_the_bound() -> None:
    memory = MemoryBound(64 * MEBIBYTE)
    memory.add_flows(1)
    assert memory.window_bytes == 16 * MEBIBYTE
    memory.add_flows(999)
    assert memory.window_bytes * 4 * 1000 <= 64 * MEBIBYTE < (memory.window_bytes + 1) * 4 * 1000
    assert memory.read_bytes == 16 * 1024
    memory.set_limit(128 * MEBIBYTE)
    assert memory.read_bytes == 32 * 1024
    memory.add_flows(-1000)
    assert memory.read_bytes == UNSENT_BYTES


def test_the_engine_s_buffers_alone_end_nothing() -> None:
    memory = MemoryBound(MEBIBYTE)
    memory.add_engine(10 * MEBIBYTE)
    memory.kept = MEBIBYTE // 2
    assert not memory.is_exceeded
    memory.kept += 1
    assert memory.is_exceeded
    assert memory.held == 10 * MEBIBYTE + MEBIBYTE // 2 + 1


def test_buffers_are_powers_of_two() -> None:
    assert [buffer_size(octets) for octets in (1, 2, 3, 8192, 8193)] == [1, 2, 4, 8192, 16384]


def test_buffers_are_counted_until_their_connection_ends(world: World) -> None:
    near, far = world.chain("A", "B")
    service = Service()
    far.subscribe_stream("svc", service)
    world.until(lambda: near.nodes and near.table.addresses.get("Msvc"))
    world.advance(2)
    sink = near.open_stream("svc", encode_stream_head("svc", "amqp:/_topo/0/A/temp.x", "id"), STREAM_FLAGS, Answers())
    world.settle()
    for _ in range(8):
        sink.push(PIECE)
    assert near.memory.engine == 128 * 1024
    world.settle()
    assert near.memory.engine == far.memory.engine == 128 * 1024
    sink.finish(settled=True)
    service.streams[0].producer.outcome(MODIFIED, True)
    world.settle()
    assert near.memory.engine == 128 * 1024, "the next delivery gets the buffer as it is"
    for connection in world.connections:
        connection.engine.drop(None)
    world.settle()
    assert near.memory.engine == far.memory.engine == 0


def test_streams_that_wait_for_a_socket_share_what_the_engine_gets(world: World) -> None:
    """Each has its own share of the engine, but what the engine makes frames of lies in one buffer for all of them."""
    near, far = world.chain("A", "B")
    service = Service()
    far.subscribe_stream("svc", service)
    reached: list[bool] = []
    watch = near.watch("svc", reached.append)
    world.until(lambda: reached[-1])
    streams = []
    for number in range(8 * RESUMED_IN_A_FLUSH):
        answers = Answers()
        head = encode_stream_head("svc", f"amqp:/_topo/0/A/temp.{number}", "id")
        streams.append((near.open_stream("svc", head, STREAM_FLAGS, answers), answers))
    world.settle()
    near.memory.set_limit(32 * MEBIBYTE)
    assert near.memory.queued_bytes == MEBIBYTE
    out = between(far, near)
    stop_reading(between(near, far))
    while not out.engine.blocked:
        streams[0][0].push(PIECE)
        world.settle()
    queued = out.queued
    for place, (sink, _) in enumerate(streams[1:], 1):
        is_full = queued >= near.memory.queued_bytes
        octets = LEAST_BYTES if is_full else len(PIECE)
        queued += octets
        assert sink.push(PIECE[:octets]) is (queued < near.memory.queued_bytes)
        if not is_full:
            full = place
    world.settle()
    assert out.queued >= near.memory.queued_bytes
    assert not any(answers.writables for _, answers in streams)
    between(near, far).loop.modify(between(near, far).engine.fd, 1)
    world.advance(0.1)  # nobody has anything to say, and yet all hear that they may
    assert all(answers.writables == 1 for _, answers in streams[full:])
    assert out.queued == 0
    assert not out.paused
    assert near.memory.engine >= near.memory.queued_bytes, "the engine keeps the buffer that it made"
    assert all(
        len(taken.content) == (LEAST_BYTES if place > full else len(PIECE))
        for place, taken in enumerate(service.streams[1:], 1)
    )
    for sink, _ in streams:
        sink.finish(settled=True)
    world.settle()
    for taken in service.streams:
        taken.producer.outcome(MODIFIED, True)
    world.settle()
    world.check()
    watch.cancel()


def stop_reading(connection: Connection) -> None:
    connection.loop.modify(connection.engine.fd, 0)


def between(near: Router, far: Router) -> Connection:
    """The connection of `far` towards `near`."""
    return next(one for one in far.amqp_connections.values() if one.peer.container == near.router_id)


def test_what_waits_in_transit_is_bounded(world: World) -> None:
    near, middle, far = world.chain("A", "B", "C")
    service = Service()
    far.subscribe_stream("svc", service)
    reached: list[bool] = []
    watch = near.watch("svc", reached.append)
    world.until(lambda: reached[-1])
    streams = []
    for number in range(4):
        answers = Answers()
        head = encode_stream_head("svc", f"amqp:/_topo/0/A/temp.{number}", "id")
        streams.append((near.open_stream("svc", head, STREAM_FLAGS, answers), answers))
    world.settle()
    middle.memory.set_limit(4 * MEBIBYTE)
    stop_reading(between(middle, far))
    for _ in range(96):
        for place, (sink, answers) in enumerate(streams):
            if not answers.outcomes and place != 3:
                sink.push(PIECE)
        world.settle()
    ended = [bool(answers.outcomes) for _, answers in streams]
    assert not ended[3], "one that holds next to nothing stays"
    assert any(ended)
    assert middle.memory.ended == sum(ended)
    for sink, answers in streams:
        if answers.outcomes:
            assert answers.outcomes == [(MODIFIED, False)]
        sink.finish(settled=True)
    between(middle, far).loop.modify(between(middle, far).engine.fd, 1)
    world.settle()
    assert [taken.ended for taken in service.streams] == ["abort" if end else "finish settled" for end in ended]
    for taken in service.streams:
        taken.producer.outcome(MODIFIED, True)
    world.settle()
    world.check()
    watch.cancel()
