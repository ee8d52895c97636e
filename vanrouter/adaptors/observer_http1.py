"""Observer of HTTP/1.x: requests and answers are recognised by their heads, bodies are counted and passed over.

Layer: 4, no input or output of its own. Source: RFC 9112, sections 2 to 7; TCP over AMQP, section 10.3. What stands in
the way of each octet is a comparison and a subtraction: within a body nothing is parsed or copied. httptools hands each
body to Python and cannot be told that an answer to HEAD has none; the few fields that frame a message are found here by
searches that run in C.
"""

from __future__ import annotations

import re
from collections import deque

from vanrouter.adaptors.observer_exchange import (
    MAX_HELD_BYTES,
    MAX_OPEN,
    Exchange,
    Requests,
    UnobservableError,
    first_of,
)

HEAD, BODY, CHUNK_LINE, CHUNK, TRAILER, REST = range(6)
"""What comes next: a head, octets of a known length, the line before a chunk, a chunk with its end of line, the fields
after the last chunk, octets to the end of the connection."""

FIRST_LOOK_BYTES = 8192
"""Octets of a read in which a head is looked for first: longer ones are rare, and a body behind it is not copied."""

REMEMBERED_HEADS = 512
"""Meanings of heads that are kept, of all connections: who asks the same again, or is answered the same within the
second of its Date, is not parsed again."""

