"""The load on a TCP service.

    python -m bench.load.tcp_client bulk|paced|reverse|requests|connections|hold PORT [--connections N] [--seconds S]

`bulk` sends as fast as it can to a `sink` and counts what has arrived, `paced` holds itself to `--gbits`, `reverse`
reads from a `source`; `requests` has one request of HTTP under way on each connection to an `http`; `connections` opens
a connection for each request, for `--seconds` or until `--count` are done; `hold` opens connections to an `echo`, has
one octet echoed on each, says so, and keeps them: each line of its input has all of them echo once more.
"""

from __future__ import annotations

import argparse
import errno
import json
import select
import socket
import sys
import time
from typing import Any

from bench.harness.processes import pause, raise_descriptor_limit
from bench.load.http_octets import REQUEST, SIZE

BUFFER = bytearray(512 * 1024)
VIEW = memoryview(BUFFER)
WARM_UP_S = 0.15
STUCK_S = 10.0
"""Nothing at all for so long: the load program gives up, and says it."""
PACED_BLOCK = VIEW[: 128 * 1024]
"""What `paced` sends at a time, as iperf3 does."""
OPENING_AT_ONCE = 100
"""Connections of `hold` that are being opened at the same time."""


def connect(port: int) -> socket.socket:
    """Return a connection, non-blocking from now on."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=STUCK_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def poll(poller: select.epoll) -> list[tuple[int, int]]:
    """Return what is ready."""
    ready = poller.poll(STUCK_S)
    if not ready:
        sys.exit("nothing happens any more")
    return ready


def bulk(options: argparse.Namespace) -> dict[str, Any]:
    """Send for `seconds`; the rate is what the sink has counted over the time until it said so."""
    poller = select.epoll()
    sockets = {}
    for _ in range(options.connections):
        sock = connect(options.port)
        sockets[sock.fileno()] = sock
        poller.register(sock, select.EPOLLOUT)
    total = 0
    begun = time.perf_counter()
    sending = True
    while sockets:
        if sending and time.perf_counter() - begun >= options.seconds:
            sending = False
            for fd, sock in sockets.items():
                sock.shutdown(socket.SHUT_WR)
                poller.modify(fd, select.EPOLLIN)
            continue
        for fd, _ in poll(poller):
            sock = sockets[fd]
            if sending:
                sock.send(VIEW)
            else:
                total += int.from_bytes(sock.recv(8), "big")
                poller.unregister(fd)
                sockets.pop(fd).close()
    return {"octets": total, "seconds": time.perf_counter() - begun}


def paced(options: argparse.Namespace) -> dict[str, Any]:
    """Send at a rate for `seconds`; late blocks follow at once, so that the mean is kept where it can be."""
    with connect(options.port) as sock:
        sock.setblocking(True)
        sock.settimeout(STUCK_S)
        sent = 0
        begun = time.perf_counter()
        while (passed := time.perf_counter() - begun) < options.seconds:
            early = sent * 8 / (options.gbits * 1e9) - passed
            if early > 0:
                pause(early)
            sock.sendall(PACED_BLOCK)
            sent += len(PACED_BLOCK)
        sock.shutdown(socket.SHUT_WR)
        total = int.from_bytes(sock.recv(8), "big")
    return {"octets": total, "seconds": time.perf_counter() - begun}


def reverse(options: argparse.Namespace) -> dict[str, Any]:
    """Read for `seconds` after a moment of warming up."""
    poller = select.epoll()
    sockets = {}
    for _ in range(options.connections):
        sock = connect(options.port)
        sockets[sock.fileno()] = sock
        poller.register(sock, select.EPOLLIN)
    total = 0
    now = time.perf_counter()
    begin, end = now + WARM_UP_S, now + WARM_UP_S + options.seconds
    begun = 0.0
    while now < end:
        for fd, _ in poll(poller):
            total += sockets[fd].recv_into(BUFFER)
        now = time.perf_counter()
        if not begun and now >= begin:
            total, begun = 0, now
    for sock in sockets.values():
        sock.close()
    return {"octets": total, "seconds": now - begun}


def requests(options: argparse.Namespace) -> dict[str, Any]:
    """Ask and wait for the answer on every connection; latencies in microseconds."""
    poller = select.epoll()
    sockets: dict[int, socket.socket] = {}
    missing: dict[int, int] = {}
    asked: dict[int, float] = {}
    clock = time.perf_counter
    for _ in range(options.connections):
        sock = connect(options.port)
        fd = sock.fileno()
        sockets[fd] = sock
        poller.register(sock, select.EPOLLIN)
    for fd, sock in sockets.items():
        missing[fd], asked[fd] = SIZE, clock()
        sock.send(REQUEST)
    latencies: list[float] = []
    now = clock()
    begin, end = now + WARM_UP_S, now + WARM_UP_S + options.seconds
    begun = 0.0
    warm_up = 0
    while now < end:
        for fd, _ in poll(poller):
            sock = sockets[fd]
            count = sock.recv_into(BUFFER)
            if count == 0:
                sys.exit("a connection was closed")
            left = missing[fd] - count
            if left > 0:
                missing[fd] = left
                continue
            now = clock()
            latencies.append(now - asked[fd])
            missing[fd] = SIZE
            asked[fd] = now
            sock.send(REQUEST)
        if not begun and now >= begin:
            begun, warm_up = now, len(latencies)
            latencies.clear()
    for sock in sockets.values():
        sock.close()
    count = len(latencies)
    return {"count": count, "total": count + warm_up, "seconds": now - begun, **percentiles(latencies)}


def percentiles(latencies: list[float]) -> dict[str, float]:
    """The median and the 99th percentile, in microseconds."""
    latencies.sort()
    count = len(latencies)
    if not count:
        sys.exit("not one answer")
    return {"p50_us": latencies[count // 2] * 1e6, "p99_us": latencies[min(count - 1, count * 99 // 100)] * 1e6}


def connections(options: argparse.Namespace) -> dict[str, Any]:
    """Open, ask, wait for the answer, close; `--connections` of that at the same time."""
    poller = select.epoll()
    sockets: dict[int, socket.socket] = {}
    missing: dict[int, int] = {}

    def open_one() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        code = sock.connect_ex(("127.0.0.1", options.port))
        if code not in (0, errno.EINPROGRESS):
            sys.exit(f"connect: {errno.errorcode[code]}")
        sockets[sock.fileno()] = sock
        poller.register(sock, select.EPOLLOUT)

    for _ in range(options.connections):
        open_one()
    count = failed = warm_up = 0
    now = time.perf_counter()
    begin, end = now + WARM_UP_S, now + WARM_UP_S + options.seconds
    begun = 0.0
    while count + warm_up < options.count if options.count else now < end:
        for fd, _ in poll(poller):
            sock = sockets[fd]
            try:
                if fd not in missing:
                    sock.send(REQUEST)
                    missing[fd] = SIZE
                    poller.modify(fd, select.EPOLLIN)
                    continue
                octets = sock.recv_into(BUFFER)
            except OSError:
                octets = 0
            missing[fd] = missing.get(fd, SIZE) - octets
            if octets and missing[fd] > 0:
                continue
            count += octets > 0
            failed += octets == 0
            poller.unregister(fd)
            del missing[fd]
            sockets.pop(fd).close()
            open_one()
        now = time.perf_counter()
        if not begun and now >= begin:
            warm_up, count, begun = count, 0, now
    for sock in sockets.values():
        sock.close()
    return {"count": count, "total": count + warm_up, "failed": failed, "seconds": now - begun}


def hold(options: argparse.Namespace) -> dict[str, Any]:
    """Open connections, a few at a time, and keep them."""
    poller = select.epoll()
    opening: dict[int, socket.socket] = {}
    held: list[socket.socket] = []
    begun = time.perf_counter()
    while len(held) < options.connections:
        while len(opening) < OPENING_AT_ONCE and len(opening) + len(held) < options.connections:
            sock = connect(options.port)
            sock.send(b"x")
            opening[sock.fileno()] = sock
            poller.register(sock, select.EPOLLIN)
        for fd, _ in poll(poller):
            sock = opening.pop(fd)
            poller.unregister(fd)
            if sock.recv(1) != b"x":
                sys.exit("no echo")
            held.append(sock)
    print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)
    while sys.stdin.readline():
        echo_all(held)
        print(json.dumps({"echoed": len(held)}), flush=True)
    for sock in held:
        sock.close()
    return {"closed": len(held)}


def echo_all(held: list[socket.socket]) -> None:
    """One octet there and back on each connection, a few at the same time."""
    for start in range(0, len(held), OPENING_AT_ONCE):
        batch = held[start : start + OPENING_AT_ONCE]
        for sock in batch:
            sock.settimeout(STUCK_S)
            sock.send(b"y")
        for sock in batch:
            if sock.recv(1) != b"y":
                sys.exit("a held connection echoes no more")


def main() -> None:
    """Do the work that was asked for, and say what came of it."""
    kinds = {kind.__name__: kind for kind in (bulk, paced, reverse, requests, connections, hold)}
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--gbits", type=float, default=1.0)
    options = parser.parse_args()
    raise_descriptor_limit()
    print(json.dumps(kinds[options.kind](options)), flush=True)


if __name__ == "__main__":
    main()
