"""HTTP services beside the C router (skupper-router 3.x), which knows nothing of them: its TCP connectors serve an
httpListener, its TCP listeners ask an httpConnector, and it stands between two vanrouters."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.http_service import pattern
from tests.system.network import Network
from tests.system.process import free_port, held
from tests.system.services import require, run
from tests.system.test_http import ask, http_connector, http_listener, kept_alive, service

SIZE = 5_000_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, c_router: str) -> Iterator[Network]:
    """V - C - W: services behind C by TCP and behind W by HTTP; clients at V by HTTP and at C by TCP."""
    directory = tmp_path_factory.mktemp("http")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(held(Network(directory)))
        network.add("V")
        network.add("C", c_router)
        network.add("W")
        network.link("V", "C")
        network.link("W", "C")
        for name in ("one", "two"):
            _, port = stack.enter_context(service(name, directory))
            network.section(
                "C",
                ("tcpConnector", {"name": f"by-tcp-{name}", "host": "127.0.0.1", "port": port, "address": "by-tcp"}),
            )
            network.section("W", http_connector("by-http", port))
        network.service("refused", "C", free_port())
        for address in ("by-tcp", "by-http", "refused"):
            network.section("V", http_listener(f"to-{address}", address))
        network.clients("by-http", "C")
        yield network.start()


LISTENERS = [("V", "to-by-tcp"), ("V", "to-by-http"), ("C", "to-by-http")]


@pytest.mark.parametrize(("router", "listener"), LISTENERS)
def test_requests_of_one_connection(network: Network, router: str, listener: str) -> None:
    with kept_alive(network[router].port(listener)) as client:
        found = set()
        for number in range(200):
            body = b"x" * number
            status, told = ask(client, "POST", f"/{number}", body=body)
            assert (status, told["path"], told["length"]) == (200, f"/{number}", number)
            found.add(told["service"])
    if router == "V":
        assert found == {"one", "two"}


@pytest.mark.parametrize(("router", "listener"), LISTENERS)
def test_bodies_arrive_whole(network: Network, router: str, listener: str, tmp_path: Path) -> None:
    require("curl")
    octets = b"".join(pattern(SIZE))
    digest = hashlib.sha256(octets).hexdigest()
    (tmp_path / "up").write_bytes(octets)
    url = f"http://127.0.0.1:{network[router].port(listener)}"
    for more in ([], ["-H", "Transfer-Encoding: chunked"]):
        told = json.loads(run("curl", "-sS", "-T", tmp_path / "up", *more, f"{url}/up").stdout)
        assert (told["length"], told["sha256"]) == (SIZE, digest)
    for kind in ("bytes", "chunks"):
        run("curl", "-sS", "-o", tmp_path / "down", f"{url}/{kind}/{SIZE}")
        assert hashlib.sha256((tmp_path / "down").read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(("router", "listener"), LISTENERS)
def test_an_upgrade_becomes_a_tunnel(network: Network, router: str, listener: str) -> None:
    with socket.create_connection(("127.0.0.1", network[router].port(listener)), 20) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += client.recv(4096)
        assert received.startswith(b"HTTP/1.1 101")
        for number in range(20):
            client.sendall(b"%04d" % number)
            assert client.recv(4) == b"%04d" % number


def test_many_clients_at_once(network: Network) -> None:
    require("wrk")
    for router, listener in LISTENERS:
        told = run("wrk", "-t1", "-c16", "-d2s", f"http://127.0.0.1:{network[router].port(listener)}/").stdout
        assert "Non-2xx" not in told, told
        assert "Socket errors" not in told, told


def test_a_server_that_refuses(network: Network) -> None:
    """The C router's connector stays announced, and says of each stream that it could not deliver it."""
    with kept_alive(network["V"].port("to-refused")) as client:
        for method in ("GET", "POST"):
            assert ask(client, method, "/")[0] == 503
