"""What an edge asks of its interior router stands in the table of links as tools look for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.system.harness import Router
from vanrouter.mgmt.client import ManagementClient

pytestmark = pytest.mark.system


def test_the_tracking_link_names_its_address(tmp_path: Path) -> None:
    listeners = [("listener", {"name": name, "role": role, "host": "127.0.0.1", "port": 0})
                 for name, role in (("amqp", "normal"), ("edge", "edge"))]  # fmt: skip
    with Router("I", listeners, tmp_path).ready() as interior:
        uplink = ("connector", {"role": "edge", "host": "127.0.0.1", "port": interior.port("edge")})
        with Router("E", [uplink], tmp_path, mode="edge").ready() as edge:
            deadline = time.monotonic() + 20
            with ManagementClient(f"127.0.0.1:{interior.port('amqp')}") as client:
                found: list[tuple[str, str]] = []
                while not found and time.monotonic() < deadline:
                    rows = client.query("router.link")
                    found = [(row["linkType"], row["linkDir"]) for row in rows
                             if row["owningAddr"] == "M_$qd.edge_addr_tracking"]  # fmt: skip
            assert found == [("endpoint", "out")]
            edge.stop()
        interior.stop()
