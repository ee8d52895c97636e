"""Real services, unchanged, through two and three routers, with the C router at either end or in the middle (issue 5).

V is vanrouter, C the C router: of `VC` clients are at the V and services at the C.
"""

from __future__ import annotations

import contextlib
import ftplib
import hashlib
import io
import random
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.long.real_services import (
    Threaded,
    mariadb,
    rabbitmq,
    redis,
    serve_websocket,
    sshd,
    vsftpd,
    websocket_echo,
)
from tests.system.harness import c_router_program
from tests.system.network import Network, eventually
from tests.system.process import free_port
from tests.system.services import postgresql, require, run

KINDS = ["VV", "VVV", "CV", "VC", "VCV", "CVC"]
FILE_BYTES = 10_000_000_000
BLOCK = random.Random(5).randbytes(1 << 20)
SMALL_FILE_BYTES = 20_000_000
LAST_OCTETS_S = 120.0
"""One direction may be through long before the other."""
MESSAGES = 500
FTP_HOST = "127.0.0.2"
"""Where clients find the FTP service: its passive port has the same number here as where it is served."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(params=KINDS)
def network(request: pytest.FixtureRequest, network: Network) -> Network:
    """Routers in a row; the clients are at the first and the services at the last."""
    kinds: str = request.param
    program = c_router_program()
    if "C" in kinds and program is None:
        pytest.skip("no C router: set SKROUTERD to a skupper-router 3.x")
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, program if name[0] == "C" else None)
    network.link(names[0], names[1])
    if len(names) == 3:
        network.link(names[2], names[1])
    network.ends = names[0], names[-1]  # type: ignore[attr-defined]  # for `through`
    return network


def through(network: Network, port: int) -> int:
    """Start the network with one service; returns the port at its other end, once the way there and back is known."""
    first, last = network.ends  # type: ignore[attr-defined]  # set by the fixture
    network.service("svc", last, port)
    network.clients("svc", first)
    network.start()
    found = network[first].port("to-svc")

    def is_connected() -> bool:
        """A flow that stays open, or is spoken to, has reached its server."""
        with socket.create_connection(("127.0.0.1", found), 10) as client:
            client.settimeout(1.0)
            try:
                return client.recv(1) != b""
            except TimeoutError:
                return True
            except OSError:
                return False

    eventually(is_connected, 30)
    return found


def test_postgresql(network: Network, tmp_path: Path) -> None:
    require("pgbench")
    with postgresql(tmp_path / "cluster") as server:
        port = through(network, server)
        common = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        run("pgbench", "-i", "-q", "-s", "2", *common, "postgres", timeout_s=200)
        result = run("pgbench", "-c", "8", "-j", "2", "-t", "200", *common, "postgres", timeout_s=200)
        assert "number of transactions actually processed: 1600/1600" in result.stdout
        assert "number of failed transactions: 0 " in result.stdout


def test_mariadb(network: Network, tmp_path: Path) -> None:
    require("mariadb-slap")
    with mariadb(tmp_path / "mariadb") as server:
        port = through(network, server)
        run(
            "mariadb-slap", "--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", f"--port={port}", "-u", "root",
            "--no-drop", "--auto-generate-sql", "--auto-generate-sql-load-type=mixed", "--concurrency=8",
            "--number-of-queries=2000",
            timeout_s=300,
        )  # fmt: skip


def test_redis(network: Network, tmp_path: Path) -> None:
    require("redis-benchmark")
    with redis(tmp_path / "redis") as server:
        port = through(network, server)
        command = ["redis-benchmark", "-p", str(port), "-n", "40000", "-c", "32", "-t", "set,get,lrange_100", "-q"]
        for pipeline in ("1", "16"):
            output = run(*command, "-P", pipeline, timeout_s=300).stdout
            assert output.count("requests per second") == 4, output  # lrange fills its list first


def test_rabbitmq(network: Network, tmp_path: Path) -> None:
    pika = pytest.importorskip("pika")
    with rabbitmq(tmp_path / "rabbitmq") as server:
        port = through(network, server)
        parameters = pika.ConnectionParameters("127.0.0.1", port, heartbeat=30)
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            channel.confirm_delivery()
            for number in range(MESSAGES):
                channel.basic_publish("", "q", b"%d " % number + BLOCK[: number * 40])
            got: list[bytes] = []
            for method, _, body in channel.consume("q", inactivity_timeout=30):
                assert method is not None, "no message for 30 s"
                got.append(body)
                channel.basic_ack(method.delivery_tag)
                if len(got) == MESSAGES:
                    break
            assert got == [b"%d " % number + BLOCK[: number * 40] for number in range(MESSAGES)]


def test_sftp(network: Network, tmp_path: Path) -> None:
    with sshd(tmp_path / "ssh") as (server, key):
        port = through(network, server)
        source = tmp_path / "source"
        source.write_bytes(random.Random(1).randbytes(SMALL_FILE_BYTES))
        batch = tmp_path / "batch"
        batch.write_text(f"put {source} {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n")
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", f"IdentityFile={key}"]
        run(
            "sftp", "-q", "-P", str(port), *(word for option in options for word in ("-o", option)), "-b", batch,
            "127.0.0.1", timeout_s=300,
        )  # fmt: skip
        assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes() == source.read_bytes()


def test_ftp_with_a_fixed_passive_port(network: Network, tmp_path: Path) -> None:
    passive = free_port()
    with vsftpd(tmp_path / "ftp", passive) as server:
        first, last = network.ends  # type: ignore[attr-defined]  # set by the fixture
        control = free_port()
        network.service("svc", last, server)
        network.service("data", last, passive)
        network.clients("svc", first, host=FTP_HOST, port=control)
        network.clients("data", first, host=FTP_HOST, port=passive)
        network.start()
        network[first].port("to-svc")
        network[first].port("to-data")
        content = random.Random(3).randbytes(SMALL_FILE_BYTES)
        back = bytearray()

        def connected() -> ftplib.FTP | None:
            client = ftplib.FTP(timeout=60)
            try:
                client.connect(FTP_HOST, control)
            except (EOFError, OSError):
                return None
            return client

        client: ftplib.FTP | None = None

        def is_connected() -> bool:
            nonlocal client
            client = connected()
            return client is not None

        eventually(is_connected, 30)
        assert client is not None
        with client:
            client.login()
            client.storbinary("STOR up/file", io.BytesIO(content))
            client.retrbinary("RETR up/file", back.extend)
        assert back == content


def test_websocket(network: Network) -> None:
    messages: list[Any] = ["hello", b"\x00\xff" * 100, "x" * 300_000, b"y" * 2_000_000, *map(str, range(50))]
    with Threaded(serve_websocket) as server:
        assert websocket_echo(through(network, server), messages) == messages


def test_grpc(network: Network) -> None:
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(lambda request, _context: request),
        "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    own = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        port = through(network, own)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo, chat = channel.unary_unary("/test.Test/Echo"), channel.stream_stream("/test.Test/Chat")
            for number in range(200):
                assert echo(b"%d" % number, timeout=30, wait_for_ready=True) == b"%d" % number
            parts = [BLOCK[: number * 1000] for number in range(100)]
            assert list(chat(iter(parts), timeout=120)) == parts
    finally:
        server.stop(None).wait()


def pump(sock: socket.socket, octets: int) -> str:
    """Send so many octets in numbered blocks, so that none can stand for another, half-close, return their checksum."""
    digest = hashlib.sha256()
    block = bytearray(BLOCK)
    for start in range(0, octets, len(block)):
        block[:8] = start.to_bytes(8, "big")
        piece = memoryview(block)[: octets - start]
        sock.sendall(piece)
        digest.update(piece)
    sock.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def collect(sock: socket.socket) -> str:
    """Read to the end and return the checksum."""
    digest = hashlib.sha256()
    while data := sock.recv(1 << 20):
        digest.update(data)
    return digest.hexdigest()


@pytest.mark.timeout(3000)
def test_ten_gigabytes_both_ways(network: Network) -> None:
    sums: dict[str, str] = {}
    served = threading.Event()

    def serve(client: socket.socket) -> None:
        if not client.recv(1, socket.MSG_PEEK):
            return
        sender = threading.Thread(target=lambda: sums.update(back=pump(client, FILE_BYTES)))
        sender.start()
        sums["there"] = collect(client)
        sender.join()
        served.set()

    with Threaded(serve) as server:
        port = through(network, server)
        with socket.create_connection(("127.0.0.1", port), 120) as client:
            receiver = threading.Thread(target=lambda: sums.update(received=collect(client)))
            receiver.start()
            sums["sent"] = pump(client, FILE_BYTES)
            receiver.join()
            assert served.wait(LAST_OCTETS_S), "the service has not seen the end"
    assert sums["sent"] == sums["there"] == sums["back"] == sums["received"]
