"""The streaming links of a connection: taken from a pool, given back, and their memory with them.

Layer: 3. Source: router protocol, section 2.5. A link carries one stream at a time. Idle links are kept for the next
streams and detached by and by when they are many; a data connection that was large is replaced when it is idle.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from vanrouter.core.links import LinkKind, Sender
from vanrouter.core.memory_bound import buffer_size
from vanrouter.core.peer import Role
from vanrouter.engine import proton

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection

RETIRED_LINKS = 512
"""A data connection that had so many links attached at a time is replaced when it has no stream open."""

RETIRED_BYTES = 8 << 20
"""The same if the engine's buffers for its deliveries have become so large: they never shrink."""

BUSY_LINKS = 256
BUSY_BYTES_PER_S = 24 << 20
"""With so many links attached, or so many octets a second in both directions, the next stream had better take another
connection of the group. 25,000 requests a second and their answers are a third of that; a bulk flow is many times it,
and a small one behind it would wait."""

LOOK_S = 0.25
LONGEST_LOOK_S = 1.0
"""The octets are counted over so long at least; over more they count as if it had been the second."""

ENDED_AT_ONCE = 512
ENDS_PAUSE_S = 0.001
"""Links of such a connection that are ended in a turn, and the pause from one to the next: 5,000 at once took 20 ms."""

IDLE_STREAM_LINKS = 128
"""Streaming links kept for reuse on a connection; more are detached by and by (section 2.5)."""