MAX_CHUNKS_AT_ONCE = 4096
"""Chunks within one read; who sends more of them spends our time, not its octets."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~\x80-\xff]+) (HTTP/1\.[01])\r\n").match
_BEGINS_REQUEST = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}( .*)?", re.DOTALL).fullmatch
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r\n").match
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;|\r)").match
_PROTOCOLS = {b"HTTP/1.0": "HTTP/1.0", b"HTTP/1.1": "HTTP/1.1"}


class Side:
    """One direction: where its messages begin and end."""

    __slots__ = ("chunks", "kept", "left", "state")

    def __init__(self) -> None:
        self.state = HEAD
        self.left = 0
        """Octets to the end of the body, or of the chunk and its end of line."""
        self.kept: bytearray | None = None
        """Of a head or line that has not come whole."""
        self.chunks = 0

    def feed(self, data: memoryview | bytes, now: float) -> None:
        """Follow the octets.

        Raises:
            UnobservableError: this is not HTTP/1, or cannot be followed.
        """
        size = len(data)
        if self.state == BODY and size < self.left:
            self.left -= size
            self.body(size)
            return
        at = 0
        self.chunks = 0
        while at < size:
            state = self.state
            if state == BODY:
                count = min(self.left, size - at)
                at += count
                self.left -= count
                self.body(count)
                if not self.left:
                    self.state = HEAD
                    self.ended(now)
            elif state == HEAD:
                at = self.take_head(data, at, now)
            elif state == CHUNK:
                count = min(self.left, size - at)
                at += count
                self.left -= count
                if not self.left:
                    self.state = CHUNK_LINE
            elif state == REST:
                self.body(size - at)
                return
            else:
                at = self.take_line(data, at, now)

    def take_head(self, data: memoryview | bytes, at: int, now: float) -> int:
        """Look for the end of a head; returns where to go on."""
        found = self.gather(data, at, b"\r\n\r\n")
        if found is None:
            if self.kept is not None and not self.is_plausible(self.kept):
                raise UnobservableError("this is no HTTP/1")
            return len(data)
        head, at = found
        self.head(head, now)
        return at

    def take_line(self, data: memoryview | bytes, at: int, now: float) -> int:
        """Look for the end of the line before a chunk, or of a field after the last; returns where to go on."""
        found = self.gather(data, at, b"\r\n")
        if found is None:
            return len(data)
        line, at = found
        if self.state == TRAILER:
            if line == b"\r\n":
                self.state = HEAD
                self.ended(now)
            return at
        size = _CHUNK_SIZE(line)
        self.chunks += 1
        if size is None or self.chunks > MAX_CHUNKS_AT_ONCE:
            raise UnobservableError("a chunk without a size, or too many chunks")
        octets = int(size[1], 16)
        if octets:
            self.body(octets)
            self.left = octets + 2
            self.state = CHUNK
        else:
            self.state = TRAILER
        return at

    def gather(self, data: memoryview | bytes, at: int, end: bytes) -> tuple[bytes, int] | None:
        """Return what stands before the next `end`, with it, and where that ends; None: it is not there, and kept."""
        piece = bytes(data[at : at + MAX_HELD_BYTES])
        kept = self.kept
        if kept is None:
            found = piece.find(end)
            if found >= 0:
                stop = found + len(end)
                return piece[:stop], at + stop
            if len(piece) >= MAX_HELD_BYTES:
                raise UnobservableError("a head or line beyond any bound")
            self.kept = bytearray(piece)
            return None
        before = len(kept)
        kept += piece
        found = kept.find(end, max(0, before - len(end) + 1))
        if found < 0:
            if len(kept) > MAX_HELD_BYTES:
                raise UnobservableError("a head or line beyond any bound")
            return None
        self.kept = None
        stop = found + len(end)
        return bytes(kept[:stop]), at + stop - before

    def is_plausible(self, beginning: bytearray) -> bool:
        """Tell whether a head may begin so."""
        raise NotImplementedError

    def head(self, head: bytes, now: float) -> None:
        """A whole head, its empty line included."""
        raise NotImplementedError

    def body(self, count: int) -> None:
        """Octets of a body."""
        raise NotImplementedError

    def ended(self, now: float) -> None:
        """The end of a message that has a body."""
        raise NotImplementedError


def framing(low: bytes, *, is_to_the_end: bool) -> tuple[int, int]:
    """Return what comes after a head, given in lower case, and its length.

    Raises:
        UnobservableError: the length is none.
    """
    at = low.find(b"\r\ntransfer-encoding:")
    if at >= 0 and b"chunked" in low[at : low.index(b"\r\n", at + 2)]:
        return CHUNK_LINE, 0
    at = low.find(b"\r\ncontent-length:")
    if at >= 0:
        text = low[at + 17 : low.index(b"\r\n", at + 17)].strip()
        if not text.isdigit() or len(text) > 18:
            raise UnobservableError("a content-length that is no number")
        length = int(text)
        return (BODY, length) if length else (HEAD, 0)
    return (REST if is_to_the_end else HEAD), 0


Request = tuple[str, bytes, str, str, int, int, bool]
"""Method, path, protocol, the first of X-Forwarded-For, the framing, and whether it is a head alone and answered like
GET."""
Answer = tuple[str, str, int, int, bool]
"""Status, reason, the framing, and whether nothing but the length has to be asked."""

_requests: dict[int, Request] = {}
_answers: dict[int, Answer] = {}
"""By the hash of the head, which is keyed for each process; the heads are not kept, because of what they may hold."""


def request_of(head: bytes) -> Request:
    """Return what the head of a request means.

    Raises:
        UnobservableError: it is none.
    """
    line = _REQUEST_LINE(head)
    if line is None:
        line = _REQUEST_LINE(head.lstrip(b"\r\n"))  # lines that were sent too many are let pass (section 2.2)
        if line is None:
            raise UnobservableError("this is no HTTP/1 request")
    low = head.lower()
    at = low.find(b"\r\nx-forwarded-for:")
    forwarded_for = first_of(head[at + 18 : head.index(b"\r\n", at + 18)]) if at >= 0 else ""
    method, target, version = line.groups()
    path = target.partition(b"?")[0]
    state, left = framing(low, is_to_the_end=False)
    is_plain = state == HEAD and method not in (b"HEAD", b"CONNECT")
    meaning = (method.decode(), path, _PROTOCOLS[version], forwarded_for, state, left, is_plain)
    if len(_requests) >= REMEMBERED_HEADS:
        _requests.clear()
    _requests[hash(head)] = meaning
    return meaning


def answer_of(head: bytes) -> Answer:
    """Return what the head of an answer means.

    Raises:
        UnobservableError: it is none.
    """
    line = _STATUS_LINE(head)
    if line is None:
        raise UnobservableError("an answer, but none of HTTP/1")
    reason = (line[2] or b"").decode("latin-1")
    status = line[1].decode()
    state, left = framing(head.lower(), is_to_the_end=True)
    meaning = (status, reason, state, left, state in (HEAD, BODY) and "200" <= status not in ("204", "304"))
    if len(_answers) >= REMEMBERED_HEADS:
        _answers.clear()
    _answers[hash(head)] = meaning
    return meaning


Brief = tuple[Request, float]
"""A request of which nobody wants to know more than that it was there, and when it came."""
Waiting = deque[Exchange | Brief]


class Asked(Side):
    """Requests."""

    __slots__ = ("_told", "_waiting", "sending")

    def __init__(self, requests: Requests, waiting: Waiting) -> None:
        super().__init__()
        self._told = requests
        self._waiting = waiting
        self.sending: Exchange | None = None
        """Whose body comes."""

    def feed(self, data: memoryview | bytes, now: float) -> None:
        if self.state == HEAD and self.kept is None and type(data) is bytes:
            # Nearly always: a head that was seen before, and nothing else.
            meaning = _requests.get(hash(data))
            if meaning is not None and meaning[6] and len(self._waiting) < MAX_OPEN:
                self._waiting.append((meaning, now) if self._told.only_counts() else self._begun(meaning, now))
                return
        super().feed(data, now)

    def _begun(self, meaning: Request, now: float) -> Exchange:
        exchange = Exchange(meaning[2], meaning[0], meaning[1], now, None, meaning[3])
        self._told.began(exchange)
        return exchange

    def is_plausible(self, beginning: bytearray) -> bool:
        first = bytes(beginning[:64]).lstrip(b"\r\n")
        return not first or _BEGINS_REQUEST(first) is not None

    def head(self, head: bytes, now: float) -> None:
        meaning = _requests.get(hash(head)) or request_of(head)
        self.state, self.left = meaning[4:6]
        waiting = self._waiting
        if len(waiting) >= MAX_OPEN:
            raise UnobservableError("too many requests without an answer")
        exchange = self._begun(meaning, now)
        if self.state:
            self.sending = exchange
        waiting.append(exchange)

    def body(self, count: int) -> None:
        if self.sending is not None:
            self.sending.octets += count

    def ended(self, now: float) -> None:
        self.sending = None


class Answered(Side):
    """Answers, in the order of the requests."""

    __slots__ = ("_told", "_waiting")

    def __init__(self, requests: Requests, waiting: Waiting) -> None:
        super().__init__()
        self._told = requests
        self._waiting = waiting

    @property
    def first(self) -> Exchange:
        """The request that is answered, as whole as it is known."""
        exchange = self._waiting[0]
        if type(exchange) is tuple:
            (method, path, protocol, forwarded_for, *_), began_at = exchange
            exchange = self._waiting[0] = Exchange(protocol, method, path, began_at, None, forwarded_for)
            self._told.began(exchange)
        assert isinstance(exchange, Exchange)
        return exchange

    def feed(self, data: memoryview | bytes, now: float) -> None:
        waiting = self._waiting
        if waiting and self.state == HEAD and self.kept is None:
            # Nearly always: a head that was seen before, and a body that is whole.
            piece = data if type(data) is bytes else bytes(data[:FIRST_LOOK_BYTES])
            end = piece.find(b"\r\n\r\n", 0, FIRST_LOOK_BYTES) + 4
            meaning = _answers.get(hash(piece[:end]))
            if meaning is not None and meaning[4] and meaning[3] == len(data) - end:
                asked = waiting[0]
                if type(asked) is tuple:
                    waiting.popleft()
                    request = asked[0]
                    self._told.counted(request[2], request[0], meaning[0])
                    return
                exchange = self.first
                if exchange.method not in ("HEAD", "CONNECT"):
                    exchange.result = meaning[0]
                    exchange.reason = meaning[1]
                    exchange.answered_at = now
                    exchange.octets_reverse = meaning[3]
                    waiting.popleft()
                    self._told.ended(exchange)
                    return
        super().feed(data, now)

    def is_plausible(self, beginning: bytearray) -> bool:
        return b"HTTP/1.".startswith(beginning[:7])

    def head(self, head: bytes, now: float) -> None:
        status, reason, state, left, _ = _answers.get(hash(head)) or answer_of(head)
        if not self._waiting:
            raise UnobservableError("an answer that nobody asked for")
        exchange = self.first
        if status < "200" and status != "101":
            self.state = HEAD
            return  # the final one is still to come
        exchange.result = status
        exchange.reason = reason
        exchange.answered_at = now
        method = exchange.method
        if status == "101" or (method == "CONNECT" and status < "300"):
            self.ended(now)
            raise UnobservableError("from here on another protocol")
        if state == HEAD or method == "HEAD" or status in ("204", "304"):
            self.state = HEAD
            self.ended(now)
        else:
            self.state, self.left = state, left

    def body(self, count: int) -> None:
        self.first.octets_reverse += count

    def ended(self, now: float) -> None:
        exchange = self.first
        self._waiting.popleft()
        self._told.ended(exchange)


class Http1Observer:
    """Follows one connection of HTTP/1.x, pipelined or not."""

    __slots__ = ("_answered", "_waiting", "from_client", "from_server")

    def __init__(self, requests: Requests) -> None:
        self._waiting: Waiting = deque()
        self._answered = Answered(requests, self._waiting)
        self.from_client = Asked(requests, self._waiting).feed
        self.from_server = self._answered.feed

    def close(self, now: float) -> None:
        """The connection is over, or is observed no longer: so are its requests."""
        while self._waiting:
            self._answered.ended(now)
