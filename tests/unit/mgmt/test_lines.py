"""Events as lines (management.md, section 14)."""

from __future__ import annotations

import json
import re

import pytest

from vanrouter.mgmt.lines import MAX_TEXT_BYTES, MICROSECONDS, TIME_FORMAT, Clock, Event, clean, json_line


def event(*texts: str) -> Event:
    return Event(module="SERVER", level="info", texts=texts, file="net/x.py", line=7, created=1_700_000_000.25)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("plain", {"text": "plain"}),
        ("[C7] Connection Closed", {"connection": 7, "text": "Connection Closed"}),
        ("[C7][L3][D12] sent", {"connection": 7, "link": 3, "delivery": 12, "text": "sent"}),
        ("[C7][Fab:9] Closed", {"connection": 7, "flow": "ab:9", "text": "Closed"}),
        ("[C7]:FRAME: x", {"connection": 7, "text": "FRAME: x"}),
        ("[X7] no id", {"text": "[X7] no id"}),
    ],
)
def test_json(text: str, fields: dict[str, object]) -> None:
    made = json.loads(json_line(event(text), has_time=False, has_source=False))
    assert made == {"module": "SERVER", "level": "info", **fields}


def test_json_with_everything() -> None:
    line = json_line(event("[C1] failed", "Traceback", "ValueError: é"), has_time=True, has_source=True)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250000Z",
        "module": "SERVER",
        "level": "info",
        "connection": 1,
        "text": "failed",
        "traceback": ["Traceback", "ValueError: é"],
        "file": "net/x.py",
        "line": 7,
    }


def test_clean() -> None:
    assert clean("a\nb\x1b\x9bm", ()) == "a\\nb\\x1b\\x9bm"
    assert clean("the word is swordfish", ["swordfish"]) == "the word is ***"
    assert clean('saslPassword="open sesame" x', ()) == "saslPassword=*** x"
    assert len(clean("é" * 5000, ()).encode()) <= MAX_TEXT_BYTES


def test_a_clock_formats_each_second_once() -> None:
    clock = Clock(TIME_FORMAT, in_utc=True)
    assert clock.text(1_700_000_000.5) == "2023-11-14 22:13:20.500000 +0000"
    assert clock.text(1_700_000_000.75) == "2023-11-14 22:13:20.750000 +0000"
    assert Clock("%H", in_utc=True).text(0.0) == "00"
    assert re.fullmatch(r"\d\d", Clock("%M", in_utc=False).text(0.0))
    assert MICROSECONDS not in clock.text(1.0)
