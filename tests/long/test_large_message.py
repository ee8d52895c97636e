"""A message longer than what anybody should hold passes two routers in bounded memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Router
from tests.system.process import Program

ROOT = Path(__file__).parents[2]
OCTETS = 5_000_000_000
GROWTH_KIB = 64 * 1024
TIMEOUT_S = 500

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def memory_kib(router: Router, what: str) -> int:
    """`VmRSS`: held now; `VmHWM`: the most that ever was."""
    for line in Path(f"/proc/{router.pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {what}")


def program(mode: str, router: Router, folder: Path) -> Program:
    command = [sys.executable, "-m", "tests.long.large_message", mode, str(router.port("amqp")), "long", str(OCTETS)]
    return Program(mode, command, folder / f"{mode}.log", env={"PYTHONPATH": str(ROOT)})


def test_five_gigabytes(start_sites: StartSites, tmp_path: Path) -> None:
    sites = start_sites()
    before = [memory_kib(router, "VmRSS") for router in sites.routers()]
    with program("receive", sites.b, tmp_path) as receiver:
        receiver.wait_for("^ready")
        with program("send", sites.a, tmp_path) as sender:
            receiver.wait_for(r"^done (\d+)", timeout_s=TIMEOUT_S)
            sender.wait_for("^done accepted")
            assert (sender.wait(), receiver.wait()) == (0, 0)
    grown = [memory_kib(router, "VmHWM") - rss for router, rss in zip(sites.routers(), before, strict=True)]
    print(f"grown by {grown} KiB")
    assert max(grown) < GROWTH_KIB
