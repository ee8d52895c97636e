"""A browser loads a page of 100 objects through two routers, over HTTP/1.1 and, under TLS, over HTTP/2."""

from __future__ import annotations

import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials
from tests.system.pki import Pki

OBJECTS = 100
PAGE = f"""<!doctype html><title>waiting</title><body><script>
let left = {OBJECTS}, wrong = 0;
for (let number = 0; number < {OBJECTS}; number++)
  fetch("/object/" + number).then(answer => answer.text()).then(text => {{
    if (text !== "object " + number + " " + "x".repeat(number * 100)) wrong++;
  }}).catch(() => wrong++).finally(() => {{
    if (--left === 0) {{
      const kinds = new Set(performance.getEntriesByType("resource").map(entry => entry.nextHopProtocol));
      document.body.textContent = "loaded {OBJECTS} wrong " + wrong + " over " + [...kinds].join(",");
    }}
  }});
</script>"""


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Serve the page, or one of its objects."""
        if self.path.startswith("/object/"):
            number = int(self.path[8:])
            body = f"object {number} {'x' * (number * 100)}".encode()
        else:
            body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if self.path.startswith("/object/") else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=["stream", "message"])
def sites(request: pytest.FixtureRequest, start_module_sites: StartSites, service: int, pki: Pki) -> Sites:
    a, b = mutual_credentials(pki)
    common = {"host": "127.0.0.1", "address": "page", "form": request.param}
    return start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=[
            pki.issue("localhost").ssl_profile("port"),
            ("httpListener", {"name": "plain", "port": 0, **common}),
            ("httpListener", {"name": "secure", "port": 0, "sslProfile": "port", **common}),
        ],
        b_sections=[("httpConnector", {"name": "page", "port": service, **common})],
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("listener", "scheme", "spoken"), [("plain", "http", "http/1.1"), ("secure", "https", "h2")])
def test_a_page_of_many_objects(sites: Sites, tmp_path: Path, listener: str, scheme: str, spoken: str) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-extensions", "--ignore-certificate-errors",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--dump-dom",
            f"{scheme}://localhost:{sites.a.port(listener)}/",
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert f"loaded {OBJECTS} wrong 0 over {spoken}" in done.stdout, done.stdout[-500:] + done.stderr[-1500:]
