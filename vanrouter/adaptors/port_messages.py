"""What is asked of the HTTP port and what it answers: between who speaks HTTP and who knows the answers. Layer: 4."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote_to_bytes

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; its body, if it has any, is thrown away.

    `path` is decoded and without the query; `headers` have names in lower case.
    """

    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]] = ()

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header, or None where it is absent (which is not the same as empty)."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None


def path_of(target: bytes) -> str:
    """Return the path of a request's target, decoded once: `/a%20b?c` and `http://host/a%20b` give `/a b`."""
    if not target.startswith(b"/"):
        _, separator, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2] if separator else b"/"
    path = target.partition(b"?")[0].partition(b"#")[0]
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


class OpenFile:
    """An open regular file that is sent as a body; the answer closes it."""

    __slots__ = ("descriptor", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        """Octets to be sent."""

    def read(self, count: int) -> bytes:
        """Return the next octets; empty at the end. Blocks: for threads.

        Raises:
            OSError: the disk's own.
        """
        return os.read(self.descriptor, count)

    def close(self) -> None:
        """Close it, once."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer. `pieces` are written one after the other; `file` comes after them."""

    status: int = 200
    content_type: str = TEXT
    pieces: Sequence[bytes] = ()
    file: OpenFile | None = None
    headers: Sequence[tuple[str, str]] = field(default=())

    @property
    def length(self) -> int:
        """Octets of the body."""
        return sum(map(len, self.pieces)) + (0 if self.file is None else self.file.size)


Reply = Callable[[Response], None]
"""Takes the answer, in this turn of the loop or a later one; harmless when the client has gone meanwhile."""


class Answerer(Protocol):
    """Who knows the answers of one port."""

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request; `reply` is called exactly once."""


def plain(status: int, *lines: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """Return an answer of a few lines of text."""
    body = "".join(f"{line}\n" for line in lines).encode()
    return Response(status=status, pieces=(body,), headers=tuple(headers))


def error_page(status: int, detail: str = "") -> Response:
    """Return a small HTML page for what people meet in a browser."""
    title = f"{status} {HTTPStatus(status).phrase}"
    more = f"<p>{detail}</p>" if detail else ""
    page = f"<!doctype html><title>{title}</title><h1>{title}</h1>{more}\n"
    return Response(status=status, content_type="text/html; charset=utf-8", pieces=(page.encode(),))
