"""Memory by kind of record: as many as there are, and the same in management and in `/metrics`."""

from __future__ import annotations

import sys

from tests.unit.core.engines import message
from tests.unit.server.sites import Bench
from vanrouter.mgmt.series import C_ROUTER, POOLS
from vanrouter.server.pools import pools


def test_as_many_as_there_are(bench: Bench) -> None:
    client = bench.connect()
    producer, _ = client.sender("a"), client.receiver("a", credit=5)
    for _ in range(2):
        producer.send(message(b"x"))
    bench.settle()
    found = {pool.name: pool.count for pool in pools(bench.site)}
    assert tuple(found) == POOLS
    assert found["qd_connection_t"] == 1
    assert found["qdr_link_t"] == 2
    assert found["qdr_delivery_t"] == 4  # two, at each of their ends
    assert found["qdr_address_t"] == len(bench.site.router.table.addresses)


def test_rows_of_management(bench: Bench) -> None:
    rows = bench.manager.query("allocator")
    assert [row["typeName"] for row in rows] == list(POOLS)
    is_told = sys.implementation.name == "cpython"
    assert all(row["identity"] == f"allocator/{row['typeName']}" for row in rows)
    assert all((row["typeSize"] > 0) is is_told for row in rows)


def test_each_has_its_gauges(bench: Bench) -> None:
    names = {series.name for series in C_ROUTER}
    for pool in pools(bench.site):
        gauges = pool.gauges()
        assert {f"{pool.name}:{end}" for end in gauges} <= names
        assert gauges["bytes"] == pool.size * pool.count
