"""Services of Debian's packages on loopback, for tests that reach them through routers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request

from tests.long.test_brokers import PROGRAMS, Broker
from tests.system.process import Program, free_port
from tests.system.services import require

START_S = 60.0


@contextlib.contextmanager
def mariadb(directory: Path) -> Iterator[int]:
    """Run a MariaDB without privileges on a new folder; yields the port."""
    require("mariadbd")
    directory.mkdir()
    user = []
    if os.getuid() == 0:
        shutil.chown(directory, "mysql")
        for parent in directory.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        user = ["--user=mysql"]
    data = directory / "data"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *user]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    port = free_port()
    command = [
        "mariadbd", "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
        f"--socket={directory}/socket", "--skip-grant-tables", "--skip-networking=0", *user,
    ]  # fmt: skip
    with Program("mariadbd", command, directory.parent / "mariadb.log") as server:
        server.wait_for("ready for connections", timeout_s=START_S)
        yield port
        server.terminate()


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[int]:
    """Run a Redis that keeps nothing; yields the port."""
    require("redis-server")
    directory.mkdir()
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
    with Program("redis-server", command, directory / "log") as server:
        server.wait_for("Ready to accept connections", timeout_s=START_S)
        yield port
        server.terminate()


@contextlib.contextmanager
def rabbitmq(directory: Path) -> Iterator[int]:
    """Run a RabbitMQ node; yields the port of AMQP 0-9-1."""
    if not PROGRAMS or shutil.which("epmd") is None:
        pytest.skip("no RabbitMQ: install Debian's rabbitmq-server")
    directory.mkdir()
    epmd_port = free_port()
    env = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
    epmd = subprocess.Popen(["epmd", "-port", str(epmd_port)], env=env, stdin=subprocess.DEVNULL)
    broker = Broker(1, directory, epmd_port)
    try:
        broker.start()
        yield broker.port
    finally:
        broker.stop()
        epmd.kill()
        epmd.wait()


@contextlib.contextmanager
def sshd(directory: Path) -> Iterator[tuple[int, Path]]:
    """Run an OpenSSH server for the present user; yields the port and the key that it lets in."""
    server = Path("/usr/sbin/sshd")
    if not server.exists() or shutil.which("sftp") is None:
        pytest.skip("openssh-server is not installed")
    directory.mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    config = directory / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/client.pub\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    with Program("sshd", [server, "-D", "-e", "-f", config], directory / "log") as program:
        program.wait_for("Server listening", timeout_s=START_S)
        yield port, directory / "client"


@contextlib.contextmanager
def vsftpd(directory: Path, passive_port: int) -> Iterator[int]:
    """Run vsftpd for anonymous clients, with one port for passive transfers; yields the port."""
    require("vsftpd")
    if os.getuid() != 0:
        pytest.skip("vsftpd has to be started by root")
    folder = directory / "root" / "up"
    folder.mkdir(parents=True)
    shutil.chown(folder, "ftp")
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    Path("/run/vsftpd/empty").mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = directory / "vsftpd.conf"
    config.write_text(
        f"listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n"
        f"no_anon_password=YES\nanon_root={directory}/root\nwrite_enable=YES\nanon_upload_enable=YES\n"
        f"anon_umask=022\npasv_min_port={passive_port}\npasv_max_port={passive_port}\nseccomp_sandbox=NO\n"
        "secure_chroot_dir=/run/vsftpd/empty\nconnect_from_port_20=NO\npasv_promiscuous=YES\n"
    )
    with Program("vsftpd", ["vsftpd", config], directory / "log") as program:
        deadline = threading.Event()
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert program.is_alive(), program.tail()
            deadline.wait(0.1)
        yield port


class Threaded:
    """A server of the test process: each connection in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self.socket.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.socket.accept()[0]
                threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._serve(client)

    def __enter__(self) -> int:
        return self.port

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join()


def serve_websocket(client: socket.socket) -> None:
    """Answer each message of a WebSocket with itself."""
    session = WSConnection(ConnectionType.SERVER)
    while data := client.recv(65536):
        session.receive_data(data)
        for event in session.events():
            if isinstance(event, Request):
                client.sendall(session.send(AcceptConnection()))
            elif isinstance(event, Message):
                client.sendall(session.send(Message(data=event.data, message_finished=event.message_finished)))
            elif isinstance(event, CloseConnection):
                client.sendall(session.send(event.response()))
                return


def websocket_echo(port: int, messages: list[Any]) -> list[Any]:
    """Send messages on a WebSocket and return what comes back."""
    session = WSConnection(ConnectionType.CLIENT)
    found: list[Any] = []
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(session.send(Request(host="x", target="/chat")))
        waiting = list(messages)
        part: Any = None
        while len(found) < len(messages):
            session.receive_data(client.recv(65536) or None)
            for event in session.events():
                if isinstance(event, AcceptConnection):
                    client.sendall(session.send(Message(data=waiting.pop(0))))
                elif isinstance(event, Message):
                    part = event.data if part is None else part + event.data
                    if event.message_finished:
                        found.append(bytes(part) if isinstance(part, bytearray) else part)
                        part = None
                        if waiting:
                            client.sendall(session.send(Message(data=waiting.pop(0))))
                else:
                    raise AssertionError(event)
    return found
