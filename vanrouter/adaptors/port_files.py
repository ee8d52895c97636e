"""Static files of the HTTP port, from below one folder and from nowhere else.

Layer: 4. Source: management.md section 13 (`httpRootDir`). Links inside the folder may lead about inside it (a mounted
Kubernetes volume is made of such links); what leads out is not found. Everything here blocks on the disk: for threads.
"""

from __future__ import annotations

import os
import stat
from email.utils import formatdate
from pathlib import Path

from vanrouter.adaptors.port_messages import OpenFile, Response, error_page

INDEX = "index.html"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".gif": "image/gif",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
}
"""By the end of the name; a table of our own, so that what is served does not depend on the system's."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Without waiting: a FIFO in the folder must not hold a thread until somebody writes to it."""


def serve(root: str, path: str, if_none_match: str | None = None) -> Response:
    """Return the file at a path below `root`, or why there is none.

    Args:
        root: the folder.
        path: as asked for, decoded.
        if_none_match: tag of the copy that the client has.
    """
    if "\0" in path:
        return error_page(404)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return error_page(404)
    wanted = os.path.join(root, *parts)
    try:
        if os.path.isdir(wanted):
            wanted = os.path.join(wanted, INDEX)
        descriptor = os.open(wanted, _FLAGS)
    except OSError as error:
        return error_page(403 if isinstance(error, PermissionError) else 404)
    return _opened(root, descriptor, wanted, if_none_match)


def _opened(root: str, descriptor: int, name: str, if_none_match: str | None) -> Response:
    """Return an open file, if it is one that may be seen: what was opened is judged, not what its name leads to now."""
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or not _is_below(root, descriptor):
        os.close(descriptor)
        return error_page(404)
    tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    headers = (
        ("etag", tag),
        ("last-modified", formatdate(facts.st_mtime, usegmt=True)),
        ("x-content-type-options", "nosniff"),
    )
    content_type = type_of(name)
    if if_none_match is not None and tag in [part.strip().removeprefix("W/") for part in if_none_match.split(",")]:
        os.close(descriptor)
        return Response(status=304, content_type=content_type, headers=headers)
    return Response(content_type=content_type, file=OpenFile(descriptor, facts.st_size), headers=headers)


def _is_below(root: str, descriptor: int) -> bool:
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return False
    return Path(real).is_relative_to(os.path.realpath(root))


def type_of(name: str) -> str:
    """Return the content type of a file by its name."""
    return TYPES.get(os.path.splitext(name)[1].lower(), "application/octet-stream")
