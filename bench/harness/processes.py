"""Programs that the benchmarks start: lines from them, their memory and CPU time, and their end, by process id."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CPU_CLOCK = 2
"""A process as a clock (clock_getcpuclockid(3)): the complement of its number, and this in the last three bits."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
GRACE_S = 5.0
"""How long a program may take to end when asked to."""


class BenchError(Exception):
    """A program did not do what the benchmark needs of it."""


def pause(seconds: float) -> None:
    """Let time pass: a figure is a count over a span of time, here the only thing that waits for a clock."""
    select.select([], [], [], seconds)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something that gives no event of its own."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {timeout_s:g} s: {what}")
        pause(0.02)


def raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: thousands of connections at once."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class OthersWatch:
    """How much of the machine somebody else used meanwhile: then figures are of that, too."""

    def __init__(self) -> None:
        self._busy, self._all = self._machine()
        self._ours = self._own()

    def share(self) -> float:
        """Others' share of all CPU time since the beginning; asked when the programs that were started have ended."""
        busy, total = self._machine()
        return max(0.0, (busy - self._busy - (self._own() - self._ours)) / max(total - self._all, 1e-9))

    @staticmethod
    def _machine() -> tuple[float, float]:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / TICKS_PER_S, sum(ticks) / TICKS_PER_S  # less idle and iowait

    @staticmethod
    def _own() -> float:
        usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Program:
    """One process, with its output either read line by line or kept in a log file."""

    def __init__(self, argv: Sequence[str], log: Path, *, talks: bool, env: Mapping[str, str] | None = None) -> None:
        """Start it. `talks`: its output is read here, and the end of its input asks it to end."""
        self.argv = list(argv)
        self.log = log
        self._rest = b""
        with log.open("ab") as output:
            # A session of its own: Ctrl-C is for the driver, which then ends everything in order.
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                cwd=ROOT,
                env=env,
                start_new_session=True,
                bufsize=0,
            )

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next line of output, which is JSON."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise BenchError(f"no answer within {timeout_s:g} s from {' '.join(self.argv)}; {self.last_words()}")
            data = os.read(descriptor, 65536)
            if not data:
                raise BenchError(f"ended without an answer: {' '.join(self.argv)}; {self.last_words()}")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def tell(self, text: str) -> None:
        """Write a line to the program's input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    def last_words(self) -> str:
        """The end of the log, for the message that says what went wrong."""
        return self.log.read_text(errors="replace")[-600:].strip() or "nothing in its log"

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def cpu_s(self) -> float:
        """CPU time used so far by all its threads, in seconds, exactly: in /proc it is told in hundredths."""
        if not self.is_running:
            raise BenchError(f"process {self.process.pid} has ended; {self.last_words()}")
        return time.clock_gettime(~self.process.pid << 3 | CPU_CLOCK)

    def kernel_s(self) -> float:
        """The part of that in the kernel, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[12]) / TICKS_PER_S

    def descriptors(self) -> int:
        """Descriptors that it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_kb(self) -> int:
        """Resident memory, in kB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise BenchError(f"process {self.process.pid} has ended; {self.last_words()}")

    def close(self) -> None:
        """End it, and wait for the end."""
        process = self.process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Programs:
    """All programs of a run; leaving the block ends what is left of them, the latest first."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._started: list[Program] = []
        self._count = 0

    def start(
        self, name: str, argv: Sequence[str], *, talks: bool = False, env: Mapping[str, str] | None = None
    ) -> Program:
        """Start a program; `name` names its log."""
        self._count += 1
        program = Program(argv, self.logs / f"{self._count:04d}-{name}.log", talks=talks, env=env)
        self._started.append(program)
        return program

    def python(self, module: str, *arguments: object) -> Program:
        """Start a program of this package that talks, by the interpreter that runs the driver."""
        argv = [sys.executable, "-m", module, *(str(argument) for argument in arguments)]
        return self.start(module.rsplit(".", 1)[-1], argv, talks=True)

    def end(self, *programs: Program) -> None:
        """End some of the programs."""
        for program in programs:
            program.close()
            if program in self._started:
                self._started.remove(program)

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._started:
            self._started.pop().close()
