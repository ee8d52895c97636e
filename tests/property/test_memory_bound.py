"""However little memory there is for slow readers, and however many stop: who reads gets every octet."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, reset, running_loop
from vanrouter.adaptors.tcp_flow import LEAST_WINDOW_BYTES
from vanrouter.adaptors.tcp_shared import BUFFER_BYTES

DEADLINE_S = 20.0
PIECE = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with running_loop() as loop:
        yield loop


def transfer(pairs: list[tuple[socket.socket, socket.socket]], octets: int) -> list[int]:
    """Send so many octets through each pair, in both directions; return how many came, to whom."""
    sent = {end: 0 for pair in pairs for end in pair}
    came = dict.fromkeys(sent, 0)
    deadline = time.monotonic() + DEADLINE_S
    while any(count < octets for count in came.values()) and time.monotonic() < deadline:
        ready, free, _ = select.select(list(came), [end for end in sent if sent[end] < octets], [], 0.5)
        for end in free:
            begin = sent[end] % 256
            sent[end] += end.send(PIECE[begin : begin + min(octets - sent[end], 100_000)])
        for end in ready:
            data = end.recv(1 << 17)
            begin = came[end] % 256
            assert data == PIECE[begin : begin + len(data)]
            came[end] += len(data)
    return list(came.values())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.sampled_from((64 << 10, 256 << 10, 1 << 20, 8 << 20)),
    engine=st.sampled_from((0, 1 << 19, 1 << 30)),
    reading=st.integers(1, 4),
    stopped=st.integers(0, 6),
    octets=st.integers(1, 300_000),
    is_c_router=st.booleans(),
)
@example(limit=64 << 10, engine=1 << 30, reading=4, stopped=6, octets=600_000, is_c_router=False)
@example(limit=8 << 20, engine=0, reading=1, stopped=0, octets=700_000, is_c_router=True)
def test_who_reads_gets_every_octet(
    loop: Loop, limit: int, engine: int, reading: int, stopped: int, octets: int, is_c_router: bool
) -> None:
    memory = loop.router.memory
    loop.router.is_c_router = is_c_router
    site = Site(loop, max_buffered_bytes=limit)
    loop.call(lambda: memory.add_engine(engine))
    still = [site.pair() for _ in range(stopped)]
    for pair in still:
        for end in pair:
            end.setblocking(False)
            try:
                while end.send(PIECE):
                    pass
            except BlockingIOError:
                pass
            except ConnectionError:
                assert memory.ended
    loop.call(lambda: None)
    # What cannot be sent back is kept, but for one read; what ends then holds more than any that is read.
    assert memory.kept <= limit + BUFFER_BYTES + LEAST_WINDOW_BYTES
    pairs = [site.pair() for _ in range(reading)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    assert transfer(pairs, octets) == [octets] * 2 * reading
    for pair in (*still, *pairs):
        for end in pair:
            reset(end)
    site.wait_until_empty()
    loop.call(lambda: memory.add_engine(-engine))
    loop.call(site.adaptor.close)
    assert memory.flows == memory.kept == 0
