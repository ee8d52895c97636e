"""Byte-exact flows through chains of one to four routers, with the C router in the middle of some (issue 5)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.system.harness import c_router_program
from tests.system.network import Network, eventually
from tests.system.test_stream_bytes import SILENCE_S, Action, End, check_flow, ends, scripts

CHAINS = ["V", "VV", "VVV", "VVVV", "VCV", "VCCV"]


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SILENCE_S)
        yield listener


@pytest.fixture(scope="module", params=CHAINS)
def chain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: socket.socket
) -> Iterator[tuple[str, int]]:
    """Start the routers; yields their kinds and the port of the first, once a flow gets through."""
    kinds: str = request.param
    program = c_router_program()
    if "C" in kinds and program is None:
        pytest.skip("no C router: set SKROUTERD to a skupper-router 3.x")
    directory: Path = tmp_path_factory.mktemp("chain")
    network = Network(directory)
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    for name in names:
        network.add(name, program if name[0] == "C" else None)
    for left, right in pairwise(names):
        network.link(left, right)
    network.service("svc", names[-1], int(server.getsockname()[1]))
    network.clients("svc", names[0])
    try:
        network.start()
        port = network[names[0]].port("to-svc")

        def gets_through() -> bool:
            with socket.create_connection(("127.0.0.1", port), SILENCE_S) as client:
                client.settimeout(SILENCE_S)
                try:
                    served, _ = server.accept()
                except TimeoutError:
                    return False
                with served:
                    served.sendall(b"x")
                    return client.recv(1) == b"x"

        eventually(gets_through, 40)
        yield kinds, port
        network.check_logs()
    finally:
        network.kill()


@pytest.mark.timeout(600)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(client=scripts, service=scripts, how=st.tuples(ends, ends))
def test_each_end_gets_what_the_other_sent(
    chain: tuple[str, int], server: socket.socket, client: list[Action], service: list[Action], how: tuple[End, End]
) -> None:
    kinds, port = chain
    if "C" in kinds:
        how = (End.HALF_CLOSE, End.HALF_CLOSE)  # a reset does not pass a C router as one
    check_flow(port, server, (list(client), list(service)), how)
