"""The load programs against the services, without anything between: every octet and connection is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bench.harness.networks import World
from bench.harness.processes import BenchError, Programs
from bench.http_requests import load
from bench.load.http_octets import REQUEST, RESPONSE, SIZE
from tests.system.process import free_port

ANSWER_S = 30.0


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as started:
        yield started


def serve(programs: Programs, kind: str) -> int:
    port = programs.python("bench.load.tcp_server", kind).answer(ANSWER_S)["port"]
    assert isinstance(port, int)
    return port


def test_request_and_answer_are_http_of_one_length() -> None:
    assert len(REQUEST) == len(RESPONSE) == SIZE
    assert REQUEST.startswith(b"GET /x")
    assert REQUEST.endswith(b" HTTP/1.1\r\nHost: bench\r\n\r\n")
    head, _, body = RESPONSE.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nContent-Length: %d" % len(body)


def test_requests(programs: Programs) -> None:
    port = serve(programs, "http")
    load = programs.python("bench.load.tcp_client", "requests", port, "--connections", 3, "--seconds", 0.2)
    answer = load.answer(ANSWER_S)
    assert answer["total"] >= answer["count"] > 0
    assert 0 < answer["p50_us"] <= answer["p99_us"]


def test_a_number_of_connections(programs: Programs) -> None:
    port = serve(programs, "http")
    load = programs.python("bench.load.tcp_client", "connections", port, "--connections", 4, "--count", 300)
    answer = load.answer(ANSWER_S)
    assert 300 <= answer["total"] < 304
    assert answer["failed"] == 0


def test_a_paced_flow_keeps_its_rate(programs: Programs) -> None:
    port = serve(programs, "sink")
    load = programs.python("bench.load.tcp_client", "paced", port, "--seconds", 1, "--gbits", 0.1)
    answer = load.answer(ANSWER_S)
    assert 0.05 < answer["octets"] * 8 / answer["seconds"] / 1e9 <= 0.11


def test_held_connections_echo_when_asked(programs: Programs) -> None:
    port = serve(programs, "echo")
    load = programs.python("bench.load.tcp_client", "hold", port, "--connections", 250)
    load.answer(ANSWER_S)
    load.tell("")
    assert load.answer(ANSWER_S) == {"echoed": 250}
    assert load.process.stdin is not None
    load.process.stdin.close()
    assert load.answer(ANSWER_S) == {"closed": 250}


def test_a_router_that_has_died_is_said_to_have(tmp_path: Path) -> None:
    """The benchmark goes on with the others."""
    world = cast("World", SimpleNamespace(seconds=0.5, folder=tmp_path))
    with pytest.raises(BenchError, match="refused"):
        load(world, "http1", free_port())
