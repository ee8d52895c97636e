from __future__ import annotations

import os
from pathlib import Path

import pytest

from vanrouter.cli.daemon import READY, Handshake, become, detach, write_pid_file
from vanrouter.errors import ConfigError


def finished(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


def test_handshake_says_one_thing() -> None:
    read, write = os.pipe()
    handshake = Handshake(write)
    handshake.ready()
    handshake.failed("too late")
    assert finished(read) == READY


def test_handshake_hands_the_reason_on() -> None:
    read, write = os.pipe()
    Handshake(write).failed("x" * 10_000)
    assert finished(read) == b"x" * 4096


def test_without_a_daemon_nothing_happens() -> None:
    Handshake().ready()
    Handshake().failed("x")


def test_pid_file(tmp_path: Path) -> None:
    write_pid_file(str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    with pytest.raises(ConfigError, match="cannot write"):
        write_pid_file(str(tmp_path))


def test_unknown_user() -> None:
    with pytest.raises(ConfigError, match="there is no user 'nobody-of-that-name'"):
        become("nobody-of-that-name")


def test_user_that_may_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "initgroups", refuse)
    with pytest.raises(ConfigError, match="cannot become 'root': Operation not permitted"):
        become("root")


@pytest.mark.parametrize(("message", "code"), [(READY, 0), (b"bad file", 1), (b"", 1)])
def test_the_starting_process_waits_for_the_outcome(
    message: bytes, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.write(write, message)
    monkeypatch.setattr(os, "pipe", lambda: (read, write))
    monkeypatch.setattr(os, "fork", lambda: 4711)
    monkeypatch.setattr(os, "waitpid", lambda pid, _: (pid, 0))
    with pytest.raises(SystemExit) as caught:
        detach("vanrouter")
    os.close(read)
    assert caught.value.code == code
    if code:
        expected = message.decode() or "the daemon ended before it was ready"
        assert capsys.readouterr().err == f"vanrouter: {expected}\n"
