"""Windows and reports of streams (TCP over AMQP, section 7; extensions)."""

from __future__ import annotations

import random

import pytest

from tests.unit.adaptors.streams import Loop
from tests.unit.adaptors.test_tcp_flow import FarSite
from vanrouter.adaptors.tcp_window import (
    FIRST_WINDOW_BYTES,
    LARGEST_WINDOW_BYTES,
    LEAST_WINDOW_BYTES,
    REPORT_BYTES,
    Windowed,
    report_after,
)
from vanrouter.core.memory_bound import MemoryBound

MEBIBYTE = 1 << 20


def test_the_window_grows_while_reports_are_quick_and_shrinks_when_they_are_not(loop: Loop) -> None:
    far = FarSite(loop)
    far.answer()
    flow = far.flow

    def report(took_s: float) -> int:
        flow.sent = flow.acked + flow.allowed()
        flow.pause()
        flow.probe_time = loop.reactor.now - took_s
        flow.received(flow.sent)
        return flow.window

    windows = [loop.call(lambda: report(0.001)) for _ in range(8)]
    assert windows == [FIRST_WINDOW_BYTES << min(step, 5) for step in range(1, 9)]
    assert loop.call(lambda: report(0.02)) == LARGEST_WINDOW_BYTES
    assert loop.call(lambda: report(1.0)) == LARGEST_WINDOW_BYTES // 2
    for _ in range(8):
        last = loop.call(lambda: report(1.0))
    assert last == FIRST_WINDOW_BYTES


class Shared:
    def __init__(self, memory: MemoryBound) -> None:
        self.memory = memory


class Scarce(Windowed):
    def __init__(self, memory: MemoryBound) -> None:
        self.shared = Shared(memory)  # type: ignore[assignment]  # all that is asked of it
        self.acked = 0
        self.is_reset_known = True
        self.window = LARGEST_WINDOW_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_a_report_is_always_due_before_the_window_is_full(seed: int) -> None:
    chance = random.Random(seed)
    memory = MemoryBound(64 * MEBIBYTE)
    flow = Scarce(memory)
    while flow.acked < 10 * MEBIBYTE:
        memory.flows = chance.choice((1, 1000, 1_000_000))
        memory.add_flows(0)
        due = report_after(flow.acked, REPORT_BYTES)
        # A flow that has stopped goes on when a quarter of its window is free: what is in flight must reach the report.
        assert due - flow.acked <= flow.allowed() * 3 // 4
        flow.acked = due + chance.choice((0, 1, 5000))  # a write is reported as a whole


def test_many_flows_begin_with_less() -> None:
    memory = MemoryBound(64 * MEBIBYTE)
    memory.add_flows(2000)
    flow = Scarce(memory)
    assert flow.allowed() == LEAST_WINDOW_BYTES > memory.window_bytes
    flow.acked = MEBIBYTE
    assert flow.allowed() == FIRST_WINDOW_BYTES
    flow.is_reset_known = False
    assert flow.allowed() == LARGEST_WINDOW_BYTES
