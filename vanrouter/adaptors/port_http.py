"""One connection of the HTTP port: requests one after the other, answers as the socket takes them, or an upgrade.

Layer: 4. Source: management.md section 13; RFC 9112. Parsing is h11's: a request here comes every few seconds, not
thousands of times a second, and h11 is strict and plain Python. Each phase has a deadline; a client that is slow in any
of them is cut, and nobody else waits for it.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from wsproto.frame_protocol import CloseReason

from vanrouter.adaptors.port_messages import OpenFile, Request, Response, path_of, plain
from vanrouter.adaptors.port_websocket import Upgrade, WebSocketChannel, closing_frame, upgrade_of
from vanrouter.adaptors.port_wire import Wire
from vanrouter.net.reactor import ERROR, IN, OUT, Timer
from vanrouter.net.tls import Tls

if TYPE_CHECKING:
    from vanrouter.adaptors.port import Port

logger = logging.getLogger("vanrouter.adaptors.port")

SERVER = "skupper-router"
"""Server header that tools know (management.md section 13)."""

MAX_HEAD_BYTES = 16 * 1024
"""Of a request line with its headers: more is refused with 431."""

MAX_BODY_BYTES = 64 * 1024
"""Of a request, thrown away; nothing here needs one."""

REQUEST_S = 10.0
"""For a request to come whole, its TLS handshake included."""

IDLE_S = 60.0
"""Between two requests of a connection: four scrapes at the usual interval."""

WRITE_S = 30.0
"""For a client to take a piece of an answer."""

LINGER_S = 2.0
"""After the last answer, for the client to close first: a reset would take the answer from it."""

FILE_PIECE_BYTES = 256 * 1024
"""Of a file, read beside the loop in one go."""

TLS_HANDSHAKE = 0x16
"""First octet of a TLS client (RFC 8446, section 5.1); no method of HTTP begins with it."""


class PortConnection:
    """One client. The state is the method that serves its socket: `_serve`."""

    __slots__ = (
        "_file",
        "_http",
        "_is_head",
        "_pieces",
        "_port",
        "_reactor",
        "_received",
        "_serve",
        "_timer",
        "_upgrade",
        "_wire",
        "host",
        "is_closed",
        "request",
    )

    def __init__(self, port: Port, sock: socket.socket, host: str) -> None:
        self._port = port
        self._reactor = port.reactor
        self._wire = Wire(sock)
        self.host = host
        """Address of the client, without its port."""
        self.is_closed = False
        self.request: Request | None = None
        """What is being answered."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._serve: Callable[[], None] = self._sniff if port.context is not None else self._read
        self._pieces: deque[bytes] = deque()
        self._file: OpenFile | None = None
        self._is_head = False
        self._received = 0
        self._upgrade: Upgrade | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Wait for a request."""
        self._reactor.register(self._wire.fileno(), self._on_ready, IN)
        self._allow(REQUEST_S)

    def _allow(self, seconds: float) -> None:
        """Set the deadline of the phase that begins."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_later(seconds, self.close)

    def _on_ready(self, mask: int) -> None:
        if self.is_closed:
            return
        if mask & ERROR and not mask & IN:
            self.close()
            return
        try:
            self._serve()
        except BlockingIOError:
            return
        except OSError as error:  # gone, or no TLS: its own affair
            logger.debug("%s: %s", self.host, error)
            self.close()

    def on_crash(self) -> None:
        """A handler raised (the loop's crash boundary): end this connection only."""
        self.close()

    def close(self) -> None:
        """End at once."""
        if self.is_closed:
            return
        self._release()
        self._reactor.call_soon(self._wire.close)

    def _release(self) -> None:
        """Let go of the socket and of everything that was under way."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._reactor.unregister(self._wire.fileno())
        self._port.forget(self)
        if self._file is not None:
            self._file.close()
            self._file = None
        self._pieces.clear()

    # Beginning.

    def _sniff(self) -> None:
        """Tell a TLS client from one without, where both are welcome."""
        port = self._port
        assert port.context is not None
        if not port.requires_tls:
            first = self._wire.sock.recv(1, socket.MSG_PEEK)
            if not first or first[0] != TLS_HANDSHAKE:
                self._serve = self._read
                self._read()
                return
        tls = Tls(self._wire.sock, port.context, None)
        self._serve = lambda: self._shake(tls)
        self._shake(tls)

    def _shake(self, tls: Tls) -> None:
        try:
            is_done = tls.do_handshake()
        except ssl.SSLError as error:
            logger.info("TLS handshake of %s failed: %s", self.host, error.reason or error)
            self._port.handshake_failures += 1
            self.close()
            return
        self._reactor.modify(self._wire.fileno(), IN | OUT if tls.has_unsent and not is_done else IN)
        if is_done:
            self._wire.secure(tls)
            self._serve = self._read
            self._read()

    # Requests.

    def _read(self) -> None:
        data = self._wire.receive()
        try:
            self._http.receive_data(data)
            self._next_events()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _next_events(self) -> None:
        """Take what h11 has found; one request at a time, and those sent ahead wait in it."""
        while not self.is_closed and self._serve == self._read:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._received += len(event.data)
                if self._received > MAX_BODY_BYTES:
                    self._refuse(413, "a request here needs no body")
            elif isinstance(event, h11.EndOfMessage):
                self._dispatch()
            elif isinstance(event, h11.ConnectionClosed):
                self.close()

    def _begin(self, event: h11.Request) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in event.headers]
        method = bytes(event.method)
        self._upgrade = upgrade_of(method, headers)
        self._is_head = method == b"HEAD"
        self._received = 0
        self.request = Request(method=method.decode("ascii"), path=path_of(bytes(event.target)), headers=headers)

    def _dispatch(self) -> None:
        request = self.request
        assert request is not None
        self._port.note_request(self)
        if self._upgrade is not None:
            self._answer_upgrade(self._upgrade)
            return
        self._serve = self._wait
        self._reactor.modify(self._wire.fileno(), 0)  # read no more until this one is answered
        self._allow(WRITE_S)
        self._port.answerer.answer(request, lambda response: self._reply(request, response))

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that cannot be understood, if there is still a way to, and end."""
        self._port.refused += 1
        logger.debug("%s: refused with %d: %s", self.host, status, reason)
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.close()
            return
        self._is_head = False
        self._respond(plain(status, reason, headers=(("connection", "close"),)))

    # Answers.

    def _wait(self) -> None:
        """The socket says something while the answer is being made: that can only be its end."""
        self.close()

    def _reply(self, request: Request, response: Response) -> None:
        if self.is_closed or self.request is not request:
            if response.file is not None:
                response.file.close()
            return
        logger.debug("%s: %s %r: %d", self.host, request.method, request.path, response.status)
        try:
            self._respond(response)
        except OSError:
            self.close()

    def _respond(self, response: Response) -> None:
        self._port.count(response.status)
        headers = [
            ("server", SERVER),
            ("date", formatdate(self._port.wall_clock(), usegmt=True)),
            ("content-type", response.content_type),
            *response.headers,
        ]
        if response.status != HTTPStatus.NOT_MODIFIED:
            headers.append(("content-length", str(response.length)))
        reason = HTTPStatus(response.status).phrase
        self._wire.write(
            self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        )
        if self._is_head or response.status == HTTPStatus.NOT_MODIFIED:
            if response.file is not None:
                response.file.close()
        else:
            self._pieces += filter(None, response.pieces)
            self._file = response.file
        self._serve = self._write
        self._allow(WRITE_S)
        self._write()

    def _write(self) -> None:
        """Write as much of the answer as the socket takes, then go on with the next request."""
        wire = self._wire
        is_taken = wire.flush()
        while is_taken and self._pieces:
            is_taken = wire.write(self._http.send(h11.Data(data=self._pieces.popleft())) or b"")
            self._allow(WRITE_S)
        file, self._file = (self._file, None) if is_taken else (None, self._file)
        if not is_taken:
            self._reactor.modify(wire.fileno(), OUT)
        elif file is not None and file.size:
            self._reactor.modify(wire.fileno(), 0)
            self._serve = self._wait
            count = min(FILE_PIECE_BYTES, file.size)
            self._reactor.run_in_thread(lambda: file.read(count), lambda result: self._on_file_read(file, result))
        else:
            if file is not None:
                file.close()
            self._end_answer()

    def _on_file_read(self, file: OpenFile, result: Any) -> None:
        """Go on with a piece of a file, which was the thread's until now."""
        if self.is_closed or isinstance(result, Exception) or not result:
            file.close()
            self.close()  # shorter than it was: the length was promised, so only the end of the connection tells
            return
        file.size -= len(result)
        self._file = file
        self._pieces.append(result)
        self._serve = self._write
        self._on_ready(OUT)

    def _end_answer(self) -> None:
        http = self._http
        http.send(h11.EndOfMessage())
        self.request = None
        if http.our_state is h11.MUST_CLOSE or http.their_state is not h11.DONE:
            self._linger()
            return
        http.start_next_cycle()
        self._serve = self._read
        self._reactor.modify(self._wire.fileno(), IN)
        self._port.note_idle(self)
        self._allow(IDLE_S)
        if http.trailing_data[0]:
            self._reactor.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take the request that was sent ahead; not at once, so that many of them are no deep recursion."""
        if self.is_closed or self._serve != self._read:
            return
        try:
            self._next_events()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint, str(error))

    def _linger(self) -> None:
        """Say that nothing more comes, and read to the end, so that no reset destroys what was said."""
        self._wire.end_output()
        self._serve = self._discard
        self._reactor.modify(self._wire.fileno(), IN)
        self._allow(LINGER_S)

    def _discard(self) -> None:
        if not self._wire.receive():
            self.close()

    # WebSocket.

    def _answer_upgrade(self, upgrade: Upgrade) -> None:
        if upgrade.refusal is not None:
            self._refuse_upgrade(upgrade)
            return
        switch = h11.InformationalResponse(status_code=101, headers=upgrade.headers(), reason="Switching Protocols")
        is_taken = self._wire.write(self._http.send(switch) or b"")
        self._port.count(101)
        if not self._port.has_websockets:
            self._wire.write(closing_frame(CloseReason.INTERNAL_ERROR, "cannot-upgrade"))
            self._linger()
        elif upgrade.subprotocol is None:
            self._wire.write(closing_frame(CloseReason.PROTOCOL_ERROR, "offer the sub-protocol amqp"))
            self._linger()
        elif not is_taken:  # a new socket that has no room for 200 octets
            self.close()
        else:
            channel = WebSocketChannel(self._wire, self._http.trailing_data[0])
            self._release()
            self._port.on_websocket(channel, self._wire.tls, self.host)

    def _refuse_upgrade(self, upgrade: Upgrade) -> None:
        headers = [("connection", "close")]
        if upgrade.status == HTTPStatus.UPGRADE_REQUIRED:
            headers += [("sec-websocket-version", "13"), ("upgrade", "websocket")]
        self._port.refused += 1
        self._respond(plain(upgrade.status, upgrade.refusal or "", headers=headers))
