"""The pump between a channel and the engine."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from tests.unit.engine.pumps import Notes, Pumps
from vanrouter.engine import proton
from vanrouter.engine.connection import (
    CLOSE_GRACE_S,
    LEAST_READ_BYTES,
    READ_BYTES,
    READABLE,
    TURN_S,
    UNASKED_EVENTS,
    UNOPENED,
    _tick_after,
)
from vanrouter.engine.sasl import UNEXPECTED
from vanrouter.engine.sections import Described, UInt, ULong, encode
from vanrouter.engine.security import start_sasl


class SlowChannel:
    """A socket that takes a few octets at a time, or fails."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.room = 1 << 30
        self.failure: int | None = None
        self.sends = 0

    def recv_into(self, buffer: bytearray, limit: int = 0, /) -> int:
        if self.failure is not None:
            raise OSError(self.failure, "failed")
        return self.sock.recv_into(buffer, limit)

    def send(self, data: memoryview, /) -> int:
        if self.failure is not None:
            raise OSError(self.failure, "failed")
        if not self.room:
            raise BlockingIOError
        count = self.sock.send(data[: self.room])
        self.room -= count
        self.sends += 1
        return count

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()


class Recorded:
    """A socket whose octets are written down."""

    def __init__(self, sock: Any, written: list[bytes]) -> None:
        self.written = written
        self.recv_into, self.fileno, self.close = sock.recv_into, sock.fileno, sock.close
        self.sock = sock

    def send(self, data: memoryview, /) -> int:
        count: int = self.sock.send(data)
        self.written.append(bytes(data[:count]))
        return count


def open_session(pumps: Pumps) -> Any:
    """Begin a session from near to far."""
    session = proton.session_new(pumps.near.connection)
    proton.session_open(session)
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    proton.session_open(pumps.server.pointers[-1])
    pumps.reactor.dirty.add(pumps.far)
    pumps.settle()
    return session


def open_link(pumps: Pumps, session: Any) -> Any:
    """Attach a link from near to far, with credit."""
    link = proton.sender_new(session, b"l")
    proton.link_open(link)
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    proton.link_open(pumps.server.pointers[-1])
    proton.link_flow(pumps.server.pointers[-1], 5)
    pumps.reactor.dirty.add(pumps.far)
    pumps.settle()
    return link


def send(link: Any, content: bytes) -> None:
    """Queue a delivery."""
    start = proton.from_buffer("char[]", b"t")
    proton.delivery_new(link, proton.new("pn_bytes_t*", {"size": 1, "start": start})[0])
    proton.link_send(link, content, len(content))
    proton.link_advance(link)


def test_both_open(pumps: Pumps) -> None:
    pumps.start()
    assert pumps.client.events == pumps.server.events == ["open"]
    assert pumps.near.bytes_out == pumps.far.bytes_in > 0
    assert pumps.far.bytes_out == pumps.near.bytes_in > 0


def test_events_reach_the_handler(pumps: Pumps) -> None:
    pumps.start()
    session = proton.session_new(pumps.near.connection)
    proton.session_open(session)
    link = proton.sender_new(session, b"l")
    proton.link_open(link)
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    assert pumps.server.events == ["open", "session open", "link open"]
    there = pumps.server.pointers[-1]
    proton.session_open(pumps.server.pointers[-2])
    proton.link_open(there)
    proton.link_flow(there, 5)
    pumps.reactor.dirty.add(pumps.far)
    pumps.settle()
    assert {"session open", "link open", "flow"} <= set(pumps.client.events)
    assert proton.link_credit(link) == 5
    send(link, b"hello")
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    assert "delivery" in pumps.server.events
    # Of what went out the handler is told once, and not link by link.
    assert pumps.client.events.count("sent") == 1
    assert pumps.client.events.count("flow") == 1
    assert proton.link_credit(link) == 4
    proton.link_close(link)
    proton.session_close(session)
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    assert pumps.server.events[-2:] == ["link close True", "session close"]


