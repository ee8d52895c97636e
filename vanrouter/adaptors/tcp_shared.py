"""What all TCP flows of a router share, and what listeners and connectors have in common.

Layer: 4. Source: TCP over AMQP, sections 3 and 10.2; extensions (limits).
"""

from __future__ import annotations

import fcntl
import logging
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from vanrouter.adaptors.observer_http2 import Budget
from vanrouter.core.flows import PARENT_DELETED, TLS_FAILED, FlowRecorder, NoRecorder
from vanrouter.core.stream import (
    StreamRouter,
)
from vanrouter.engine.proton import buffer, from_buffer
from vanrouter.histogram import Histogram
from vanrouter.net.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vanrouter.adaptors.tcp_flow import Flow

logger = logging.getLogger(__name__)

BUFFER_BYTES = 128 * 1024
"""One read of one flow in one turn at most."""

_BUFFER = bytearray(BUFFER_BYTES)
_VIEW = memoryview(_BUFFER)
"""What all sockets of TCP services are read into."""
_OCTETS = buffer(from_buffer("char[]", _BUFFER), BUFFER_BYTES)
"""The same; a slice of it is `bytes`, a copy."""

Look = Callable[[memoryview | bytes], None]
"""What octets that pass are shown to."""

RETRIES = 8
"""Other connectors tried after one has released a stream that nothing was written of."""


