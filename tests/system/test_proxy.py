"""A link of two sites through an HTTP proxy (proxyProfile), with TLS from end to end inside it."""

from __future__ import annotations

import base64
import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.system.network import Network, eventually
from tests.system.pki import Pki
from tests.system.services import echo_once
from vanrouter.mgmt.client import ManagementClient

CREDENTIALS = base64.b64encode(b"site:secret").decode()


class _Proxy(socketserver.BaseRequestHandler):
    """Connects where it is asked to, for those who know the password."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(1)
        lines = head.decode().split("\r\n")
        if f"Proxy-Authorization: Basic {CREDENTIALS}" not in lines:
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, _, port = lines[0].split(" ")[1].rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=relay, args=(server, self.request))
            back.start()
            relay(self.request, server)
            back.join()


def relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def proxy_port() -> Iterator[int]:
    with _Server(("127.0.0.1", 0), _Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_link_through_a_proxy(network: Network, pki: Pki, echo_port: int, proxy_port: int) -> None:
    network.add("A")
    network.add("B")
    network.section("A", pki.issue("proxied-a").ssl_profile("mutual"))
    network.section("B", pki.issue("proxied-b").ssl_profile("mutual"))
    profile = {"name": "way-out", "host": "127.0.0.1", "port": proxy_port, "username": "site", "password": "wrong"}
    network.section("B", ("proxyProfile", profile))
    tls = {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL"}
    network.link(
        "B", "A", listener_more={**tls, "authenticatePeer": True, "requireSsl": True}, proxyProfile="way-out", **tls
    )
    network.service("svc", "A", echo_port)
    network.clients("svc", "B")
    network.start()
    network["B"].wait_for("proxy answered 407")
    with ManagementClient(f"127.0.0.1:{network['B'].port('amqp')}") as management:
        management.update("proxyProfile", {"password": "secret"}, name="way-out")
        echo_once(network["B"].port("to-svc"), b"x" * 200_000)
        eventually(
            lambda: (
                [row["connectionStatus"] for row in management.query("connector", ["connectionStatus"])] == ["SUCCESS"]
            )
        )
    assert not any("secret" in line for line in network["B"].log)
