"""Applications of AMQP answer requests of HTTP: an httpListener in the message form, Proton and rhea behind it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials
from tests.system.pki import Pki
from tests.system.process import Program
from tests.system.services import require, run

HERE = Path(__file__).parent
COUNT = 20


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, pki: Pki) -> Sites:
    credentials_a, credentials_b = mutual_credentials(pki)
    ports = [
        ("httpListener", {"name": name, "address": name, "host": "127.0.0.1", "port": 0, "form": "message"})
        for name in ("proton", "rhea")
    ]
    return start_module_sites(credentials_a=credentials_a, credentials_b=credentials_b, a_sections=ports)


@pytest.mark.parametrize("client", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.parametrize("kind", ["proton", "rhea"])
def test_an_application_answers(
    request: pytest.FixtureRequest, sites: Sites, tmp_path: Path, kind: str, client: str
) -> None:
    command = request.getfixturevalue("rhea") if kind == "rhea" else [sys.executable, HERE / "proton_client.py"]
    serve = [*command, "answer", str(sites.b.port("amqp")), kind, str(COUNT)]
    with Program("application", serve, tmp_path / "application.log") as application:
        application.wait_for("^ready")
        for number in range(1, COUNT + 1):  # one curl for each: 7.88 cannot use a connection of HTTP/2 again
            url = f"http://127.0.0.1:{sites.a.port(kind)}/item/{number}"
            done = run(
                require("curl"),
                "-sS",
                "-f",
                "--retry",
                "9",
                "--retry-connrefused",
                client,
                "-w",
                " %{http_code} %{content_type}",
                "-d",
                "text",
                url,
            )
            assert done.stdout == f"POST /item/{number} from {kind} 200 text/plain"
        application.wait_for("^done")
        assert application.wait() == 0
