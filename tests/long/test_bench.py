"""The benchmarks run as they stand: every question is answered for vanrouter, whatever else is on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.run import QUESTIONS
from tests.system.services import require

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900
SLOW = {"short_connections", "observed_flows"}
"""A million connections, and 9,000 open flows in four processes."""

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
    )


def test_every_question_is_answered(tmp_path: Path) -> None:
    for program in ("nginx", "wrk", "h2load"):
        require(program)
    record = tmp_path / "record.json"
    names = ",".join(name for name in QUESTIONS if name not in SLOW)
    done = bench("--only", names, "--rounds", 1, "--seconds", 0.2, "--json", record)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: list[dict[str, Any]] = json.loads(record.read_text())["figures"]
    assert {figure["question"] for figure in figures} == set(QUESTIONS) - SLOW
    for figure in figures:
        assert "vanrouter" in figure["kinds"], figure["title"]


def test_profile_by_room() -> None:
    if not Path(sys.executable).with_name("py-spy").exists():
        require("py-spy")
    done = bench("--profile")
    assert done.returncode == 0, done.stdout + done.stderr
    for room in ("kernel", "engine", "net", "core", "adaptors", "Proton's C", "OpenSSL"):
        assert room in done.stderr, done.stderr
