from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.engine.opening import Opening, Verdict

AMQP = b"AMQP\x00\x01\x00\x00"
SASL = b"AMQP\x03\x01\x00\x00"


def frame(code: bytes, kind: int = 1, offset: int = 2, more: bytes = b"\x45") -> bytes:
    body = bytes(offset * 4 - 8) + b"\x00" + code + more
    return struct.pack(">IBBH", 8 + len(body), offset, kind, 0) + body


INIT, RESPONSE, OPEN = b"\x53\x41", b"\x53\x43", b"\x53\x10"
LONG_INIT = b"\x80" + bytes(7) + b"\x41"
EMPTY = struct.pack(">IBBH", 8, 2, 1, 0)

CASES = [
    (AMQP, Verdict.PASSED),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01", Verdict.PASSED),
    (b"GET / HT", Verdict.PASSED),
    (b"AMQP", Verdict.MORE),
    (SASL, Verdict.MORE),
    (SASL + frame(INIT), Verdict.MORE),
    (SASL + frame(LONG_INIT), Verdict.MORE),
    (SASL + EMPTY + frame(INIT, offset=200) + frame(RESPONSE) * 3, Verdict.MORE),
    (SASL + frame(INIT, more=b"\xb0" + bytes(100_000)) + AMQP, Verdict.PASSED),
    (SASL + frame(INIT) + frame(RESPONSE) + AMQP + frame(OPEN, kind=0), Verdict.PASSED),
    (SASL + struct.pack(">IBBH", 7, 2, 0, 0), Verdict.PASSED),
    (SASL + struct.pack(">IBBH", 12, 1, 1, 0), Verdict.PASSED),
    (SASL + struct.pack(">IBBH", 12, 9, 1, 0), Verdict.PASSED),
    (SASL + frame(RESPONSE), Verdict.BROKEN),
    (SASL + frame(OPEN, kind=0), Verdict.BROKEN),
    (SASL + frame(INIT) + frame(OPEN, kind=0), Verdict.BROKEN),
    (SASL + frame(INIT) * 2, Verdict.BROKEN),
    (SASL + frame(b"\x53\x44"), Verdict.BROKEN),
    (SASL + frame(b"\xa3\x01x", more=bytes(20)), Verdict.BROKEN),
    (SASL + struct.pack(">IBBH", 9, 2, 1, 0) + b"\x00", Verdict.BROKEN),
]


@pytest.mark.parametrize(("octets", "verdict"), CASES)
def test_whole(octets: bytes, verdict: Verdict) -> None:
    assert Opening().look(octets) is verdict


@given(case=st.sampled_from(CASES), sizes=st.lists(st.integers(1, 30), min_size=1))
def test_in_pieces(case: tuple[bytes, Verdict], sizes: list[int]) -> None:
    octets, verdict = case
    octets = octets[:3000]
    whole = Opening().look(octets)
    opening, found, at = Opening(), Verdict.MORE, 0
    while at < len(octets) and found is Verdict.MORE:
        size = sizes[at % len(sizes)]
        found = opening.look(octets[at : at + size])
        at += size
    assert found is whole
    assert whole is verdict or len(case[0]) > 3000


@given(st.binary(max_size=200))
def test_anything(octets: bytes) -> None:
    opening = Opening()
    for begin in range(0, len(octets), 7):
        if opening.look(octets[begin : begin + 7]) is not Verdict.MORE:
            return
        assert len(opening._held) <= 7 + 8 + 255 * 4 + 10


def test_what_is_held_is_bounded() -> None:
    opening = Opening()
    assert opening.look(SASL + frame(INIT, more=b"\xb0" + bytes(1 << 20))[: 1 << 20]) is Verdict.MORE
    assert not opening._held
