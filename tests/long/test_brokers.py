"""Two real RabbitMQ brokers behind one router, as the sample config/brokers.conf has them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proton import Delivery, Link, Message, Terminus, Timeout
from proton.reactor import LinkOption
from proton.utils import BlockingConnection

from tests.long.behind_router import COUNT, SAMPLE, TIMEOUT_S, receive, run_router, send
from tests.system.process import Program, free_port

PROGRAMS = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
START_TIMEOUT_S = 120.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Broker:
    """A RabbitMQ node that listens on this machine only."""

    def __init__(self, number: int, directory: Path, epmd_port: int) -> None:
        self.port = free_port()
        self._name = f"broker{number}@localhost"
        self._directory = directory / f"broker{number}"
        self._directory.mkdir()
        plugins = self._directory / "enabled_plugins"
        plugins.write_text("[rabbitmq_amqp1_0].\n")
        config = self._directory / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\n")
        self._env = {
            "HOME": str(directory),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_MNESIA_BASE": str(self._directory),
            "RABBITMQ_LOG_BASE": str(self._directory),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "none"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
        }
        self.program: Program | None = None

    def start(self) -> None:
        self.program = Program(self._name, [PROGRAMS[-1]], self._directory / "out.log", env=self._env)
        self.program.wait_for("Server startup complete", timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it as a power failure would: the program is a shell, and the node in its process group."""
        if self.program is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.program.pid, signal.SIGKILL)
            self.program.kill()
            self.program = None


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    if not PROGRAMS or shutil.which("epmd") is None:
        pytest.skip("no RabbitMQ: install Debian's rabbitmq-server")
    directory = tmp_path_factory.mktemp("brokers")
    epmd_port = free_port()
    env = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
    epmd = subprocess.Popen(["epmd", "-port", str(epmd_port)], env=env, stdin=subprocess.DEVNULL)
    made = [Broker(number, directory, epmd_port) for number in (1, 2)]
    try:
        for broker in made:
            broker.start()
        yield made
    finally:
        for broker in made:
            broker.stop()
        epmd.kill()
        epmd.wait()


@pytest.fixture(scope="module")
def router(brokers: list[Broker], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, str]]:
    ports = [broker.port for broker in brokers]
    with run_router(SAMPLE.read_text(), ports, tmp_path_factory.mktemp("router")) as made:
        yield made


def test_through_the_queues_of_both_brokers(router: tuple[Program, str]) -> None:
    _program, url = router
    send(url, 0)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(COUNT))


def test_a_broker_that_comes_back_is_attached_again(router: tuple[Program, str], brokers: list[Broker]) -> None:
    program, url = router
    mark = program.mark()
    brokers[0].stop()
    program.wait_for(r"Connection Closed", after=mark)
    send(url, 100)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(100, 100 + COUNT)), "the other has all"
    mark = program.mark()
    brokers[0].start()
    match = program.wait_for(r"\[C(\d+)\]\[L\d+\] Auto-link 'orders' attaching", after=mark, timeout_s=TIMEOUT_S)
    assert re.fullmatch(r"\d+", match[1])
    brokers[1].stop()
    program.wait_for(r"Connection Closed", after=mark)
    send(url, 200)
    assert sorted(receive(url)) == sorted(f"order {number}" for number in range(200, 200 + COUNT)), "it takes all again"


IN_FLIGHT = 40
MANY = 400


class Durable(LinkOption):
    """Asks the broker for a queue that outlives it."""

    def apply(self, link: Link) -> None:
        link.target.durability = Terminus.DELIVERIES


def test_a_broker_killed_in_the_middle_loses_nothing_acknowledged(brokers: list[Broker], tmp_path: Path) -> None:
    """Queues that outlive their brokers: `/amq/queue/NAME` is one that exists already."""
    for broker in brokers:
        if broker.program is None:
            broker.start()
        connection = BlockingConnection(
            f"amqp://127.0.0.1:{broker.port}", timeout=TIMEOUT_S, user="guest", password="guest", allowed_mechs="PLAIN"
        )
        connection.create_sender("/queue/kept", options=[Durable()])
        connection.close()
    text = SAMPLE.read_text().replace("/queue/orders", "/amq/queue/kept")
    with run_router(text, [broker.port for broker in brokers], tmp_path) as (program, url):
        for _ in range(4):
            program.wait_for(r"Auto-link '\S+' attaching")
        acknowledged = send_while_one_is_killed(url, brokers[0])
        mark = program.mark()
        brokers[0].start()
        program.wait_for(r"Auto-link 'orders.out' attaching", after=mark, timeout_s=TIMEOUT_S)
        connection = BlockingConnection(url, timeout=TIMEOUT_S)
        receiver = connection.create_receiver("orders.out", credit=10)
        while acknowledged:  # one whose acknowledgement was lost with the broker may come twice
            try:
                acknowledged.discard(str(receiver.receive(timeout=TIMEOUT_S / 2).body))
            except Timeout:
                pytest.fail(f"{len(acknowledged)} acknowledged messages are lost: {sorted(acknowledged)[:20]}")
            receiver.accept()
        connection.close()


def send_while_one_is_killed(url: str, broker: Broker) -> set[str]:
    """Send MANY messages, again what is not accepted; returns what was."""
    connection = BlockingConnection(url, timeout=TIMEOUT_S)
    sender = connection.create_sender("orders")
    waiting: dict[Delivery, str] = {}
    acknowledged: set[str] = set()
    again = [f"middle {number}" for number in range(MANY)]

    def has_news() -> bool:
        may_send = again and sender.link.credit > 0 and len(waiting) < IN_FLIGHT
        return may_send or any(delivery.settled for delivery in waiting)

    while again or waiting:
        while again and sender.link.credit > 0 and len(waiting) < IN_FLIGHT:
            body = again.pop()
            waiting[sender.link.send(Message(body=body, durable=True))] = body
        if len(acknowledged) >= MANY // 4 and broker.program is not None:
            broker.stop()
        connection.wait(has_news, timeout=TIMEOUT_S)
        for delivery in [delivery for delivery in waiting if delivery.settled]:
            body = waiting.pop(delivery)
            if delivery.remote_state == Delivery.ACCEPTED:
                acknowledged.add(body)
            else:
                again.append(body)
            delivery.settle()
    connection.close()
    assert len(acknowledged) == MANY
    assert broker.program is None, "it was killed on the way"
    return acknowledged
