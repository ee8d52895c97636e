"""Detaching from the terminal, with the starting process waiting for the outcome. Layer: 6.

Source: management specification, section 12 (`-d`, `-P`, `-U`).
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import NoReturn

from vanrouter.errors import ConfigError

READY = b"ready\n"
MAX_REASON_BYTES = 4096
"""Octets of the reason that the daemon hands to the starting process; what a pipe takes without waiting."""


class Handshake:
    """The daemon's end of the pipe to the process that was started. Without a daemon, nothing happens."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """Let the starting process exit with 0."""
        self._finish(READY)

    def failed(self, reason: str) -> None:
        """Let the starting process print `reason` and exit with 1."""
        self._finish(reason.encode("utf-8", "replace")[:MAX_REASON_BYTES])

    def _finish(self, message: bytes) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, message)
            os.close(self._descriptor)
            self._descriptor = None


def detach(program: str) -> Handshake:
    """Fork twice and return in the daemon; the starting process ends in here once the outcome is known.

    Args:
        program: name for the error on the terminal.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        _report(program, reading)
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.umask(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        os.close(null)
    return Handshake(writing)


def _report(program: str, descriptor: int) -> NoReturn:
    pieces = []
    while piece := os.read(descriptor, MAX_REASON_BYTES):
        pieces.append(piece)
    message = b"".join(pieces)
    if message == READY:
        sys.exit(0)
    reason = message.decode("utf-8", "replace") or "the daemon ended before it was ready"
    print(f"{program}: {reason}", file=sys.stderr)
    sys.exit(1)


def write_pid_file(path: str) -> None:
    """Write the pid and a newline.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError("--pidfile", f"cannot write {path}: {error.strerror}") from error


def become(user: str) -> None:
    """Give up root for another user, its groups included.

    Raises:
        ConfigError: there is no such user, or it may not be.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError("--user", f"there is no user {user!r}") from None
    try:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as error:
        raise ConfigError("--user", f"cannot become {user!r}: {error.strerror}") from error
