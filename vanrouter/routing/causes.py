"""Why routes change: what has happened since the last path computation, in words for the log. Layer: 2."""

from __future__ import annotations

MAX_CAUSES = 3
"""Named one by one; of further ones only the number."""


class Causes:
    """Collects what calls for the next path computation."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._count = 0

    def note(self, cause: str) -> None:
        """Add a cause."""
        self._count += 1
        if len(self._named) < MAX_CAUSES:
            self._named.append(cause)

    def take(self) -> str:
        """Return them as one text and begin again."""
        more = self._count - len(self._named)
        text = "; ".join(self._named) + (f"; {more} more" if more else "")
        self._named, self._count = [], 0
        return text
