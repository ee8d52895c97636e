"""A TCP connection as two streams: what its socket sends goes to a sink, what a producer sends goes to its socket.

Layer: 4. Source: TCP over AMQP, sections 7 (window), 9 (life cycle) and extensions (early data, resets). This is the
data path: one system call and one call of the seam for each event, no object for it, octets copied only when a socket
refuses them.

A flow has two directions that end on their own:

    input    socket -> `out` (a Sink).      Ends by end of file (`finish`), a socket error (`abort` between vanrouters,
                                            `finish` towards the C router) or an outcome from the consumer.
    output   `peer` (a Producer) -> socket. Ends by `finish` (accepted once all is written), `abort`, or a socket error
                                            (modified).

The socket is closed when both have ended. The flow is at once the producer of the one stream and the sink of the other.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vanrouter.adaptors.tcp_shared import _OCTETS, _VIEW, Look, host_and_port, unacknowledged
from vanrouter.adaptors.tcp_window import (
    C_REPORT_BYTES,
    C_WINDOW_BYTES,
    FIRST_WINDOW_BYTES,
    LARGEST_WINDOW_BYTES,
    LEAST_REPORT_BYTES,
    LEAST_WINDOW_BYTES,
    REPORT_BYTES,
    Windowed,
    report_after,
)
from vanrouter.core.stream import ACCEPTED, COPIED_BYTES, MODIFIED, Producer, Sink
from vanrouter.net.reactor import ERROR, IN, OUT
from vanrouter.net.wheel import Timed, Wheel

if TYPE_CHECKING:
    from vanrouter.adaptors.tcp_shared import Service
    from vanrouter.core.flows import CounterpartRecord, FlowRecord

OVERSHOOT_BYTES = 1024 * 1024
"""Beyond its window a producer may send what it had read: the C router was seen to send 10 kB more."""

EARLY_BYTES = 64 * 1024
"""Octets read from a client before the server's stream arrives; kept until then (extensions)."""

