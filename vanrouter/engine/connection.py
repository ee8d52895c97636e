"""The pump between a byte channel and Proton's engine: push what was read, hand out events, write once a turn.

Layer: 2. A channel is a connected non-blocking socket or whatever has its `recv_into`, `send`, `fileno` and `close`.
The handler (the core's connection) is called directly for each event; see `Handler`.

What is written: `flush` gathers the output of the engine into one buffer and sends it with one call. Only what the
socket refuses is kept, and while it refuses nothing is asked of the engine: deliveries then wait inside it, flow by
flow, and their senders see that (`delivery_pending`), so that no flow can queue more than its share.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from vanrouter.engine import proton
from vanrouter.engine.proton import (
    EVENT_CONNECTION_REMOTE_CLOSE,
    EVENT_CONNECTION_REMOTE_OPEN,
    EVENT_LINK_FLOW,
    EVENT_LINK_REMOTE_CLOSE,
    EVENT_LINK_REMOTE_DETACH,
    EVENT_LINK_REMOTE_OPEN,
    EVENT_SESSION_REMOTE_CLOSE,
    EVENT_SESSION_REMOTE_OPEN,
    EVENT_TRANSPORT_TAIL_CLOSED,
    collector_peek,
    collector_pop,
    event_delivery,
    event_link,
    event_type,
    from_buffer,
    transport_peek,
    transport_pending,
    transport_pop,
    transport_push,
)
from vanrouter.engine.sasl import UNEXPECTED, is_undecided

logger = logging.getLogger(__name__)

READ_BYTES = 256 * 1024
"""Octets taken from a socket in a turn at most."""

LEAST_READ_BYTES = 16 * 1024
"""The same of a connection whose messages cannot go on; it doubles with each turn in which all of them could."""

WRITE_BYTES = 256 * 1024
"""Octets gathered for one `send`."""

TURN_S = 0.01
UNASKED_EVENTS = range(16)
DROPPED_EVENTS = range(256)
"""A turn that has lasted so long goes on with everybody else; the clock is asked after so many events, or so many that
are only dropped. One may be a whole new flow, and 256 KiB hold the headers, or the ends, of a thousand."""

CLOSE_GRACE_S = 2.0
"""How long a peer may take to answer our CLOSE before the socket is shut."""

TICK_TOGETHER_MS = 3000
"""Keep-alives that are so far away are sent together with others."""

UNOPENED = ("amqp:not-allowed", "a session before the OPEN")

READABLE = 0x001
WRITABLE = 0x004
"""EPOLLIN and EPOLLOUT: part of the kernel's interface, named here so that the engine needs no event loop's module."""

# Shared by all connections: the loop is one thread, and nothing stays in them between two calls.
_inbuf = bytearray(READ_BYTES)
_inptr = from_buffer("char[]", _inbuf)
_outbuf = bytearray(WRITE_BYTES)
_outptr = from_buffer("char[]", _outbuf)
_outview = memoryview(_outbuf)


class Channel(Protocol):
    """What octets come from and go to: a non-blocking socket, or a layer that looks like one."""

    def recv_into(self, buffer: bytearray, limit: int = 0, /) -> int:
        """Fill `buffer`, or its first `limit` octets where a socket keeps the rest."""
        ...

    def send(self, data: memoryview, /) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Loop(Protocol):
    """What the pump needs of the event loop."""

    now: float
    """At the beginning of this turn."""
    dirty: set[Any]

    @property
    def clock(self) -> Callable[[], float]:
        """What tells the time."""

    def register(self, fd: int, callback: Callable[[int], object], mask: int, *, first: bool = False) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Any: ...
    def call_soon(self, callback: Callable[[], object]) -> None: ...
    def run_in_thread(self, work: Callable[[], Any], done: Callable[[Any], object]) -> None: ...


class Handler(Protocol):
    """Told of everything that happens on a connection; pointers are the engine's."""

    def on_remote_open(self) -> None: ...
    def on_remote_close(self) -> None: ...
    def on_session_open(self, session: Any) -> None: ...
    def on_session_close(self, session: Any) -> None: ...
    def on_link_open(self, link: Any) -> None: ...
    def on_link_close(self, link: Any, closed: bool) -> None:
        """The peer's detach; `closed` is its flag of that name."""

    def on_delivery(self, delivery: Any) -> object:
        """Something has happened to a delivery.

        A true answer: this event has been taken from the collector, with some after it that have been served as well.
        """

    def on_flow(self, link: Any) -> None:
        """The peer has said something of a link's credit."""

    def before_flush(self) -> None:
        """The turn's last chance to queue something, such as the credit collected in it."""

    def on_sent(self) -> None:
        """Deliveries, or octets of them, have gone out in this turn. Called once for all of them."""

    def on_writable(self) -> None:
        """Everything queued has been written; flows that were held may go on."""

    def on_lost(self, condition: tuple[str, str] | None) -> None:
        """The connection is over, with the error condition if there was one. Called once, before anything is freed."""


