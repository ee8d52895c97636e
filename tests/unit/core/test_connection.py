"""Sessions, links and connections that end in every way (router protocol, sections 1, 2 and 7.5)."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import ACCEPTED, RELEASED, World
from vanrouter.engine import proton

STREAMING = ("qd.streaming-deliveries",)


def test_what_the_open_says(world: World) -> None:
    router = world.router("R")
    client = world.client(router, container="it", properties={"a": 1})
    assert client.is_open
    assert proton.text(proton.connection_remote_container(client.engine.connection)) == "R"
    peer = client.there.peer
    assert (peer.container, peer.properties) == ("it", {"a": 1})
    assert client.there.is_opened


def test_more_sessions_than_allowed(world: World) -> None:
    router = world.router()
    router.max_sessions = 3
    client = world.client(router)
    sessions = [client.session() for _ in range(5)]
    world.settle()
    assert [session for session, _ in client.closed_sessions] == sessions[3:]
    assert len(client.there.sessions) == 3
    condition = proton.condition_text(proton.session_remote_condition(sessions[4]))
    assert condition == ("amqp:resource-limit-exceeded", "too many sessions on this connection")
    client.close_session(sessions[0])
    fourth = client.session()
    world.settle()
    assert fourth not in [session for session, _ in client.closed_sessions]
    assert not client.is_lost


def test_links_of_a_refused_session(world: World) -> None:
    router = world.router()
    router.max_sessions = 1
    client = world.client(router)
    client.session()
    client.receiver("a", session=client.session())
    world.settle()
    assert not client.is_lost
    client.sender("a")
    world.check()


def test_a_session_takes_its_links_with_it(world: World) -> None:
    router = world.router()
    client = world.client(router)
    session = client.session()
    rx = client.receiver("a", session=session)
    kept = client.receiver("a", session=client.session())
    tx = client.sender("a", session=session)
    tx.send(b"x")
    world.settle()
    client.close_session(session)
    world.check()
    assert len(client.there.receivers) == 0
    assert len(client.there.senders) == 1
    assert not kept.is_closed
    assert rx.got or kept.got


def test_credit_after_a_link_is_gone_does_no_harm(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a")
    producer = world.client(router)
    tx = producer.sender("a")
    tx.send(b"x")
    world.settle()
    tx.detach()
    rx.got[0].settle(RELEASED)
    world.settle()
    world.check()


def test_when_a_delivery_passed_last(world: World) -> None:
    router = world.router()
    source, drain = world.client(router), world.client(router)
    tx, rx = source.sender("a"), drain.receiver("a", credit=2)
    world.settle()
    assert source.there.last_delivery_at is None
    assert drain.there.last_delivery_at is None
    world.advance(3.0)
    at = world.time
    tx.send(b"x")
    world.settle()
    assert drain.there.last_delivery_at == at
    rx.got[0].accept()
    world.settle()
    assert source.there.last_delivery_at == at
    world.advance(100.0)  # keep-alives are none
    assert drain.there.last_delivery_at == at


def test_since_when_a_consumer_has_no_credit(world: World) -> None:
    router = world.router()
    tx, rx = world.client(router).sender("a"), world.client(router).receiver("a", credit=1)
    world.settle()
    link = rx.here
    assert link.zero_credit_since is None
    world.advance(3.0)
    tx.send(b"x")
    world.settle()
    assert link.zero_credit_since == world.time
    rx.got[0].accept()
    rx.credit(2)
    world.settle()
    assert link.zero_credit_since is None
    sent = tx.begin()
    sent.write(b"y")
    sent.end()
    whole = tx.begin()
    whole.write(b"z" * 300_000)
    whole.end()
    world.settle()
    assert link.zero_credit_since == world.time


def test_the_router_ends_a_link(world: World) -> None:
    router = world.router()
    client = world.client(router)
    rx, tx = client.receiver("a"), client.sender("a")
    sent = tx.send(b"x")
    world.settle()
    client.there.detach(rx.here, ("amqp:internal-error", "test"))
    world.settle()
    assert rx.condition == ("amqp:internal-error", "test")
    assert sent.is_settled
    client.there.detach(tx.here)
    world.settle()
    assert tx.is_closed
    assert not client.there.receivers
    assert not client.there.senders
    assert not router.links
    assert not router.table.get("Ma")


def test_the_router_ends_the_connection(world: World) -> None:
    router = world.router()
    client = world.client(router)
    client.receiver("a")
    client.there.close(("amqp:connection:forced", "test"))
    world.settle()
    assert client.condition == ("amqp:connection:forced", "test")
    assert client.is_lost
    assert not router.connections


@pytest.mark.parametrize("is_opened", [False, True])
def test_a_peer_that_does_not_answer_the_close(world: World, is_opened: bool) -> None:
    router = world.router()
    client = world.unopened(router)
    if is_opened:
        client.open()
        world.settle()
        client.stop_reading()
    client.there.close()
    world.settle()
    if is_opened:
        assert router.connections
    world.advance(3)
    assert not router.connections


def test_an_exception_in_a_handler_costs_one_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    router = world.router()
    other = world.client(router).receiver("a", auto=ACCEPTED)
    client = world.client(router)
    tx = client.sender("a")
    world.allows_crashes = True
    monkeypatch.setattr(client.there.attacher.__class__, "_on_consumer", None)
    client.receiver("b")
    world.settle()
    monkeypatch.undo()
    assert world.reactor.crashes == 1
    assert client.is_lost
    assert tx.here if not client.is_lost else True
    again = world.client(router).sender("a").send(b"x")
    world.settle()
    assert again.state == ACCEPTED
    assert other.contents == [b"x"]


GARBAGE = [
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"AMQP\x00\x01\x00\x00" + b"\xff" * 100,
    b"AMQP\x00\x01\x00\x00" + b"\x00\x00\x00\x08\x02\x00\x00\x00" * 2,
    b"AMQP\x00\x01\x00\x00" + b"\x7f\xff\xff\xff\x02\x00\x00\x00" + bytes(70_000),
    b"AMQP\x00\x01\x00\x00" + b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\xee\x45",
    b"AMQP\x00\x01\x00\x00" + b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x10\x45",
    b"AMQP\x00\x01\x00\x00" + b"\x00\x00\x00\x04\x02\x00\x00\x00",
    b"AMQP\x03\x01\x00\x00" + b"\x00\x00\x00\x0c\x02\x01\x00\x00\x00\x53\xee\x45",
    b"AMQP\x09\x09\x09\x09",
]


@pytest.mark.parametrize("octets", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("bytewise", [False, True])
def test_garbage(world: World, octets: bytes, bytewise: bool) -> None:
    router = world.router()
    sock, connection = world.raw(router)
    with sock:
        for at in range(0, len(octets), 1 if bytewise and len(octets) < 1000 else len(octets) or 1):
            if connection.is_closed:
                break
            sock.send(octets[at : at + 1] if bytewise and len(octets) < 1000 else octets)
            world.settle()
    world.settle()
    assert connection.is_closed
    assert not router.connections


def test_garbage_after_the_open(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a")
    client = world.client(router)
    sent = client.sender("a").send(b"x")
    world.settle()
    client.engine.channel.send(b"\xff" * 64)  # type: ignore[arg-type]
    world.settle()
    assert client.is_lost
    assert not sent.is_settled
    assert rx.got[0].is_settled
    assert len(router.connections) == 1
