"""The log of messages."""

from __future__ import annotations

import uuid

import pytest

from tests.unit.core.engines import World, message
from vanrouter.core.message_log import MessageLog, components_of, shown
from vanrouter.engine.sections import Symbol, Timestamp


def test_components() -> None:
    assert components_of("none") == components_of("") == frozenset()
    assert components_of("to, subject") == {"to", "subject"}
    assert len(components_of("all")) == 14


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        (Symbol("a"), ':"a"'),
        (b"a\x00", 'b"a\x00"'),
        ({"a": [1, None, True]}, '{"a"=[1, null, true]}'),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert shown(value) == text


def test_times() -> None:
    assert shown(Timestamp(1_000_000_000_123)).startswith('"2001-09-0')
    assert ".123 " in shown(Timestamp(1_000_000_000_123))


@pytest.mark.parametrize("size", [1, 500_000])
def test_each_message_twice(world: World, caplog: pytest.LogCaptureFixture, size: int) -> None:
    router = world.router()
    here, there = world.client(router), world.client(router)
    for client in (here, there):
        client.there.log_messages(MessageLog(components_of("to,app-properties")))
    there.receiver("a", auto=0x24)
    source = here.sender("a")
    with caplog.at_level("DEBUG", "vanrouter.message"):
        source.send(message(to="a", body="x" * size, application_properties={"k": 1}))
        world.settle()
    texts = [text.partition("] ")[2] if "] " in text else text for text in caplog.messages]
    wanted = 'Message{to="a", app-properties={"k"=1}}'
    assert [text.split("]")[-1].strip() for text in texts if "Message{" in text] == [
        f"Received {wanted}",
        f"Sent {wanted}",
    ]
