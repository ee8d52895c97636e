"""A request of HTTP/1.1 and its answer, each of one length: what a router's observer has to look at."""

from __future__ import annotations

SIZE = 100
"""Octets of a request, and of an answer."""
_HEAD, _TAIL = b"GET /", b" HTTP/1.1\r\nHost: bench\r\n\r\n"
REQUEST = _HEAD + b"x" * (SIZE - len(_HEAD) - len(_TAIL)) + _TAIL
_STATUS = b"HTTP/1.1 200 OK\r\nContent-Length: 61\r\n\r\n"
RESPONSE = _STATUS + b"x" * 61
