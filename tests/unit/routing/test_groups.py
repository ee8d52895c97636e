"""The table of connection groups, walked in full."""

from __future__ import annotations

import itertools

import pytest

from vanrouter.routing.groups import VERDICTS, Standing, Verdict, judge


@pytest.mark.parametrize(
    ("ordinal", "current", "pending", "verdict"),
    [
        (0, None, None, Verdict.SET_UP),
        (5, 0, None, Verdict.PEND),
        (5, 5, None, Verdict.TAKE_PLACE),
        (4, 5, None, Verdict.DROP),
        (7, 0, 5, Verdict.PEND_DROP_PENDING),
        (5, 0, 5, Verdict.PEND_DROP_PENDING),
        (5, 0, 7, Verdict.DROP),
        (5, None, 3, Verdict.PEND_DROP_PENDING),
    ],
)
def test_examples(ordinal: int, current: int | None, pending: int | None, verdict: Verdict) -> None:
    assert judge(ordinal, current, pending) is verdict


def test_table_is_complete() -> None:
    assert set(VERDICTS) == set(itertools.product(Standing, Standing))


def test_newer_one_always_stays() -> None:
    for (current, pending), verdict in VERDICTS.items():
        assert (verdict is Verdict.DROP) == (Standing.NEWER in (current, pending))
