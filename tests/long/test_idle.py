"""What routers cost that have nothing to do: twenty processes in one network."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.long.lab import time_passes
from tests.system.network import Network

ROUTERS = 20
SETTLE_S, MEASURE_S = 30.0, 60.0
MOST_PERCENT = 4.0
"""Of one core, all together (issue 3)."""


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_twenty_idle_routers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring with chords: every router has four neighbours. Calm after twice the flux interval."""
    # Below those that the kernel gives to outgoing connections: forty at once would take a port that was free before.
    monkeypatch.setattr("tests.system.network.free_port", filter(is_free, range(21_000, 30_000)).__next__)
    network = Network(tmp_path)
    names = [f"R{number}" for number in range(ROUTERS)]
    for name in names:
        network.add(name)
    for number, name in enumerate(names):
        network.link(name, names[(number + 1) % ROUTERS])
        network.link(name, names[(number + 5) % ROUTERS])
    try:
        network.start_at_once()
        time_passes(SETTLE_S)
        before, began = sum(router.cpu_seconds() for router in network), time.monotonic()
        time_passes(MEASURE_S)
        spent = sum(router.cpu_seconds() for router in network) - before
        percent = 100 * spent / (time.monotonic() - began)
        print(f"{ROUTERS} idle routers: {percent:.2f} % of a core together ({os.cpu_count()} cores)")
        assert percent < MOST_PERCENT
    finally:
        network.kill()
