"""Complaints: counted always, said once in a while, bounded."""

from __future__ import annotations

import pytest

from vanrouter.errors import PeerError
from vanrouter.routing.complaints import MALFORMED_LOG_S, WARNED_LIMIT, Complaints
from vanrouter.routing.views import ControlCounters

ERROR = PeerError("amqp:invalid-field", "no good")


def test_malformed(caplog: pytest.LogCaptureFixture) -> None:
    counters = ControlCounters()
    complaints = Complaints(counters)
    for now in (0.0, 1.0, MALFORMED_LOG_S):
        complaints.malformed("RA", ERROR, 7, now)
    assert counters.malformed == {"RA": 3}
    assert len(caplog.records) == 2


def test_once_for_each_router(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(ControlCounters())
    for _ in range(3):
        complaints.newer_version("B", 2)
        complaints.own_id("A", 5)
    assert len(caplog.records) == 2
    for number in range(2 * WARNED_LIMIT):
        complaints.newer_version(f"R{number}", 2)
    assert len(caplog.records) == WARNED_LIMIT
