"""Programs under test: started in a process group of their own, their output kept and waited for line by line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

START_TIMEOUT_S = 30.0
"""Start of a program on a busy machine of two cores; reaching it means that something is wrong."""
STOP_TIMEOUT_S = 15.0

_setpriv = shutil.which("setpriv")
DIE_WITH_PARENT = [_setpriv, "--pdeathsig", "KILL"] if _setpriv else []
"""Put before a command: a test run that is killed leaves nothing behind."""


class Program:
    """A child process whose output (both streams) is read by a thread into `log` and a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_file: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log_file = log_file
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*DIE_WITH_PARENT, *self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
            user=user,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe, self.log_file.open("ab", buffering=0) as file:
            for line in pipe:
                file.write(line)
                with self._changed:
                    self.log.append(line.decode(errors="replace").rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, *, timeout_s: float = START_TIMEOUT_S, after: int = 0) -> re.Match[str]:
        """Wait for a line of output that matches; return the match.

        Args:
            pattern: regular expression, searched for in each line.
            timeout_s: deadline in seconds from now.
            after: number of lines already seen, not to be looked at.

        Raises:
            AssertionError: the deadline is over, or the program ended without saying it.
        """
        regex = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        seen = after
        with self._changed:
            while True:
                for line in self.log[seen:]:
                    if match := regex.search(line):
                        return match
                seen = len(self.log)
                if self._ended:
                    raise AssertionError(f"{self.name} ended without saying {pattern!r}\n{self.tail()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"{self.name} did not say {pattern!r} in {timeout_s} s\n{self.tail()}")
                self._changed.wait(left)

    def mark(self) -> int:
        """Return the number of lines so far, for `wait_for(after=...)`."""
        with self._changed:
            return len(self.log)

    def tail(self, lines: int = 40) -> str:
        """Return the end of the output for a failure's message."""
        return f"--- {self.name}: {self.log_file}\n" + "\n".join(self.log[-lines:])

    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self.process.poll() is None

    def terminate(self, *, with_signal: int = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask the process to end and return its exit code; one that does not end is killed and fails the test."""
        if self.is_alive():
            self.process.send_signal(with_signal)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end in {timeout_s} s\n{self.tail()}") from None
        self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """End it the hard way, as a power failure would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self._reader.join(STOP_TIMEOUT_S)

    def memory_kb(self) -> int:
        """Return the resident memory in kB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError(f"{self.name} has no memory figure: it ended\n{self.tail()}")

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


class Group(Protocol):
    """Programs that are started and ended together."""

    def routers(self) -> Sequence[Program]: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


Held = TypeVar("Held", bound=Group)
running: list[Callable[[], Sequence[Program]]] = []
"""What tells whose logs the report of a failed test shows."""


@contextlib.contextmanager
def shown(programs: Callable[[], Sequence[Program]]) -> Iterator[None]:
    """Show the logs of these programs when a test fails meanwhile."""
    before = list(running)
    running.append(programs)
    try:
        yield
    finally:
        running[:] = before


@contextlib.contextmanager
def held(group: Held) -> Iterator[Held]:
    """Hold a group to a clean end, whenever it is started, and show its logs when a test fails meanwhile."""
    with shown(group.routers):
        try:
            yield group
            group.stop()
        finally:
            group.kill()


def free_port() -> int:
    """Return a port that is free now, for programs that cannot take port 0 or whose port must outlive them."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
