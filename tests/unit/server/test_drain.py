"""The end that lets flows finish (extensions, routing)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.unit.core.engines import message
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from tests.unit.server.test_site import section
from vanrouter.server.drain import CLOSED
from vanrouter.server.readiness import problems

Made = Callable[[str], Bench]
DRAINING = ROUTER.replace("id: S", "id: S\n    drainSeconds: 20") + LISTENER


def test_without_a_time_it_ends_at_once(bench: Bench) -> None:
    bench.site.terminate()
    assert bench.site.is_shutting_down
    assert not bench.site.drain.is_on


def test_nothing_open_ends_it_soon(bench_of: Made) -> None:
    bench = bench_of(DRAINING).start()
    bench.site.terminate()
    assert problems(bench.site) == ["the router is draining"]
    bench.advance(0.5)
    assert bench.site.is_shutting_down


def test_a_bug_of_a_look_keeps_it_from_nothing(bench_of: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(DRAINING).start()

    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("vanrouter.server.drain.Drain.remaining", broken)
    bench.allows_crashes = True
    bench.site.terminate()
    bench.reactor.run_once(0)
    assert bench.reactor.crashes == 1
    assert bench.site.is_shutting_down


def test_a_flow_finishes(bench_of: Made) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = section("tcpConnector", name="c", port=server.getsockname()[1], address="a")
        listener = section("tcpListener", name="web", host="127.0.0.1", port=0, address="a")
        bench = bench_of(DRAINING + connector + listener).start()
        port = bench.live("web").bound_port
        client = socket.create_connection(("127.0.0.1", port), 5)
        bench.settle()
        taken, _ = server.accept()
        bench.site.terminate()
        bench.advance(5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        client.sendall(b"more")
        bench.settle()
        assert taken.recv(10) == b"more"
        assert not bench.site.is_shutting_down
        client.close()
        taken.close()
        bench.advance(1)
        assert bench.site.is_shutting_down


def test_the_time_is_over(bench_of: Made, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = section("tcpConnector", name="c", port=server.getsockname()[1], address="a")
        listener = section("tcpListener", name="web", host="127.0.0.1", port=0, address="a")
        bench = bench_of(DRAINING + connector + listener).start()
        client = socket.create_connection(("127.0.0.1", bench.live("web").bound_port), 5)
        bench.settle()
        bench.site.terminate()
        bench.advance(19)
        assert not bench.site.is_shutting_down
        bench.advance(2)
        assert bench.site.is_shutting_down
        assert "The time to drain is over: 2 flows, 0 clients and 0 deliveries end now" in caplog.messages
        client.close()


def test_a_second_signal_ends_at_once(bench_of: Made) -> None:
    bench = bench_of(DRAINING).start()
    bench.site.terminate()
    assert not bench.site.is_shutting_down
    bench.site.terminate()
    assert bench.site.is_shutting_down


def test_clients_are_closed_when_nothing_of_theirs_is_on_its_way(bench_of: Made) -> None:
    bench = bench_of(DRAINING).start()
    busy, idle = bench.connect(container="busy"), bench.connect(container="idle")
    drain = busy.receiver("q")
    source = busy.sender("q")
    source.send(message("q"))
    bench.settle()
    (got,) = drain.got
    bench.site.terminate()
    bench.advance(1)
    assert idle.condition == CLOSED
    assert busy.condition is None
    got.accept()
    bench.advance(1)
    assert busy.condition == CLOSED
    assert bench.site.is_shutting_down
