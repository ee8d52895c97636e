"""The unit and system tests on PyPy 3.11, in a root folder of Debian 13 made by debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.test_container import BUILD_TIMEOUT_S, CERTIFICATES, MIRROR, buildah

ROOT = Path(__file__).parents[2]
TESTS_TIMEOUT_S = 1800.0
SCRIPT = """
set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
apt-get update -qq
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get install --yes -qq --no-install-recommends pypy3 pypy3-dev pypy3-venv build-essential ca-certificates \
    pkg-config libssl-dev libsasl2-dev libsasl2-modules curl openssl iperf3 util-linux postgresql nodejs npm >/dev/null
mkdir /src
tar -C /src -xf /run/source.tar
cd /src
PACKAGES=no PYTHON=pypy3 VENV=/opt/venv tools/setup.sh test
/opt/venv/bin/python -m pytest -q -p no:cacheprovider -m 'not long' tests/unit tests/property tests/system
"""


@pytest.fixture
def debian() -> Iterator[str]:
    """Make Debian 13 with PyPy 3.11: Debian 12 has PyPy 3.9 only."""
    for command in ("buildah", "debootstrap"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    if os.getuid() != 0:
        pytest.skip("debootstrap needs root")
    working = buildah("from", "scratch")
    try:
        base = Path(buildah("mount", working))
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "trixie", base, *MIRROR],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"debootstrap cannot make Debian 13: {made.stdout[-300:]}{made.stderr[-300:]}")
        yield working
    finally:
        buildah("rm", working)


@pytest.mark.timeout(2 * (BUILD_TIMEOUT_S + TESTS_TIMEOUT_S))
def test_suites_pass_on_pypy(debian: str, tmp_path: Path) -> None:
    source = tmp_path / "source.tar"
    subprocess.run(["git", "-C", ROOT, "archive", "-o", source, "HEAD"], check=True)
    trust: list[str | Path] = []
    if CERTIFICATES.exists():
        trust = ["--volume", f"{CERTIFICATES}:/run/ca.crt:ro", "--env", "PIP_CERT=/run/ca.crt"]
    result = subprocess.run(
        [
            "buildah", "run", "--isolation", "chroot", "--volume", f"{source}:/run/source.tar:ro", *trust, debian,
            "--", "sh", "-c", SCRIPT,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S + TESTS_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-3000:]
