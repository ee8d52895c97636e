"""A full port: silent clients go, who asks is served."""

from __future__ import annotations

from tests.unit.adaptors.ports import PortBench, read_all, read_until
from tests.unit.adaptors.streams import Loop


def test_answers_are_counted_by_status(loop: Loop) -> None:
    bench = PortBench(loop)
    assert bench.get("/a").startswith(b"HTTP/1.1 200 OK\r\n")
    bench.say(b"nonsense\r\n\r\n")
    assert bench.port.responses == {200: 1, 400: 1}
    assert bench.port.refused == 1


def test_a_crowd_of_silent_clients_does_not_shut_out_the_next(loop: Loop) -> None:
    bench = PortBench(loop, max_connections=3)
    silent = [bench.connect() for _ in range(3)]
    loop.wait_for(lambda: len(bench.port) == 3)
    assert bench.get("/metrics").startswith(b"HTTP/1.1 200")
    assert read_all(silent[0]) == b""  # who had waited longest
    assert bench.port.evicted == 1
    for sock in silent[1:]:
        sock.sendall(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_until(sock, b"GET /late\n")


def test_who_has_just_been_served_waits_behind_those_who_never_asked(loop: Loop) -> None:
    bench = PortBench(loop, max_connections=2)
    scraper = bench.connect()
    scraper.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(scraper, b"GET /\n")
    silent = bench.connect()
    loop.wait_for(lambda: len(bench.port) == 2)
    scraper.sendall(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(scraper, b"GET /2\n")
    bench.get("/")
    assert read_all(silent) == b""
    scraper.sendall(b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(scraper, b"GET /3\n")


def test_with_all_busy_the_oldest_goes(loop: Loop) -> None:
    bench = PortBench(loop, max_connections=1)
    bench.answers.then = lambda _request, _reply: None
    waiting = bench.connect()
    waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    loop.wait_for(lambda: bench.answers.requests)
    other = bench.connect()
    assert read_all(waiting) == b""
    loop.wait_for(lambda: len(bench.port) == 1)
    other.close()
    loop.wait_for(lambda: len(bench.port) == 0)


def test_closing_ends_all(loop: Loop) -> None:
    bench = PortBench(loop)
    idle = bench.connect()
    loop.wait_for(lambda: len(bench.port) == 1)
    loop.call(bench.port.close)
    assert read_all(idle) == b""
    assert len(bench.port) == 0
