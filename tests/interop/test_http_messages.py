"""The message form with the HTTP adaptor of skupper-router 2.7 (SKROUTERD2) at the other end, either way round."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Section, Sites, mutual_credentials
from tests.system.http_services import grpc_server, http1_server, http2_server
from tests.system.network import eventually
from tests.system.pki import Pki
from tests.system.process import free_port
from tests.system.services import require, run
from tests.system.test_http2 import VERSIONS, Calls


@pytest.fixture(scope="session")
def old_router() -> str:
    """Return skupper-router 2.7, or skip."""
    program = os.environ.get("SKROUTERD2")
    if not program:
        pytest.skip("no skupper-router 2.7: SKROUTERD2 is not set")
    return program


class Breaking(threading.Thread):
    """A server of HTTP/1.1 that goes away in the middle of whatever it was asked for."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            client = self._listening.accept()[0]
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            path = client.recv(65536).split(b" ")[1:2]
            if path == [b"/half"]:
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
                threading.Event().wait(0.3)
            elif path == [b"/hints"]:
                client.sendall(
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                )


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    pytest.importorskip("grpc")
    with contextlib.ExitStack() as stack:
        yield {
            "http1": stack.enter_context(http1_server()),
            "http2": stack.enter_context(http2_server()),
            "grpc": stack.enter_context(grpc_server()),
            "breaking": Breaking().port,
        }


@pytest.fixture(scope="module", params=["2.7 listens", "2.7 connects"])
def case(
    request: pytest.FixtureRequest, start_module_sites: StartSites, old_router: str, ports: dict[str, int], pki: Pki
) -> tuple[Sites, dict[str, int], bool]:
    is_old_listener = request.param == "2.7 listens"
    reached = {name: free_port() for name in ports}
    protocols = {name: "HTTP1" if name in ("http1", "breaking") else "HTTP2" for name in ports}

    def sections(kind: str, numbers: dict[str, int], is_old: bool) -> list[Section]:
        form = {} if is_old else {"form": "message"}
        return [
            (kind, {"name": name, "address": name, "host": "127.0.0.1", "port": number,
                    "protocolVersion": protocols[name], **form})
            for name, number in numbers.items()
        ]  # fmt: skip

    a, b = mutual_credentials(pki)
    sites = start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=sections("httpListener", reached, is_old_listener),
        b_sections=sections("httpConnector", ports, not is_old_listener),
        **{"a_program" if is_old_listener else "b_program": old_router},
    )
    for number in reached.values():
        eventually(lambda number=number: _is_open(number), 30)  # type: ignore[misc]
    return sites, reached, is_old_listener


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def curl(port: int, path: str, *more: str | Path) -> Any:
    return run(require("curl"), "-sS", "--max-time", "30", *more, f"http://127.0.0.1:{port}{path}")


@pytest.mark.parametrize("service", ["http1", "http2"])
def test_requests_of_any_size(case: Any, tmp_path: Path, service: str) -> None:
    _, reached, is_old_listener = case
    # A 2.7 listener takes from its clients what it speaks with its services; a vanrouter listener takes either.
    own = "HTTP1" if service == "http1" else "HTTP2"
    content = random.Random(8).randbytes(2_000_001)
    (tmp_path / "up").write_bytes(content)
    for client in [own] if is_old_listener else VERSIONS:
        flag = VERSIONS[client]
        done = curl(reached[service], "/p?q", flag, "-i", "-H", "X-Twice: 1", "-H", "X-Twice: 2")
        said = json.loads(done.stdout[done.stdout.index("{") : done.stdout.rindex("}") + 1])
        headers = [(name.lower(), value) for name, value in said["headers"]]
        assert [value for name, value in headers if name == "x-twice"] == ["1", "2"]
        assert done.stdout.lower().count("set-cookie") == 2
        said = json.loads(curl(reached[service], "/up", flag, "-T", tmp_path / "up").stdout)
        assert (said["size"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        curl(reached[service], "/bytes/5000001", flag, "-o", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == bytes(5_000_001)


def test_many_at_once(case: Any) -> None:
    _, reached, _ = case
    done = run(require("h2load"), "-n", "500", "-c", "4", "-m", "8", f"http://127.0.0.1:{reached['http2']}/")
    assert "500 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout


def test_grpc(case: Any) -> None:
    import grpc

    _, reached, _ = case
    with grpc.insecure_channel(f"127.0.0.1:{reached['grpc']}") as channel:
        calls = Calls(channel)
        assert calls.unary(b"hi", timeout=20) == b"hi!"
        assert list(calls.down(b"x", timeout=20)) == [b"x%d" % number for number in range(10)]
        assert calls.up(iter([b"a", b"b"]), timeout=20) == b"ab"
        assert list(calls.both(iter([b"a", b"b"]), timeout=20)) == [b"a?", b"b?"]
        with pytest.raises(grpc.RpcError) as caught:
            calls.fail(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_would_take_a_listener_down(case: Any) -> None:
    """A server that is lost before its answer, in the middle of it, or says more than one head: nobody falls."""
    sites, reached, is_old_listener = case
    for _ in range(3):
        # Half an answer of a 2.7 connector is overtaken by the outcome of its request: 502.
        for path, expected in (("/gone", ("502", "503")), ("/half", ("200", "502")), ("/hints", ("200",))):
            command = [require("curl"), "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20"]
            done = run("sh", "-c", '"$@" || true', "sh", *command, f"http://127.0.0.1:{reached['breaking']}{path}")
            assert done.stdout[-3:] in expected, path
    # A 2.7 connector falls by itself when its server says 103 over HTTP/2.
    for path in ("/reset", "/hints") if is_old_listener else ("/reset",):
        flag = VERSIONS["HTTP2"]
        done = curl(reached["http2"], path, flag, "-o", "/dev/null", "-w", "%{http_code}")
        assert done.stdout in (("400", "502", "503") if path == "/reset" else ("200",)), path
    assert all(router.is_alive() for router in (sites.a, sites.b))
    assert json.loads(curl(reached["http1"], "/after").stdout)
