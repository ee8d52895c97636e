"""Where log lines end up: a stream, a file, syslog; each written by a thread of its own. Layer: 2.

A full disk or a reader that has stopped blocks or fails the writing thread, never the event loop: what does not fit
into the bounded queue is dropped and counted.
"""

from __future__ import annotations

import os
import queue
import sys
import syslog
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from vanrouter.errors import ConfigError

MAX_QUEUED_LINES = 20_000
"""Lines waiting for a slow sink; about 5 MB."""

MAX_CLOSING = 16
"""Closed sinks whose last lines the end of the process still waits for."""

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
        """Make the lines since the last flush visible.

        Raises:
            OSError: they are lost.
        """

    def close(self) -> None:
        """Release the destination."""


class StreamSink:
    """An open binary stream, closed only when it is ours."""

    def __init__(self, stream: BinaryIO, *, is_ours: bool) -> None:
        self._stream = stream
        self._is_ours = is_ours
        self._pending: list[bytes] = []

    def write(self, line: Line) -> None:
        self._pending.append(f"{line.stamp}{line.text}\n".encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        data = memoryview(b"".join(self._pending))
        self._pending.clear()  # what cannot be written is lost, not kept
        while data:
            data = data[self._stream.write(data) or 0 :]
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
    if output in ("stderr", "stdout"):
        buffered = getattr(sys, output).buffer
        # Not the buffer: a thread that waits for a reader there holds its lock, and the interpreter, which flushes it
        # at its end, would wait with it for ever (seen with CPython 3.11.2).
        return StreamSink(getattr(buffered, "raw", buffered), is_ours=False)
    if output == "syslog":
        return SyslogSink()
    try:
        return FileSink(output)
    except OSError as error:
        raise ConfigError("log.outputFile", f"Failed to open log file '{output}': {error.strerror}") from error


class FileSink(StreamSink):
    """A file of ours, opened again when it was renamed or removed, so that rotating it needs no signal."""

    def __init__(self, path: str) -> None:
        super().__init__(_opened(path), is_ours=True)
        self._path = path

    def flush(self) -> None:
        super().flush()
        if not self._is_current():
            fresh = _opened(self._path)  # the old one stays when this fails
            self._stream.close()
            self._stream = fresh

    def _is_current(self) -> bool:
        ours = os.fstat(self._stream.fileno())
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _opened(path: str) -> Any:
    descriptor = os.open(path, _OPEN_FLAGS, 0o666)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "ab", buffering=0)


class Channel:
    """The queue of one sink and the thread that writes it: a sink that is stuck holds nobody else up."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: queue.SimpleQueue[Line | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self.written = 0
        self.dropped = 0
        """Lines that found the queue full."""
        self.failed = 0
        """Lines that the sink did not take."""
        self._thread.start()

    def put(self, line: Line) -> None:
        """Queue a line; dropped and counted when the sink is too slow."""
        if self._queue.qsize() >= MAX_QUEUED_LINES:
            self.dropped += 1
        else:
            self._queue.put(line)

    @property
    def queued(self) -> int:
        """Lines that wait."""
        return self._queue.qsize()

    def drain(self) -> threading.Event:
        """Return an event that is set when all that is queued now has been written."""
        done = threading.Event()
        self._queue.put(done)
        return done

    def close(self) -> None:
        """Write what is queued, close the sink and end the thread."""
        self._queue.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread, or give up on a sink that is stuck."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        unflushed = 0
        while True:
            item = self._queue.get()
            if isinstance(item, Line):
                unflushed += self._write(item)
                if unflushed < MAX_BATCH_LINES and not self._queue.empty():
                    continue
            self._flush(unflushed)
            unflushed = 0
            if item is None:
                with suppress(OSError, ValueError):
                    self._sink.close()
                return
            if isinstance(item, threading.Event):
                item.set()

    def _write(self, line: Line) -> bool:
        try:
            self._sink.write(line)
        except (OSError, ValueError):
            self.failed += 1
            return False
        return True

    def _flush(self, unflushed: int) -> None:
        try:
            self._sink.flush()
        except (OSError, ValueError):
            self.failed += unflushed
        else:
            self.written += unflushed


class Writer:
    """The channels of all sinks."""

    def __init__(self) -> None:
        self._channels: dict[Sink, Channel] = {}
        self._closed: list[Channel] = []
        self._dropped = 0
        self._failed = 0

    def put(self, sink: Sink, line: Line) -> None:
        """Queue a line; dropped and counted when its sink is too slow."""
        channel = self._channels.get(sink)
        if channel is None:
            channel = self._channels[sink] = Channel(sink)
        channel.put(line)

    @property
    def queued(self) -> int:
        """Lines that wait."""
        return sum(channel.queued for channel in self._channels.values())

    @property
    def dropped(self) -> int:
        """Lines that found a full queue, those of closed sinks included."""
        return self._dropped + sum(channel.dropped for channel in self._channels.values())

    @property
    def failed(self) -> int:
        """Lines that a sink did not take, those of closed sinks included."""
        return self._failed + sum(channel.failed for channel in self._channels.values())

    def counts(self, sink: Sink) -> dict[str, int]:
        """Return what became of the lines of one sink."""
        channel = self._channels.get(sink)
        if channel is None:
            return {"linesWritten": 0, "linesQueued": 0, "linesDropped": 0}
        lost = channel.dropped + channel.failed
        return {"linesWritten": channel.written, "linesQueued": channel.queued, "linesDropped": lost}

    def close_sink(self, sink: Sink) -> None:
        """Close a sink after the lines queued for it."""
        channel = self._channels.pop(sink, None)
        if channel is None:
            with suppress(OSError):
                sink.close()
            return
        self._dropped += channel.dropped
        self._failed += channel.failed
        self._closed = [*self._closed[-MAX_CLOSING:], channel]
        channel.close()

    def drain(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> bool:
        """Wait until all that is queued now has been written; False when it takes too long."""
        waits = [channel.drain() for channel in self._channels.values()]
        end = time.monotonic() + timeout_s
        return all([done.wait(max(0.0, end - time.monotonic())) for done in waits])  # noqa: C419  # each is waited for

    def stop(self) -> None:
        """Write what is queued and end the threads, or give up on sinks that are stuck."""
        end = time.monotonic() + SHUTDOWN_TIMEOUT_S
        for sink in list(self._channels):
            self.close_sink(sink)
        for channel in self._closed:
            channel.join(max(0.0, end - time.monotonic()))
