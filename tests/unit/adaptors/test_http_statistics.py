import pytest

from vanrouter.adaptors import http_statistics
from vanrouter.adaptors.http_statistics import LATENCY_BOUNDS_S, MAX_DETAILS, RequestCounts


def test_rows_and_histogram() -> None:
    counts = RequestCounts("in", "svc")
    peer = counts.peer("10.0.0.1")
    counts.count(peer, b"GET", 200, 0.0005, 0, 100)
    counts.count(peer, b"GET", 200, 0.3, 0, 50)
    counts.count(peer, b"POST", 503, 99.0, 7, 0)
    counts.count(counts.peer("10.0.0.2"), b"GET", 404, 0.001, 0, 0)
    rows = list(counts.rows())
    assert [row["name"] for row in rows] == ["i_10.0.0.1_svc", "i_10.0.0.2_svc"]
    assert rows[0]["details"] == {"GET:200": 2, "POST:503": 1}
    assert (rows[0]["requests"], rows[0]["bytesIn"], rows[0]["bytesOut"], rows[0]["maxLatency"]) == (3, 7, 150, 99000)
    buckets = dict(zip((*LATENCY_BOUNDS_S, float("inf")), counts.latency.counts, strict=True))
    assert buckets[0.001] == 2
    assert buckets[0.5] == 1
    assert buckets[float("inf")] == 1
    assert counts.latency.total == pytest.approx(99.3015)


def test_methods_are_bounded() -> None:
    counts = RequestCounts("in", "svc")
    peer = counts.peer("10.0.0.1")
    for number in range(1000):
        counts.count(peer, b"METHOD%d" % number, 501, 0.0, 0, 0)
    (row,) = counts.rows()
    assert len(row["details"]) == MAX_DETAILS + 1
    assert row["details"]["OTHER:501"] == 1000 - MAX_DETAILS


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_statistics, "MAX_PEERS", 2)
    counts = RequestCounts("out", "svc")
    for number in range(5):
        counts.count(counts.peer(str(number)), b"GET", 200, 0.0, 0, 0)
    assert {row["name"]: row["requests"] for row in counts.rows()} == {"o_0_svc": 1, "o_1_svc": 1, "o__svc": 3}
