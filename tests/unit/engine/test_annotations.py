import pytest

from vanrouter.engine import annotations as room
from vanrouter.engine.annotations import (
    DESCRIPTOR,
    NO_ANNOTATIONS,
    Annotations,
    edge_section,
    encode,
    next_hop_section,
    originated,
    parse,
)
from vanrouter.engine.sections import NEED_MORE, Symbol, UInt
from vanrouter.engine.sections import encode as encode_value
from vanrouter.errors import PeerError

# Router protocol, section 4.1: first octets of any message sent by router A.
FROM_A = bytes.fromhex("0080534b50522d2d5241 d000000019000000044340a103302f41d00000000900000001a103302f41")
# TCP over AMQP, section 5.1: the section of a TCP stream of router A3.
STREAM_FROM_A3 = bytes.fromhex(
    "0080534b50522d2d5241 d00000001c00000004520540a104302f4133d00000000a00000001a104302f4133"
)


def parsed(octets: bytes) -> Annotations:
    found = parse(octets, 0, len(octets))
    assert found is not NEED_MORE
    return found


@pytest.mark.parametrize(("golden", "flags", "own"), [(FROM_A, 0, "0/A"), (STREAM_FROM_A3, 5, "0/A3")])
def test_reads_and_writes_what_routers_write(golden: bytes, flags: int, own: str) -> None:
    found = parsed(golden)
    assert (found.flags, found.to_override, found.ingress, found.trace, found.mesh, found.length) == (
        flags, None, own, (own,), None, len(golden),
    )  # fmt: skip
    assert encode(flags, None, own, [own]) == golden
    assert next_hop_section(originated(flags), None, own) == golden


@pytest.mark.parametrize("golden", [FROM_A, STREAM_FROM_A3, DESCRIPTOR + encode_value([0, None, None, []])])
def test_a_part_needs_more(golden: bytes) -> None:
    for end in range(len(golden)):
        assert parse(golden, 0, end) is NEED_MORE
    for buffer in (golden + b"rest", bytearray(golden), memoryview(golden)):
        assert parse(buffer, 0, len(buffer)).length == len(golden)
    assert parse(b"xx" + golden, 2, 2 + len(golden)).length == len(golden)


def test_the_same_octets_are_parsed_once() -> None:
    assert parsed(FROM_A) is parsed(FROM_A + b"rest")
    assert next_hop_section(parsed(FROM_A), None, "0/B") is next_hop_section(parsed(FROM_A), None, "0/B")


@pytest.mark.parametrize(
    "message", [b"\x00\x53\x70\x45", b"\x00\x53\x73" + b"\x40" * 20, b"\x00\x80" + b"\x00" * 20, b"x" * 15]
)
def test_a_message_without_the_section_has_none(message: bytes) -> None:
    assert parse(message, 0, len(message)) is NO_ANNOTATIONS


def test_the_next_hop_sees_this_router_in_the_trace() -> None:
    onward = parsed(next_hop_section(parsed(FROM_A), None, "0/B"))
    assert (onward.ingress, onward.trace) == ("0/A", ("0/A", "0/B"))
    assert parsed(next_hop_section(parsed(FROM_A), "amqp:/foo", "0/B")).to_override == "amqp:/foo"
    kept = parsed(encode(0x85, "foo", None, (), "m" * 15))
    onward = parsed(next_hop_section(kept, None, "0/B"))
    assert (onward.flags, onward.to_override, onward.ingress, onward.trace, onward.mesh) == (
        0x85, "foo", "0/B", ("0/B",), "m" * 15,
    )  # fmt: skip


def test_an_edge_tells_neither_ingress_nor_trace() -> None:
    section = parsed(edge_section(parsed(FROM_A), None))
    assert (section.ingress, section.trace, section.mesh) == (None, (), None)
    section = parsed(edge_section(parsed(FROM_A), "foo", "m" * 15))
    assert (section.to_override, section.ingress, section.trace, section.mesh) == ("foo", None, (), "m" * 15)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "Invalid router annotations section: non-list type"),
        ([0, None, None], "Invalid router annotations section: wrong list count"),
        ([0, 1, None, []], "Invalid router to-override annotation: wrong type"),
        ([0, Symbol("a"), None, []], "Invalid router to-override annotation: wrong type"),
        ([0, None, 1, []], "Invalid router ingress annotation: wrong type"),
        ([0, None, None, None], "Invalid router trace annotation: wrong type"),
        ([0, None, None, ["a", Symbol("b")]], "Invalid router trace annotation: entry is not a string"),
        ([0, None, None, [], None], "Invalid ingress-mesh annotation: wrong type"),
        ([True, None, None, []], "Invalid router flags annotation: wrong type"),
        ([-1, None, None, []], "Invalid router flags annotation: wrong type"),
    ],
)
def test_broken_sections_are_refused_by_their_texts(value: object, text: str) -> None:
    for rest in (b"", b"rest" * 5):
        octets = DESCRIPTOR + encode_value(value) + rest
        with pytest.raises(PeerError) as raised:
            parse(octets, 0, len(octets))
        assert (raised.value.condition, raised.value.description) == ("amqp:invalid-field", text)


def test_a_map_is_no_message() -> None:
    for value in ({}, {"a": "b" * 300}):
        octets = DESCRIPTOR + encode_value(value)
        with pytest.raises(PeerError, match="amqp:decode-error invalid message format"):
            parse(octets, 0, len(octets))


def test_a_section_of_broken_values_or_without_end_is_refused() -> None:
    for octets in (
        DESCRIPTOR + b"\xc0\x05\x04\x3f\x3f\x3f\x3f" + b"x" * 9,
        DESCRIPTOR + b"\xd0\xff\xff\xff\xff" + b"x" * 9,
    ):
        with pytest.raises(PeerError, match="amqp:invalid-field Invalid router annotations section"):
            parse(octets, 0, len(octets))


def test_more_elements_than_known_are_accepted() -> None:
    section = parsed(DESCRIPTOR + encode_value([UInt(0), None, None, [], "m" * 15, 1, 2]))
    assert section.mesh == "m" * 15


def test_what_is_remembered_is_bounded() -> None:
    room._parsed.clear()
    for number in range(room.CACHED_SECTIONS + 1):
        parsed(encode(0, f"to{number}", None, ()))
    assert len(room._parsed) == 1
    parsed(encode(0, "x" * room.CACHED_SECTION_BYTES, None, ()))
    assert len(room._parsed) == 1
    first = parsed(FROM_A)
    for number in range(room.CACHED_NEXT_HOPS + 1):
        next_hop_section(first, f"to{number}", "0/B")
    next_hop_section(first, "x" * room.CACHED_SECTION_BYTES, "0/B")
    assert len(first.next_hops) <= room.CACHED_NEXT_HOPS


def test_text_form() -> None:
    assert "ingress='0/A'" in repr(parsed(FROM_A))
