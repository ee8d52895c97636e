"""Bodies longer than what anybody should hold pass two routers in bounded memory, up and down at the same time.

Nothing touches a disk: a generator writes to curl and hashes what it writes, the service hashes what comes; what comes
down is compared with what it should be, piece by piece.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.test_large_message import memory_kib
from tests.system.conftest import StartSites
from tests.system.harness import Section, Sites
from tests.system.http_service import pattern
from tests.system.http_services import http2_server
from tests.system.process import Program
from tests.system.services import require

SERVICE = Path(__file__).parents[1] / "system" / "http_service.py"
OCTETS = 10_000_000_000
GROWTH_KIB = 32 * 1024
PIECE = 256 * 1024
VERSIONS = {"HTTP1": "--http1.1", "HTTP2": "--http2-prior-knowledge"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[dict[str, int]]:
    """Ports of a service of each version."""
    command = [sys.executable, "-u", SERVICE, "service"]
    with Program("service", command, tmp_path / "service.log") as program, http2_server() as http2:
        yield {"HTTP1": int(program.wait_for(r"Serving \S+ on port (\d+)")[1]), "HTTP2": http2}


@pytest.fixture
def sites(start_sites: StartSites, services: dict[str, int]) -> Sites:
    def section(kind: str, protocol: str, port: int) -> Section:
        attributes = {"name": protocol, "address": protocol, "host": "127.0.0.1", "port": port}
        return (kind, {**attributes, "protocolVersion": protocol})

    return start_sites(
        a_sections=[section("httpListener", protocol, 0) for protocol in services],
        b_sections=[section("httpConnector", protocol, port) for protocol, port in services.items()],
    )


class Upload(threading.Thread):
    """Sends a body, and keeps its digest."""

    def __init__(self, command: list[str], url: str) -> None:
        super().__init__(daemon=True)
        pipe = subprocess.PIPE
        self.program = subprocess.Popen([*command, "-T", "-", f"{url}/up"], stdin=pipe, stdout=pipe)
        self.digest = hashlib.sha256()
        self.start()

    def run(self) -> None:
        assert self.program.stdin is not None
        with self.program.stdin as stdin:
            for piece in pattern(OCTETS):
                self.digest.update(piece)
                stdin.write(piece)

    def check(self) -> None:
        with self.program as program:
            assert program.stdout is not None
            said = json.loads(program.stdout.read())
            self.join()
        assert program.returncode == 0
        size = said["length"] if "length" in said else said["size"]
        assert (size, said["sha256"]) == (OCTETS, self.digest.hexdigest())


class Download(threading.Thread):
    """Receives a body, and compares it with `ring`, again and again."""

    def __init__(self, command: list[str], url: str, ring: bytes) -> None:
        super().__init__(daemon=True)
        self.program = subprocess.Popen([*command, f"{url}/bytes/{OCTETS}"], stdout=subprocess.PIPE)
        self.round = len(ring)
        self.expected = memoryview(ring * (PIECE // len(ring) + 2))
        self.received = 0
        self.is_right = True
        self.start()

    def run(self) -> None:
        assert self.program.stdout is not None
        while piece := self.program.stdout.read(PIECE):
            at = self.received % self.round
            self.is_right = self.is_right and piece == self.expected[at : at + len(piece)]
            self.received += len(piece)

    def check(self) -> None:
        with self.program as program:
            self.join()
        assert program.returncode == 0
        assert (self.received, self.is_right) == (OCTETS, True)


@pytest.mark.parametrize("protocol", VERSIONS)
def test_ten_gigabytes(sites: Sites, protocol: str) -> None:
    command = [require("curl"), "-sS", VERSIONS[protocol]]
    url = f"http://127.0.0.1:{sites.a.port(protocol)}"
    before = [memory_kib(router, "VmRSS") for router in sites.routers()]
    down = Download(command, url, bytes(range(256)) if protocol == "HTTP1" else bytes(256))
    up = Upload(command, url)
    up.check()
    down.check()
    grown = [memory_kib(router, "VmHWM") - rss for router, rss in zip(sites.routers(), before, strict=True)]
    print(f"grown by {grown} KiB")
    assert max(grown) < GROWTH_KIB
