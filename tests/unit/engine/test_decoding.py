from uuid import UUID

import pytest

from vanrouter.engine.decoding import DECODE_ERROR, MAX_DEPTH, decode, iterate_list, skip
from vanrouter.engine.encoding import encode
from vanrouter.engine.values import Array, Char, Decimal128, Described, Float, Symbol, Timestamp, UInt, ULong
from vanrouter.errors import PeerError


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("40", None),
        ("41", True),
        ("56 00", False),
        ("43", 0),
        ("44", 0),
        ("45", []),
        ("50 ff", 255),
        ("51 ff", -1),
        ("52 ff", 255),
        ("53 ff", 255),
        ("54 ff", -1),
        ("55 80", -128),
        ("60 ffff", 65535),
        ("61 ffff", -1),
        ("70 ffffffff", 4294967295),
        ("71 ffffffff", -1),
        ("72 3fc00000", 1.5),
        ("73 00000061", "a"),
        ("80 ffffffffffffffff", (1 << 64) - 1),
        ("81 ffffffffffffffff", -1),
        ("82 3ff8000000000000", 1.5),
        ("83 0000000000000001", 1),
        ("94" + "00" * 16, b"\0" * 16),
        ("98" + "00" * 16, UUID(int=0)),
        ("a0 01 ff", b"\xff"),
        ("b0 00000001 ff", b"\xff"),
        ("a1 02 c3a9", "é"),
        ("b1 00000001 61", "a"),
        ("a3 01 61", "a"),
        ("b3 00000001 61", "a"),
        ("c0 01 00", []),
        ("c0 05 02 55 01 a1 00", [1, ""]),
        ("d0 00000007 00000002 55 ff 40", [-1, None]),
        ("c1 05 02 a1 01 61 40", {"a": None}),
        ("d1 00000008 00000002 a1 01 61 40", {"a": None}),
        ("00 a3 01 64 40", Described("d", None)),
        ("e0 06 02 a3 01 61 01 62", ["a", "b"]),
        ("f0 0000000e 00000002 b3 00000001 61 00000000", ["a", ""]),
        ("e0 02 03 41", [True, True, True]),
        ("e0 04 02 50 01 02", [1, 2]),
        ("e0 07 01 00 a3 01 64 55 07", Array(int, [7], "d")),
        ("e0 08 02 c0 03 01 55 01 01 00", [[1], []]),
        ("f0 0000000f 00000001 d0 00000006 00000001 55 01", [[1]]),
        ("e0 08 01 e0 05 03 50 01 02 03", [[1, 2, 3]]),
    ],
)
def test_decodes(octets: str, value: object) -> None:
    raw = bytes.fromhex(octets)
    assert decode(raw) == (value, len(raw))
    assert decode(memoryview(b"x" + raw + b"y"), 1) == (value, 1 + len(raw))
    assert skip(raw, 0, len(raw)) == len(raw)
    for end in range(len(raw)):
        assert skip(raw, 0, end) == -1
        with pytest.raises(PeerError, match=DECODE_ERROR):
            decode(raw[:end])


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        ("52 01", UInt),
        ("44", ULong),
        ("83 0000000000000001", Timestamp),
        ("a3 01 61", Symbol),
        ("73 00000061", Char),
        ("72 3fc00000", Float),
        ("94" + "00" * 16, Decimal128),
        ("55 01", int),
        ("82 3ff8000000000000", float),
    ],
)
def test_identifiers_keep_their_type(octets: str, kind: type) -> None:
    value = decode(bytes.fromhex(octets))[0]
    assert type(value) is kind
    assert decode(encode(value))[0] == value


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "3f",
        "46",
        "56 02",
        "73 00110000",
        "a1 01 ff",
        "a3 01 ff",
        "c0 00 00",
        "c0 03 01 a1 01 61",  # the string ends behind the list
        "c0 02 02 40",  # more elements than octets
        "c0 03 02 40 46",  # unknown constructor inside
        "c0 04 01 40 40 40",  # size and elements differ
        "c1 02 01 40",  # a key without a value
        "c1 03 02 45 40",  # a list as key
        "d0 ffffffff ffffffff",
        "e0 02 21 41",  # 33 elements of no octets
        "e0 03 02 50 01",  # more elements than octets
        "e0 03 01 00 40",
        "e0 02 01 3f",
        "e0 05 01 50 01 02 03",  # size and elements differ
        "e0 06 02 a1 03 61 62 63",
        "e0 04 01 c0 09 00",
        "f0 00000006 00000001 60 01",
    ],
)
def test_refuses(octets: str) -> None:
    with pytest.raises(PeerError) as raised:
        decode(bytes.fromhex(octets))
    assert raised.value.condition == DECODE_ERROR


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: Array(list, [[inner]]), lambda inner: Described(1, inner)]
)
def test_depth_is_bounded(wrap) -> None:  # type: ignore[no-untyped-def]
    value: object = None
    for _ in range(MAX_DEPTH // 2):
        value = wrap(value)
    decode(encode(value))
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    with pytest.raises(PeerError, match="too deeply"):
        decode(encode(value))


def test_lists_can_be_taken_one_element_at_a_time() -> None:
    rows: list[object] = [["Ma", 3, 0], ["Mb", 2, 1], None]
    assert list(iterate_list(b"x" + encode(rows), 1)) == rows
    assert list(iterate_list(memoryview(encode([])))) == []


@pytest.mark.parametrize("octets", ["", "40", "c0", "d0 00", "c0 05 01 a1 01 61", "c0 02 01 a1 01 61"])
def test_taking_one_at_a_time_refuses(octets: str) -> None:
    with pytest.raises(PeerError):
        list(iterate_list(bytes.fromhex(octets)))


@pytest.mark.parametrize("octets", ["3f", "00 00 53 01 40", "00 40" * 40 + "40"])
def test_skipping_refuses(octets: str) -> None:
    raw = bytes.fromhex(octets)
    with pytest.raises(PeerError):
        skip(raw, 0, len(raw))
