"""What is wrong with messages of peers, said in the log once in a while and counted always. Layer: 2."""

from __future__ import annotations

import logging

from vanrouter.errors import PeerError
from vanrouter.routing.views import ControlCounters

_log = logging.getLogger(__name__)

MALFORMED_LOG_S = 60.0
"""At most one line about malformed messages in so long."""

WARNED_LIMIT = 256
"""Routers that are warned of; ids are the peer's choice, so their number is bounded."""


class Complaints:
    """Counts and logs what cannot be used."""

    def __init__(self, counters: ControlCounters) -> None:
        self._counters = counters
        self._warned: set[tuple[str, str]] = set()
        self._malformed_logged_at: float | None = None

    def malformed(self, opcode: str, error: PeerError, connection_id: int, now: float) -> None:
        """Note a message that is not one."""
        self._counters.malformed[opcode] += 1
        if self._malformed_logged_at is None or now >= self._malformed_logged_at + MALFORMED_LOG_S:
            self._malformed_logged_at = now
            _log.warning("connection=%d sent a malformed %s, ignored: %s", connection_id, opcode, error.description)

    def newer_version(self, router_id: str, version: int) -> None:
        """Note a router whose messages are of a version that is not understood."""
        if self._is_first("version", router_id):
            _log.warning("router=%s speaks version=%d of the protocol, ignored", router_id, version)

    def forged(self, router_id: str, container: str, connection_id: int) -> None:
        """Note a peer that says its messages are of a router which it is not."""
        self._counters.forged += 1
        if self._is_first("forged", container):
            _log.error("connection=%d of %s claims to be router=%s, ignored", connection_id, container, router_id)

    def flapping(self, router_id: str, hold_s: float) -> None:
        """Tell of a neighbour that comes back after it was lost again and again; the damping bounds the lines."""
        _log.warning("neighbour=%s was lost too often of late, taken back in %.1f s", router_id, hold_s)

    def own_id(self, router_id: str, instance: int) -> None:
        """Note another router with the own id."""
        if self._is_first("id", router_id):
            _log.error("another router has the own id=%s instance=%d", router_id, instance)

    def _is_first(self, kind: str, router_id: str) -> bool:
        if (kind, router_id) in self._warned or len(self._warned) >= WARNED_LIMIT:
            return False
        self._warned.add((kind, router_id))
        return True
