"""Bodies in chunks: httptools takes the framing off, trailers apart.

Layer: 4, no input or output of its own. Source: RFC 9112, section 7.1.

The parser goes on with the next message where one ends, and does not tell where. A chunked message always ends with an
empty line, so octets are given to it in pieces that end with one: the end is then the end of a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools

from vanrouter.adaptors.http1_head import END_OF_HEAD, SPECIAL, MessageError
from vanrouter.adaptors.http_exchange import Header, HeadLimits

_BEGINNING = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
"""Brings a parser to where the body begins."""


class ChunkedBody:
    """One body in chunks.

    Args:
        deliver: takes octets of the body; called once for each call of `feed`, at most.
        limits: of the trailers.
    """

    __slots__ = (
        "_deliver",
        "_has_begun",
        "_limits",
        "_overhead",
        "_parser",
        "_pieces",
        "_tail",
        "is_complete",
        "trailers",
    )

    def __init__(self, deliver: Callable[[bytes], object], limits: HeadLimits) -> None:
        self._deliver = deliver
        self._limits = limits
        self._pieces: list[bytes] = []
        self._tail = b""
        self._overhead = 0
        self.trailers: list[Header] = []
        self.is_complete = False
        self._has_begun = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parser.feed_data(_BEGINNING)
        self._has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a trailer, if it may be one."""
        if self._has_begun and name.lower() not in SPECIAL:
            self.trailers.append((name, value))

    def on_body(self, data: bytes) -> None:
        """Take octets of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The empty line at the end has come."""
        self.is_complete = True

    def feed(self, data: bytes | memoryview) -> int:
        """Take octets and deliver what of the body is in them; return how many of `data` belong to this body.

        Raises:
            MessageError: the framing is broken, or the trailers are too long.
        """
        raw = bytes(data)
        taken = self._feed_to_its_end(raw)
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self._overhead = 0
            self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            self._overhead += taken
        if self._overhead > self._limits.max_bytes or len(self.trailers) > self._limits.max_fields:
            raise MessageError(431, "too many trailers")
        return taken

    def _feed_to_its_end(self, raw: bytes) -> int:
        tail = self._tail
        begin = 0
        if tail:
            # The empty line may have begun in what came before.
            seam = (tail + raw[:3]).find(END_OF_HEAD)
            while seam >= 0:
                end = seam + 4 - len(tail)
                if end > begin:
                    self._parse(raw[begin:end])
                    begin = end
                    if self.is_complete:
                        return begin
                seam = (tail + raw[:3]).find(END_OF_HEAD, seam + 1)
        found = raw.find(END_OF_HEAD)
        while found >= 0:
            end = found + 4
            if end > begin:
                self._parse(raw[begin:end])
                begin = end
                if self.is_complete:
                    return begin
            found = raw.find(END_OF_HEAD, found + 1)
        if begin < len(raw):
            self._parse(raw[begin:])
        self._tail = raw[-3:] if len(raw) >= 3 else (tail + raw)[-3:]
        return len(raw)

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            raise MessageError(400, str(error)) from None
