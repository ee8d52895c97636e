"""A log that nobody reads, a full disk: lines are lost and counted, nothing else waits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.system.harness import Router, Section, conf_text, tcp_connector, tcp_listener, vanrouter_program
from tests.system.network import eventually
from tests.system.process import free_port
from tests.system.services import connect, receive_exactly
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import ManagementClient

REQUESTS = 1500
"""Of management; each is a line of some hundred octets at level debug, and a pipe takes 64 KiB."""
PATIENCE_S = 10.0
"""For one small answer on a busy machine; who waits for a log waits for ever."""


def test_sinks_that_take_nothing_hold_up_nobody(tmp_path: Path, echo_port: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sections: list[Section] = [
        ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0}),
        ("logSink", {"name": "unread", "outputFile": pipe, "enable": "debug+"}),
        ("logSink", {"name": "full", "outputFile": "/dev/full", "enable": "debug+", "format": "json"}),
        tcp_listener("echo"),
        tcp_connector("server", echo_port, "echo"),
    ]
    with Router("R", sections, tmp_path, mode="standalone").ready() as router:
        url = f"amqp://127.0.0.1:{router.port('amqp')}"
        with connect(router.port("echo")) as flow, ManagementClient(url) as client:
            longest = 0.0
            for number in range(REQUESTS):
                with pytest.raises(ManagementError):
                    client.call("READ", type="listener", name="nobody" * 20)
                if number % 10 == 0:
                    begun = time.monotonic()
                    flow.sendall(b"ping")
                    receive_exactly(flow, 4)
                    longest = max(longest, time.monotonic() - begun)
            assert longest < PATIENCE_S

            def dropped() -> dict[str, int]:
                return {str(row["name"]): int(str(row["linesDropped"])) for row in client.query("logSink")}

            eventually(lambda: dropped()["full"] > 0)
            assert os.read(reader, 100), "what fits into the pipe is there"
        begun = time.monotonic()
        router.stop()
        assert time.monotonic() - begun < 10
    os.close(reader)


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    """Whoever started the router reads neither its output nor its errors: it starts, serves and ends all the same."""
    port = free_port()
    file = tmp_path / "R.conf"
    sections: list[Section] = [
        ("router", {"mode": "standalone", "id": "R"}),
        ("log", {"module": "DEFAULT", "enable": "debug+", "outputFile": "stderr"}),
        ("listener", {"name": "http", "host": "127.0.0.1", "port": port, "http": True}),
        *(("address", {"prefix": f"{'long' * 20}{number}"}) for number in range(1500)),
    ]
    file.write_text(conf_text(sections))
    with subprocess.Popen(
        [vanrouter_program(), "-c", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    ) as process:
        try:

            def answers() -> bool:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_S) as found:
                        return bool(found.status == 200)
                except OSError:  # refused, or no answer in time
                    return False

            eventually(answers, 60)
            assert all(answers() for _ in range(20))
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            assert process.stdout is not None
            text = process.stdout.read()
            assert len(text) <= 1 << 17, "the pipe was full: this shows something"
        finally:
            process.kill()