def _ignore(_pointer: Any) -> None:
    """What a freed connection does with an event."""


def _free_objects(connection: Any, collector: Any) -> None:
    """Free what nobody knows of any more, in whichever thread: the interpreter is not needed meanwhile."""
    proton.connection_release(connection)
    proton.decref(connection)
    proton.collector_free(collector)


class EngineConnection:
    """One AMQP connection: engine objects, channel, and the pump between them."""

    __slots__ = (
        "_close_timer",
        "_on_delivery",
        "_on_flow",
        "_tick_timer",
        "blocked",
        "bytes_in",
        "bytes_out",
        "can_wait",
        "channel",
        "close_condition",
        "closing",
        "collector",
        "comes_first",
        "connection",
        "fd",
        "frees_beside",
        "handler",
        "has_opened",
        "heard_at",
        "is_behind",
        "leftover",
        "loop",
        "lost",
        "read_bytes",
        "reads_less",
        "requires_auth",
        "transport",
    )

    def __init__(self, loop: Loop, channel: Channel, handler: Handler, *, is_server: bool) -> None:
        """Make the engine's objects. Set them up (SASL, TLS, open fields), then call `start`."""
        self.loop = loop
        self.channel = channel
        self.fd = channel.fileno()
        self.handler = handler
        self._on_delivery: Callable[[Any], object] = handler.on_delivery
        self._on_flow: Callable[[Any], None] = handler.on_flow
        self.blocked = False
        self.has_opened = False
        """The peer's OPEN has come, and counts."""
        self.requires_auth = False
        """An OPEN of a peer that is not authenticated counts for nothing."""
        self.is_behind = False
        """Events wait for the next turn; nothing is read or written before."""
        self.comes_first = False
        """Many others hang on it: it does not wait until each of them was served."""
        self.can_wait = False
        """Nobody's way but its own goes through it: while others are served it may be written to later."""
        self.read_bytes = READ_BYTES
        """What is taken from the socket next at most."""
        self.reads_less = False
        """It may: not a router's, which others would wait for, nor a channel's that has taken octets from the socket
        already, as TLS has."""
        self.leftover: memoryview | None = None
        self.lost = False
        self.closing = False
        self.frees_beside = False
        """The engine has so many objects for it that freeing them would hold the loop."""
        self.close_condition: tuple[str, str] | None = None
        """What our CLOSE says is wrong."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.heard_at = loop.now
        """When octets last came."""
        self._tick_timer: Any = None
        self._close_timer: Any = None
        self.connection = proton.connection_new()
        self.collector = proton.collector_new()
        self.transport = proton.transport_new()
        proton.connection_collect(self.connection, self.collector)
        if is_server:
            proton.transport_set_server(self.transport)

    def rebind(self) -> None:
        """The handler has got another `on_delivery`."""
        self._on_delivery = self.handler.on_delivery

    def start(self) -> None:
        """Begin to exchange octets."""
        proton.transport_bind(self.transport, self.connection)
        self.loop.register(self.fd, self.on_ready, READABLE, first=self.comes_first)
        self._tick()
        self.loop.dirty.add(self)

    def on_ready(self, mask: int) -> None:
        """Serve the socket once."""
        if mask & WRITABLE and self.blocked:
            self._write_leftover()
        if mask & ~WRITABLE and not self.lost and not self.is_behind:
            self._read()

    def _read(self) -> None:
        try:
            count = self.channel.recv_into(_inbuf, self.read_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            self._end_of_input(str(error))
            return
        if count == 0:
            self._end_of_input("connection aborted")
            return
        if self.read_bytes < READ_BYTES:
            self.read_bytes *= 2
        self.bytes_in += count
        self.heard_at = self.loop.now
        self.loop.dirty.add(self)
        transport = self.transport
        done = 0
        while done < count:
            taken = transport_push(transport, _inptr + done, count - done)
            if taken <= 0:  # the engine takes no more: an error, or the peer has closed; what it has to say goes out
                self._process_all()
                self._finish()
                return
            done += taken
        # Once for all that was read: octets of one delivery that came in several frames are handed on together.
        self.process()

    def _objection(self) -> tuple[str, str] | None:
        """Say why an OPEN does not count: within SASL or where that failed, or without it where it is required."""
        transport = self.transport
        if is_undecided(transport):
            return UNEXPECTED
        has_failed = proton.sasl_outcome(proton.sasl_new(transport)) not in (proton.SASL_UNKNOWN, proton.SASL_OK)
        if has_failed or (self.requires_auth and not proton.transport_is_authenticated(transport)):
            return proton.condition_text(proton.transport_condition(transport)) or UNEXPECTED
        return None

    def read_less(self) -> None:
        """What came in has to wait here: what goes on has its turns first, and producers their sockets to wait in."""
        if self.reads_less:
            self.read_bytes = LEAST_READ_BYTES

    def _end_of_input(self, reason: str) -> None:
        proton.transport_close_tail(self.transport)
        self._process_all()
        self.drop(proton.condition_text(proton.transport_condition(self.transport)) or ("", reason))

    def process(self) -> bool:
        """Hand out the events that the engine has collected; False: not all, for want of time or connection."""
        collector = self.collector
        on_delivery = self._on_delivery
        while True:
            for _ in UNASKED_EVENTS:
                event = collector_peek(collector)
                if not event:
                    return True
                delivery = event_delivery(event)  # NULL for any other event: to ask for the type first is one call more
                if delivery:
                    if on_delivery(delivery) and not self.lost:
                        break  # a run: what it took is seen at once
                else:
                    kind = event_type(event)
                    if kind == EVENT_LINK_FLOW:
                        self._on_flow(event_link(event))
                    else:
                        self._on_rare_event(kind, event)
                        on_delivery = self._on_delivery  # after an OPEN it may be another
                if self.lost:
                    return False
                collector_pop(collector)
            if self._is_overdue():
                return False

    def _process_all(self) -> None:
        """Hand out all events: there may be no other turn."""
        while not self.process() and not self.lost:
            self.is_behind = False

    def _go_on(self) -> None:
        if self.is_behind and not self.lost:
            self.is_behind = False
            self.process()
            self.loop.dirty.add(self)

    def _on_rare_event(self, kind: int, event: Any) -> None:
        handler = self.handler
        if kind == EVENT_LINK_REMOTE_OPEN:
            handler.on_link_open(event_link(event))
        elif kind == EVENT_LINK_REMOTE_CLOSE:
            handler.on_link_close(event_link(event), True)
        elif kind == EVENT_LINK_REMOTE_DETACH:
            handler.on_link_close(event_link(event), False)
        elif kind == EVENT_SESSION_REMOTE_OPEN:
            if not self.has_opened:  # the engine does not ask for one, and whatever decides about peers does it there
                self.drop(UNEXPECTED if is_undecided(self.transport) else UNOPENED)
                return
            handler.on_session_open(proton.event_session(event))
        elif kind == EVENT_SESSION_REMOTE_CLOSE:
            handler.on_session_close(proton.event_session(event))
        elif kind == EVENT_CONNECTION_REMOTE_OPEN:
            objection = self._objection()
            if objection is not None:
                self.drop(objection)
                return
            self.has_opened = True
            handler.on_remote_open()
            self._tick()
        elif kind == EVENT_CONNECTION_REMOTE_CLOSE:
            handler.on_remote_close()
        elif kind == EVENT_TRANSPORT_TAIL_CLOSED:
            # The engine stops to read, without a word, at a performative that AMQP, or SASL, does not have.
            if is_undecided(self.transport):
                self.drop(UNEXPECTED)
            elif not proton.connection_state(self.connection) & proton.REMOTE_CLOSED:
                self.close(("amqp:not-implemented", "frame that AMQP 1.0 does not have"))

    def flush(self) -> None:
        """Write what the turn has queued, with as few calls as the socket allows."""
        if self.lost or self.blocked or self.is_behind:
            return
        self.handler.before_flush()
        if not self.process():
            return
        transport = self.transport
        collector = self.collector
        while not self.lost:
            total = 0
            while total < WRITE_BYTES:
                count = transport_pending(transport)
                if count <= 0:
                    break
                count = transport_peek(transport, _outptr + total, min(count, WRITE_BYTES - total))
                if count <= 0:
                    break
                transport_pop(transport, count)
                total += count
            if total == 0:
                if count < 0:
                    self._output_ended()
                break
            is_taken = self._send(_outview[:total])
            event = collector_peek(collector)
            if event:
                # What the engine says of its own output: this link has sent, and that one. One look is enough.
                has_sent = event_type(event) == EVENT_LINK_FLOW
                is_rest = self._drop_events()
                if has_sent and not self.lost:
                    self.handler.on_sent()
                if is_rest:
                    return
            if not is_taken:
                return
            if total < WRITE_BYTES and count == 0:
                break
        if not self.lost:
            self.handler.on_writable()

    def _drop_events(self) -> bool:
        """Forget what the engine says of its own output; True: for want of time some of it goes the way of all events.

        The last event of a link frees it, and with thousands of others in its session that takes 15 us.
        """
        collector = self.collector
        while True:
            for _ in DROPPED_EVENTS:
                if not collector_pop(collector):
                    return False
            if self._is_overdue():
                return True

    def _is_overdue(self) -> bool:
        """Tell whether this turn has lasted long; then this connection goes on in the next one."""
        loop = self.loop
        lasted_s = loop.clock() - loop.now
        if lasted_s <= TURN_S:
            return False
        self.is_behind = True
        loop.call_later(lasted_s, self._go_on)  # from now: what is due at the turn's beginning is still in it
        return True

    def flush_later(self) -> None:
        """Have it flushed in the next turn."""
        self.loop.call_later(0.0, lambda: self.loop.dirty.add(self))

    def _send(self, data: memoryview) -> bool:
        """Send; keep what the socket refuses and answer False."""
        try:
            sent = self.channel.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.drop(("", str(error)))
            return False
        self.bytes_out += sent
        if sent == len(data):
            return True
        # What has been left once is ours already; a copy of the rest each time would be most of a slow peer's cost.
        self.leftover = data[sent:] if self.blocked else memoryview(bytes(data[sent:]))
        if not self.blocked:
            self.blocked = True
            self.loop.modify(self.fd, READABLE | WRITABLE)
        return False

    def _write_leftover(self) -> None:
        leftover = self.leftover
        if leftover is not None and not self._send(leftover):
            return
        self.leftover = None
        self.blocked = False
        self.loop.modify(self.fd, READABLE)
        self.loop.dirty.add(self)

    def _finish(self) -> None:
        """No more input will be taken: say what is left to say, then end."""
        if not self.lost:
            self.flush()
        if not self.lost:
            self.drop(proton.condition_text(proton.transport_condition(self.transport)))

    def _output_ended(self) -> None:
        """Our CLOSE, or an error's last frame, has gone out."""
        state = proton.connection_state(self.connection)
        error = proton.condition_text(proton.transport_condition(self.transport))
        if error is not None or state & proton.REMOTE_CLOSED:
            self.drop(error)

    def close(self, condition: tuple[str, str] | None = None) -> None:
        """Send CLOSE, with an error condition if given; the socket is shut when the peer has answered or in 2 s."""
        if self.lost or self.closing:
            return
        self.closing = True
        self.close_condition = condition
        if condition is not None:
            proton.set_condition(proton.connection_condition(self.connection), *condition)
        proton.connection_close(self.connection)
        self.loop.dirty.add(self)
        self._close_timer = self.loop.call_later(CLOSE_GRACE_S, self._close_overdue)

    def _close_overdue(self) -> None:
        if not self.lost:
            self.drop(None)

    def on_crash(self) -> None:
        """A handler raised (the loop's crash boundary): end this connection only."""
        self.drop(("amqp:internal-error", "internal error"))

    def drop(self, condition: tuple[str, str] | None = None) -> None:
        """End at once: tell the handler, close the channel, free the engine's objects after this turn."""
        if self.lost:
            return
        self.lost = True
        for timer in (self._tick_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self.loop.unregister(self.fd)
        try:
            self.handler.on_lost(condition)
        finally:
            self.leftover = None
            # Only after the turn: no late event of it may meet a new socket of the same number, or freed memory.
            self.loop.call_soon(self._free)

    def _free(self) -> None:
        self.loop.dirty.discard(self)
        self.channel.close()
        proton.transport_unbind(self.transport)
        proton.decref(self.transport)
        if self.frees_beside:
            free = partial(_free_objects, self.connection, self.collector)
            self.loop.run_in_thread(free, _ignore)
        else:
            _free_objects(self.connection, self.collector)
        self.transport = self.connection = self.collector = None
        # The handler and its links go with the last reference to them, not with the collector's next visit.
        self._on_delivery = self._on_flow = _ignore

    def _tick(self) -> None:
        """Have the engine send keep-alives and notice a silent peer; it says when to come again."""
        if self.lost:
            return
        now_ms = int(self.loop.now * 1000)
        deadline_ms = proton.transport_tick(self.transport, now_ms)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None
        if deadline_ms > 0:
            self._tick_timer = self.loop.call_later(_tick_after(deadline_ms, now_ms), self._tick)
        self.loop.dirty.add(self)


def _tick_after(deadline_ms: int, now_ms: int) -> float:
    """Return when to tick next, in seconds from now: at the next full second after the deadline when it is far away.

    So all idle connections of a router are served in one turn, and each of its peers gets their frames in one. What is
    due by then, a keep-alive at half of the peer's idle time-out at the latest, may be so late.
    """
    wait_ms = deadline_ms - now_ms
    if wait_ms >= TICK_TOGETHER_MS:
        wait_ms += -deadline_ms % 1000
    return max(0.05, wait_ms / 1000)
