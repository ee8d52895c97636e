"""Each section and each encoding of the AMQP types passes byte for byte, whatever the way (AMQP 1.0, 1.6 and 3.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tests.unit.core.engines import ACCEPTED, World
from vanrouter.core.table import AddressRule, Treatment

SCALARS: dict[str, bytes] = {
    "null": b"\x40",
    "boolean": b"\x56\x01",
    "true": b"\x41",
    "false": b"\x42",
    "ubyte": b"\x50\xff",
    "ushort": b"\x60\x01\x00",
    "uint": b"\x70\xff\xff\xff\xff",
    "smalluint": b"\x52\x80",
    "uint0": b"\x43",
    "ulong": b"\x80" + b"\xff" * 8,
    "smallulong": b"\x53\x80",
    "ulong0": b"\x44",
    "byte": b"\x51\x80",
    "short": b"\x61\x80\x00",
    "int": b"\x71\x80\x00\x00\x00",
    "smallint": b"\x54\x80",
    "long": b"\x81\x80" + bytes(7),
    "smalllong": b"\x55\x80",
    "float": b"\x72" + struct.pack(">f", 1.5),
    "double": b"\x82" + struct.pack(">d", -0.0),
    "decimal32": b"\x74\x22\x50\x00\x01",
    "decimal64": b"\x84\x22\x38" + bytes(5) + b"\x01",
    "decimal128": b"\x94\x22\x08" + bytes(13) + b"\x01",
    "char": b"\x73\x00\x01\xf6\x00",
    "timestamp": b"\x83\x00\x00\x01\x2d\xcb\x8a\x70\x00",
    "uuid": b"\x98" + bytes(range(16)),
    "vbin8": b"\xa0\x03\x00\xff\x80",
    "vbin32": b"\xb0\x00\x00\x00\x01\xff",
    "str8": b"\xa1\x04\xf0\x9f\x90\x8d",
    "str32": b"\xb1\x00\x00\x00\x02ab",
    "sym8": b"\xa3\x03a:b",
    "sym32": b"\xb3\x00\x00\x00\x01s",
}


def compound(code: int, count: int, octets: bytes) -> bytes:
    """A list or map of either width."""
    if code >= 0xD0:
        return struct.pack(">BII", code, len(octets) + 4, count) + octets
    return struct.pack(">BBB", code, len(octets) + 1, count) + octets


COMPOUNDS: dict[str, bytes] = {
    "list0": b"\x45",
    "list8": compound(0xC0, 2, b"\x43\xa1\x01x"),
    "list32": compound(0xD0, 3, b"\x40\x41" + compound(0xC0, 1, b"\x44")),
    "map8": compound(0xC1, 4, b"\xa1\x01k\x54\x01\xa3\x01s\x40"),
    "map32": compound(0xD1, 2, b"\x80" + bytes(8) + b"\x45"),
    "array8": b"\xe0\x05\x03\x50\x01\x02\x03",
    "array32": b"\xf0\x00\x00\x00\x0d\x00\x00\x00\x02\x71" + struct.pack(">ii", -1, 7),
    "array of symbols": b"\xe0\x06\x02\xa3\x01a\x01b",
    "described": b"\x00\xa3\x05a:map" + compound(0xC0, 1, b"\x41"),
    "described twice": b"\x00\x80\x00\x00\x46\x8c\x00\x00\x00\x04\x00\x53\x05\xa1\x01x",
}
VALUES = SCALARS | COMPOUNDS
IDENTIFIERS = ("ulong", "smallulong", "ulong0", "uuid", "vbin8", "vbin32", "str8", "str32")
"""What a message-id may be."""
KEYS = [b"\xa3\x05x-key", b"\xa3\x09x-opt-key", b"\xb3\x00\x00\x00\x01k"]
TO = b"\xa1\x01a"
HEADER, DELIVERY, MESSAGE, PROPERTIES, APPLICATION, DATA, SEQUENCE, VALUE, FOOTER = range(0x70, 0x79)
PADDINGS = [0, 40_000]
"""Octets of a data section in front of the footer: one frame, or several."""


def section(code: int, value: bytes, *, is_wide: bool = False) -> bytes:
    """A section; its descriptor may be written in full."""
    return (b"\x00\x80" + code.to_bytes(8, "big") if is_wide else bytes((0x00, 0x53, code))) + value


def bodies() -> Iterator[tuple[str, bytes]]:
    """A body for each encoding, and data."""
    for name, value in VALUES.items():
        yield f"value {name}", section(VALUE, value)
        yield f"sequences {name}", section(SEQUENCE, compound(0xD0, 1, value)) + section(SEQUENCE, b"\x45")
    yield "data", section(DATA, SCALARS["vbin8"]) + section(DATA, SCALARS["vbin32"], is_wide=True)


BODIES = dict(bodies())


def whole(name: str, value: bytes, body: bytes) -> bytes:
    """A message with every section, in which `value` stands wherever any type may."""
    pair = compound(0xD1, 4, KEYS[0] + value + KEYS[1] + b"\x41")
    simple = value if name in SCALARS else b"\x40"
    identifier = (
        value if name in ("ulong", "smallulong", "ulong0", "uuid", "vbin8", "vbin32", "str8", "str32") else b"\x40"
    )
    head = section(HEADER, compound(0xC0, 5, b"\x41\x50\x07\x70\x00\x00\x03\xe8\x41\x52\x03"))
    properties = identifier + b"\xa0\x01u" + TO + b"\x40" * 2 + identifier + b"\xa3\x0atext/plain" + b"\x40" * 6
    return (
        head
        + section(DELIVERY, pair)
        + section(MESSAGE, pair)
        + section(PROPERTIES, compound(0xD0, 13, properties))
        + section(APPLICATION, compound(0xD1, 2, b"\xa1\x01p" + simple))
        + body
        + section(FOOTER, pair)
    )


def check(world: World, routers: int, contents: list[bytes], *, named: bool, multicast: bool) -> None:
    made = world.chain(*"ABC"[:routers]) if routers > 1 else [world.router()]
    for router in made:
        if multicast:
            router.table.rules.add(AddressRule(pattern="a", treatment=Treatment.MULTICAST))
    receiver = world.client(made[-1]).receiver("a", auto=ACCEPTED, credit=10_000)
    sender = world.client(made[0]).sender("a" if named else None)
    if routers > 1:
        world.advance(3)
    sent = []
    for content in contents:
        world.until(lambda: sender.credit > 0)
        sent.append(sender.send(content))
        world.settle()
    world.check()
    assert receiver.contents == contents
    assert all(one.state == ACCEPTED for one in sent)


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("routers", [1, 2])
def test_each_encoding_in_each_section(routers: int, named: bool, multicast: bool) -> None:
    contents = [whole(name, value, section(VALUE, value)) for name, value in VALUES.items()]
    contents += [whole("null", b"\x40", body) for body in BODIES.values()]
    world = World()
    check(world, routers, contents, named=named, multicast=multicast)
    world.close()


SECTIONS = [HEADER, DELIVERY, MESSAGE, APPLICATION]


@settings(deadline=None)
@given(
    there=st.sets(st.sampled_from(SECTIONS)),
    name=st.sampled_from(sorted(VALUES)),
    body=st.sampled_from(sorted(BODIES)),
    wide=st.booleans(),
    padding=st.sampled_from(PADDINGS),
    footer=st.booleans(),
    routers=st.sampled_from([1, 2, 3]),
    named=st.booleans(),
)
def test_any_sections(
    there: set[int], name: str, body: str, wide: bool, padding: int, footer: bool, routers: int, named: bool
) -> None:
    pair = compound(0xD1, 2, KEYS[2] + VALUES[name])
    values = {HEADER: compound(0xC0, 2, b"\x42\x50\x09"), APPLICATION: compound(0xC1, 2, b"\xa1\x01p\x41")}
    content = b"".join(section(code, values.get(code, pair), is_wide=wide) for code in SECTIONS[:3] if code in there)
    content += section(PROPERTIES, compound(0xC0, 3, b"\x40\x40" + TO), is_wide=wide)
    if APPLICATION in there:
        content += section(APPLICATION, values[APPLICATION], is_wide=wide)
    if padding:
        content += section(DATA, b"\xb0" + padding.to_bytes(4, "big") + bytes(padding))
    else:
        content += BODIES[body]
    if footer:
        content += section(FOOTER, pair)
    world = World()
    check(world, routers, [content], named=named, multicast=False)
    world.close()
