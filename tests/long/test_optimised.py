"""Nothing hangs on `assert`: the tests pass, too, when Python leaves assertions out (`-O`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900.0


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize("folders", [["tests/unit", "tests/property"], ["tests/system"]], ids=["pure", "system"])
def test_without_assertions(folders: list[str], tmp_path: Path) -> None:
    # pytest turns the assertions of tests into code of their own, so that they hold all the same.
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        tmp_path / "inner",
        "-W",
        "ignore::pytest.PytestConfigWarning",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, options), "-m", "not long", *folders],
        cwd=ROOT,
        env={**os.environ, "PYTHONOPTIMIZE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
