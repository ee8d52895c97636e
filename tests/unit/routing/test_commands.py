"""Commands and settings: the defaults that the specification names."""

from __future__ import annotations

import dataclasses

import pytest

from vanrouter.routing.commands import ControlSettings, SetRadius


def test_defaults_of_section_12() -> None:
    settings = ControlSettings()
    assert settings.hello_interval_s == 1
    assert settings.hello_max_age_s == 3
    assert settings.ra_interval_s == 30
    assert settings.ra_interval_flux_s == 4
    assert settings.remote_ls_max_age_s == 60
    assert settings.unreachable_holdoff_s == 1


def test_commands_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SetRadius(hops=1).hops = 2  # type: ignore[misc]  # that is the test
