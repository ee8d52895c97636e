"""AMQP over WebSocket from clients of others: rhea with the WebSocket of Node's `ws`, Proton through a bridge."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection
from wsproto.events import Request as Upgrade

from tests.system.harness import Router, Section
from tests.system.pki import Pki
from tests.system.process import Program

HERE = Path(__file__).parent
COUNT = 100


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Router]:
    made = pki.issue("ws-server")
    secure = {"http": True, "sslProfile": "tls", "requireSsl": True}
    sections: list[Section] = [
        made.ssl_profile("tls"),
        ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0}),
        ("listener", {"name": "ws", "host": "127.0.0.1", "port": 0, "http": True}),
        ("listener", {"name": "wss", "host": "127.0.0.1", "port": 0, **secure}),
    ]
    with Router("W", sections, tmp_path_factory.mktemp("ws")).ready() as router:
        yield router
        router.stop()


@pytest.fixture
def rhea_ws(rhea: list[str | Path]) -> list[str | Path]:
    if not (HERE / "node_modules" / "ws").is_dir():
        pytest.skip("ws is not installed (npm ci --prefix tests/interop)")
    return rhea


class Bridge:
    """A TCP port whose connections go on over WebSocket, for clients that know no such thing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        websocket = WSConnection(ConnectionType.CLIENT)
        is_open = threading.Event()
        with client, socket.create_connection(("127.0.0.1", self._port), 20) as far, contextlib.suppress(OSError):
            far.sendall(websocket.send(Upgrade(host="localhost", target="/amqp", subprotocols=["amqp"])))
            threading.Thread(target=_back, args=(websocket, far, client, is_open), daemon=True).start()
            assert is_open.wait(20)
            while data := client.recv(65536):
                far.sendall(websocket.send(BytesMessage(data=data)))
            far.sendall(websocket.send(CloseConnection(code=1000)))

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()


def _back(websocket: WSConnection, far: socket.socket, client: socket.socket, is_open: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := far.recv(65536):
            websocket.receive_data(data)
            for event in websocket.events():
                if isinstance(event, AcceptConnection):
                    is_open.set()
                elif isinstance(event, BytesMessage):
                    client.sendall(event.data)
                elif isinstance(event, CloseConnection):
                    client.shutdown(socket.SHUT_RDWR)


def check(send: list[str | Path], receive: list[str | Path], tmp_path: Path, env: dict[str, str]) -> None:
    with Program("receiver", receive, tmp_path / "receiver.log", env=env) as receiver:
        receiver.wait_for("^ready")
        with Program("sender", send, tmp_path / "sender.log", env=env) as sender:
            sender.wait_for("^done")
            receiver.wait_for("^done")
            assert (sender.wait(), receiver.wait()) == (0, 0)
        rows = [json.loads(line) for line in receiver.log if line.startswith("{")]
    assert [row["body"]["sequence"] for row in rows] == list(range(1, COUNT + 1))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_rhea(router: Router, rhea_ws: list[str | Path], tmp_path: Path, pki: Pki, scheme: str) -> None:
    url = f"{scheme}://localhost:{router.port(scheme)}/any/path"
    plain = str(router.port("amqp"))
    # The name is for the certificate; most machines know it as ::1 too, where the router does not listen.
    env = {"NODE_EXTRA_CA_CERTS": str(pki.ca), "NODE_OPTIONS": "--dns-result-order=ipv4first"}
    check(
        [*rhea_ws, "send", url, f"{scheme}.a", str(COUNT)],
        [*rhea_ws, "receive", plain, f"{scheme}.a", str(COUNT)],
        tmp_path,
        env,
    )
    check(
        [*rhea_ws, "send", plain, f"{scheme}.b", str(COUNT)],
        [*rhea_ws, "receive", url, f"{scheme}.b", str(COUNT)],
        tmp_path,
        env,
    )


def test_proton(router: Router, tmp_path: Path) -> None:
    proton: list[str | Path] = [sys.executable, HERE / "proton_client.py"]
    with Bridge(router.port("ws")) as near, Bridge(router.port("ws")) as far:
        check(
            [*proton, "send", str(near.port), "proton.ws", str(COUNT)],
            [*proton, "receive", str(far.port), "proton.ws", str(COUNT)],
            tmp_path,
            {},
        )


@pytest.mark.parametrize("size", [1 << 16, 24 << 20])
def test_large_messages(router: Router, tmp_path: Path, size: int) -> None:
    """In both directions, far more than any buffer on the way holds: each refusal of a socket has to be survived."""
    client = [sys.executable, HERE / "large_client.py"]
    with Bridge(router.port("ws")) as bridge:
        arguments = [str(bridge.port), "large", str(size)]
        with Program("receiver", [*client, "receive", *arguments], tmp_path / "receiver.log") as receiver:
            receiver.wait_for("^ready")
            with Program("sender", [*client, "send", *arguments], tmp_path / "sender.log") as sender:
                sent = sender.wait_for(r"^[0-9a-f]{64} \d+", timeout_s=90)[0]
                assert receiver.wait_for(r"^[0-9a-f]{64} \d+", timeout_s=90)[0] == sent
                assert sent.endswith(f" {size}")
