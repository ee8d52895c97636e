"""Log events as lines: in the format of the C router, or as one JSON object each. Layer: 2, pure.

Source: management specification, section 14. A JSON line has `time` (UTC, microseconds), `module`, `level`, `text`, and
where the event has them `connection`, `link`, `delivery` and `flow`, which the text begins with: `[C7][L3] ...`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

MAX_TEXT_BYTES = 2047
"""Octets of an event's text; what is longer is cut, as in the C router."""

TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%%06lu %z"
MICROSECONDS = "%06lu"
"""What strftime leaves of `%%06lu`: where the microseconds go."""

MAX_TIME_CHARACTERS = 100
"""Longest time that a configured format may make."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\t", 10: "\\n", 13: "\\r"}
"""A peer's text must not look like a line of its own, nor speak to the terminal: to many U+009B is what ESC [ is."""

_PASSWORD = re.compile(r"(?i)(\b\w*password[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|(?!Secret\()[^\s,;)}\]]+)")

_IDS = re.compile(r"(?:\[[CLDF][^\]\s]*\])+")
_ID = re.compile(r"\[([CLDF])([^\]\s]*)\]")
_ID_NAMES = {"C": "connection", "L": "link", "D": "delivery", "F": "flow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, its texts clean.

    Args:
        module: as users of the C router know it.
        level: one of `LEVELS`.
        texts: the text, and the lines of a traceback after it.
        file: where it arose.
        line: where it arose.
        created: epoch seconds.
    """

    module: str
    level: str
    texts: Sequence[str]
    file: str
    line: int
    created: float


def json_line(event: Event, *, has_time: bool, has_source: bool) -> str:
    """Return an event as one line of JSON."""
    fields: dict[str, object] = {}
    if has_time:
        second = int(event.created)
        fraction = int((event.created - second) * 1_000_000)
        fields["time"] = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:06d}Z"
    fields |= {"module": event.module, "level": event.level}
    text = event.texts[0]
    ids = _IDS.match(text)
    if ids is not None:
        for letter, number in _ID.findall(ids[0]):
            fields[_ID_NAMES[letter]] = int(number) if number.isdecimal() else number
        text = text[ids.end() :].lstrip(": ")
    fields["text"] = text
    if len(event.texts) > 1:
        fields["traceback"] = list(event.texts[1:])
    if has_source:
        fields |= {"file": event.file, "line": event.line}
    return json.dumps(fields, ensure_ascii=False)


def printable(text: str) -> str:
    """Return a text whose control characters are written as escapes."""
    return text if text.isprintable() else text.translate(_CONTROL)


def clean(text: str, secrets: Sequence[str]) -> str:
    """Return a text without control characters and secrets, cut to its longest."""
    text = printable(text)
    for secret in secrets:
        text = text.replace(secret, "***")
    if "assword" in text:
        text = _PASSWORD.sub(r"\1***", text)
    if len(text) * 4 > MAX_TEXT_BYTES:
        text = text.encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    return text


class Clock:
    """Formats times; what does not change within a second is formatted once."""

    def __init__(self, pattern: str, *, in_utc: bool) -> None:
        self._pattern = pattern
        self._in_utc = in_utc
        self._second = -1
        self._before = ""
        self._after = ""
        self._has_fraction = False

    def text(self, created: float) -> str:
        """Return epoch seconds as text."""
        second = int(created)
        if second != self._second:
            parts = time.gmtime(second) if self._in_utc else time.localtime(second)
            formatted = time.strftime(self._pattern, parts)[:MAX_TIME_CHARACTERS]
            self._before, found, self._after = formatted.partition(MICROSECONDS)
            self._has_fraction = bool(found)
            self._second = second
        if not self._has_fraction:
            return self._before
        return f"{self._before}{int((created - second) * 1_000_000):06d}{self._after}"
