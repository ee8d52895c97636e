"""Services of site B: small servers inside the test process, and real ones from Debian's packages."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import Program, free_port

IO_TIMEOUT_S = 20.0
"""Longest silence of a socket in a test."""


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(60.0)
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Serve echo on loopback; yields the port."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def http_server(folder: Path, log: Path) -> Iterator[int]:
    """Serve a folder with Python's http.server in a process of its own; yields the port."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, "0"]
    with Program("http.server", command, log) as program:
        yield int(program.wait_for(r"Serving HTTP on \S+ port (\d+)")[1])


@contextlib.contextmanager
def iperf3_server(log: Path) -> Iterator[int]:
    """Run iperf3 as a server; yields the port."""
    require("iperf3")
    port = free_port()
    with Program("iperf3", ["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port), "--forceflush"], log) as program:
        program.wait_for("Server listening on")
        yield port


@contextlib.contextmanager
def postgresql(directory: Path) -> Iterator[int]:
    """Run a PostgreSQL of Debian's packages on a new cluster; yields the port. User postgres, no password."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("postgresql is not installed")
    folder = binaries[-1]
    user = None
    directory.mkdir()
    if os.getuid() == 0:
        user = "postgres"  # the server refuses to run as root
        shutil.chown(directory, user)
        for parent in directory.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    data = directory / "data"
    subprocess.run(
        [folder / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"],
        check=True,
        user=user,
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    port = free_port()
    options = ["-D", data, "-k", directory, "-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off"]
    with Program(
        "postgres", [folder / "postgres", *options], directory.parent / "postgres.log", user=user, cwd=directory
    ) as server:
        server.wait_for("database system is ready to accept connections")
        yield port
        server.terminate(with_signal=2)


def require(command: str) -> str:
    """Return the path of a program, or skip the test and say which is missing."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed")
    return path


def run(
    *command: str | Path, timeout_s: float = 60.0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a client program to its end; a non-zero code fails the test with its output."""
    result = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert result.returncode == 0, (
        f"{command} ended with {result.returncode}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    )
    return result


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def connect(port: int) -> socket.socket:
    """Connect to a loopback port with a deadline on everything."""
    connection = socket.create_connection(("127.0.0.1", port), IO_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Read so many octets; an early end fails."""
    parts: list[bytes] = []
    left = count
    while left:
        data = connection.recv(min(left, 262144))
        assert data, f"the stream ended {left} octets early of {count}"
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def echo_once(port: int, payload: bytes = b"ping") -> None:
    """Open a flow, have a payload echoed, close it."""
    with connect(port) as client:
        client.sendall(payload)
        assert receive_exactly(client, len(payload)) == payload


def has_ended(connection: socket.socket) -> bool:
    """Read until the other side ended or reset the connection; False when it did not within the deadline."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
