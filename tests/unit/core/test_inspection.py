"""Connections under policy: refused messages, sizes, links; whole messages and such that come in pieces."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import REJECTED, World, message
from vanrouter.core.connection import Connection
from vanrouter.core.inspection import OVERSIZE_CLOSE, SizeLimit, policy_look
from vanrouter.core.links import Receiver
from vanrouter.engine.annotations import encode


class Policy:
    """Everything but what a test forbids."""

    def __init__(self, maximum: int = 0) -> None:
        self.user = "joe"
        self.max_message_bytes = maximum
        self.checks_user_id = True
        self.oversize = 0
        self.sessions = 100

    def denies_session(self, open_count: int) -> bool:
        return open_count >= self.sessions

    def denied_sender(self, address: str | None, open_count: int) -> tuple[str, str] | None:
        return ("no", "sender") if address == "secret" else None

    def denied_receiver(self, address: str | None, is_dynamic: bool, open_count: int) -> tuple[str, str] | None:
        return ("no", "receiver") if address == "secret" else None

    def allows_target(self, address: str) -> bool:
        return address != "secret"

    def on_oversize(self, receiver: Receiver) -> None:
        self.oversize += 1


def govern(connection: Connection, policy: Policy) -> None:
    connection.policy = policy
    connection.inspect(policy_look(policy))


def test_links(world: World) -> None:
    client = world.client(world.router())
    govern(client.there, Policy())
    assert client.sender("secret").condition == ("no", "sender")
    assert client.receiver("secret").condition == ("no", "receiver")
    assert not client.sender("open").is_refused
    assert not client.receiver("open").is_refused


def test_sessions(world: World) -> None:
    client = world.client(world.router())
    policy = Policy()
    govern(client.there, policy)
    policy.sessions = 1
    client.session()
    client.session()
    world.settle()
    assert len(client.closed_sessions) == 1


@pytest.mark.parametrize("size", [10, 40_000])
@pytest.mark.parametrize(
    ("address", "fields", "arrives"),
    [
        ("a", {"user_id": b"joe"}, True),
        ("a", {"user_id": b"ann"}, False),
        ("a", {}, True),
        (None, {"to": "a"}, True),
        (None, {"to": "secret"}, False),
    ],
)
def test_messages(world: World, size: int, address: str | None, fields: dict[str, object], arrives: bool) -> None:
    router = world.router()
    drain = world.client(router).receiver("a", auto=0x24)
    world.client(router).receiver("secret")
    client = world.client(router)
    govern(client.there, Policy())
    source = client.sender(address)
    sent = source.send(message(body="x" * size, **fields))
    world.settle()
    assert len(drain.got) == arrives
    assert (sent.state == REJECTED) is not arrives
    assert source.credit + source.here.unsettled == 250
    assert not source.is_closed


@pytest.mark.parametrize("size", [2_000, 40_000, 1_000_000])
def test_a_message_that_is_too_long(world: World, size: int) -> None:
    router = world.router()
    drain = world.client(router).receiver("a", auto=0x24)
    client = world.client(router)
    policy = Policy(maximum=1_000)
    govern(client.there, policy)
    source = client.sender("a")
    sent, after = (source.send(message(body="x" * size)) for _ in range(2))
    world.settle()
    assert policy.oversize == 1
    assert after.state == 0  # the connection ends with the first
    assert not [got for got in drain.got if got.is_complete and not got.is_aborted]
    assert client.condition == OVERSIZE_CLOSE
    assert sent.state in (0, REJECTED)


def test_messages_up_to_the_limit(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("a", auto=0x24)
    client = world.client(router)
    govern(client.there, Policy(maximum=100_000))
    source = client.sender("a")
    for _ in range(5):
        source.send(message(body="x" * 60_000))
    world.settle()
    assert len(drain.contents) == 5


def test_octets_are_counted() -> None:
    limit = SizeLimit(10)
    assert [limit.is_over(count) for count in (4, 6, 1)] == [False, False, True]


def test_annotations_that_are_not_obeyed_hide_nothing(world: World) -> None:
    router = world.router()
    drain = world.client(router).receiver("secret", auto=0x24)
    client = world.client(router)
    govern(client.there, Policy())
    for size in (10, 200_000):
        sent = client.sender(None).send(encode(0, "a", None, (), None) + message(to="secret", body="x" * size))
        world.settle()
        assert (sent.state, drain.got) == (REJECTED, [])
