"""Two brokers behind one router, as the sample config/brokers.conf has them: the router, and clients of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from proton import Message
from proton.utils import BlockingConnection

from tests.system.harness import vanrouter_program
from tests.system.process import Program, free_port

SAMPLE = Path(__file__).parents[2] / "config" / "brokers.conf"
TIMEOUT_S = 60
COUNT = 20


@contextlib.contextmanager
def run_router(text: str, ports: list[int], directory: Path) -> Iterator[tuple[Program, str]]:
    """A router with the sample's configuration, on other ports."""
    port = free_port()
    for known, used in ((5672, port), (5673, ports[0]), (5674, ports[1])):
        text = text.replace(f"port: {known}", f"port: {used}")
    file = directory / "brokers.conf"
    file.write_text(text)
    program = Program("router", [vanrouter_program(), "-c", file], directory / "router.log")
    try:
        program.wait_for("Operational")
        yield program, f"amqp://127.0.0.1:{port}"
        assert program.terminate() == 0
    finally:
        program.kill()


def send(url: str, first: int) -> None:
    """Send messages; each is acknowledged by a broker, or this fails."""
    connection = BlockingConnection(url, timeout=TIMEOUT_S)
    sender = connection.create_sender("orders")
    for number in range(first, first + COUNT):
        sender.send(Message(body=f"order {number}", durable=True))
    connection.close()


def receive(url: str) -> list[str]:
    connection = BlockingConnection(url, timeout=TIMEOUT_S)
    receiver = connection.create_receiver("orders.out", credit=10)
    found = []
    for _ in range(COUNT):
        found.append(str(receiver.receive().body))
        receiver.accept()
    connection.close()
    return found
