"""SIGTERM with `drainSeconds`: nobody new comes, the neighbour knows it, what flows may finish."""

from __future__ import annotations

import queue
import signal
from pathlib import Path

import pytest

from tests.system.harness import Router, tcp_connector, tcp_listener
from tests.system.http_services import grpc_server, octets
from tests.system.services import connect, receive_exactly

pytestmark = pytest.mark.system


def drain(router: Router) -> None:
    router.process.send_signal(signal.SIGTERM)
    router.wait_for(r"ROUTER \(info\) Draining for up to 60 s")


def test_a_flow_finishes_and_nobody_new_comes(tmp_path: Path, echo_port: int) -> None:
    link = ("listener", {"name": "link", "host": "127.0.0.1", "port": 0, "role": "inter-router"})
    with Router("A", [link, tcp_listener("echo")], tmp_path).ready() as near:
        to_near = ("connector", {"host": "127.0.0.1", "port": near.port("link"), "role": "inter-router"})
        far = Router("B", [to_near, tcp_connector("echo", echo_port)], tmp_path, more={"drainSeconds": 60})
        with far.ready():
            flow = connect(near.port("echo"))
            flow.sendall(b"before")
            assert receive_exactly(flow, 6) == b"before"
            drain(far)
            near.wait_for(r"Stopped listening on 127\.0\.0\.1:0 \(echo\)")
            flow.sendall(b"after")
            assert receive_exactly(flow, 5) == b"after"
            assert far.is_alive()
            flow.close()
            far.wait_for(r"Drained: nothing is open any more")
            assert far.wait() == 0
        near.stop()


@pytest.mark.parametrize("form", ["stream", "message"])
def test_calls_in_progress_finish_and_clients_are_told_to_go(tmp_path: Path, form: str) -> None:
    grpc = pytest.importorskip("grpc")
    http = {"address": "calls", "host": "127.0.0.1", "protocolVersion": "HTTP2", "form": form}
    with grpc_server() as port:
        sections = [("httpListener", {"name": "in", "port": 0, **http}), ("httpConnector", {"port": port, **http})]
        router = Router("R", sections, tmp_path, mode="standalone", more={"drainSeconds": 60})
        with router.ready(), grpc.insecure_channel(f"127.0.0.1:{router.port('in')}") as channel:
            sent: queue.Queue[bytes | None] = queue.Queue()
            call = channel.stream_stream("/test/both", octets, octets)(iter(sent.get, None), timeout=60)
            sent.put(b"before")
            assert next(call) == b"before?"
            drain(router)
            sent.put(b"after")
            assert next(call) == b"after?"
            assert router.is_alive()
            sent.put(None)
            assert list(call) == []
            router.wait_for(r"Drained: nothing is open any more")
            assert router.wait() == 0


def test_a_second_signal_ends_at_once(tmp_path: Path, echo_port: int) -> None:
    sections = [tcp_listener("echo"), tcp_connector("echo2", echo_port, "echo")]
    with Router("R", sections, tmp_path, mode="standalone", more={"drainSeconds": 60}).ready() as router:
        flow = connect(router.port("echo"))
        flow.sendall(b"before")
        assert receive_exactly(flow, 6) == b"before"
        drain(router)
        assert router.is_alive()
        assert router.terminate() == 0
        flow.close()