@pytest.mark.parametrize("condition", [None, ("amqp:internal-error", "why")])
def test_close(pumps: Pumps, condition: tuple[str, str] | None) -> None:
    pumps.start()
    remote = proton.connection_remote_condition(pumps.far.connection)
    pumps.near.close(condition)
    pumps.near.close(("amqp:not-found", "only the first counts"))
    while not pumps.server.events.count("close"):
        pumps.reactor.run_once(0)
        if pumps.far.connection is not None and pumps.server.events.count("close"):
            break
    del remote
    pumps.settle()
    assert len(pumps.client.lost) == len(pumps.server.lost) == 1
    assert pumps.near.lost
    assert pumps.near.transport is None
    assert pumps.sockets[0].fileno() == -1


def test_less_is_read_of_what_cannot_go_on(pumps: Pumps) -> None:
    pumps.start()
    empty_frame = b"\0\0\0\x08\x02\0\0\0"
    left = pumps.sockets[0].send(empty_frame * (8 * LEAST_READ_BYTES // len(empty_frame)))

    def read() -> int:
        before = pumps.far.bytes_in
        pumps.far.on_ready(READABLE)
        return pumps.far.bytes_in - before

    pumps.far.reads_less = True
    pumps.far.read_less()
    assert [read(), read()] == [LEAST_READ_BYTES, 2 * LEAST_READ_BYTES]
    pumps.far.read_less()
    assert read() == LEAST_READ_BYTES
    pumps.far.reads_less = False
    pumps.far.read_bytes = READ_BYTES
    pumps.far.read_less()
    assert read() == left - 4 * LEAST_READ_BYTES


def test_nobody_answers_the_close(pumps: Pumps) -> None:
    pumps.start()
    pumps.reactor.modify(pumps.far.fd, 0)
    pumps.near.close()
    pumps.settle()
    assert not pumps.client.lost
    pumps.advance(CLOSE_GRACE_S + 0.2)
    assert pumps.client.lost == [None]


def test_drop_is_once(pumps: Pumps) -> None:
    pumps.start()
    pumps.near.drop(("a", "b"))
    pumps.near.drop(("c", "d"))
    pumps.near.close()
    assert pumps.client.lost == [("a", "b")]
    pumps.settle()
    assert pumps.server.lost == [("", "connection aborted")] or pumps.server.lost[0] is not None


def test_a_crash_costs_the_connection(pumps: Pumps) -> None:
    pumps.start()
    pumps.near.on_crash()
    assert pumps.client.lost == [("amqp:internal-error", "internal error")]


def test_garbage_is_answered_and_ends_it(pumps: Pumps) -> None:
    proton.connection_open(pumps.far.connection)
    pumps.far.start()
    pumps.sockets[0].send(b"GET / HTTP/1.1\r\n\r\n")
    pumps.settle()
    assert pumps.server.lost[0] is not None
    assert pumps.server.lost[0][0] == "amqp:connection:framing-error"


def test_an_oversized_frame(pumps: Pumps) -> None:
    proton.transport_set_max_frame(pumps.far.transport, 1024)
    proton.connection_open(pumps.far.connection)
    pumps.far.start()
    pumps.sockets[0].send(b"AMQP\x00\x01\x00\x00" + b"\x00\x10\x00\x00\x02\x00\x00\x00" + bytes(5000))
    pumps.settle()
    assert pumps.server.lost[0] is not None
    assert pumps.server.lost[0][0] == "amqp:connection:framing-error"


def with_channel(pumps: Pumps, monkeypatch: pytest.MonkeyPatch) -> SlowChannel:
    channel = SlowChannel(pumps.sockets[0])
    monkeypatch.setattr(pumps.near, "channel", channel, raising=True)
    return channel


def performative(code: int, *fields: object) -> bytes:
    body = encode(Described(ULong(code), list(fields)))
    return (8 + len(body)).to_bytes(4, "big") + b"\x02\x00\x00\x00" + body


AMQP = b"AMQP\x00\x01\x00\x00"
SASL = b"AMQP\x03\x01\x00\x00"
OPEN = performative(0x10, "x")
BEGIN = performative(0x11, None, UInt(0), UInt(1), UInt(1))


@pytest.mark.parametrize(
    ("octets", "condition"),
    [
        (AMQP + BEGIN + OPEN, UNOPENED),
        (SASL + BEGIN + OPEN, UNEXPECTED),
        (SASL + OPEN + BEGIN, UNEXPECTED),
        (SASL + performative(0xF0), UNEXPECTED),
    ],
)
def test_nothing_comes_before_the_open_or_within_sasl(pumps: Pumps, octets: bytes, condition: tuple[str, str]) -> None:
    start_sasl(pumps.far.transport, None, config_dir=None, config_name=None, allow_insecure=True)
    pumps.far.start()
    pumps.sockets[0].send(octets)
    pumps.settle()
    assert pumps.server.lost == [condition]
    assert pumps.server.events == []


def test_what_the_socket_refuses_is_kept(pumps: Pumps, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = with_channel(pumps, monkeypatch)
    channel.room = 10
    for engine in (pumps.near, pumps.far):
        proton.connection_open(engine.connection)
        engine.start()
    for _ in range(5):
        pumps.reactor.run_once(0)
    assert pumps.near.blocked
    assert pumps.near.bytes_out == 10
    assert pumps.server.events == []
    pumps.near.flush()  # nothing is asked of the engine meanwhile
    assert pumps.near.bytes_out == 10
    assert pumps.near.leftover is not None
    kept = pumps.near.leftover.obj
    for _ in range(200):
        channel.room += 7
        pumps.reactor.run_once(0)
        assert pumps.near.leftover is None or pumps.near.leftover.obj is kept  # copied once, however slow it is
    channel.room = 1 << 20
    pumps.settle()
    assert not pumps.near.blocked
    assert pumps.server.events == ["open"]
    assert pumps.client.events == ["open"]


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE])
def test_a_socket_that_fails(pumps: Pumps, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    channel = with_channel(pumps, monkeypatch)
    pumps.start()
    channel.failure = number
    proton.connection_close(pumps.far.connection)
    pumps.reactor.dirty.add(pumps.far)
    pumps.settle()
    assert len(pumps.client.lost) == 1
    condition = pumps.client.lost[0]
    assert condition is not None


def test_keep_alives_and_a_silent_peer(pumps: Pumps) -> None:
    proton.transport_set_idle_timeout(pumps.far.transport, 4000)
    pumps.start()
    pumps.advance(20)
    assert not pumps.server.lost  # the client's engine sends empty frames
    before = pumps.far.bytes_in
    pumps.advance(5)
    assert pumps.far.bytes_in > before
    pumps.reactor.modify(pumps.near.fd, 0)
    if pumps.near._tick_timer is not None:
        pumps.near._tick_timer.cancel()
    pumps.advance(10)
    assert pumps.server.lost[0] is not None
    assert pumps.server.lost[0][0] == "amqp:resource-limit-exceeded"


def test_a_handler_may_end_it_in_the_middle(pumps: Pumps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events behind the one that ended it are not handed out: what they point to may be gone."""

    def session_open(_session: Any) -> None:
        pumps.server.events.append("ends")
        pumps.far.drop(None)

    monkeypatch.setattr(pumps.server, "on_session_open", session_open)
    pumps.start()
    session = proton.session_new(pumps.near.connection)
    proton.session_open(session)
    proton.link_open(proton.sender_new(session, b"l"))
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    assert pumps.server.events == ["open", "ends"]


def test_another_handler_is_asked_at_once(pumps: Pumps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a delivery that came in one read with what it became another for."""
    written: list[bytes] = []
    monkeypatch.setattr(pumps.near, "channel", Recorded(pumps.near.channel, written))
    pumps.start()
    session = open_session(pumps)
    begun = len(written)
    link = open_link(pumps, session)
    send(link, b"hello")
    pumps.reactor.dirty.add(pumps.near)
    pumps.settle()
    assert pumps.server.events[-1] == "delivery"

    again = Pumps()
    looked_at: list[object] = []

    def link_opened(link: Any) -> None:
        monkeypatch.setattr(again.server, "on_delivery", looked_at.append)
        again.far.rebind()

    monkeypatch.setattr(again.server, "on_link_open", link_opened)
    monkeypatch.setattr(again.server, "on_session_open", proton.session_open)
    proton.connection_open(again.far.connection)
    again.far.start()
    for piece in (b"".join(written[:begun]), b"".join(written[begun:])):
        again.sockets[0].sendall(piece)
        again.settle()
    assert looked_at
    assert "delivery" not in again.server.events
    again.close()


@pytest.mark.parametrize(
    ("deadline_ms", "wait_s"), [(14_250, 5.0), (15_000, 5.0), (12_999, 2.999), (10_010, 0.05), (9_000, 0.05)]
)
def test_far_ticks_come_together_and_near_ones_in_time(deadline_ms: int, wait_s: float) -> None:
    assert _tick_after(deadline_ms, 10_000) == wait_s


class Slow(Notes):
    """A handler that takes time for each link."""

    def __init__(self, pumps: Pumps) -> None:
        super().__init__()
        self.pumps = pumps

    def on_link_open(self, link: Any) -> None:
        super().on_link_open(link)
        self.pumps.time += TURN_S / 4


def slow_pumps() -> Pumps:
    """Two pumps, of which the far one has much to do after the next turn."""
    pumps = Pumps()
    slow = Slow(pumps)
    slow.engine, pumps.server = pumps.server.engine, slow
    assert slow.engine is not None
    slow.engine.handler = slow
    pumps.start()
    session = open_session(pumps)
    for number in range(3 * len(UNASKED_EVENTS)):
        proton.link_open(proton.sender_new(session, b"%d" % number))
    return pumps


def test_a_turn_that_has_lasted_long_goes_on_with_everybody_else() -> None:
    pumps = slow_pumps()
    pumps.near.flush()
    everything = 3 * len(UNASKED_EVENTS)
    before = pumps.far.bytes_out
    steps = [0]
    for _ in range(100):
        pumps.reactor.run_once(0)
        count = pumps.server.events.count("link open")
        if count == everything:
            break
        steps.append(count - sum(steps))
        if count:  # what is heard in the meantime waits, and what is said as well
            assert pumps.far.is_behind
            assert pumps.far.bytes_out == before
            pumps.reactor.dirty.add(pumps.far)
    assert sum(steps) < everything, "it took several turns"
    assert 0 < max(steps) <= len(UNASKED_EVENTS)
    proton.link_open(proton.sender_new(proton.link_session(pumps.server.pointers[-1]), b"back"))
    pumps.advance(0.1)
    assert not pumps.far.is_behind
    assert pumps.far.bytes_out > before
    assert pumps.client.events.count("link open") == 1
    pumps.close()


def test_what_came_before_the_end_is_handed_out_however_long_it_takes() -> None:
    pumps = slow_pumps()
    pumps.near.flush()
    pumps.near.drop(None)
    pumps.advance(0.1)
    assert pumps.server.events.count("link open") == 3 * len(UNASKED_EVENTS)
    assert pumps.server.lost
    pumps.close()


def test_what_the_engine_says_of_its_own_output_is_dropped_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vanrouter.engine.connection.DROPPED_EVENTS", range(1))
    pumps = Pumps()
    pumps.start()
    session = open_session(pumps)
    links = [proton.sender_new(session, b"%d" % number) for number in range(8)]
    for link in links:
        proton.link_open(link)
    pumps.near.flush()
    pumps.advance(0.1)
    turns = pumps.reactor.turns

    def popped(collector: Any) -> Any:
        pumps.time += TURN_S / 2
        return proton.collector_pop(collector)

    monkeypatch.setattr("vanrouter.engine.connection.collector_pop", popped)
    for link in links:
        proton.link_close(link)
        proton.link_free(link)
    pumps.reactor.dirty.add(pumps.near)
    pumps.reactor.run_once(0)
    assert pumps.near.is_behind
    for _ in range(50):
        pumps.reactor.run_once(0)
        pumps.time += TURN_S
    assert not pumps.near.is_behind
    assert pumps.reactor.turns > turns + 3
    monkeypatch.undo()
    pumps.advance(0.1)
    pumps.close()
