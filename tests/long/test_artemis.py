"""Two ActiveMQ Artemis brokers behind one router, as the sample config/brokers.conf has them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.behind_router import COUNT, SAMPLE, TIMEOUT_S, receive, run_router, send
from tests.system.process import Program, free_port

HOME = os.environ.get("ARTEMIS_HOME")
START_TIMEOUT_S = 120.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(HOME is None, reason="no ActiveMQ Artemis: ARTEMIS_HOME names the folder it was unpacked in"),
]


class Broker:
    """An instance of its own, with one port on this machine and the anycast queue `orders`."""

    def __init__(self, number: int, directory: Path) -> None:
        self.port = free_port()
        self._folder = directory / f"broker{number}"
        only_one_port = [f"--no-{name}-acceptor" for name in ("amqp", "hornetq", "mqtt", "stomp")]
        subprocess.run(
            [
                Path(str(HOME)) / "bin" / "artemis",
                "create",
                self._folder,
                *("--silent", "--user", "guest", "--password", "guest", "--require-login"),
                *("--host", "127.0.0.1", "--default-port", str(self.port), "--queues", "orders"),
                *("--no-web", "--no-autotune"),
                *only_one_port,
            ],
            check=True,
            timeout=START_TIMEOUT_S,
            capture_output=True,
        )
        self.program: Program | None = None

    def start(self) -> None:
        command = [self._folder / "bin" / "artemis", "run"]
        self.program = Program(self._folder.name, command, self._folder / "out.log")
        self.program.wait_for("Server is now active|Server is now live", timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it as a power failure would."""
        if self.program is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.program.pid, signal.SIGKILL)
            self.program.kill()
            self.program = None


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    directory = tmp_path_factory.mktemp("artemis")
    made = [Broker(number, directory) for number in (1, 2)]
    try:
        for broker in made:
            broker.start()
        yield made
    finally:
        for broker in made:
            broker.stop()


@pytest.fixture(scope="module")
def router(brokers: list[Broker], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, str]]:
    text = SAMPLE.read_text().replace("/queue/orders", "orders")
    with run_router(text, [broker.port for broker in brokers], tmp_path_factory.mktemp("router")) as made:
        yield made


def test_through_the_queues_of_both_brokers(router: tuple[Program, str]) -> None:
    _program, url = router
    send(url, 0)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(COUNT))


def test_a_broker_that_comes_back_is_attached_again(router: tuple[Program, str], brokers: list[Broker]) -> None:
    """What the dead one had acknowledged comes out of it when it is back: its queue is durable."""
    program, url = router
    mark = program.mark()
    brokers[0].stop()
    program.wait_for("Connection Closed", after=mark)
    send(url, 100)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(100, 100 + COUNT)), "the other has all"
    mark = program.mark()
    brokers[0].start()
    program.wait_for(r"\[L\d+\] Auto-link 'orders' attaching", after=mark, timeout_s=TIMEOUT_S)
    brokers[1].stop()
    program.wait_for("Connection Closed", after=mark)
    send(url, 200)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(200, 200 + COUNT)), "it takes all again"
