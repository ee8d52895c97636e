"""A connector that is refused lets the stream try another one, though the C router is between (extensions).

What the C router does with a stream that was released and asks for another path is its own affair: it tries the other
path itself, or hands the stream back to the listener, which offers it again. The client is served either way.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest

from tests.system.harness import Router
from tests.system.network import Network, eventually
from tests.system.process import free_port
from tests.system.services import connect, echo_once, receive_exactly
from vanrouter.mgmt.client import ManagementClient

AT_ONCE = 24
ROUNDS = 3
"""The C router never forgets a delivery that it sent another way: the more of them, the fewer it sends to that site."""
GREETING = b"220"


class _Greeting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(GREETING)
        self.request.recv(1)


@contextlib.contextmanager
def greeting_server() -> Iterator[int]:
    """Serve a protocol in which the server speaks first; yields the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Greeting) as server:
        server.daemon_threads = True
        server.socket.listen(4 * AT_ONCE)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def sites_known(router: Router) -> int:
    """Return how many routers a router knows to serve the address."""
    with ManagementClient(f"127.0.0.1:{router.port('amqp')}") as management:
        rows = management.query("router.address", ["key", "remoteCount"])
        return sum(int(row["remoteCount"]) for row in rows if row["key"] == "Msvc")


def all_know(network: Network, names: list[str], count: int) -> bool:
    return all(sites_known(network[name]) == count for name in names)


@pytest.mark.parametrize("middle", ["C", "CC"], ids=["one C router between", "two"])
@pytest.mark.parametrize("speaks", ["client", "server"])
def test_another_connector_is_tried(network: Network, c_router: str, middle: str, speaks: str, echo_port: int) -> None:
    """Two sites serve an address behind C routers. Whenever the server of one is gone, all clients reach the other."""
    names = ["V", *(f"C{place}" for place in range(len(middle)))]
    for name in names:
        network.add(name, None if name == "V" else c_router)
    for near, far in pairwise(names):
        network.link(near, far)
    refusing_port = free_port()
    with greeting_server() if speaks == "server" else contextlib.nullcontext(echo_port) as serving_port:
        for name, port in (("R", refusing_port), ("S", serving_port)):
            network.add(name)
            network.link(name, names[-1])
            network.service("svc", name, port)
        network.clients("svc", "V")
        network.start()
        port = network["V"].port("to-svc")
        for round_ in range(ROUNDS):
            with socket.create_server(("127.0.0.1", refusing_port)) if round_ else contextlib.nullcontext():
                eventually(partial(all_know, network, names, 2))  # with a server, a probe brings the address back
            with contextlib.ExitStack() as clients:
                opened = [clients.enter_context(connect(port)) for _ in range(AT_ONCE)]
                for number, client in enumerate(opened):
                    if speaks == "client":
                        client.sendall(b"%03d" % number)
                for number, client in enumerate(opened):
                    assert receive_exactly(client, 3) == (b"%03d" % number if speaks == "client" else GREETING)
            if not round_:  # it was asked three times, and withdrew
                eventually(partial(all_know, network, names, 1))


@pytest.mark.parametrize("kinds", ["VCV", "VCCV"])
def test_the_first_flow_of_a_fresh_network(network: Network, c_router: str, echo_port: int, kinds: str) -> None:
    """A C router may know the way to the service before it knows the way back to the client."""
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, c_router if name[0] == "C" else None)
    for near, far in pairwise(names):
        network.link(near, far)
    network.service("svc", names[-1], echo_port)
    network.clients("svc", names[0])
    network.start_at_once()
    echo_once(network[names[0]].port("to-svc"), b"first")
