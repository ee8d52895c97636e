"""How soon after the last one the next RA, path computation or differential MAU may come. Layer: 2.

The first after quiet is never held back; that is where the C router waits for its tick.
"""

from __future__ import annotations

from zlib import crc32

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.deadlines import beat_before

FLUX_S_PER_ROUTER = 0.02
"""The flux interval grows with the network, so that all RAs together stay under 50 a second."""

LONG_AGO = -1e9
"""Before any monotonic clock."""


class Pacing:
    """The times of the last ones, and what follows from them.

    Args:
        own_id: gives this router its own place in the intervals, so that not all routers flood at the same moment.
        settings: intervals.
    """

    def __init__(self, own_id: str, settings: ControlSettings) -> None:
        self._settings = settings
        self._spread = 0.85 + 0.15 * (crc32(own_id.encode()) % 1000) / 1000
        self._path_wait_s = settings.path_wait_s
        self._last_ra = LONG_AGO
        self._last_mau = LONG_AGO
        self._flux_until = LONG_AGO
        self.path_allowed_at = LONG_AGO

    def note_paths(self, now: float, router_count: int) -> None:
        """Note a path computation: the waits grow while changes go on, and flux mode begins or is prolonged."""
        if now >= self.path_allowed_at + 2 * self._path_wait_s:
            self._path_wait_s = self._settings.path_wait_s
        self.path_allowed_at = now + self._path_wait_s
        self._path_wait_s = min(2 * self._path_wait_s, self._settings.path_wait_max_s)
        self._flux_until = now + 2 * self.flux_interval_s(router_count)

    def flux_interval_s(self, router_count: int) -> float:
        """Return the distance of RAs in flux mode."""
        settings = self._settings
        interval = max(settings.ra_interval_flux_s, FLUX_S_PER_ROUTER * router_count)
        return self._spread * min(interval, settings.ra_interval_s)

    @property
    def ra_allowed_at(self) -> float:
        """When the next RA that a change causes may be sent."""
        return self._last_ra + self._settings.ra_min_gap_s

    def flux_ra_at(self, now: float, router_count: int) -> float:
        """Return when the next RA is due at the latest, flux mode having begun."""
        due = max(now, self._last_ra) + self.flux_interval_s(router_count)
        return beat_before(due, now, self._settings.hello_interval_s)

    def note_ra(self, now: float, router_count: int) -> float:
        """Note an RA; returns when the next one is due: with a HELLO, as nobody waits for it."""
        self._last_ra = now
        if now < self._flux_until:
            due = now + self.flux_interval_s(router_count)
        else:
            due = now + self._spread * self._settings.ra_interval_s
        return beat_before(due, now, self._settings.hello_interval_s)

    @property
    def mau_allowed_at(self) -> float:
        """When the next differential MAU may be sent."""
        return self._last_mau + self._settings.mau_interval_s

    def note_mau(self, now: float) -> None:
        """Note a differential MAU."""
        self._last_mau = now
