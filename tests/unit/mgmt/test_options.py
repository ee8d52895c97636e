from __future__ import annotations

import dataclasses

import pytest

from vanrouter.mgmt.options import EXIT_INTERRUPTED, StartOptions


def test_defaults() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(StartOptions)}
    assert fields["has_test_hooks"] is False
    assert EXIT_INTERRUPTED == 128 + 2  # what shells report for SIGINT


def test_needs_a_log_and_a_way_to_say_ready() -> None:
    with pytest.raises(TypeError):
        StartOptions()  # type: ignore[call-arg] # the point of the test
