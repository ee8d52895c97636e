"""Random name parts are of the size and the letters that stand on the wire."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.ids import SUFFIX_LENGTH, boot_number, random_suffix


@given(st.integers(0, 64))
def test_letters_and_length(length: int) -> None:
    assert re.fullmatch(rf"[a-zA-Z0-9+_]{{{length}}}", random_suffix(length))


def test_no_two_alike() -> None:
    suffixes = {random_suffix() for _ in range(1000)}
    assert len(suffixes) == 1000
    assert {len(suffix) for suffix in suffixes} == {SUFFIX_LENGTH}


def test_two_starts_within_a_second_are_two() -> None:
    assert boot_number(1_795_216_470.001) != boot_number(1_795_216_470.5)
    assert boot_number(1_795_216_470.25) == 1_795_216_470_250
