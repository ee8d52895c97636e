"""One stream's two windows: what may still be sent, and what the other end may still send.

Layer: 4, no input or output of its own. Source: RFC 9113, section 5.2 and 6.9. The window that the other end has opens
only as octets are taken by who they are for, so a service that reads slowly holds its own client, and nobody else: the
connection's window is given back as octets come, since the windows of its streams bound what they can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vanrouter.adaptors.http2_frames import DATA, END_STREAM, ErrorCode, ResetError, frame_header, window_update
from vanrouter.adaptors.http_exchange import Header

if TYPE_CHECKING:
    from vanrouter.adaptors.http2_connection import Connection

FIRST_WINDOW_BYTES = 65_535
"""Of each stream to begin with: what RFC 9113 has when nobody says otherwise."""
LARGEST_WINDOW_BYTES = 1024 * 1024
"""What a stream can earn, doubling with each half window that was taken."""
EXTRA_BYTES = 8 * 1024 * 1024
"""What all streams of a connection can earn together, beyond what each begins with."""


class Stream:
    """One stream of a connection. `http2_server` and `http2_client` have its two kinds."""

    __slots__ = (
        "connection",
        "expected",
        "held",
        "id",
        "is_local_ended",
        "is_open",
        "is_remote_ended",
        "is_waiting",
        "pending",
        "pending_end",
        "receive_window",
        "send_window",
        "uncredited",
        "wants_writable",
        "window",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.is_open = True
        """False: over, for whichever reason; late calls of either side are ignored."""
        self.is_local_ended = False
        self.is_remote_ended = False
        # What goes out.
        self.send_window = connection.peer_window
        self.pending: bytearray | None = None
        """Octets that a window or the transport did not take."""
        self.pending_end: Sequence[Header] | None = None
        """Trailers, also none, to be sent behind the octets that wait."""
        self.is_waiting = False
        """In the connection's queue of those that go on when it can send again."""
        self.wants_writable = False
        # What comes in.
        self.window = self.receive_window = FIRST_WINDOW_BYTES
        self.uncredited = 0
        """Octets taken that the other end has not been told of."""
        self.held = 0
        """Octets passed on to who asked for silence: not taken yet."""
        self.expected = -1
        """Octets of the body still to come, where its length is known; -1: not known."""

    # --- out ----------------------------------------------------------------------------------------------------------

    def send_data(self, data: bytes | memoryview) -> bool:
        """Send octets as far as the windows go, keep the rest; False asks for silence until `on_sendable`."""
        connection = self.connection
        size = len(data)
        if self.pending is None:
            if connection.is_blocked or size > self.send_window or size > connection.sendable:
                self.pending = bytearray(data)
            elif size:
                self.send_window -= size
                connection.send_window -= size
                connection.send_data_frame(self.id, data)
        else:
            self.pending += data
        if self.pending is not None:
            self.send_pending()
        if self.pending is None and not connection.is_blocked:
            return True
        self.wants_writable = True
        connection.wait(self)
        return False

    def send_last(self, data: bytes | memoryview) -> None:
        """Send octets and the end of this direction, in one frame where the windows allow it."""
        connection = self.connection
        size = len(data)
        if self.pending is not None or connection.is_blocked or size > self.send_window or size > connection.sendable:
            self.send_data(data)
            self.send_end(())
            return
        self.send_window -= size
        connection.send_window -= size
        self.is_local_ended = True
        connection.send_data_frame(self.id, data, END_STREAM)
        self.on_local_end()

    def send_pending(self) -> None:
        """Send what waits, as far as the windows go."""
        connection = self.connection
        while self.pending and not connection.is_blocked and self.send_frame():
            pass

    def send_frame(self) -> bool:
        """Send one frame of what waits; False when a window is shut."""
        connection, pending = self.connection, self.pending
        assert pending is not None
        size = min(self.send_window, connection.sendable, len(pending))
        if size <= 0:
            return False
        self.send_window -= size
        connection.send_window -= size
        connection.send_data_frame(self.id, pending[:size])
        if size == len(pending):
            self.pending = None
        else:
            del pending[:size]
        return True

    def send_end(self, trailers: Sequence[Header]) -> None:
        """End this direction, behind what waits."""
        if self.pending:
            self.pending_end = trailers
            self.connection.wait(self)
            return
        self.is_local_ended = True
        if trailers:
            self.connection.send_headers(self.id, trailers, END_STREAM)
        else:
            self.connection.emit(frame_header(0, DATA, END_STREAM, self.id))
        self.on_local_end()

    def go_on(self) -> None:
        """The connection can send again: a frame of what waits, then whatever was to follow."""
        if self.pending:
            self.send_frame()
            if self.pending:
                if self.send_window > 0:
                    self.connection.wait(self)
                return
        if self.pending_end is not None:
            trailers, self.pending_end = self.pending_end, None
            self.send_end(trailers)
        elif self.wants_writable:
            self.wants_writable = False
            self.on_sendable()

    def enlarge(self, increment: int) -> None:
        """The other end lets us send more, or less after a change of its settings.

        Raises:
            ResetError: more than there can be.
        """
        self.send_window += increment
        if self.send_window > 0x7FFF_FFFF:
            raise ResetError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
        if self.pending and self.send_window > 0:
            self.connection.wait(self)

    def on_sendable(self) -> None:
        """Octets can be sent again."""
        raise NotImplementedError

    def on_local_end(self) -> None:
        """This direction has ended."""
        raise NotImplementedError

    # --- in -----------------------------------------------------------------------------------------------------------

    def charge(self, octets: int, size: int) -> None:
        """Count what has come against window and length.

        Args:
            octets: with padding.
            size: without.

        Raises:
            ResetError: more than was allowed, or than the head said.
        """
        self.receive_window -= octets
        if self.receive_window < 0:
            raise ResetError(ErrorCode.FLOW_CONTROL_ERROR, "more octets than the stream's window")
        if self.expected >= 0:
            self.expected -= size
            if self.expected < 0:
                raise ResetError(ErrorCode.PROTOCOL_ERROR, "more octets than content-length says")

    def credit(self, octets: int) -> None:
        """So many octets were taken: let the other end send as many again, now and then more."""
        self.uncredited += octets
        if self.uncredited < self.window >> 1 or self.is_remote_ended or not self.is_open:
            return
        increment = self.uncredited
        self.uncredited = 0
        window = self.window
        if window < LARGEST_WINDOW_BYTES and self.connection.extra_bytes + window <= EXTRA_BYTES:
            self.connection.extra_bytes += window
            increment += window
            self.window = window * 2
        self.receive_window += increment
        self.connection.emit(window_update(self.id, increment))

    def credit_held(self) -> None:
        """Who asked for silence takes octets again."""
        held, self.held = self.held, 0
        if held:
            self.credit(held)

    def check_complete(self) -> None:
        """The other end has ended its direction.

        Raises:
            ResetError: before the length that it had announced.
        """
        if self.expected > 0:
            raise ResetError(ErrorCode.PROTOCOL_ERROR, "fewer octets than content-length says")

    # --- what the connection tells ------------------------------------------------------------------------------------

    def take_data(self, data: bytes | memoryview, octets: int) -> None:
        """Octets of the body; `octets` of the windows with them."""
        raise NotImplementedError

    def take_last(self, data: bytes | memoryview) -> None:
        """The last octets of the body: the other end has ended its direction."""
        raise NotImplementedError

    def take_end(self, trailers: Sequence[Header]) -> None:
        """The other end has ended its direction."""
        raise NotImplementedError

    def take_reset(self, code: int) -> None:
        """The other end has broken the stream off."""
        raise NotImplementedError

    def take_fault(self, fault: ResetError) -> None:
        """The other end has broken the stream's protocol; it has been reset."""
        raise NotImplementedError

    def take_loss(self, is_refused: bool) -> None:
        """The connection is gone. `is_refused`: nothing of this stream has been looked at."""
        raise NotImplementedError
