from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from vanrouter.errors import ConfigError
from vanrouter.mgmt import sinks
from vanrouter.mgmt.sinks import Line, StreamSink, SyslogSink, Writer, open_sink

LINE = Line(stamp="now ", text="SERVER (info) x", priority=6)


class StuckSink:
    """Blocks in its first write until told to go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.lines: list[str] = []

    def write(self, line: Line) -> None:
        self.entered.set()
        assert self.released.wait(10)
        self.lines.append(line.text)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.lines.append("closed")


class FailingSink(StuckSink):
    def write(self, line: Line) -> None:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_lines_reach_a_file_in_order(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    sink = open_sink(str(file))
    writer = Writer()
    for n in range(1000):
        writer.put(sink, Line(stamp="", text=str(n), priority=6))
    assert writer.drain()
    assert file.read_text().splitlines() == ["before", *map(str, range(1000))]
    writer.put(sink, Line(stamp="t ", text="\udcff", priority=6))
    writer.close_sink(sink)
    writer.stop()
    assert file.read_text().endswith("t \\udcff\n")


@pytest.mark.parametrize("name", ["stderr", "stdout"])
def test_standard_streams_stay_open(name: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        sink = StreamSink(stream, is_ours=False)
        sink.write(LINE)
        sink.flush()
        sink.close()
        assert not stream.closed
        assert os.read(read, 100) == b"now SERVER (info) x\n"
    os.close(read)
    opened = open_sink(name)
    assert isinstance(opened, StreamSink)
    assert not isinstance(opened._stream, io.BufferedIOBase), "its lock is wanted at the interpreter's end"


def test_syslog_lines_carry_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(sinks.syslog, "syslog", lambda priority, text: sent.append((priority, text)))
    sink = open_sink("syslog")
    assert isinstance(sink, SyslogSink)
    sink.write(LINE)
    sink.flush()
    sink.close()
    assert sent == [(6, "SERVER (info) x")]


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"Failed to open log file '{tmp_path}'"):
        open_sink(str(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="Failed to open log file"):  # and not a wait for a reader
        open_sink(str(pipe))


def test_a_stuck_sink_never_holds_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "MAX_QUEUED_LINES", 10)
    monkeypatch.setattr(sinks, "SHUTDOWN_TIMEOUT_S", 0.05)
    writer, sink = Writer(), StuckSink()
    writer.put(sink, LINE)
    assert sink.entered.wait(10)
    for _ in range(25):
        writer.put(sink, LINE)
    assert writer.dropped == 15
    assert not writer.drain(0.01)
    writer.stop()  # gives up
    sink.released.set()


def test_a_full_disk_is_counted_and_nothing_else() -> None:
    writer, sink, good = Writer(), FailingSink(), StuckSink()
    good.released.set()
    writer.put(sink, LINE)
    writer.put(good, LINE)
    assert writer.drain()
    assert writer.failed == 1
    writer.close_sink(good)
    writer.stop()
    assert good.lines == [LINE.text, "closed"]


def test_one_stuck_sink_holds_no_other(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer, stuck = Writer(), StuckSink()
    writer.put(stuck, LINE)
    assert stuck.entered.wait(10)
    good = open_sink(str(file))
    writer.put(good, LINE)
    for _ in range(1000):
        if writer.counts(good)["linesWritten"]:
            break
        threading.Event().wait(0.01)
    assert file.read_text() == "now SERVER (info) x\n"
    assert writer.counts(StuckSink()) == {"linesWritten": 0, "linesQueued": 0, "linesDropped": 0}
    stuck.released.set()
    writer.stop()


def test_a_full_disk_loses_the_batch_and_counts_it() -> None:
    writer, full = Writer(), open_sink("/dev/full")
    for _ in range(3):
        writer.put(full, LINE)
    writer.drain()
    assert writer.counts(full) == {"linesWritten": 0, "linesQueued": 0, "linesDropped": 3}
    writer.close_sink(full)
    assert writer.failed == 3
    writer.stop()


def test_a_file_that_was_rotated_is_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "log"
    writer, sink = Writer(), open_sink(str(file))
    writer.put(sink, LINE)
    assert writer.drain()
    file.rename(tmp_path / "log.1")
    writer.put(sink, LINE)  # still to the old one
    assert writer.drain()
    writer.put(sink, LINE)
    assert writer.drain()
    writer.stop()
    assert len((tmp_path / "log.1").read_text().splitlines()) == 2
    assert len(file.read_text().splitlines()) == 1
