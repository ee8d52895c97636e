"""Log levels as configuration writes them: `info+`, `warning,error`, `debug; critical+`. Layer: 2, pure.

Source: management specification, section 8 (`log.enable`) and the observed handling of case and abbreviations.
"""

from __future__ import annotations

import re

LEVELS = ("debug", "info", "warning", "error", "critical")
"""From the most talkative to the gravest; the index is the rank."""

DEFAULT = "default"
"""The word that means: as the module DEFAULT."""

_NAMES = ("none", "trace", *LEVELS, DEFAULT)
_SEPARATORS = re.compile(r"[,;: \t]+")


def parse_levels(text: str) -> frozenset[str] | None:
    """Return the levels that `text` switches on; None when it says `default`.

    Raises:
        ValueError: a word is no level; the text says what would be right.
    """
    enabled: set[str] = set()
    for word in _SEPARATORS.split(text.strip()):
        if not word:
            continue
        name = _level_name(word.removesuffix("+"))
        if name == DEFAULT:
            return None
        if name == "none":
            enabled.clear()
        elif word.endswith("+"):
            enabled.update(LEVELS[LEVELS.index(name) :])
        else:
            enabled.add(name)
    return frozenset(enabled)


def _level_name(word: str) -> str:
    lower = word.lower()
    found = [name for name in _NAMES if lower and name.startswith(lower)]
    if lower in _NAMES:
        found = [lower]
    if len(found) != 1:
        wanted = ", ".join(("none", *LEVELS, DEFAULT))
        raise ValueError(
            f"{word[:40]!r} is not a log level; use a comma list of {wanted}, each with + for it and above"
        )
    return "debug" if found[0] == "trace" else found[0]
