"""Programs that know nothing of the network work through two sites linked by mutual TLS."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.services import (
    connect,
    echo_server,
    http_server,
    iperf3_server,
    postgresql,
    receive_exactly,
    require,
    run,
    sha256,
)

ROWS = 200_000
FILE_BYTES = 8_000_003


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Ports at site B, and the folder that the HTTP service shows."""

    echo: int
    http: int
    iperf3: int
    folder: Path


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    directory = tmp_path_factory.mktemp("services")
    folder = directory / "www"
    folder.mkdir()
    (folder / "big.bin").write_bytes(random.Random(2).randbytes(FILE_BYTES))
    (folder / "small.txt").write_text("small\n")
    with contextlib.ExitStack() as stack:
        yield Services(
            echo=stack.enter_context(echo_server()),
            http=stack.enter_context(http_server(folder, directory / "http.log")),
            iperf3=stack.enter_context(iperf3_server(directory / "iperf3.log")),
            folder=folder,
        )


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, services: Services, pki: Pki) -> Sites:
    ports = {"echo": services.echo, "http": services.http, "iperf3": services.iperf3}
    credentials_a, credentials_b = mutual_credentials(pki)
    return start_module_sites(
        credentials_a=credentials_a,
        credentials_b=credentials_b,
        a_sections=[tcp_listener(name) for name in ports],
        b_sections=[tcp_connector(name, port) for name, port in ports.items()],
    )


def test_echo_of_single_bytes(sites: Sites) -> None:
    with connect(sites.a.port("echo")) as client:
        for value in range(256):
            client.sendall(bytes([value]))
            assert receive_exactly(client, 1) == bytes([value])


def test_curl_fetches_a_file_intact(sites: Sites, services: Services, tmp_path: Path) -> None:
    require("curl")
    target = tmp_path / "big.bin"
    run("curl", "-sS", "--fail", "-o", target, f"http://127.0.0.1:{sites.a.port('http')}/big.bin")
    assert sha256(target) == sha256(services.folder / "big.bin")


def test_curl_fetches_many_in_parallel(sites: Sites, tmp_path: Path) -> None:
    require("curl")
    url = f"http://127.0.0.1:{sites.a.port('http')}/small.txt?[1-100]"
    run("curl", "-sS", "--fail", "--parallel", "--parallel-max", "20", "-o", tmp_path / "#1", url)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["small\n"] * 100


@pytest.mark.parametrize("options", [[], ["-R"], ["-P", "4"]], ids=["up", "down", "four"])
def test_iperf3(sites: Sites, options: list[str]) -> None:
    require("iperf3")
    port = str(sites.a.port("iperf3"))
    report = json.loads(run("iperf3", "-J", "-c", "127.0.0.1", "-p", port, "-n", "64M", *options).stdout)
    assert "error" not in report
    # The receiver stops to count when the sender has sent all: what is under way then is missing.
    assert report["end"]["sum_received"]["bytes"] >= 30_000_000


def test_postgresql_dump_comes_through_intact(start_sites: StartSites, pki: Pki, tmp_path: Path) -> None:
    require("psql")
    credentials_a, credentials_b = mutual_credentials(pki)
    with postgresql(tmp_path / "cluster") as port:
        sites = start_sites(
            credentials_a=credentials_a,
            credentials_b=credentials_b,
            a_sections=[tcp_listener("db")],
            b_sections=[tcp_connector("db", port)],
        )

        def psql(through: int, *arguments: str) -> str:
            target = f"host=127.0.0.1 port={through} user=postgres dbname=postgres sslmode=prefer"
            return run("psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", target, *arguments).stdout

        far = sites.a.port("db")
        psql(
            far,
            "-c",
            "create table item (id int primary key, name text not null, weight double precision)",
            "-c",
            f"insert into item select n, md5(n::text), n / 7.0 from generate_series(1, {ROWS}) n",
        )
        assert psql(far, "-At", "-c", "select count(*) from item").strip() == str(ROWS)
        copy = "copy item to stdout"
        assert psql(far, "-c", copy) == psql(port, "-c", copy)

        def dump(through: int) -> list[str]:
            command = ["pg_dump", "-h", "127.0.0.1", "-p", str(through), "-U", "postgres", "postgres"]
            # Newer versions frame the script with a random word.
            return [
                line
                for line in run(*command).stdout.splitlines()
                if not line.startswith(("\\restrict", "\\unrestrict"))
            ]

        through_sites = dump(far)
        assert len(through_sites) > ROWS
        assert through_sites == dump(port)
