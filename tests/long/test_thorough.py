"""The properties once more, with a thousand examples each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1800.0


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize(
    "target", ["tests/property", "tests/system/test_stream_bytes.py", "tests/system/test_garbage.py"]
)
def test_thousand_examples(target: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout", "1500", "--basetemp", str(tmp_path / "inner"), target],
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_PROFILE": "thorough"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
