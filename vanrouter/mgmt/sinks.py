"""Where log lines end up: a stream, a file, syslog; written by one thread of their own. Layer: 2.

A full disk or a reader that has stopped blocks or fails the writing thread, never the event loop: what does not fit
into the bounded queue is dropped and counted.
"""

from __future__ import annotations

import os
import queue
import sys
import syslog
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from vanrouter.errors import ConfigError

MAX_QUEUED_LINES = 20_000
"""Lines waiting for a slow sink; about 5 MB."""

MAX_BATCH_LINES = 256
"""Lines written between two flushes."""

SHUTDOWN_TIMEOUT_S = 2.0
"""How long the end of the process waits for a sink that does not take its lines."""


_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""A named pipe that nobody reads is an error at once, not a wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One formatted event: `text` without time, `stamp` the time with its blank or nothing."""

    stamp: str
    text: str
    priority: int


class Sink(Protocol):
    """A destination of lines. Methods run in the writing thread, `close` after the last line."""

    def write(self, line: Line) -> None:
        """Take a line.

        Raises:
            OSError: it cannot be written.
        """

    def flush(self) -> None:
        """Make written lines visible."""

    def close(self) -> None:
        """Release the destination."""


class StreamSink:
    """An open binary stream, closed only when it is ours."""

    def __init__(self, stream: BinaryIO, *, is_ours: bool) -> None:
        self._stream = stream
        self._is_ours = is_ours

    def write(self, line: Line) -> None:
        self._stream.write(f"{line.stamp}{line.text}\n".encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        if self._is_ours:
            self._stream.close()


class SyslogSink:
    """The system's log; it puts the time itself."""

    def __init__(self) -> None:
        syslog.openlog("vanrouter", syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(self, line: Line) -> None:
        syslog.syslog(line.priority, line.text.replace("\0", " "))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The connection to syslog is shared by the process."""


def open_sink(output: str) -> Sink:
    """Return the sink that `log.outputFile` names.

    Raises:
        ConfigError: the file cannot be opened.
    """
    if output == "stderr":
        return StreamSink(sys.stderr.buffer, is_ours=False)
    if output == "stdout":
        return StreamSink(sys.stdout.buffer, is_ours=False)
    if output == "syslog":
        return SyslogSink()
    try:
        descriptor = os.open(output, _OPEN_FLAGS, 0o666)
    except OSError as error:
        raise ConfigError("log.outputFile", f"Failed to open log file '{output}': {error.strerror}") from error
    os.set_blocking(descriptor, True)
    return StreamSink(os.fdopen(descriptor, "ab"), is_ours=True)


class Writer:
    """The writing thread and its bounded queue."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Sink, Line | None] | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self.dropped = 0
        self.failed = 0
        self._thread.start()

    def put(self, sink: Sink, line: Line) -> None:
        """Queue a line; dropped and counted when the sinks are too slow."""
        if self._queue.qsize() >= MAX_QUEUED_LINES:
            self.dropped += 1
        else:
            self._queue.put((sink, line))

    @property
    def queued(self) -> int:
        """Lines that wait."""
        return self._queue.qsize()

    def close_sink(self, sink: Sink) -> None:
        """Close a sink after the lines queued for it."""
        self._queue.put((sink, None))

    def drain(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> bool:
        """Wait until all that is queued now has been written; False when it takes too long."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s)

    def stop(self) -> None:
        """Write what is queued and end the thread, or give up on a sink that is stuck."""
        self._queue.put(None)
        self._thread.join(SHUTDOWN_TIMEOUT_S)

    def _run(self) -> None:
        used: dict[int, Sink] = {}
        unflushed = 0
        while True:
            item = self._queue.get()
            if isinstance(item, tuple):
                self._write(used, *item)
                unflushed += 1
                if unflushed < MAX_BATCH_LINES and not self._queue.empty():
                    continue
            self._flush(used)
            unflushed = 0
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()

    def _write(self, used: dict[int, Sink], sink: Sink, line: Line | None) -> None:
        try:
            if line is None:
                used.pop(id(sink), None)
                sink.close()
            else:
                used[id(sink)] = sink
                sink.write(line)
        except (OSError, ValueError):
            self.failed += 1

    def _flush(self, used: dict[int, Sink]) -> None:
        for sink in used.values():
            with suppress(OSError, ValueError):
                sink.flush()
        used.clear()
