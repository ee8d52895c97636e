from uuid import UUID

import pytest

from vanrouter.engine.decoding import decode_pairs
from vanrouter.engine.encoding import encode, encode_into, encode_pairs
from vanrouter.engine.values import (
    Array,
    Byte,
    Char,
    Decimal,
    Decimal32,
    Described,
    Float,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)
from vanrouter.errors import MisuseError, PeerError

UUID_OCTETS = "00112233445566778899aabbccddeeff"


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (None, "40"),
        (True, "41"),
        (False, "42"),
        (0, "55 00"),
        (-1, "55 ff"),
        (127, "55 7f"),
        (128, "81 0000000000000080"),
        (-129, "81 ffffffffffffff7f"),
        (1 << 63, "80 8000000000000000"),
        (Long(1), "55 01"),
        (Int(-2), "54 fe"),
        (Int(1000), "71 000003e8"),
        (Short(-2), "61 fffe"),
        (Byte(-2), "51 fe"),
        (ULong(0), "44"),
        (ULong(255), "53 ff"),
        (ULong(256), "80 0000000000000100"),
        (UInt(0), "43"),
        (UInt(5), "52 05"),
        (UInt(65536), "70 00010000"),
        (UShort(1), "60 0001"),
        (UByte(9), "50 09"),
        (Timestamp(1), "83 0000000000000001"),
        (Float(1.5), "72 3fc00000"),
        (1.5, "82 3ff8000000000000"),
        (Char("a"), "73 00000061"),
        (UUID(UUID_OCTETS), "98" + UUID_OCTETS),
        (Decimal32(b"abcd"), "74 61626364"),
        ("svc1", "a1 04 73766331"),
        ("é", "a1 02 c3a9"),
        (Symbol("a"), "a3 01 61"),
        (b"ab", "a0 02 6162"),
        (bytearray(b"ab"), "a0 02 6162"),
        ([], "45"),
        ((1,), "c0 03 01 55 01"),
        ({}, "c1 01 00"),
        ({"V": UInt(1)}, "c1 06 02 a1 01 56 52 01"),
        (Described(ULong(0x73), [None]), "00 53 73 c0 02 01 40"),
        (Array(Symbol, ["a", "bc"]), "f0 00000010 00000002 b3 00000001 61 00000002 6263"),
        (Array(UInt, [], ULong(1)), "f0 00000008 00000000 00 53 01 70"),
        (Array(list, [[], [1]]), "f0 00000017 00000002 d0 00000004 00000000 00000006 00000001 55 01"),
    ],
)
def test_encodes(value: object, octets: str) -> None:
    assert encode(value) == bytes.fromhex(octets)


def test_long_texts_and_lists_take_the_wide_forms() -> None:
    assert encode("x" * 256)[:5] == bytes.fromhex("b1 00000100")
    assert encode([None] * 256)[:9] == bytes.fromhex("d0 00000104 00000100")
    assert encode([b"x" * 253])[:9] == bytes.fromhex("d0 00000103 00000001")
    assert encode(Array(list, [[None] * 300]))[9] == 0xD0


def test_types_derived_from_a_known_one_are_encoded_as_it() -> None:
    class Name(str):
        __slots__ = ()

    assert encode(Name("a")) == encode("a")


def test_appends_to_what_is_there() -> None:
    out = bytearray(b"x")
    encode_into([None], out)
    assert out == b"x\xc0\x02\x01\x40"


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a": object()},
        Int(1 << 40),
        UInt(-1),
        UByte(256),
        1 << 64,
        -(1 << 64),
        "\ud800",
        Char("ab"),
        Array(UByte, [256]),
        Array(object, []),
        Decimal(b"abc"),
    ],
)
def test_what_has_no_form_is_the_callers_mistake(value: object) -> None:
    with pytest.raises(MisuseError):
        encode(value)


def test_pairs_keep_their_order_and_repeat_their_keys() -> None:
    pairs = [(Symbol("x"), "1"), (":path", "/"), (Symbol("x"), "2")]
    out = bytearray()
    encode_pairs(pairs, out)
    assert decode_pairs(bytes(out)) == pairs
    out.clear()
    encode_pairs(pairs * 200, out)
    assert out[0] == 0xD1
    assert decode_pairs(bytes(out)) == pairs * 200
    out.clear()
    encode_pairs([], out)
    assert decode_pairs(bytes(out)) == []
    for broken in (b"", b"\x45", b"\xc1\x01\x00x", b"\xc1\x02\x01\x40", b"\xc1\x05\x02\xa1\x01\xff\x40", b"\xc1"):
        with pytest.raises(PeerError):
            decode_pairs(broken)
