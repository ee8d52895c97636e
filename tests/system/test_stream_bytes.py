"""Whatever two ends of a flow do, each gets exactly what the other sent: a property of TCP through two real routers."""

from __future__ import annotations

import contextlib
import enum
import random
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.services import connect

SILENCE_S = 6.0
"""No octet and no event for so long means that the flow hangs."""

READ_BYTES = 65_536
POOL = random.Random(1).randbytes(1 << 20)
"""What is sent: a window on this, beginning somewhere else for each end."""


class End(enum.Enum):
    """How an end leaves after its last chunk."""

    HALF_CLOSE = "half-close"  # says it is done, goes on reading
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a chunk of so many octets in one call where the socket takes it."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitDelivery:
    """Pause until the other end has all that was sent so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReading:
    """Read nothing until the other end can send no more, or has nothing more to send."""


Action = Send | AwaitDelivery | StopReading


@dataclass(kw_only=True)
class Side:
    """One end of the flow, driven by its script."""

    name: str
    socket: socket.socket
    script: list[Action]
    end: End
    offset: int
    sent: int = 0
    planned: int = 0
    received: bytearray = field(default_factory=bytearray)
    is_blocked: bool = False
    holds_reading: bool = False
    has_left: bool = False
    peer_ended: bool = False
    was_reset: bool = False

    def is_gone(self) -> bool:
        """Say whether nothing more will be read here."""
        return self.was_reset or (self.has_left and self.end is End.RESET)

    def octets(self, begin: int, end: int) -> bytes:
        """Return a slice of what this end sends in all."""
        size = len(POOL)
        parts = []
        while begin < end:
            at = (self.offset + begin) % size
            count = min(end - begin, size - at, READ_BYTES)
            parts.append(POOL[at : at + count])
            begin += count
        return b"".join(parts)


class Drive:
    """Runs both ends to their end in one thread."""

    def __init__(self, client: Side, server: Side) -> None:
        self.sides = (client, server)
        self.selector = selectors.DefaultSelector()
        for side in self.sides:
            side.socket.setblocking(False)

    def run(self) -> None:
        """Run until both ends saw the other's end, or one reset the flow and the other saw that."""
        last_progress = time.monotonic()
        try:
            while not self._is_over():
                moves = [self._step(side, other) for side, other in (self.sides, self.sides[::-1])]
                if any(moves):
                    last_progress = time.monotonic()
                    continue
                assert time.monotonic() - last_progress < SILENCE_S, f"the flow hangs: {self._describe()}"
                self._wait()
        finally:
            self.selector.close()
            for side in self.sides:
                side.socket.close()

    def _is_over(self) -> bool:
        return all((side.peer_ended and side.has_left) or side.is_gone() for side in self.sides)

    def _wait(self) -> None:
        for side in self.sides:
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(side.socket)
            mask = 0
            if side.socket.fileno() < 0:
                continue
            if not side.holds_reading and not side.peer_ended:
                mask |= selectors.EVENT_READ
            if side.is_blocked:
                mask |= selectors.EVENT_WRITE
            if mask:
                self.selector.register(side.socket, mask)
        # A held reader is released when the other end is blocked for a moment: buffers on the way are full then.
        holding = any(side.holds_reading for side in self.sides)
        events = self.selector.select(0.05 if holding else SILENCE_S)
        if holding and not events:
            for side in self.sides:
                side.holds_reading = False

    def _step(self, side: Side, other: Side) -> bool:
        if side.socket.fileno() < 0:
            return False
        progress = False
        if not side.holds_reading and not side.peer_ended:
            progress = self._read(side)
        return self._write(side, other) or progress

    def _read(self, side: Side) -> bool:
        try:
            data = side.socket.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            side.was_reset = side.peer_ended = True
            return True
        side.received += data
        side.peer_ended = not data
        return True

    def _write(self, side: Side, other: Side) -> bool:
        if side.has_left:
            return False
        if side.was_reset:
            side.has_left = True
            return True
        if side.sent < side.planned:
            return self._send(side)
        if not side.script:
            self._leave(side)
            return True
        action = side.script[0]
        if isinstance(action, AwaitDelivery):
            if len(other.received) < side.sent and not other.holds_reading and not other.is_gone():
                return False
        elif isinstance(action, StopReading):
            side.holds_reading = not other.has_left
        else:
            side.planned += action.size
        side.script.pop(0)
        return True

    def _send(self, side: Side) -> bool:
        try:
            count = side.socket.send(side.octets(side.sent, side.planned))
        except BlockingIOError:
            side.is_blocked = True
            return False
        except (ConnectionResetError, BrokenPipeError):
            side.was_reset = True
            return True
        side.is_blocked = False
        side.sent += count
        return True

    def _leave(self, side: Side) -> None:
        side.has_left = True
        side.holds_reading = False
        with contextlib.suppress(OSError):  # the other end may have been quicker
            if side.end is End.HALF_CLOSE:
                side.socket.shutdown(socket.SHUT_WR)
            else:
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if side.end is End.RESET:
            side.socket.close()

    def _describe(self) -> str:
        return "; ".join(
            f"{side.name} sent {side.sent} of {side.planned}, received {len(side.received)}, next {side.script[:1]}"
            f"{', left' if side.has_left else ''}{', saw the end' if side.peer_ended else ''}"
            for side in self.sides
        )


