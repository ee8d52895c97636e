"""A scripted peer that speaks AMQP 1.0 frame by frame, on a plain socket.

What it sends and what must come is written down. Frames are encoded and decoded by Proton's data object, not by the
router's own codec, and no engine answers in between.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from proton import Data, Described, ubyte, uint, ulong

AMQP, TLS, SASL = (b"AMQP\x00\x01\x00\x00", b"AMQP\x02\x01\x00\x00", b"AMQP\x03\x01\x00\x00")
TIMEOUT_S = 20.0

TERMINUS = "address durable expiry-policy timeout dynamic dynamic-node-properties"
MODES, RESUMED = "snd-settle-mode rcv-settle-mode", "unsettled incomplete-unsettled"
OUTGOING, FLAGS = "next-outgoing-id outgoing-window", "drain echo"
LOCALES = "outgoing-locales incoming-locales"
CAPABILITIES = "offered-capabilities desired-capabilities properties"
FIELDS: dict[str, tuple[int, str]] = {
    "open": (
        0x10,
        f"container-id hostname max-frame-size channel-max idle-time-out {LOCALES} {CAPABILITIES}",
    ),
    "begin": (
        0x11,
        f"remote-channel next-outgoing-id incoming-window outgoing-window handle-max {CAPABILITIES}",
    ),
    "attach": (
        0x12,
        f"name handle role {MODES} source target {RESUMED} initial-delivery-count max-message-size {CAPABILITIES}",
    ),
    "flow": (
        0x13,
        f"next-incoming-id incoming-window {OUTGOING} handle delivery-count link-credit available {FLAGS} properties",
    ),
    "transfer": (
        0x14,
        "handle delivery-id delivery-tag message-format settled more rcv-settle-mode state resume aborted batchable",
    ),
    "disposition": (0x15, "role first last settled state batchable"),
    "detach": (0x16, "handle closed error"),
    "end": (0x17, "error"),
    "close": (0x18, "error"),
    "error": (0x1D, "condition description info"),
    "received": (0x23, "section-number section-offset"),
    "accepted": (0x24, ""),
    "rejected": (0x25, "error"),
    "released": (0x26, ""),
    "modified": (0x27, "delivery-failed undeliverable-here message-annotations"),
    "source": (0x28, f"{TERMINUS} distribution-mode filter default-outcome outcomes capabilities"),
    "target": (0x29, f"{TERMINUS} capabilities"),
    "coordinator": (0x30, "capabilities"),
    "sasl-mechanisms": (0x40, "sasl-server-mechanisms"),
    "sasl-init": (0x41, "mechanism initial-response hostname"),
    "sasl-outcome": (0x44, "code additional-data"),
}
"""Composite types of AMQP 1.0, parts 2, 3 and 5: descriptor and fields in order."""
BY_CODE = {code: name for name, (code, _fields) in FIELDS.items()}
DEFAULTS: dict[str, dict[str, object]] = {
    "begin": {"handle-max": 0xFFFFFFFF},
    "attach": {"snd-settle-mode": 2, "rcv-settle-mode": 0, "incomplete-unsettled": False, "max-message-size": 0},
    "flow": {"available": 0, "drain": False, "echo": False},
    "transfer": {"more": False, "resume": False, "aborted": False, "batchable": False, "message-format": 0},
    "disposition": {"settled": False, "batchable": False},
    "detach": {"closed": False},
    "modified": {"undeliverable-here": False},
    "source": {"durable": 0, "expiry-policy": "session-end", "timeout": 0, "dynamic": False},
    "target": {"durable": 0, "expiry-policy": "session-end", "timeout": 0, "dynamic": False},
}
"""A field that is left out has its default: writing it or not says the same."""

Frame = dict[str, Any]
"""A performative: its `kind` and all fields that are not null; `payload` of a transfer; `channel`."""


class _Anything:
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Anything()
"""A field that is there, whatever it is."""


def composite(kind: str, **fields: object) -> Described:
    """Build a value of a composite type; underscores stand for hyphens, what is left out is null."""
    code, names = FIELDS[kind]
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    values = [given.pop(name, None) for name in names.split()]
    assert not given, f"{kind} has no field {', '.join(given)}"
    while values and values[-1] is None:
        values.pop()
    return Described(ulong(code), values)


def encode(*values: object) -> bytes:
    """Encode values one after the other."""
    octets = b""
    for value in values:
        data = Data()
        data.put_object(value)
        octets += data.encode()
    return octets


def decode(octets: bytes) -> tuple[Any, int]:
    """Decode the first value; return it and its length."""
    data = Data()
    length = data.decode(octets)
    data.rewind()
    data.next()
    return plain(data.get_object()), length


def plain(value: Any) -> Any:
    """Name the fields of composite values, and leave out those that are null."""
    if isinstance(value, Described) and value.descriptor in BY_CODE:
        kind = BY_CODE[value.descriptor]
        names = FIELDS[kind][1].split()
        assert len(value.value) <= len(names), f"{kind} has {len(value.value)} fields"
        found = {name: plain(field) for name, field in zip(names, value.value, strict=False) if field is not None}
        return {"kind": kind, **found}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, memoryview):
        return bytes(value)
    return list(value.elements) if hasattr(value, "elements") else value


def filled(expected: Any, found: Any) -> tuple[Any, Any]:
    """Put defaults where either side left a field out."""
    if not isinstance(expected, dict) or not isinstance(found, dict):
        return expected, found
    defaults = DEFAULTS.get(str(found.get("kind")), {})
    left, right = {**defaults, **expected}, {**defaults, **found}
    for name in left.keys() & right.keys():
        left[name], right[name] = filled(left[name], right[name])
    return left, right


def compare(found: Frame, expected: Frame) -> None:
    """Hold a frame or one of its fields to what is expected, field by field."""
    left, right = filled(expected, found)
    assert left == right, f"\nexpected {expected}\nfound    {found}"


class RawPeer:
    """One connection. `say` sends, `hear` waits for the next frame and holds it to what is expected."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._unread = b""

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    # Octets.

    def write(self, octets: bytes) -> None:
        """Send octets as they are."""
        self._socket.sendall(octets)

    def read(self, count: int) -> bytes:
        """Return the next octets."""
        while len(self._unread) < count:
            chunk = self._socket.recv(1 << 16)
            assert chunk, f"the router closed the socket; {self._unread!r} was left"
            self._unread += chunk
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def hear_the_end(self) -> None:
        """The router closes the socket, whatever it says before."""
        while self._socket.recv(1 << 16):
            pass

    def hear_nothing_more(self) -> None:
        """The router closes the socket."""
        assert not self._unread, self._unread
        assert self._socket.recv(1) == b""

    # Frames.

    def say(self, kind: str, *, channel: int = 0, payload: bytes = b"", frame_type: int = 0, **fields: object) -> None:
        """Send one frame."""
        self.write(frame(kind, channel=channel, payload=payload, frame_type=frame_type, **fields))

    def next_frame(self, *, of_sessions: bool = False) -> Frame:
        """Return the next frame that is not empty; `of_sessions`: also a flow that is about no link."""
        while True:
            size, offset, frame_type, channel = struct.unpack(">IBBH", self.read(8))
            body = self.read(size - 8)[offset * 4 - 8 :]
            if not body:
                continue  # keeps the connection from timing out
            performative, length = decode(body)
            found: Frame = dict(performative)
            if frame_type == 0:
                found["channel"] = channel
            if found["kind"] == "transfer":
                found["payload"] = body[length:]
            else:
                assert length == len(body)
            if of_sessions or found["kind"] != "flow" or "handle" in found:
                return found

    def hear(self, kind: str, *, channel: int = 0, **fields: object) -> Frame:
        """The next frame is this one, field by field: what is not given is absent or has its default."""
        found = self.next_frame()
        expected = {
            "kind": kind,
            "channel": channel,
            **{name.replace("_", "-"): value for name, value in fields.items()},
        }
        compare(found, expected)
        return found

    def hear_kind(self, kind: str) -> Frame:
        """The next frame is of this kind."""
        found = self.next_frame()
        assert found["kind"] == kind, found
        return found

    # Common beginnings.

    def open(self, **fields: object) -> Frame:
        """Exchange headers and open performatives; return the router's."""
        self.write(AMQP)
        self.say("open", **{"container_id": "raw", **fields})
        assert self.read(8) == AMQP
        return self.hear_kind("open")

    def begin(self, channel: int = 0) -> Frame:
        """Begin a session with a window that no script comes near."""
        self.say(
            "begin",
            channel=channel,
            next_outgoing_id=uint(0),
            incoming_window=uint(1000),
            outgoing_window=uint(1000),
        )
        return self.hear_kind("begin")

    def flow(self, handle: int, credit: int, *, count: int = 0, incoming: int = 0, **fields: object) -> None:
        """Give credit on a link on which this side receives."""
        self.say(
            "flow",
            next_incoming_id=uint(incoming),
            incoming_window=uint(1000),
            next_outgoing_id=uint(0),
            outgoing_window=uint(1000),
            handle=uint(handle),
            delivery_count=uint(count),
            link_credit=uint(credit),
            **fields,
        )

    def attach_sender(self, name: str, handle: int, address: str | None, **target: object) -> Frame:
        """Attach a link on which this side sends; return the router's answer."""
        self.say(
            "attach",
            name=name,
            handle=uint(handle),
            role=False,
            source=composite("source"),
            target=composite("target", address=address, **target),
            initial_delivery_count=uint(0),
        )
        return self.hear_kind("attach")

    def attach_receiver(self, name: str, handle: int, address: str | None, **source: object) -> Frame:
        """Attach a link on which this side receives; return the router's answer."""
        self.say(
            "attach",
            name=name,
            handle=uint(handle),
            role=True,
            source=composite("source", address=address, **source),
            target=composite("target"),
        )
        return self.hear_kind("attach")

    def transfer(self, handle: int, number: int, payload: bytes, *, channel: int = 0, **fields: object) -> None:
        """Send a transfer; the tag is the delivery's number."""
        self.say(
            "transfer",
            channel=channel,
            payload=payload,
            **{
                "handle": uint(handle),
                "delivery_id": uint(number),
                "delivery_tag": struct.pack(">I", number),
                "message_format": uint(0),
                **fields,
            },
        )


def frame(kind: str, *, channel: int = 0, payload: bytes = b"", frame_type: int = 0, **fields: object) -> bytes:
    """Return the octets of one frame."""
    body = encode(composite(kind, **fields)) + payload
    return struct.pack(">IBBH", 8 + len(body), 2, frame_type, channel) + body


def message(body: object = "x", *, to: str | None = None, priority: int | None = None) -> bytes:
    """Return a small message: header and properties where there is something in them, and a value."""
    sections: list[object] = []
    if priority is not None:
        sections.append(Described(ulong(0x70), [None, ubyte(priority)]))
    if to is not None:
        sections.append(Described(ulong(0x73), [None, None, to]))
    return encode(*sections, Described(ulong(0x77), body))
