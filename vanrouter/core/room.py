"""Whom a C router knows: it has room for 128 routers, and its vanrouter neighbours tell it of no more. Layer: 3.

Source: router protocol, section 5.7. Of a router beyond it can make no record: in a network of 140 a C router 3.5.1
goes on with those that it has, and logs an error for each message of another.
"""

from __future__ import annotations

C_MAX_ROUTERS = 128
"""Routers that a C router knows at most, itself included."""

OTHERS = C_MAX_ROUTERS - 2
"""Those besides itself and the neighbour that tells it of them."""

MAX_NAMES = 4096
"""Names remembered of each kind at most: a peer may make up as many as it likes."""

PATIENCE = 10
"""So many messages of a router may pass before a full neighbour addresses it, which it does with those it knows."""


class Room:
    """The routers that one C router knows, as far as a neighbour of it can tell."""

    __slots__ = ("_guessed", "_known", "_strangers", "is_full")

    def __init__(self) -> None:
        self._known: set[str] = set()
        """It has addressed these."""
        self._guessed: dict[str, int] = {}
        """It was told of these while there was room, which it may have given to others that link states name. The
        messages that may pass yet."""
        self._strangers: set[str] = set()
        """It was told of these and did not address them."""
        self.is_full = False
        """Whether somebody was left out."""

    def note_known(self, router_id: str) -> None:
        """Take in that it addresses a router, which it does with each as soon as it knows it."""
        if len(self._known) < MAX_NAMES:
            self._known.add(router_id)
        self._guessed.pop(router_id, None)
        self._strangers.discard(router_id)
        while self._guessed and len(self._known) + len(self._guessed) > OTHERS:
            self._guessed.popitem()

    def admits(self, router_id: str) -> bool:
        """Tell whether a message that began at a router is of use to it."""
        if router_id in self._known:
            return True
        left = self._guessed.get(router_id)
        if left is None:
            if router_id in self._strangers or len(self._known) + len(self._guessed) >= OTHERS:
                self.is_full = True
                return False
            self._guessed[router_id] = PATIENCE
            return True
        if not self.is_full:
            return True
        if left == 0:
            del self._guessed[router_id]
            if len(self._strangers) >= MAX_NAMES:
                self._strangers.clear()  # all may try again
            self._strangers.add(router_id)
            return False
        self._guessed[router_id] = left - 1
        return True

    def forget(self, router_id: str) -> None:
        """Take in that a router is gone: its room is free for any other."""
        self._known.discard(router_id)
        self._guessed.pop(router_id, None)
        self._strangers.clear()