class StreamLinks:
    """The streaming links that this router has attached on one connection, and those that stand idle."""

    __slots__ = (
        "_connection",
        "_had_many_octets",
        "_look_at",
        "_octets",
        "_private",
        "_shared",
        "buffer_bytes",
        "buffers",
        "is_retiring",
        "most_links",
        "session",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._look_at = 0.0
        self._octets = 0
        self._had_many_octets = False
        self._shared: deque[Sender] = deque()
        self._private: deque[Sender] = deque()
        """Idle links in the common session, and those with a session of their own."""
        self.session: Any = None
        """The session of streams that bring a window of their own; begun with the first of them."""
        self.most_links = 0
        """Most links that were attached at a time: what the engine has memory for until the connection ends."""
        self.buffers: dict[Any, int] = {}
        """Size of the engine's larger buffers, by delivery; the next delivery there gets the buffer as it is. That for
        frames by the transport."""
        self.buffer_bytes = 0
        self.is_retiring = False
        """A data connection that takes no new streams and ends with the last one."""

    @property
    def idle(self) -> int:
        """Idle links of the larger pool."""
        return max(len(self._shared), len(self._private))

    def is_busy(self) -> bool:
        """Say whether the next stream had better take another connection of the group, if there is one."""
        connection = self._connection
        engine = connection.engine
        now = connection.loop.now
        passed_s = now - self._look_at
        if passed_s >= LOOK_S:
            octets = engine.bytes_in + engine.bytes_out
            self._had_many_octets = octets - self._octets > BUSY_BYTES_PER_S * min(passed_s, LONGEST_LOOK_S)
            self._look_at = now
            self._octets = octets
        links = len(connection.receivers) + len(connection.senders)
        return self._had_many_octets or engine.blocked or links >= BUSY_LINKS

    def note_link(self) -> None:
        """A link of whatever kind was attached to the connection."""
        links = len(self._connection.receivers) + len(self._connection.senders)
        if links > self.most_links:
            self.most_links = links

    def clear(self) -> None:
        """The connection is over."""
        self._shared.clear()
        self._private.clear()
        self._connection.engine.frees_beside = self.most_links >= RETIRED_LINKS
        router = self._connection.router
        router.memory.add_engine(-self.buffer_bytes)
        router.trimmer.note_ends(len(self.buffers))
        self.buffers.clear()
        self.buffer_bytes = 0

    def note_buffer(self, pn: Any, octets: int) -> int:
        """So many octets have waited in a delivery: return how large the engine's buffer for it is at least."""
        size = self.buffers.get(pn, 0)
        if size >= octets or self._connection.is_closed:
            return max(size, octets)
        grown = buffer_size(octets)
        self.buffers[pn] = grown
        self.buffer_bytes += grown - size
        self._connection.router.memory.add_engine(grown - size)
        return grown

    @property
    def is_large(self) -> bool:
        """The engine has more memory for it than an idle connection should."""
        return self.most_links >= RETIRED_LINKS or self.buffer_bytes >= RETIRED_BYTES

    def retire(self) -> None:
        """Have this data connection end, so that the connector makes a fresh one (the connector's side).

        The engine keeps the memory of as many links and deliveries as were ever open at a time. The end of our session
        tells a vanrouter peer to begin no more streams here and to close when it has none open; so none is cut off.
        """
        self.leave_group()
        session, self.session = self.session, None
        if session is not None:
            self._shared.clear()
            self._end(session, [found for found in self._connection.senders.values() if found.session == session])

    def _end(self, session: Any, senders: list[Sender]) -> None:
        """End the links of a session, some in each turn, and the session with the last."""
        connection = self._connection
        if connection.is_closed or session not in connection.sessions:  # the peer has ended it, and it was freed
            return
        for sender in senders[-ENDED_AT_ONCE:]:
            connection.end_sender(sender)
        del senders[-ENDED_AT_ONCE:]
        if senders:
            connection.loop.call_later(ENDS_PAUSE_S, partial(self._end, session, senders))
            return
        proton.session_close(session)
        connection.loop.dirty.add(connection.engine)

    def leave_group(self) -> None:
        """Begin no more streams here."""
        self.is_retiring = True
        if self._connection.parent is not None and self._connection in self._connection.parent.trunks:
            self._connection.parent.trunks.remove(self._connection)

    @property
    def may_retire(self) -> bool:
        """It is worth replacing when it has no stream open, and the peer understands how."""
        return (
            self._connection.role is Role.INTER_ROUTER_DATA
            and self._connection.is_outbound
            and not self.is_retiring
            and self._connection.peer.is_vanrouter
            and self.is_large
            and self.session is not None
        )

    @property
    def can_retire(self) -> bool:
        """It has none."""
        return self.may_retire and not self._connection.outgoing and not self._connection.incoming

    def close_if_retired(self) -> None:
        """End a retiring connection when its last stream has (the listener's side)."""
        connection = self._connection
        if self.is_retiring and not connection.is_outbound and not connection.outgoing and not connection.incoming:
            connection.close()

    def acquire(self, *, owns_window: bool) -> Sender:
        """Return an idle streaming link, or a new one (section 2.5).

        Args:
            owns_window: the stream is always drained at its far end and may share a session; otherwise its link has a
                session of its own, so that a reader that stops holds up nobody else.
        """
        pool = self._shared if owns_window else self._private
        while pool:
            sender = pool.popleft()
            if not sender.closed:
                return sender
        if not owns_window:
            session = self._connection.new_session()
        else:
            if self.session is None:
                self.session = self._connection.new_session()
            session = self.session
        capability = "qd.router-data" if self._connection.role is Role.INTER_ROUTER else None
        sender = self._connection.attacher.attach_sender(session, LinkKind.STREAM, None, capability)
        sender.source_text = None if owns_window else ""
        return sender

    def release(self, sender: Sender) -> None:
        """A stream has ended: its link can take the next one."""
        if self.is_retiring:
            self._connection.loop.call_soon(self.close_if_retired)
        sender.update_ready()
        if sender.closed:
            return
        pool = self._shared if sender.source_text is None else self._private
        if len(pool) >= IDLE_STREAM_LINKS * 8 and not sender.unsettled:
            self._connection.detach(sender)
            return
        pool.append(sender)
        self._connection.router.scrub_later(self._connection)

    def scrub(self, kept: int, at_once: int) -> int:
        """Detach up to `at_once` of the idle streaming links beyond `kept` of each kind; return how many."""
        detached = 0
        for pool in (self._shared, self._private):
            for _ in range(min(at_once, max(0, len(pool) - kept))):
                sender = pool.popleft()
                if sender.unsettled:  # its last stream waits for its outcome
                    pool.append(sender)
                elif not sender.closed:
                    self._connection.detach(sender)
                    detached += 1
        return detached
