"""The program itself: options, ready line, ports, signals, exit codes, refusal of bad files."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.harness import Router, vanrouter_program
from tests.system.process import Program, free_port
from tests.system.services import connect

LISTENER = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})


def vanrouter(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [vanrouter_program(), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_version_and_help() -> None:
    for option in ("-v", "--version"):
        result = vanrouter(option)
        assert result.returncode == 0
        assert re.search(r"\d+\.\d+\.\d+", result.stdout)
    for option in ("-h", "--help"):
        result = vanrouter(option)
        assert result.returncode == 0
        assert "--config" in result.stdout


def test_unknown_option_and_stray_argument_exit_1() -> None:
    for arguments in (["--nonsense"], ["stray"]):
        result = vanrouter(*arguments)
        assert result.returncode == 1
        assert result.stderr


def test_module_starts_as_the_program_does(tmp_path: Path) -> None:
    config = write(tmp_path / "r.conf", "router {\n    id: R\n}\n")
    with Program("module", [sys.executable, "-m", "vanrouter", "-c", config], tmp_path / "log") as program:
        program.wait_for("Operational")
        assert program.terminate() == 0


@pytest.mark.parametrize(
    ("with_signal", "code"),
    [(signal.SIGTERM, 0), (signal.SIGQUIT, 0), (signal.SIGINT, -signal.SIGINT)],
    ids=["TERM", "QUIT", "INT"],
)
def test_signals_end_cleanly(tmp_path: Path, with_signal: signal.Signals, code: int) -> None:
    with Router("R", [LISTENER], tmp_path, mode="standalone") as router:
        port = router.ready().port("amqp")
        with connect(port):  # an open connection is no reason to stay
            assert router.terminate(with_signal=with_signal, timeout_s=5) == code
        router.check_log()


def test_start_up_lines(tmp_path: Path) -> None:
    with Router("R", [LISTENER], tmp_path) as router:
        match = router.wait_for(r"Operational, \d+ Threads Running \(process ID (\d+)\)")
        assert int(match[1]) == router.pid
        router.wait_for(r"SERVER \(info\) Container Name: R")
        router.wait_for(r"ROUTER \(info\) Router started in Interior mode, area=0 id=R")
        router.wait_for(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d{4} \w+ \(\w+\) ")
        router.stop()


def test_files_with_the_three_endings_start_alike(tmp_path: Path) -> None:
    attributes = {"name": "amqp", "host": "127.0.0.1", "port": "0"}
    files = [
        write(tmp_path / "r.json", json.dumps([["router", {"id": "R", "mode": "interior"}], ["listener", attributes]])),
        write(
            tmp_path / "r.yaml",
            "- router: {id: R, mode: interior}\n- listener: {name: amqp, host: 127.0.0.1, port: 0}\n",
        ),
        write(
            tmp_path / "r.conf",
            "router {\n id: R\n mode: interior\n}\nlistener {\n name: amqp\n host: 127.0.0.1\n port: 0\n}\n",
        ),
    ]
    for file in files:
        with Program(file.name, [vanrouter_program(), "-c", file], tmp_path / "log") as program:
            program.wait_for(r"Router started in Interior mode, area=0 id=R")
            program.wait_for(r"Listening on 127\.0\.0\.1:\d+ \(amqp\)")
            program.wait_for("Operational")
            assert program.terminate() == 0


def test_log_to_a_file(tmp_path: Path) -> None:
    target = tmp_path / "router.log"
    config = write(
        tmp_path / "r.conf",
        f"router {{\n id: R\n}}\nlog {{\n module: DEFAULT\n enable: info+\n outputFile: {target}\n}}\n",
    )
    os.mkfifo(target)  # opened for append like a file, and its lines arrive without looking twice
    with Program("cat", ["cat", target], tmp_path / "cat.log") as reader:
        with Program("R", [vanrouter_program(), "-c", config], tmp_path / "log") as program:
            reader.wait_for(r"SERVER \(info\) Operational")
            assert program.terminate() == 0
        assert reader.wait() == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "router {\n    mode: interior\n    id: A\n}\nlistener {\n    prot: 5672\n}\n",
            ["bad.conf", "listener", "prot"],
        ),
        ("router {\n    mode: inferior\n}\n", ["bad.conf", "mode", "inferior", "interior"]),
        ("listener {\n    port: 5672\n", ["bad.conf"]),
        ("listenr {\n    port: 5672\n}\n", ["bad.conf", "listenr"]),
        ("listener {\n    role: inter-router\n    port: 0\n}\n", ["mode='interior'"]),
        ("router {\n    id: a|b\n}\n", ["a|b"]),
        ("", ["bad.conf"]),
    ],
    ids=["attribute", "enumeration", "unclosed", "type", "role", "id", "empty"],
)
def test_bad_file_is_refused_by_name(tmp_path: Path, text: str, named: list[str]) -> None:
    config = write(tmp_path / "bad.conf", text)
    for arguments in (["-c", config], ["--check", "-c", config]):
        result = vanrouter(*arguments)
        assert result.returncode == 1
        for part in named:
            assert part in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


def test_error_names_the_line(tmp_path: Path) -> None:
    config = write(tmp_path / "bad.conf", "router {\n    id: A\n}\n\nlistener {\n    port: 0\n    cost: cheap\n}\n")
    result = vanrouter("--check", "-c", config)
    assert result.returncode == 1
    assert re.search(r"bad\.conf:[5-7]\b", result.stderr), result.stderr


def test_check_accepts_and_exits(tmp_path: Path) -> None:
    config = write(tmp_path / "good.conf", "router {\n    mode: interior\n    id: A\n}\n")
    result = vanrouter("--check", "-c", config)
    assert result.returncode == 0, result.stderr


def test_check_warns_of_a_plain_inter_router_link(tmp_path: Path) -> None:
    config = write(
        tmp_path / "plain.conf",
        "router {\n    mode: interior\n    id: A\n}\nlistener {\n    role: inter-router\n    port: 55671\n}\n",
    )
    result = vanrouter("--check", "-c", config)
    assert result.returncode == 0
    assert "TLS" in result.stdout + result.stderr


def test_missing_file(tmp_path: Path) -> None:
    result = vanrouter("-c", tmp_path / "absent.conf")
    assert result.returncode == 1
    assert "absent.conf" in result.stderr


def test_listener_that_cannot_bind_ends_the_start(tmp_path: Path) -> None:
    with Router("R1", [LISTENER], tmp_path, mode="standalone") as first:
        taken = first.ready().port("amqp")
        config = write(tmp_path / "r.conf", f"listener {{\n    host: 127.0.0.1\n    port: {taken}\n}}\n")
        result = vanrouter("-c", config)
        assert result.returncode == 1
        assert str(taken) in result.stderr
        first.stop()


def test_daemon_detaches_and_writes_its_pid(tmp_path: Path) -> None:
    port = free_port()
    log, pid_file = tmp_path / "router.log", tmp_path / "pid"
    config = write(
        tmp_path / "r.conf",
        f"listener {{\n host: 127.0.0.1\n port: {port}\n}}\n"
        f"log {{\n module: DEFAULT\n enable: info+\n outputFile: {log}\n}}\n",
    )
    assert vanrouter("-d", "-P", pid_file, "-c", config).returncode == 0
    pid = int(pid_file.read_text())
    try:
        with connect(port):
            pass
        assert "Operational" in log.read_text()
    finally:
        descriptor = open_process(pid)
        os.kill(pid, signal.SIGTERM)
    try:
        assert select.select([descriptor], [], [], 10)[0], "the daemon did not end"
    finally:
        os.close(descriptor)


def open_process(pid: int) -> int:
    """Return a descriptor that can be read when the process has ended (pidfd_open(2), which PyPy has no name for)."""
    if sys.implementation.name == "cpython":
        return os.pidfd_open(pid)
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(434, pid, 0)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    return int(descriptor)


def test_daemon_says_why_it_did_not_start(tmp_path: Path) -> None:
    config = write(tmp_path / "bad.conf", "nonsense\n")
    result = vanrouter("-d", "-P", tmp_path / "pid", "-c", config)
    assert result.returncode == 1
    assert result.stderr
