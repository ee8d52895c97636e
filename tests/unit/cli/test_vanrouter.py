from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from vanrouter import __version__
from vanrouter.cli import vanrouter as program
from vanrouter.errors import ConfigError
from vanrouter.mgmt.config import Configuration
from vanrouter.mgmt.options import EXIT_INTERRUPTED, StartOptions


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "r.conf"
    file.write_text(f"router {{\n id: R\n}}\nlog {{\n module: DEFAULT\n outputFile: {tmp_path}/log\n}}\n")
    return file


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    return asked


class FakeServer:
    """Stands where the router would run."""

    def __init__(self, outcome: int | Exception) -> None:
        self.outcome = outcome
        self.configuration: Configuration | None = None
        self.options: StartOptions | None = None

    def __call__(self, configuration: Configuration, options: StartOptions) -> int:
        self.configuration, self.options = configuration, options
        if isinstance(self.outcome, Exception):
            raise self.outcome
        options.on_ready()
        return self.outcome


def serve(monkeypatch: pytest.MonkeyPatch, outcome: int | Exception) -> FakeServer:
    server = FakeServer(outcome)
    monkeypatch.setattr(program, "_serve", server)
    return server


def test_the_router_runs_with_its_configuration(
    monkeypatch: pytest.MonkeyPatch, config: Path, limit: list[tuple[int, int]]
) -> None:
    server = serve(monkeypatch, 0)
    assert program.main(["-c", str(config), "-I", "/ignored", "-T"]) == 0
    assert server.configuration is not None
    assert server.options is not None
    assert server.configuration.router.attributes["id"] == "R"
    assert server.options.has_test_hooks
    assert limit
    assert limit[0][0] == limit[0][1]


def test_a_failed_start_is_said_in_the_log_and_on_stderr(
    monkeypatch: pytest.MonkeyPatch, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, ConfigError("listener", "port in use"))
    assert program.main(["-c", str(config)]) == 1
    assert capsys.readouterr().err == "vanrouter: listener: port in use\n"
    log = (config.parent / "log").read_text()
    assert "ROUTER (critical) Router start-up failed: listener: port in use" in log


def test_a_bad_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.conf"
    bad.write_text("nonsense\n")
    assert program.main(["-c", str(bad)]) == 1
    error = capfd.readouterr().err
    assert f"vanrouter: Cannot load configuration file {bad}: {bad}:1: expected a section" in error
    assert program.main(["--check", "-c", str(bad)]) == 1
    assert capfd.readouterr().err.startswith(f"vanrouter: {bad}:1: expected a section")


def test_warnings_are_logged(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    config.write_text(config.read_text() + "address {\n}\n")
    serve(monkeypatch, 0)
    assert program.main(["-c", str(config)]) == 0
    assert "(warning)" in (config.parent / "log").read_text()


def test_check(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--check", "-c", str(config)]) == 0
    assert capsys.readouterr().out == f"{config}: good, 0 warnings\n"
    config.write_text("address {\n}\n")
    assert program.main(["--check", "-c", str(config)]) == 0
    assert capsys.readouterr().out.startswith("warning: ")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["-v"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    with pytest.raises(SystemExit) as caught:
        program.main(["-h"])
    assert caught.value.code == 0
    assert "--config" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--nonsense"], ["stray"], ["-c"], ["--conf", "x"]])
def test_wrong_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    shown = capsys.readouterr()
    assert caught.value.code == 1
    assert "usage" in shown.out
    assert shown.err.startswith("vanrouter: ")


def test_interrupted_ends_by_the_signal(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    serve(monkeypatch, EXIT_INTERRUPTED)
    assert program.main(["-c", str(config)]) == EXIT_INTERRUPTED
    assert sent == [(os.getpid(), 2)]


def test_daemon_writes_its_pid_and_reports(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    read, write = os.pipe()
    became: list[str] = []
    monkeypatch.setattr(program, "detach", lambda _: program.Handshake(write))
    monkeypatch.setattr(program, "become", became.append)
    serve(monkeypatch, 0)
    pid_file = config.parent / "pid"
    assert program.main(["-d", "-P", str(pid_file), "-U", "nobody", "-c", str(config)]) == 0
    assert pid_file.read_text() == f"{os.getpid()}\n"
    assert became == ["nobody"]
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"ready\n"
