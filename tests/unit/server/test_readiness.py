"""Every reason why traffic would fail is said, and none when it would not."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.server.readiness import problems

SERVICE = """
tcpListener {
    name: web
    host: 127.0.0.1
    port: 0
    address: shop
}
"""
CONNECTOR = """
connector {
    name: uplink
    host: 127.0.0.1
    port: 1
    role: %s
}
"""
INTERIOR = ROUTER.replace("standalone", "interior")


def test_a_router_that_listens_is_ready(bench: Bench) -> None:
    assert problems(bench.site) == []
    bench.site.shut_down()
    assert problems(bench.site) == ["the router is shutting down"]


def test_a_port_that_is_not_open(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        bench.manager.call("CREATE", {"host": "127.0.0.1", "port": port}, type="listener", name="late")
        assert problems(bench.site) == ["listener late is not listening"]
        bench.manager.call("DELETE", type="listener", name="late")
    assert problems(bench.site) == []


def test_no_link(bench_of: Callable[[str], Bench]) -> None:
    for text, role in ((INTERIOR, "inter-router"), (ROUTER.replace("standalone", "edge"), "edge")):
        bench = bench_of(text + LISTENER + CONNECTOR % role).start()
        (problem,) = problems(bench.site)
        assert problem.startswith("no link: connector uplink: ")


def test_a_client_connector_is_no_link(bench_of: Callable[[str], Bench]) -> None:
    bench = bench_of(ROUTER + CONNECTOR % "route-container").start()
    assert problems(bench.site) == []


def test_services_of_which_none_is_left(bench_of: Callable[[str], Bench]) -> None:
    bench = bench_of(ROUTER + LISTENER + SERVICE).start()
    assert problems(bench.site) == ["no service: tcpListener web is down"]
    consumer = bench.site.router.subscribe_stream("shop", object())  # type: ignore[arg-type]  # nothing is sent to it
    bench.settle()
    assert problems(bench.site) == []
    consumer.cancel()
    bench.settle()
    assert problems(bench.site) != []
