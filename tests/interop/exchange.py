"""Messages from any router of a network to any other, by Proton's own client as programs of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.system.network import Network
from tests.system.process import Program

CLIENT = Path(__file__).with_name("proton_client.py")
COUNT = 60


def exchange(network: Network, near: str, far: str, folder: Path, kinds: str = "receive serve") -> None:
    """Messages from one router to another, each settled end to end, and requests with their answers."""
    client: list[str | Path] = [sys.executable, CLIENT]
    ports = {name: str(network[name].port("amqp")) for name in (near, far)}
    for taking in kinds.split():
        giving = {"receive": "send", "serve": "request"}[taking]
        address = f"{taking}.{near}.{far}"
        command = [*client, taking, ports[far], address, str(COUNT)]
        with Program(taking, command, folder / f"{address}.log") as taker:
            taker.wait_for("^ready")
            command = [*client, giving, ports[near], address, str(COUNT)]
            with Program(giving, command, folder / f"{giving}.{near}.{far}.log") as giver:
                giver.wait_for("^done")
                assert giver.wait() == 0
                rows = [json.loads(line) for line in giver.log if line.startswith("{")]
            if taking == "receive":
                taker.wait_for("^done")
                rows = [json.loads(line) for line in taker.log if line.startswith("{")]
        assert len(rows) == COUNT
