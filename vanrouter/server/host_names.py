"""Host names in policies, looked up once each: while nothing is served yet at once, later beside the event loop.

Layer: 5. Source: management.md, section 15 (remoteHosts). Until its answer has come nobody connects by a name.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vanrouter.net.reactor import Reactor

logger = logging.getLogger("vanrouter.policy")

MAX_NAMES = 10_000
"""Answers kept; with more of them all are asked for again."""


def lookup(name: str) -> list[str]:
    """Return the addresses of a host. Blocks."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


class HostNames:
    """The names that policies have asked for."""

    def __init__(self, reactor: Reactor, on_found: Callable[[], object]) -> None:
        """`on_found`: called when the answer to a name has come that was not known when it was asked for."""
        self._reactor = reactor
        self._on_found = on_found
        self._known: dict[str, list[str]] = {}
        self._pending: set[str] = set()
        self.is_serving = False
        """The loop runs, and must not wait for a name server."""

    def __call__(self, name: str) -> list[str] | None:
        """Return the addresses of a host; empty when there is none; None: not known yet."""
        found = self._known.get(name)
        if found is not None:
            return found
        if not self.is_serving:
            return self._keep(name, lookup(name))
        if name not in self._pending:
            self._pending.add(name)
            self._reactor.run_in_thread(lambda: lookup(name), lambda answer: self._on_answer(name, answer))
        return None

    def _keep(self, name: str, found: list[str]) -> list[str]:
        if len(self._known) >= MAX_NAMES:
            self._known.clear()
        self._known[name] = found
        return found

    def _on_answer(self, name: str, answer: list[str]) -> None:
        self._pending.discard(name)
        if not self._keep(name, answer):
            logger.error("remoteHosts: %r is not the name of a known host; nobody connects by it", name)
        self._on_found()
        if not answer:  # it may be known when somebody asks again
            del self._known[name]
