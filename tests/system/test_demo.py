"""`make demo`: the first thing that anybody runs tells its story and ends; what `KEEP=1` prints can be run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"


def demo(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO],
        env={**os.environ, "TMPDIR": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_demo_tells_what_went_through_and_leaves_nothing(tmp_path: Path) -> None:
    result = demo(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^route .* site A -> TLSv1\.3, EXTERNAL -> site B -> ", result.stdout, re.MULTILINE)
    assert re.search(
        r"^traffic +21 flows, 5,000,000 bytes in the largest \(SHA-256 checked\)", result.stdout, re.MULTILINE
    )
    assert result.stdout.rstrip().endswith("`make demo KEEP=1` leaves them running")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[list[str]]:
    """What `KEEP=1` says can be tried."""
    result = demo(tmp_path, KEEP="1")
    pids = [int(pid) for pid in re.findall(r"\bpid (\d+)$", result.stdout, re.MULTILINE)]
    try:
        assert result.returncode == 0, result.stdout + result.stderr
        yield [line.strip() for line in result.stdout.partition("still running; try:")[2].splitlines() if line.strip()]
    finally:
        for pid in pids:
            # The number may belong to another by now.
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and os.fsencode(tmp_path) in command.read_bytes():
                os.kill(pid, signal.SIGKILL)


def test_what_is_left_running_can_be_looked_at(kept: list[str], tmp_path: Path) -> None:
    fetch, *stats, read, end = kept
    with urllib.request.urlopen(fetch.removeprefix("curl "), timeout=10) as page:
        assert page.read() == b"<p>Hello from the service at site B.</p>\n"
    assert len(stats) == 2
    for line in stats:
        command = shlex.split(line, comments=True)
        assert "inter-router" in subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    for file in shlex.split(read)[1:]:
        assert Path(file).read_text()
    subprocess.run(["sh", "-c", end.partition("#")[0]], check=True, timeout=10)
    assert list(tmp_path.iterdir()) == []
