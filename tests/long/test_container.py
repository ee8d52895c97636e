"""The images are built where a builder is to be had, started, and serve; no compiler in them, no root."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import Program, free_port
from tests.system.services import echo_once, echo_server, run

ROOT = Path(__file__).parents[2]
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_TIMEOUT_S = 1500.0
MIRROR = [mirror] if (mirror := os.environ.get("DEBIAN_MIRROR")) else []

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * BUILD_TIMEOUT_S)]

IMAGES = [("Containerfile", "bookworm", "12-slim"), ("Containerfile.pypy", "trixie", "13-slim")]


def buildah(*arguments: str | Path, timeout_s: float = BUILD_TIMEOUT_S) -> str:
    return run("buildah", *arguments, timeout_s=timeout_s).stdout.strip()


@pytest.fixture(scope="module", params=IMAGES, ids=["CPython", "PyPy"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build an image on a base of the name that its Containerfile asks for, made here by debootstrap."""
    for command in ("buildah", "debootstrap"):
        if shutil.which(command) is None:
            pytest.skip(f"no builder: {command} is not installed")
    if os.getuid() != 0:
        pytest.skip("debootstrap needs root")
    containerfile, release, tag = request.param
    # debootstrap refuses a folder on a file system mounted nodev; /var/tmp is where builders work, too.
    base = tmp_path_factory.mktemp("base") / release
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", release, base, *MIRROR],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"debootstrap cannot make {release}: {made.stdout[-300:]}{made.stderr[-300:]}")
    working = buildah("from", "scratch")
    name = f"localhost/vanrouter-test:{release}"
    try:
        buildah("copy", "--quiet", working, base, "/")
        buildah("commit", "--quiet", working, f"docker.io/library/debian:{tag}")
        shutil.rmtree(base)
        trust: list[str | Path] = []
        if CERTIFICATES.exists():
            trust = ["--volume", f"{CERTIFICATES}:/run/ca.crt:ro", "--build-arg", "PIP_CERT=/run/ca.crt"]
        buildah(
            "build", "--quiet", "--isolation", "chroot", "--format", "docker", "--pull-never", *trust,
            "--ignorefile", ROOT / ".containerignore", "-f", ROOT / "containers" / containerfile, "-t", name, ROOT,
        )  # fmt: skip
        yield name
    finally:
        buildah("rm", working)
        subprocess.run(
            ["buildah", "rmi", "--force", name, f"docker.io/library/debian:{tag}"], capture_output=True, check=False
        )


@pytest.fixture
def container(image: str) -> Iterator[str]:
    name = buildah("from", "--pull-never", image)
    yield name
    buildah("rm", name)


def test_image_is_small_in_rights(image: str, container: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    assert config["User"] == "10000:10000"
    assert config["Healthcheck"]["Test"]
    script = "for tool in cc gcc g++ make pip pip3; do command -v $tool && exit 1; done; id -u"
    assert buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", script) == "10000"


def test_router_in_a_container_serves(container: str, tmp_path: Path) -> None:
    with echo_server() as echo:
        entry, amqp = free_port(), free_port()
        text = (
            "router {\n id: boxed\n mode: standalone\n}\n"
            f"listener {{\n name: amqp\n host: 127.0.0.1\n port: {amqp}\n}}\n"
            f"tcpListener {{\n name: echo\n address: echo\n host: 127.0.0.1\n port: {entry}\n}}\n"
            f"tcpConnector {{\n name: echo-server\n address: echo\n host: 127.0.0.1\n port: {echo}\n}}\n"
        )
        entrypoint = ["/bin/sh", "/opt/vanrouter/share/entrypoint.sh"]
        health = ["python", "/opt/vanrouter/share/health.py"]
        command = ["buildah", "run", "--isolation", "chroot", "--env", f"VANROUTER_CONF={text}", container, "--"]
        with Program("container", [*command, *entrypoint], tmp_path / "log") as program:
            pid = int(program.wait_for(r"Operational, .*process ID (\d+)")[1])
            program.wait_for(r"Listening on 127\.0\.0\.1:\d+ \(echo\)")
            echo_once(entry, b"through the box")
            probe = ["buildah", "run", "--isolation", "chroot", "--env"]
            run(*probe, f"VANROUTER_HEALTH=amqp://127.0.0.1:{amqp}", container, "--", *health)
            unhealthy = subprocess.run(
                [*probe, f"VANROUTER_HEALTH=amqp://127.0.0.1:{free_port()}", container, "--", *health],
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert unhealthy.returncode == 1
            # The builder passes no signal on; its chroot shares our process numbers.
            assert b"vanrouter" in Path(f"/proc/{pid}/cmdline").read_bytes()
            os.kill(pid, signal.SIGTERM)
            assert program.wait() == 0
