"""The newest log events: in order, the oldest given up, in memory that does not grow."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.mgmt.recent import LONGEST_CHARACTERS, Entry, RecentEvents


def entry(text: str, number: int = 0) -> Entry:
    return ("ROUTER", "info", text, "server/site.py", number, 1.5)


@given(st.lists(st.text(max_size=300), max_size=60), st.integers(0, 80))
def test_what_was_added_last_comes_back(texts: list[str], limit: int) -> None:
    recent = RecentEvents(half_bytes=8192)
    for number, text in enumerate(texts):
        recent.add(entry(text, number))
    expected = [entry(text, number) for number, text in enumerate(texts)]
    found = recent.newest(limit)
    assert found == expected[len(expected) - len(found) :]
    if sum(6 * len(text) + 100 for text in texts) <= 8192:
        assert len(found) == min(limit, len(texts))


def test_the_oldest_go_and_the_size_stays() -> None:
    recent = RecentEvents(half_bytes=1024)
    halves = recent._filling, recent._before
    sizes = [sys.getsizeof(half) for half in halves]
    for number in range(1000):
        recent.add(entry("x" * (number % 200), number))
    assert [sys.getsizeof(half) for half in halves] == sizes
    numbers = [found[4] for found in recent.newest(1000)]
    assert numbers == list(range(1000 - len(numbers), 1000))
    assert 4 <= len(numbers) <= 30


def test_a_long_text_is_cut() -> None:
    recent = RecentEvents()
    recent.add(entry("é" * 10_000))
    assert recent.newest(1)[0][2] == "é" * LONGEST_CHARACTERS
    assert recent.newest(0) == []
