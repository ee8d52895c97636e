"""Two independent AMQP clients at different sites exchange messages on one address."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials
from tests.system.pki import Pki
from tests.system.process import Program

HERE = Path(__file__).parent
COUNT = 100
PAIRS = [("proton", "rhea"), ("rhea", "cpp"), ("cpp", "proton")]
"""Each client once at either side."""

StartClient = Callable[..., Program]


@pytest.fixture(scope="module", params=["vanrouter pair", "C router at A", "C router at B"])
def sites(request: pytest.FixtureRequest, start_module_sites: StartSites, pki: Pki) -> Sites:
    programs = {}
    if request.param != "vanrouter pair":
        site = "a_program" if request.param.endswith("A") else "b_program"
        programs[site] = request.getfixturevalue("c_router")
    credentials_a, credentials_b = mutual_credentials(pki)
    return start_module_sites(credentials_a=credentials_a, credentials_b=credentials_b, **programs)


def client_command(request: pytest.FixtureRequest, kind: str) -> list[str | Path]:
    command: list[str | Path] = [sys.executable, HERE / "proton_client.py"]
    return command if kind == "proton" else request.getfixturevalue(kind)


@pytest.mark.parametrize(("near", "far"), PAIRS)
def test_messages_on_one_address(
    request: pytest.FixtureRequest, sites: Sites, tmp_path: Path, near: str, far: str
) -> None:
    address = f"news.{near}"
    receive = [*client_command(request, far), "receive", str(sites.b.port("amqp")), address, str(COUNT)]
    send = [*client_command(request, near), "send", str(sites.a.port("amqp")), address, str(COUNT)]
    with Program("receiver", receive, tmp_path / "receiver.log") as receiver:
        receiver.wait_for("^ready")
        with Program("sender", send, tmp_path / "sender.log") as sender:
            sender.wait_for("^done")
            receiver.wait_for("^done")
            assert (sender.wait(), receiver.wait()) == (0, 0)
        rows = [json.loads(line) for line in receiver.log if line.startswith("{")]
    assert [row["body"]["sequence"] for row in rows] == list(range(1, COUNT + 1))
    assert {row["subject"] for row in rows} == {f"from {near}"}


@pytest.mark.parametrize(("near", "far"), PAIRS)
def test_requests_and_answers(
    request: pytest.FixtureRequest, sites: Sites, tmp_path: Path, near: str, far: str
) -> None:
    address = f"service.{near}"
    serve = [*client_command(request, far), "serve", str(sites.b.port("amqp")), address, str(COUNT)]
    ask = [*client_command(request, near), "request", str(sites.a.port("amqp")), address, str(COUNT)]
    with Program("server", serve, tmp_path / "server.log") as server:
        server.wait_for("^ready")
        with Program("client", ask, tmp_path / "client.log") as client:
            client.wait_for("^done")
            assert client.wait() == 0
        rows = [json.loads(line) for line in client.log if line.startswith("{")]
    assert sorted((row["correlation_id"], row["body"]) for row in rows) == [
        (number, f"REQUEST {number}") for number in range(1, COUNT + 1)
    ]
