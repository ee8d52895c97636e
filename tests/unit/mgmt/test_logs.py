from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vanrouter.errors import ConfigError, MisuseError
from vanrouter.mgmt.entity_types import LOG_MODULES
from vanrouter.mgmt.lines import MAX_TEXT_BYTES
from vanrouter.mgmt.logs import MODULE_OF_LOGGER, Logs

server = logging.getLogger("vanrouter.net.of_test")
agent = logging.getLogger("vanrouter.mgmt.of_test")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def logs(file: Path) -> Iterator[Logs]:
    running = Logs()
    running.configure([{"module": "DEFAULT", "outputFile": str(file)}], {})
    yield running
    running.shutdown()


def lines(logs: Logs, file: Path) -> list[str]:
    logs.drain()
    return file.read_text().splitlines()


def bare(logs: Logs, file: Path) -> list[str]:
    """Return the lines without their times."""
    return [line.split(" ", 3)[3] for line in lines(logs, file)]


def test_line_format(logs: Logs, file: Path) -> None:
    server.info("Listening on %s:%d", "127.0.0.1", 5672)
    (line,) = lines(logs, file)
    expected = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} SERVER \(info\) Listening on 127\.0\.0\.1:5672"
    assert re.fullmatch(expected, line)


@pytest.mark.parametrize(
    ("logger", "module"),
    [
        ("vanrouter.core.forwarder", "ROUTER_CORE"),
        ("vanrouter.core.router", "ROUTER"),
        ("vanrouter.engine.proton", "SERVER"),
        ("vanrouter.routing.neighbours", "ROUTER_HELLO"),
        ("vanrouter.routing.control", "ROUTER_LS"),
        ("vanrouter.routing.mobile", "ROUTER_MA"),
        ("vanrouter.adaptors.tcp_flow", "TCP_ADAPTOR"),
        ("vanrouter.adaptors.amqp", "ROUTER_CORE"),
        ("vanrouter.adaptors.http1", "HTTP_ADAPTOR"),
        ("vanrouter.mgmt.agent", "AGENT"),
        ("vanrouter.protocol", "PROTOCOL"),
        ("vanrouter.connections", "CONN_MGR"),
        ("vanrouter.cli.vanrouter", "ROUTER"),
        ("somebody.else", "PYTHON"),
    ],
)
def test_modules_of_loggers(logs: Logs, file: Path, logger: str, module: str) -> None:
    logging.getLogger(logger).error("x")
    assert bare(logs, file) == [f"{module} (error) x"]


def test_all_modules_of_the_table_exist() -> None:
    assert set(MODULE_OF_LOGGER.values()) <= set(LOG_MODULES)


def test_levels(logs: Logs, file: Path) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        server.log(level, "x")
    assert bare(logs, file) == [f"SERVER ({level}) x" for level in ("info", "warning", "error", "critical")]


def test_what_is_asked_for_by_itself_is_written(logs: Logs, file: Path) -> None:
    server.debug("off")
    server.handle(server.makeRecord(server.name, 10, "x.py", 1, "on", (), None, extra={"is_asked_for": True}))
    assert bare(logs, file) == ["SERVER (debug) on"]
    assert [entry[2] for entry in logs.entries(9)] == ["on"]


def test_levels_need_not_be_in_a_row(logs: Logs, file: Path) -> None:
    logs.update("AGENT", {"enable": "info,critical"})
    for level in (logging.INFO, logging.ERROR, logging.CRITICAL):
        agent.log(level, "x")
    assert bare(logs, file) == ["AGENT (info) x", "AGENT (critical) x"]


def test_what_is_off_costs_nothing(logs: Logs) -> None:
    assert not server.isEnabledFor(logging.DEBUG)
    logs.update("SERVER", {"enable": "debug+"})
    assert server.isEnabledFor(logging.DEBUG)
    assert not agent.isEnabledFor(logging.DEBUG)
    logs.update("SERVER", {"enable": "default"})
    assert not server.isEnabledFor(logging.DEBUG)


def test_modules_inherit_each_setting_by_itself(logs: Logs, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    logs.update("AGENT", {"outputFile": str(other)})
    logs.update("DEFAULT", {"enable": "error+", "includeTimestamp": False})
    for logger in (agent, server):
        logger.warning("no")
        logger.error("yes")
    assert lines(logs, other) == ["AGENT (error) yes"]
    assert lines(logs, file) == ["SERVER (error) yes"]


def test_nothing_enabled_is_nothing_written(logs: Logs, file: Path) -> None:
    for enable in ("", "none"):
        logs.update("SERVER", {"enable": enable})
        server.critical("x")
    assert lines(logs, file) == []


def test_source(logs: Logs, file: Path) -> None:
    logs.update("SERVER", {"includeSource": True})
    server.info("x")
    (line,) = bare(logs, file)
    assert re.fullmatch(r"SERVER \(info\) x \(.*test_logs\.py:\d+\)", line)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("%%06lu", r"\d{6}"), ("%S.%%06lu|", r"\d\d\.\d{6}\|"), ("fixed", "fixed"), (None, r"\S+ \S+ \+0000")],
)
def test_times(logs: Logs, file: Path, pattern: str | None, expected: str) -> None:
    logs.configure([], {"timestampFormat": pattern, "timestampsInUTC": True})
    server.info("x")
    assert re.fullmatch(f"{expected} SERVER \\(info\\) x", lines(logs, file)[0])