sizes = st.one_of(st.integers(1, 40), st.integers(1, 5_000), st.integers(60_000, 70_000), st.integers(1, 1_500_000))
actions = st.one_of(
    st.builds(Send, size=sizes), st.builds(Send, size=sizes), st.builds(AwaitDelivery), st.builds(StopReading)
)
scripts = st.lists(actions, max_size=8)
ends = st.sampled_from([End.HALF_CLOSE, End.HALF_CLOSE, End.HALF_CLOSE, End.RESET])


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SILENCE_S)
        yield listener


@pytest.fixture(scope="module", params=["plain", "mutual TLS"])
def sites(request: pytest.FixtureRequest, start_module_sites: StartSites, server: socket.socket, pki: Pki) -> Sites:
    a, b = mutual_credentials(pki) if request.param == "mutual TLS" else (None, None)
    return start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=[tcp_listener("service")],
        b_sections=[tcp_connector("service", server.getsockname()[1])],
    )


def check(
    sites: Sites, server: socket.socket, scripts: tuple[list[Action], list[Action]], how: tuple[End, End]
) -> None:
    check_flow(sites.a.port("service"), server, scripts, how)


def check_flow(
    port: int, server: socket.socket, scripts: tuple[list[Action], list[Action]], how: tuple[End, End]
) -> None:
    """Run one flow through whatever is behind `port`, and compare what each end sent and got."""
    client_socket = connect(port)
    server_socket, _ = server.accept()
    client = Side(name="client", socket=client_socket, script=scripts[0], end=how[0], offset=0)
    served = Side(name="server", socket=server_socket, script=scripts[1], end=how[1], offset=len(POOL) // 3)
    Drive(client, served).run()
    is_whole = how == (End.HALF_CLOSE, End.HALF_CLOSE)
    for side, other in ((client, served), (served, client)):
        assert bytes(side.received) == other.octets(0, len(side.received)), f"{side.name} received wrong octets"
        if is_whole:
            assert not side.was_reset, f"{side.name} was reset"
            assert len(side.received) == other.planned == other.sent, f"{side.name} received another count"


# A hanging flow costs its whole silence, so that shrinking would take an hour; the message says where it hangs.
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(client=scripts, service=scripts, how=st.tuples(ends, ends))
def test_each_end_gets_what_the_other_sent(
    sites: Sites, server: socket.socket, client: list[Action], service: list[Action], how: tuple[End, End]
) -> None:
    check(sites, server, (list(client), list(service)), how)


def test_one_direction_goes_on_after_the_other_ended(sites: Sites, server: socket.socket) -> None:
    ask = [Send(size=1000)]
    answer = [StopReading(), AwaitDelivery(), *[Send(size=300_000)] * 10]
    check(sites, server, (ask, answer), (End.HALF_CLOSE, End.HALF_CLOSE))


def test_nothing_at_all(sites: Sites, server: socket.socket) -> None:
    check(sites, server, ([], []), (End.HALF_CLOSE, End.HALF_CLOSE))
