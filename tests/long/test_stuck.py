"""Deliveries that stand still for ten seconds, and links without credit, as an operator sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from proton import Message
from proton.utils import BlockingConnection

from tests.system.harness import Router

TIMEOUT_S = 20
STUCK_TIMEOUT_S = 45.0
"""Ten seconds, and the report comes every thirty."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


def van_stat(url: str, what: str) -> Any:
    """What `van stat WHAT --json` says."""
    command = [Path(sys.executable).with_name("van"), "stat", what, "--json", "-b", url]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    return json.loads(result.stdout)


def test_what_stands_still_is_seen(tmp_path: Path) -> None:
    listener = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0, "linkCapacity": 3})
    with Router("R", [listener], tmp_path, mode="standalone").ready() as router:
        url = f"amqp://127.0.0.1:{router.port('amqp')}"
        connection = BlockingConnection(url, timeout=TIMEOUT_S)
        receiver = connection.create_receiver("slow", credit=2)
        sender = connection.create_sender("slow")
        connection.wait(lambda: sender.link.credit == 3)
        for number in range(3):  # they arrive, and nobody answers
            sender.link.send(Message(body=number))
        connection.create_sender("nobody")
        mark = router.mark()
        connection.wait(lambda: len(receiver.fetcher.incoming) == 3)

        def has_report() -> bool:
            return any("Stuck delivery: " in line for line in router.log[mark:])

        connection.wait(has_report, timeout=STUCK_TIMEOUT_S)
        rows = {(row["owningAddr"], row["linkDir"]): row for row in van_stat(url, "links")}
        into, out, blocked = rows["Mslow", "in"], rows["Mslow", "out"], rows["Mnobody", "in"]
        assert (into["unsettledCount"], into["deliveriesStuck"], into["creditAvailable"]) == (3, 3, 0)
        assert (out["unsettledCount"], out["deliveriesStuck"], out["zeroCreditSeconds"]) == (3, 3, 0)
        for row in (into, blocked):
            assert row["zeroCreditSeconds"] >= 10
        totals = van_stat(url, "general")["routerMetrics"]
        assert (totals["deliveriesStuck"], totals["linksBlocked"]) == (6, 2)
        connection.close()
        router.stop()
