"""Captures of the control protocol: what a control plane was told in a real run, octet for octet, and its answers.

A capture (`tests/data/control_*.json`) is made by `tests/interop/record_control.py` with a live peer, and replayed
without one by `test_control_captures.py`: the plane is told the same at the same times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vanrouter.core.control import encode_control
from vanrouter.engine.annotations import Annotations, parse
from vanrouter.engine.messages import decode_message
from vanrouter.routing.commands import Command, SendControl
from vanrouter.routing.control import ControlPlane

ROUTER_ID, INSTANCE = "V", 1_795_216_470_250
DATA = Path(__file__).parents[1] / "data"


def new_plane() -> ControlPlane:
    return ControlPlane(ROUTER_ID, INSTANCE)


def message_arguments(content: bytes) -> tuple[str, object]:
    """Return opcode and body of a control message as it came on the wire, router annotations and all."""
    annotations = parse(content, 0, len(content))
    assert isinstance(annotations, Annotations)
    message = decode_message(content[annotations.length :])
    return str(message.application_properties.get("opcode")), message.body


def tell(plane: ControlPlane, told: list[Any]) -> list[Command]:
    """Tell a plane one thing that a capture has."""
    what, now, *more = told
    if what == "on_message":
        connection_id, content = more
        opcode, body = message_arguments(bytes.fromhex(content))
        return plane.on_message(opcode, body, connection_id, now)
    call: Callable[..., list[Command]] = getattr(plane, what)
    return call(*more, now)


def shown(command: Command) -> str:
    """Return a command as a capture has it: messages in octets, everything else in words."""
    if isinstance(command, SendControl):
        way = "" if command.connection_id is None else f" on {command.connection_id}"
        return f"{command.opcode} to {command.to}{way}: {encode_control(command).hex()}"
    return str(command)


def load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / name).read_text())["events"]
    return found
