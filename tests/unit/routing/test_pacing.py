"""Pacing: the first is never held back, waits grow while changes go on, flux comes and goes."""

from __future__ import annotations

import pytest

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.pacing import Pacing

SETTINGS = ControlSettings()


def test_first_ones_go_at_once() -> None:
    pacing = Pacing("A", SETTINGS)
    assert pacing.path_allowed_at < 0 > pacing.ra_allowed_at
    assert pacing.mau_allowed_at < 0


def test_path_waits_grow_and_calm_down() -> None:
    pacing = Pacing("A", SETTINGS)
    now, waits = 100.0, []
    for _ in range(6):
        pacing.note_paths(now, 3)
        waits.append(round(pacing.path_allowed_at - now, 3))
        now = pacing.path_allowed_at
    assert waits == [0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    pacing.note_paths(now + 10, 3)
    assert pacing.path_allowed_at == pytest.approx(now + 10 + SETTINGS.path_wait_s)


def test_flux() -> None:
    pacing = Pacing("A", SETTINGS)
    flux = pacing.flux_interval_s(3)
    assert 0.85 * SETTINGS.ra_interval_flux_s <= flux <= SETTINGS.ra_interval_flux_s
    assert pacing.note_ra(0.0, 3) > 20
    pacing.note_paths(10.0, 3)
    assert pacing.flux_ra_at(10.0, 3) == 13.0
    assert pacing.note_ra(11.0, 3) == 14.0  # 11 + 3.685: with the HELLO before
    assert pacing.note_ra(11.9, 3) == 15.0
    assert pacing.flux_ra_at(10.0, 3) == int(11.9 + flux)
    assert pacing.note_ra(10.0 + 2 * flux, 3) > 20 + 10.0


def test_flux_interval_grows_with_the_network() -> None:
    pacing = Pacing("A", SETTINGS)
    assert pacing.flux_interval_s(500) > 2 * pacing.flux_interval_s(3)
    assert pacing.flux_interval_s(100_000) <= SETTINGS.ra_interval_s


def test_gaps() -> None:
    pacing = Pacing("A", SETTINGS)
    pacing.note_ra(5.0, 3)
    assert pacing.ra_allowed_at == 5.0 + SETTINGS.ra_min_gap_s
    pacing.note_mau(5.0)
    assert pacing.mau_allowed_at == 5.0 + SETTINGS.mau_interval_s


def test_routers_have_their_own_places() -> None:
    assert len({Pacing(f"R{number}", SETTINGS).flux_interval_s(3) for number in range(20)}) > 15
