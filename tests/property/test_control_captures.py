"""The control protocol of real runs, replayed: the same octets in give the same octets out, and the same routes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.property.captures import DATA, load, message_arguments, new_plane, shown, tell
from vanrouter.routing.commands import BindAddress, SendControl, SetNode

CAPTURES = sorted(DATA.glob("control_*.json"))
OPCODES = {"HELLO", "RA", "LSR", "LSU", "MAR", "MAU"}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_replay(capture: Path) -> None:
    plane = new_plane()
    sent: Counter[str] = Counter()
    for number, event in enumerate(load(capture.name)):
        commands = tell(plane, event["told"])
        assert [shown(command) for command in commands] == event["answered"], f"event {number}: {event['told'][:2]}"
        sent.update(command.opcode for command in commands if isinstance(command, SendControl))
    assert set(sent) == OPCODES
    assert plane.counters.restarts_seen == 1
    assert not plane.counters.malformed


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_every_kind_of_message_of_the_peer_is_there_and_understood(capture: Path) -> None:
    """Also without the times of the recording, which later versions of the plane may choose otherwise."""
    told = [event["told"] for event in load(capture.name)]
    received = Counter(message_arguments(bytes.fromhex(each[3]))[0] for each in told if each[0] == "on_message")
    assert set(received) == OPCODES
    plane, routes, keys = new_plane(), set(), set()
    for each in told:
        if each[0] != "on_timer":
            for command in tell(plane, each):
                if isinstance(command, SetNode):
                    routes.add(command.router_id)
                if isinstance(command, BindAddress):
                    keys.add(command.key)
    assert routes == {"P"}
    assert "Mthere" in keys
    assert plane.counters.received == received


def test_there_are_captures_of_each_kind_of_peer() -> None:
    assert {path.stem for path in CAPTURES} >= {"control_c_router_3", "control_c_router_2", "control_vanrouter"}
