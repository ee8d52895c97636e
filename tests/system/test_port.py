"""The HTTP port of real routers: curl, promtool and Prometheus as clients; silent and senseless ones beside them."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Router, Section, Sites, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.process import Program, free_port
from tests.system.services import require, run

ROOT = Path(__file__).parents[2]
HTTP: Section = ("listener", {"name": "http", "host": "127.0.0.1", "port": 0, "http": True})
DEADLINE_S = 20.0

KNOWN_COMPLAINTS = ('non-counter metrics should not have "_total" suffix', "metric names should not contain ':'")
"""Of promtool about names of the C router, which are what they are."""


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, echo_port: int) -> Sites:
    return start_module_sites(
        a_sections=[HTTP, tcp_listener("echo")], b_sections=[HTTP, tcp_connector("echo", echo_port)]
    )


def url(router: Router, path: str, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{router.port('http')}{path}"


def curl(*arguments: str | Path) -> tuple[int, str]:
    """Status and body."""
    command = [require("curl"), "-s", "--max-time", "20", "-w", "\n%{http_code}", *map(str, arguments)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30).stdout
    body, _, status = answer.rpartition("\n")
    return int(status), body


def wait_until(ask: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not ask():
        assert time.monotonic() < deadline, what


def sample(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


def talk(port: int, octets: int) -> None:
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as flow:
        flow.sendall(b"x" * octets)
        while octets:
            octets -= len(flow.recv(65536))


def test_probes_and_series(sites: Sites) -> None:
    port = sites.a.port("echo")
    assert curl(url(sites.a, "/healthz")) == (200, "OK\n")
    wait_until(lambda: curl(url(sites.a, "/readyz")) == (200, "OK\n"), "A is never ready")
    talk(port, 1000)
    labels = '{address="echo",direction="in",kind="tcpListener",name="echo"}'
    status, text = curl(url(sites.a, "/metrics"))
    assert status == 200
    assert sample(text, f"vanrouter_flow_bytes_total{labels}") == 1000
    assert sample(text, "vanrouter_flow_setup_seconds_count") == 1
    assert sample(text, "qdr_routers_total") == 1
    assert sample(text, 'vanrouter_route_cost{router="B"}') == 1
    assert sample(text, "vanrouter_ready") == 1


def test_promtool_has_nothing_new_to_say(sites: Sites) -> None:
    promtool = require("promtool")
    text = curl(url(sites.a, "/metrics"))[1]
    command = [promtool, "check", "metrics"]
    found = subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=60)
    complaints = [line for line in found.stderr.splitlines() if line]
    assert all(line.startswith("qd") and line.endswith(KNOWN_COMPLAINTS) for line in complaints), complaints


def test_alert_rules() -> None:
    rules = ROOT / "config" / "prometheus-rules.yaml"
    run(require("promtool"), "check", "rules", rules)


def ask_prometheus(port: int, query: str) -> list[dict[str, object]]:
    address = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return list(json.load(answer)["data"]["result"])
    return []


def test_prometheus_scrapes(sites: Sites, tmp_path: Path) -> None:
    targets = [f"127.0.0.1:{router.port('http')}" for router in (sites.a, sites.b)]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(ROOT / "config" / "prometheus-rules.yaml")],
                "scrape_configs": [{"job_name": "vanrouter", "static_configs": [{"targets": targets}]}],
            }
        )
    )
    port = free_port()
    command = [
        require("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with Program("prometheus", command, tmp_path / "prometheus.log"):
        wait_until(lambda: len(ask_prometheus(port, "up == 1 and vanrouter_ready == 1")) == 2, "no scrape")
        for query in ("vanrouter_loop_turn_seconds_count > 0", "qdr_links_total", "process_cpu_seconds_total"):
            assert len(ask_prometheus(port, query)) == 2, query


def test_the_probe_fails_when_traffic_would(start_sites: StartSites, echo_port: int) -> None:
    sites = start_sites(
        a_sections=[HTTP, tcp_listener("echo")], b_sections=[HTTP, tcp_connector("echo", echo_port)], connects="A"
    )
    sites.a.port("echo")
    wait_until(lambda: curl(url(sites.a, "/readyz"))[0] == 200, "A is never ready")
    sites.b.stop()
    wait_until(lambda: curl(url(sites.a, "/readyz"))[0] == 503, "A does not notice")
    assert "no link: connector link: " in curl(url(sites.a, "/readyz"))[1]
    wait_until(
        lambda: "no service: tcpListener echo is down" in curl(url(sites.a, "/readyz"))[1], "the service stays up"
    )
    assert curl(url(sites.a, "/healthz"))[0] == 200
    sites.start_b()
    wait_until(lambda: curl(url(sites.a, "/readyz"))[0] == 200, "A does not recover")


@pytest.fixture
def secure(tmp_path: Path, pki: Pki) -> Iterator[Router]:
    made = pki.issue("port-server")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "index.html").write_bytes(bytes(range(256)) * 8192)
    listener = {**HTTP[1], "sslProfile": "tls", "requireSsl": True, "authenticatePeer": True}
    sections: list[Section] = [
        made.ssl_profile("tls"),
        ("listener", {**listener, "httpRootDir": str(tmp_path / "root")}),
    ]
    with Router("T", sections, tmp_path).ready() as router:
        yield router
        router.stop()


def test_curl_with_a_certificate(secure: Router, pki: Pki, tmp_path: Path) -> None:
    mine = pki.issue("curl-client")
    trust = ("--cacert", pki.ca)
    card = ("--cert", mine.cert, "--key", mine.key)
    got = tmp_path / "got"
    assert curl(*trust, *card, "-o", got, url(secure, "/", "https"))[0] == 200
    assert got.read_bytes() == (tmp_path / "root" / "index.html").read_bytes()
    assert curl(*trust, *card, "--path-as-is", url(secure, "/../T.conf", "https"))[0] == 404
    assert curl(*trust, url(secure, "/healthz", "https"))[0] == 0  # no certificate
    assert curl(url(secure, "/healthz"))[0] == 0  # no TLS
    text = curl(*trust, *card, url(secure, "/metrics", "https"))[1]
    wait_until(
        lambda: 'subject="port-server"' in curl(*trust, *card, url(secure, "/metrics", "https"))[1],
        "the certificate is never read",
    )
    assert sample(text, "vanrouter_ready") == 1


def test_silent_and_senseless_clients(sites: Sites) -> None:
    """More silent clients than the port takes, and nonsense, while the probe is asked."""
    port = sites.b.port("http")
    rng = random.Random(1)
    silent = []
    for _ in range(600):
        sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost:"[: rng.randrange(30)])
        silent.append(sock)
    assert curl(url(sites.b, "/readyz"))[0] == 200
    starts = [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"AMQP\0\1\0\0", b"GET /" + b"%" * 100 + b" HTTP/1.1\r\n"]
    for number in range(200):
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock, contextlib.suppress(OSError):
            sock.sendall(starts[number % len(starts)] + rng.randbytes(rng.randrange(2000)) + b"\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert curl(url(sites.b, "/healthz"))[0] == 200
    for sock in silent:
        sock.close()
    text = curl(url(sites.b, "/metrics"))[1]
    assert sample(text, 'vanrouter_refused_total{cause="port_connections"}') >= 600 - 256
    assert sample(text, 'vanrouter_refused_total{cause="port_requests"}') >= 100
    assert sample(text, "vanrouter_internal_errors_total") == 0