LINGER_S = 1.0
"""After the consumer has given up: how long what still comes from it is written, until it ends its own stream."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""


def _discard(data: memoryview | bytes | bytearray) -> int:
    return len(data)


class Flow(Windowed):
    """Both directions of one TCP connection. `tcp_listener` and `tcp_connector` have its two beginnings."""

    __slots__ = (
        "backlog",
        "blocked",
        "bucket",
        "early",
        "ends_at",
        "fd",
        "id",
        "idle_octets",
        "idle_since",
        "in_finished",
        "is_watched",
        "limit",
        "limited",
        "lingers",
        "mask",
        "observe_in",
        "observe_out",
        "opened_at",
        "out",
        "output_done",
        "peer",
        "read_done",
        "record",
        "recv_into",
        "remote",
        "report_at",
        "report_bytes",
        "send",
        "service",
        "sock",
        "written",
    )

    direction = "in"

    takes_early = True
    """As the sink of a listener on the same router."""

    def __init__(self, service: Service, sock: socket.socket | None, remote: Any) -> None:
        self.service = service
        self.shared = service.shared
        self.remote = remote
        self.id = 0
        self.opened_at = self.shared.reactor.now
        self.sock: socket.socket | None = None
        self.fd = -1
        self.record: FlowRecord | CounterpartRecord | None = None
        self.recv_into: Callable[..., int] = _discard
        self.send: Callable[[memoryview | bytes | bytearray], int] = _discard
        self.observe_in: Look | None = None
        self.observe_out: Look | None = None
        """Shown what has come from the socket, and what has gone to it, where there is an observer."""
        self.mask = 0
        self.is_watched = False
        self.bucket: set[Timed] | None = None
        self.ends_at = 0.0
        self.lingers = False
        self.idle_octets = -1
        self.idle_since = 0.0
        # Input: the socket's octets.
        self.out: Sink | None = None
        self.sent = 0
        self.acked = 0
        self.limit = 0
        self.window = FIRST_WINDOW_BYTES
        self.largest = LARGEST_WINDOW_BYTES
        self.limited = False
        self.blocked = False
        self.read_done = False
        self.early: bytearray | None = None
        self.is_reset_known = True
        self.probe_octets = 0
        self.probe_time = 0.0
        self.quickest_s = 1e9
        # Output: the peer's octets.
        self.peer: Producer | None = None
        self.written = 0
        self.report_bytes = REPORT_BYTES
        self.report_at = LEAST_REPORT_BYTES
        self.backlog: bytearray | None = None
        self.in_finished = False
        self.output_done = False
        if sock is not None:
            self.take_socket(sock)

    def take_socket(self, sock: socket.socket) -> None:
        """Own a connected, non-blocking socket."""
        self.sock = sock
        self.fd = sock.fileno()
        self.recv_into = sock.recv_into
        self.send = sock.send

    def set_peer_kind(self, is_vanrouter: bool) -> None:
        """Adjust window and reports to who is at the far end."""
        self.is_reset_known = is_vanrouter
        if not is_vanrouter:
            self.window = self.largest = C_WINDOW_BYTES
            self.report_bytes = C_REPORT_BYTES
        self.limit = self.acked + min(LEAST_WINDOW_BYTES, self.window)

    # --- the socket ---------------------------------------------------------------------------------------------------

    def ready(self, mask: int) -> None:
        """The socket can be read or written, or has failed."""
        if mask == IN == self.mask:  # nearly always
            self.read()
            return
        if mask & (OUT | ERROR):
            self.drain()
        if mask & self.mask & IN:
            self.read()
        elif mask & ERROR:
            self.on_error()

    def read(self) -> None:
        """Read once and pass on."""
        if self.early is not None:
            self.read_early()
            return
        receive = self.recv_into  # what is called without a name of its own costs a look-up in the class
        try:
            count = receive(self.shared.buffer)
        except BlockingIOError:
            return
        except OSError:
            self.read_failed()
            return
        if not count:
            self.end_of_input()
            return
        data = _OCTETS[:count] if count <= COPIED_BYTES else _VIEW[:count]
        observe = self.observe_in
        if observe is not None:
            observe(data)
        self.sent = sent = self.sent + count
        if self.out.push(data):  # type: ignore[union-attr]  # there is a sink whenever the socket is read
            if sent < self.limit:
                return
        else:
            self.blocked = True
        self.pause()

    def read_early(self) -> None:
        """Read before the peer's stream is there: what is read is kept, for another try, and so bounded."""

    def pause(self) -> None:
        """Stop reading: the sink refuses octets, or the window is full."""
        if self.sock is None or self.read_done:
            return
        if self.sent >= self.limit and not self.limited:
            if self.early is None:
                self.limit = self.acked + self.allowed()
            if self.sent >= self.limit:
                self.limited = True
                self.probe_octets = self.sent
                self.probe_time = self.shared.reactor.now
            elif not self.blocked:
                return
        self.watch(self.mask & ~IN)

    def resume(self) -> None:
        """Read again, if nothing is in the way."""
        if not (self.blocked or self.limited or self.read_done or self.sock is None):
            self.watch(self.mask | IN)

    def watch(self, mask: int) -> None:
        """Change what the socket is watched for."""
        if mask == self.mask and self.is_watched:
            return
        self.mask = mask
        reactor = self.shared.reactor
        if self.is_watched:
            reactor.modify(self.fd, mask)
        elif mask:
            self.is_watched = True
            reactor.register(self.fd, self.ready, mask)

    def on_error(self) -> None:
        """The socket has failed or both its directions have ended, and it is not being read."""
        if self.read_done:
            self.write_failed()
        elif self.mask == 0 and self.is_watched:
            # Nothing can be done before reading goes on; the kernel would report this in each turn until then.
            self.is_watched = False
            self.shared.reactor.unregister(self.fd)

    def end_of_input(self) -> None:
        """End of file: the other direction goes on."""
        self.read_done = True
        out, self.out = self.out, None
        if out is not None:
            out.finish()
        if self.output_done:
            self.close()
        elif self.sock is not None:
            self.watch(self.mask & ~IN)
            self.half_closed()

    def read_failed(self) -> None:
        """Reset by its other end: both streams end (section 9.2)."""
        if self.sock is None:
            return
        self.break_input()
        self.settle_output(MODIFIED)
        self.close()

    def write_failed(self) -> None:
        """The socket takes nothing any more. What it has sent before may still be read."""
        self.send = _discard
        self.release_backlog()
        self.settle_output(MODIFIED)
        if self.read_done:
            self.close()
        elif self.sock is not None:
            self.watch(self.mask & ~OUT)

    def break_input(self) -> None:
        """End the own stream before its end of file."""
        if not self.read_done:
            self.read_done = True
            out, self.out = self.out, None
            if out is not None:
                if self.is_reset_known:
                    out.abort()
                else:
                    out.finish()

    def settle_output(self, state: int) -> None:
        """Answer the incoming stream, once."""
        self.output_done = True
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.outcome(state, True)

    # --- producer of the own stream: what the consumer answers --------------------------------------------------------

    def received(self, total: int) -> None:
        """The consumer has written so many octets."""
        if total <= self.acked:
            return
        self.acked = total = min(total, self.sent)
        if not self.limited:
            self.limit = total + self.allowed()
            return
        if total >= self.probe_octets:
            self.judge_window()
        allowed = self.allowed()
        self.limit = total + allowed
        if self.limit - self.sent >= allowed >> 2:
            self.limited = False
            self.resume()

    def writable(self) -> None:
        """The sink takes octets again."""
        self.blocked = False
        self.resume()

    def outcome(self, state: int, settled: bool) -> None:
        """The consumer has ended the own stream (section 9.3, rule 1)."""
        if self.sock is None:
            return
        had_finished = self.read_done
        if not had_finished:
            self.read_done = True
            out, self.out = self.out, None
            if out is not None:
                out.finish(True)
            self.watch(self.mask & ~IN)
        if state == ACCEPTED or (state == 0 and had_finished):
            if not had_finished and self.output_done:
                self.close()
        elif self.peer is None:
            # After the end of the other stream nothing else tells of a reset at the far end.
            self.close(is_reset=self.output_done and self.is_reset_known)
        else:
            self.linger()

    # --- sink of the peer's stream ------------------------------------------------------------------------------------

    def push(self, data: memoryview | bytes) -> bool:
        """Write; keep what the socket refuses."""
        if self.backlog is None:
            send, observe = self.send, self.observe_out
            try:
                count = send(data)
            except BlockingIOError:
                count = 0
            except OSError:
                self.write_failed()
                return True
            self.written = written = self.written + count
            if count == len(data):
                if observe is not None:
                    observe(data)
                if written >= self.report_at:
                    self.report()
                return True
            if observe is not None and count:
                observe(data[:count])
            self.backlog = bytearray(data[count:])
            self.watch(self.mask | OUT)
            if written >= self.report_at:
                self.report()
            self.shared.hold(self, len(data) - count)
            return False
        self.backlog += data
        is_overrun = len(self.backlog) > self.largest + OVERSHOOT_BYTES
        self.shared.hold(self, len(data))
        if is_overrun:
            self.service.overrun += 1
            self.drop(is_reset=True)
        return False

    def report(self) -> None:
        """Tell the producer how much was written."""
        self.report_at = report_after(self.written, self.report_bytes)
        if self.peer is not None:
            self.peer.received(self.written)

    def drain(self) -> None:
        """Write what was kept."""
        backlog = self.backlog
        if backlog is None:
            return
        try:
            count = self.send(backlog)
        except BlockingIOError:
            return
        except OSError:
            self.write_failed()
            return
        self.written += count
        if self.observe_out is not None and count:
            self.observe_out(bytes(backlog[:count]))
        if count < len(backlog):
            del backlog[:count]
            self.shared.release(count)
        else:
            self.release_backlog()
            self.watch(self.mask & ~OUT)
            if self.in_finished:
                self.end_output()
                return
            if self.peer is not None:
                self.peer.writable()
        if self.written >= self.report_at:
            self.report()

    def release_backlog(self) -> None:
        """Forget what was kept."""
        backlog, self.backlog = self.backlog, None
        if backlog is not None:
            self.shared.release(len(backlog))
            self.shared.backlogged.discard(self)

    @property
    def kept_octets(self) -> int:
        """What is kept of both directions."""
        return len(self.backlog or b"") + len(self.early or b"")

    def finish(self, settled: bool = False) -> None:  # the outcome is sent anyway; who lost interest ignores it
        """The producer has no more octets."""
        self.in_finished = True
        if self.backlog is None:
            self.end_output()

    def end_output(self) -> None:
        """All is written: half-close, then accept (section 9.3, rule 3)."""
        if self.output_done:
            return
        if not self.read_done:
            try:
                self.shutdown_output()
            except OSError:
                self.write_failed()
                return
        self.settle_output(ACCEPTED)
        if self.read_done:
            self.close()
        else:
            self.half_closed()

    def shutdown_output(self) -> None:
        """Send the end of file.

        Raises:
            OSError: the socket has failed.
        """
        if self.sock is not None:
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """The producer's end has failed: a reset goes on as a reset."""
        self.output_done = True
        self.peer = None
        if not self.read_done:
            self.read_done = True
            out, self.out = self.out, None
            if out is not None:
                out.finish(True)
        self.close(is_reset=True)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def drop(self, is_reset: bool = False) -> None:
        """End both directions from here: deletion, a limit, a bug."""
        self.break_input()
        self.settle_output(MODIFIED)
        self.close(is_reset)

    on_crash = drop

    def close(self, is_reset: bool = False) -> None:
        """Release everything. The socket itself goes at the end of the turn, so that no late event meets its number."""
        sock, self.sock = self.sock, None
        if sock is None:
            return
        shared = self.shared
        if self.is_watched:
            self.is_watched = False
            shared.reactor.unregister(self.fd)
        self.mask = 0
        if is_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        shared.reactor.call_soon(sock.close)
        self.send = self.recv_into = _discard
        self.observe_in = self.observe_out = None
        self.release_backlog()
        if self.bucket is not None:
            Wheel.cancel(self)
        self.peer = self.out = None
        self.service.on_flow_closed(self)

    def half_closed(self) -> None:
        """One direction has ended: the limit for the other begins."""
        limit_s = self.service.half_close_timeout_s
        if limit_s and not self.ends_at:
            self.ends_at = self.shared.reactor.now + limit_s
            self.shared.wheel.schedule(self, limit_s)

    def linger(self) -> None:
        """The consumer has given up: the flow ends with what still comes, or soon."""
        self.lingers = True
        self.probe_octets = self.delivered()
        self.ends_at = self.shared.reactor.now + LINGER_S
        self.shared.wheel.schedule(self, LINGER_S)

    def delivered(self) -> int:
        """Return how many octets the other end of the socket has acknowledged: seen sooner than room to write."""
        return self.written - unacknowledged(self.fd)

    def start_idle_clock(self) -> None:
        """Watch for silence, if the service has a limit."""
        if self.service.idle_timeout_s and not self.ends_at:
            self.idle_since = self.shared.reactor.now
            self.idle_octets = self.sent + self.written
            self.shared.wheel.schedule(self, self.service.idle_timeout_s / 4)

    def on_deadline(self, now: float) -> None:
        """The wheel's call: end the flow, or look again later."""
        if self.ends_at and now >= self.ends_at:
            self.service.timed_out += not self.lingers
            self.on_timeout()
            return
        octets = self.sent + self.written
        if octets != self.idle_octets:
            self.idle_octets = octets
            self.idle_since = now
        idle_s = self.service.idle_timeout_s
        if idle_s and now - self.idle_since >= idle_s:
            self.service.timed_out += 1
            self.drop(is_reset=True)
            return
        wait = idle_s / 4 if idle_s else self.ends_at - now
        self.shared.wheel.schedule(self, min(wait, self.ends_at - now) if self.ends_at else wait)

    def on_timeout(self) -> None:
        """The half-close limit or the time to linger is over. Without a reset the other end would not hear of it."""
        if self.lingers and self.backlog is not None and self.delivered() != self.probe_octets:
            self.linger()  # it is being read, if slowly
        else:
            self.drop(is_reset=not self.lingers)

    # --- records of observability -------------------------------------------------------------------------------------

    def tell_next(self) -> None:
        """Have the next octets of each direction told to the recorder, once: other reads and writes pay nothing."""
        if self.sock is None:
            return
        if not self.read_done:
            self.recv_into = self.read_told
        if not self.output_done:
            self.send = self.write_told

    def socket_calls(self) -> tuple[Callable[..., int], Callable[[memoryview | bytes | bytearray], int]]:
        """Return what reads and what writes."""
        assert self.sock is not None
        return self.sock.recv_into, self.sock.send

    def read_told(self, *where: Any) -> int:
        """Stand in for `recv_into` until octets have come."""
        receive = self.socket_calls()[0]
        count = receive(*where)
        if count and self.record is not None:
            self.recv_into = receive
            self.shared.recorder.on_octets(self.record, is_towards_server=self.direction == "in")
        return count

    def write_told(self, data: memoryview | bytes | bytearray) -> int:
        """Stand in for `send` until octets were taken."""
        send = self.socket_calls()[1]
        count = send(data)
        if self.record is not None:
            self.send = send
            self.shared.recorder.on_octets(self.record, is_towards_server=self.direction == "out")
        return count

    def force_close(self) -> None:
        """Cut by management."""
        self.drop()

    def encryption(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity that tell about TLS."""
        return {}

    def management_row(self) -> dict[str, Any]:
        """Return the attributes of the `connection` entity (section 10.2)."""
        local = ""
        if self.sock is not None:
            try:
                local = host_and_port(self.sock.getsockname())
            except OSError:
                local = ""
        return self.service.connection_row(self, host_and_port(self.remote), local)