def test_bad_file_changes_nothing(logs: Logs, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Failed to open log file"):
        logs.update("SERVER", {"outputFile": str(tmp_path), "enable": "debug+"})
    server.info("x")
    assert bare(logs, file) == ["SERVER (info) x"]
    with pytest.raises(ConfigError, match="Failed to open log file ''"):
        logs.update("DEFAULT", {"outputFile": ""})
    with pytest.raises(MisuseError):
        logs.update("NOSUCH", {})


def test_texts_cannot_forge_lines(logs: Logs, file: Path) -> None:
    server.info("a\nb\rc\x1b[31m\0\td é")
    assert bare(logs, file) == ["SERVER (info) a\\nb\\rc\\x1b[31m\\x00\td é"]


def test_long_texts_are_cut(logs: Logs, file: Path) -> None:
    server.info("é" * 5000)
    (line,) = bare(logs, file)
    assert MAX_TEXT_BYTES - 1 <= len(line.removeprefix("SERVER (info) ").encode()) <= MAX_TEXT_BYTES


def test_passwords_are_masked(logs: Logs, file: Path) -> None:
    logs.hide("correct horse")
    logs.hide("x")  # too short to be told from other text
    server.info("user gave correct horse; saslPassword='a b', x password: hush; {'password': 'quiet'}")
    (line,) = bare(logs, file)
    assert line == "SERVER (info) user gave ***; saslPassword=***, x password: ***; {'password': ***}"


def test_a_misfit_of_arguments_is_logged_as_it_is(logs: Logs, file: Path) -> None:
    record = logging.LogRecord(server.name, logging.INFO, __file__, 1, "%d", ("x",), None)
    logs.record(record)  # not through the logger: pytest's own handler would raise
    assert "does not fit its arguments" in bare(logs, file)[0]


def test_tracebacks_follow_line_by_line(logs: Logs, file: Path) -> None:
    try:
        raise ZeroDivisionError("bug\nforged")
    except ZeroDivisionError:
        server.exception("crash")
    found = bare(logs, file)
    assert found[0] == "SERVER (error) crash"
    assert found[1] == "SERVER (error) Traceback (most recent call last):"
    assert all(line.startswith("SERVER (error) ") for line in found)


def test_ring_keeps_what_was_enabled(logs: Logs) -> None:
    for n in range(1200):
        server.info("event %d", n)
    server.debug("off")
    entries = logs.entries(2)
    assert [entry[:3] for entry in entries] == [["SERVER", "info", "event 1198"], ["SERVER", "info", "event 1199"]]
    assert isinstance(entries[0][5], int)
    assert len(logs.entries(5000)) == 1000
    assert logs.entries(0) == []


def test_counts(logs: Logs) -> None:
    logs.update("SERVER", {"enable": "none"})
    server.info("x")
    server.error("x")
    row = next(row for row in logs.counts() if row["name"] == "SERVER")
    assert (row["identity"], row["infoCount"], row["errorCount"], row["debugCount"]) == ("logStats/SERVER", 1, 1, 0)
    assert len(logs.counts()) == len(LOG_MODULES)
    assert logs.dropped == 0


def test_shutdown_leaves_the_loggers_as_they_were(file: Path) -> None:
    before = list(logging.getLogger().handlers)
    running = Logs()
    running.configure([{"module": "DEFAULT", "outputFile": str(file), "enable": "debug+"}], {})
    assert server.isEnabledFor(logging.DEBUG)
    server.info("last words")
    running.shutdown()
    assert logging.getLogger().handlers == before
    assert server.level == logging.NOTSET
    assert file.read_text().endswith("SERVER (info) last words\n")


# Further destinations.


def test_json_by_module(logs: Logs, file: Path) -> None:
    logs.update("SERVER", {"format": "json"})
    server.info("[C3] hello")
    agent.info("text")
    first, second = lines(logs, file)
    assert json.loads(first)["connection"] == 3
    assert second.endswith("AGENT (info) text")


def test_a_sink_has_modules_levels_and_format_of_its_own(logs: Logs, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    logs.put_sink("s", {"outputFile": str(other), "modules": "agent, POLICY", "enable": "debug+", "format": "json"})
    agent.debug("fine")
    agent.warning("both")
    server.warning("not mine")
    assert [line.split(" ", 3)[3] for line in lines(logs, file)] == [
        "AGENT (warning) both",
        "SERVER (warning) not mine",
    ]
    assert [json.loads(line)["text"] for line in other.read_text().splitlines()] == ["fine", "both"]
    assert logs.sink_counts("s") == {"linesWritten": 2, "linesQueued": 0, "linesDropped": 0}
    assert [entry[2] for entry in logs.entries(9)] == ["fine", "both", "not mine"]
    logs.remove_sink("s")
    agent.debug("nobody wants it")
    agent.warning("one")
    logs.drain()
    assert len(other.read_text().splitlines()) == 2
    assert logs.sink_counts("s") == {}


def test_a_sink_that_cannot_be_changes_nothing(logs: Logs, file: Path, tmp_path: Path) -> None:
    logs.put_sink("s", {"outputFile": str(tmp_path / "other")})
    with pytest.raises(ConfigError, match="Failed to open"):
        logs.put_sink("s", {"outputFile": str(tmp_path)})
    with pytest.raises(ValueError, match="'NONE' is not a log module"):
        logs.put_sink("s", {"outputFile": str(tmp_path / "third"), "modules": "none"})
    server.info("still")
    logs.drain()
    assert (tmp_path / "other").read_text().endswith("still\n")
    assert bare(logs, file) == ["SERVER (info) still"]