class Row(Protocol):
    """What stands in the table of connections."""

    def management_row(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity."""

    def force_close(self) -> None:
        """Cut the connection."""


class Shared:
    """The loop, the wheel and the bounds of all TCP flows."""

    __slots__ = (
        "address_prefix",
        "backlogged",
        "buffer",
        "flow_setup",
        "memory",
        "observing_budget",
        "reactor",
        "recorder",
        "router",
        "wheel",
    )

    def __init__(
        self,
        router: StreamRouter,
        tenant: str | None = None,
        recorder: FlowRecorder | None = None,
    ) -> None:
        self.router = router
        self.observing_budget = Budget()
        """What following requests of HTTP/2 may cost."""
        self.recorder: FlowRecorder = NoRecorder() if recorder is None else recorder
        self.address_prefix = f"{tenant}/" if tenant else ""
        """`network.tenantId` in front of the addresses of streams (section 5.4). The core puts it in front of those of
        watches and subscriptions itself."""
        self.reactor = router.reactor
        self.wheel = Wheel(router.reactor)
        self.flow_setup = Histogram()
        """Seconds from a client's connection to the stream of the far end's connector."""
        self.memory = router.memory
        self.buffer = _VIEW
        """What a socket is read into: the less may wait in the engine, the smaller."""
        self.memory.watch(self._fit_buffer)
        self.backlogged: set[Flow] = set()
        """Flows that keep octets."""
        router.trimmer.watch(lambda: (self.backlogged,))

    def _fit_buffer(self) -> None:
        self.buffer = _VIEW[: self.memory.read_bytes]

    def hold(self, flow: Flow, octets: int) -> None:
        """Count octets kept; beyond the bound, the flows that hold most are ended."""
        self.memory.kept += octets
        self.backlogged.add(flow)
        if self.memory.is_exceeded:
            self._end_worst()

    def _end_worst(self) -> None:
        """Get an eighth below the bound, so that looking at all flows is paid for by as many ends."""
        memory = self.memory
        goal = memory.kept - (memory.limit >> 3)
        for worst in sorted(self.backlogged, key=lambda flow: flow.kept_octets, reverse=True):
            if memory.kept <= goal:
                break
            if worst.kept_octets:
                memory.ended += 1
                logger.warning("[C%d] Flow ended: %d octets are kept for all flows", worst.id, memory.kept)
                worst.drop(is_reset=True)

    def release(self, octets: int) -> None:
        """Count octets written or forgotten."""
        self.memory.kept -= octets


class Service:
    """A TCP listener or connector: its flows and their counts."""

    entity_type = ""

    def __init__(
        self, shared: Shared, name: str, host: str, port: str, idle_timeout_s: float, half_close_timeout_s: float
    ) -> None:
        self.shared = shared
        self.name = name
        self.host = host
        self.port = port
        self.idle_timeout_s = idle_timeout_s
        self.half_close_timeout_s = half_close_timeout_s
        self.flows: set[Flow] = set()
        self.connections_opened = 0
        self.connections_closed = 0
        self.timed_out = 0
        """Flows ended by the idle or half-close limit."""
        self.overrun = 0
        """Flows ended because their producer ignored the window."""
        self.handshake_failures = 0
        self._bytes_in = 0
        self._bytes_out = 0

    @property
    def bytes_in(self) -> int:
        """Octets read from this service's sockets."""
        return self._bytes_in + sum(flow.sent for flow in self.flows)

    @property
    def bytes_out(self) -> int:
        """Octets written to this service's sockets."""
        return self._bytes_out + sum(flow.written for flow in self.flows)

    def octets(self, at_once: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of `bytes_in` and `bytes_out`: of flows that have ended, then of so many open ones each."""
        flows = list(self.flows)
        yield self._bytes_in, self._bytes_out
        for begin in range(0, len(flows), at_once):
            part = flows[begin : begin + at_once]
            yield sum(flow.sent for flow in part), sum(flow.written for flow in part)

    def on_flow_opened(self, flow: Flow) -> None:
        """Count a connection and show it to management."""
        router = self.shared.router
        flow.id = router.next_connection_id()
        router.connections[flow.id] = flow
        self.flows.add(flow)
        self.shared.memory.add_flows(1)
        self.connections_opened += 1

    def on_flow_closed(self, flow: Flow) -> None:
        """Forget a connection, not its octets."""
        if flow in self.flows:
            self.flows.discard(flow)
            self.shared.memory.add_flows(-1)
            if not self.flows:
                self.flows.clear()  # or the set would stay as large as it ever was
            self.connections_closed += 1
            self._bytes_in += flow.sent
            self._bytes_out += flow.written
            router = self.shared.router
            router.connections.pop(flow.id, None)
            record, flow.record = flow.record, None
            if logger.isEnabledFor(logging.DEBUG):
                mark = f"[C{flow.id}]" if record is None else f"[C{flow.id}][F{record.identity}]"
                logger.debug("%s Closed: %d octets read, %d written", mark, flow.sent, flow.written)
            if record is not None:
                self.shared.recorder.end(record)
            router.trimmer.note_ends()

    def handshake_failed(self, flow: Flow, error: Exception) -> None:
        """Count and log a TLS handshake that went wrong."""
        self.handshake_failures += 1
        if flow.record is not None:
            flow.record.error = TLS_FAILED
        logger.warning("[C%d] TLS connection failed: %s %s: %s", flow.id, self.entity_type, self.name, error)

    def drop_flows(self) -> None:
        """End all flows (`dropTcpConnections`)."""
        for flow in list(self.flows):
            if flow.record is not None:
                flow.record.error = PARENT_DELETED
            flow.drop()

    @property
    def has_flows(self) -> bool:
        """Whether anything of it is still open."""
        return bool(self.flows)

    def connection_row(self, flow: Flow, host: str, local: str) -> dict[str, Any]:
        """Return the attributes of the `connection` entity (section 10.2)."""
        return {
            **plain_row(flow.id, host, flow.direction, int(self.shared.reactor.now - flow.opened_at)),
            "localSocket": local,
            **flow.encryption(),
        }


def unacknowledged(fd: int) -> int:
    """Return how many octets written to a socket its other end has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def host_of(address: Any) -> str:
    """Return the host of a socket address, IPv4 in IPv6 as IPv4."""
    return str(address[0]).removeprefix("::ffff:")


def host_and_port(address: Any) -> str:
    """Return the text form of a socket address, IPv4 in IPv6 as IPv4."""
    if not isinstance(address, tuple) or len(address) < 2:
        return ""
    host, port = host_of(address), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_row(identity: int, host: str, direction: str, uptime_s: int) -> dict[str, Any]:
    """Return what the rows of all TCP connections have in common."""
    return {
        "identity": str(identity),
        "name": f"connection/{host}",
        "host": host,
        "localSocket": "",
        "role": "normal",
        "protocol": "tcp",
        "dir": direction,
        "container": "TcpAdaptor",
        "isAuthenticated": False,
        "isEncrypted": False,
        "user": "anonymous",
        "ssl": False,
        "opened": True,
        "active": True,
        "adminStatus": "enabled",
        "operStatus": "up",
        "uptimeSeconds": uptime_s,
        "enableProtocolTrace": False,
        "properties": {"qd.adaptor": "tcp"},
    }
