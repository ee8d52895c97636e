"""Where a router's CPU goes: samples of its stacks by py-spy, Proton's C included, sorted into the rooms of the house.

What the kernel takes is the kernel's own account (/proc), because a sample does not say whether `epoll_wait` works or
waits; the rest is divided as the samples that were not inside a system call are.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.harness.chains import Network
from bench.harness.processes import BenchError, Program, Programs

KERNEL = "kernel"
PROTON = "engine: Proton's C"
OPENSSL = "OpenSSL"
INTERPRETER = "interpreter"
"""What has no frame of vanrouter below it, and no known library."""
SAMPLES_PER_S = 100
MARGIN_S = 0.3
"""How much later than the load the sampling begins, and how much earlier it ends."""
END_S = 20.0
"""Until py-spy has written its file."""
SYSTEM_CALLS = frozenset({
    "accept", "accept4", "bind", "close", "connect", "epoll_ctl", "epoll_wait", "fcntl", "getsockname", "getsockopt",
    "ioctl", "listen", "madvise", "mmap", "munmap", "read", "recv", "recvfrom", "recvmsg", "send", "sendmsg", "sendto",
    "setsockopt", "shutdown", "socket", "write", "writev",
})  # fmt: skip
"""Functions of the C library that do nothing but ask the kernel."""
_FRAME = re.compile(r"(?P<function>.+) \((?P<place>[^()]*)\)$")
_ROOM = re.compile(r".*/vanrouter/(\w+)/.*\.py(:\d+)?$")
"""The last folder of that name: a clone may be called so too."""


def room(stack: str) -> str | None:
    """Return the room that a sample belongs to: that of the innermost frame which tells; None: not the loop's thread.

    Args:
        stack: frames from the outermost to the innermost, `function (file:line)`, with semicolons between them.
    """
    if "Reactor.run" not in stack:
        return None
    innermost = True
    for text in reversed(stack.split(";")):
        frame = _FRAME.match(text)
        function, place = (frame["function"], frame["place"]) if frame else (text, "")
        if innermost and "libc.so" in place and function.lstrip("_").removeprefix("libc_") in SYSTEM_CALLS:
            return KERNEL
        innermost = False
        if "libssl" in place or "libcrypto" in place:
            return OPENSSL
        found = _ROOM.match(place)
        if found:
            return found[1]
        if "proton" in place:
            return PROTON
    return INTERPRETER


def count(raw: str) -> Counter[str]:
    """Return samples by room; `raw` is what py-spy writes: a stack and a number in each line."""
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, number = line.rpartition(" ")
        where = room(stack)
        if where is not None:
            found[where] += int(number)
    return found


def shares(samples: Counter[str], cpu_s: float, kernel_s: float) -> dict[str, float]:
    """Return each room's share of the CPU time, 0 to 1, the kernel's from its own account."""
    ours = samples.total() - samples[KERNEL]
    if cpu_s <= 0 or not ours:
        raise BenchError(f"nothing to divide: {cpu_s:.2f} s of CPU and {ours} samples outside the kernel")
    kernel = kernel_s / cpu_s
    found = {name: number / ours * (1 - kernel) for name, number in samples.items() if name != KERNEL}
    return {KERNEL: kernel, **found}


def py_spy() -> str:
    """Return the sampler's path."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise BenchError("py-spy is not installed (pip install py-spy, or tools/setup.sh test)")
    return program


def sampled(
    programs: Programs, folder: Path, network: Network, seconds: float, work: Callable[[], float]
) -> tuple[float, float, dict[str, float]]:
    """Have work done that takes so long; returns how much it was, the CPU of all hops in s, and each room's share."""
    spies: list[tuple[Program, Path]] = []
    for hop in network.hops:
        output = folder / f"{hop.process.pid}.samples"
        argv = [py_spy(), "record", "--pid", str(hop.process.pid), "--native", "--function", "--full-filenames"]
        argv += [
            "--format",
            "raw",
            "--rate",
            str(SAMPLES_PER_S),
            "--duration",
            str(max(1, round(seconds - 2 * MARGIN_S))),
        ]
        spies.append((programs.start("py-spy", [*argv, "--output", str(output)]), output))
    cpu, kernel = network.cpu_s(), network.kernel_s()
    amount = work()
    cpu, kernel = network.cpu_s() - cpu, network.kernel_s() - kernel
    samples: Counter[str] = Counter()
    for spy, output in spies:
        spy.process.wait(END_S)
        if not output.exists():
            raise BenchError(f"py-spy wrote nothing (it needs the right to trace processes): {spy.last_words()}")
        samples += count(output.read_text())
        output.unlink()
        programs.end(spy)
    return amount, cpu, shares(samples, cpu, kernel)
