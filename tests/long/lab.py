"""Machines and wires for the tests of bad networks: network namespaces, bridges, losses by nftables, slow wires.

A machine is a namespace with loopback and one interface; machines on one switch reach each other. What is cut stays
silent, as in life: nobody is told. Needs root, `ip` and `nft`; `Lab.require` skips and says what is missing.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.harness import Router, Section
from tests.system.process import Program
from tests.system.services import _Echo

NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
POLL_S = 0.05

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, text: str | None = None) -> str:
    """Run a command of the system; its error is the test's."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def enter(namespace: str) -> None:
    """Put the calling thread into a namespace; sockets made there stay there."""
    with (NAMESPACES / namespace).open() as file:
        if _libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class Machine:
    """One namespace."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        self.name = name
        self.namespace = f"{lab.prefix}{name}"
        self.interface = f"{lab.prefix}{name}0"
        """The switch's end of its wire, in the lab's own namespace."""
        self.address = f"10.77.0.{number}"
        self.address6 = f"fd77::{number}"
        self._lab = lab
        run("ip", "netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        self.nft("add table inet lab")
        for hook in ("input", "output"):
            self.nft(f"add chain inet lab {hook} {{ type filter hook {hook} priority 0; }}")

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.namespace, *arguments)

    def nft(self, rules: str) -> None:
        run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", text=rules + "\n")

    # What happens to it.

    def lose(self, percent: int) -> None:
        """Lose a share of the packets, either way."""
        share = f"numgen random mod 100 < {percent} " if percent < 100 else ""
        self.nft("flush chain inet lab input\nflush chain inet lab output")
        for hook, interface in (("input", "iifname"), ("output", "oifname")) if percent else ():
            self.nft(f'add rule inet lab {hook} meta {interface} != "lo" {share}drop')

    def silence(self) -> None:
        """Lose every packet, either way."""
        self.lose(100)

    def heal(self) -> None:
        """Lose none."""
        self.lose(0)

    # What runs on it.

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Make a socket there."""

        def make() -> socket.socket:
            enter(self.namespace)
            return socket.socket(family, kind)

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(make).result()

    def router(
        self, name: str, sections: Sequence[Section], *, program: str | None = None, **options: object
    ) -> Router:
        """Start a router there and wait until it is ready."""
        prefix = ["ip", "netns", "exec", self.namespace]
        directory = self._lab.directory / f"{name}-{len(self._lab.routers)}"
        made = Router(name, sections, directory, program=program, prefix=prefix, **options)  # type: ignore[arg-type]  # names
        self._lab.routers.append(made)
        made.ready()
        return made

    def echo_server(self) -> int:
        """Serve echo on its loopback until the lab is closed; returns the port."""
        server = _EchoServer(("127.0.0.1", 0), _Echo, bind_and_activate=False)
        server.socket.close()
        server.socket = self.socket()
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
        self._lab.at_end(server.server_close)
        self._lab.at_end(server.shutdown)
        return int(server.server_address[1])

    def succeeds(self, port: int, timeout_s: float = 1.0) -> bool:
        """Say whether a flow that begins there works now."""
        with self.socket() as client:
            client.settimeout(timeout_s)
            try:
                client.connect(("127.0.0.1", port))
                client.sendall(b"ping")
                return client.recv(4) == b"ping"
            except OSError:
                return False

    def back_after(self, port: int, limit_s: float, timeout_s: float = 1.0) -> float:
        """Return how long it takes until flows work again; too long fails the test."""
        began = time.monotonic()
        while not self.succeeds(port, timeout_s):
            took = time.monotonic() - began
            assert took < limit_s, f"flows from {self.name} do not work after {took:.1f} s"
            time_passes()
        return time.monotonic() - began


class Lab:
    """All machines and wires of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"v{os.getpid() % 100000}"
        self.routers: list[Router] = []
        self.programs: list[Program] = []
        self._machines: dict[str, Machine] = {}
        self._ends: list[Callable[[], object]] = []
        self._core = f"{self.prefix}core"
        self._trunks = 0
        run("ip", "netns", "add", self._core)
        self.at_end(lambda: run("ip", "netns", "del", self._core))

    @staticmethod
    def require() -> None:
        """Skip where it cannot work."""
        for command in ("ip", "nft"):
            if shutil.which(command) is None:
                pytest.skip(f"{command} is not installed")
        if os.geteuid() != 0:
            pytest.skip("network namespaces need root")
        probe = f"v{os.getpid() % 100000}probe"
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        run("ip", "netns", "del", probe)

    def at_end(self, call: Callable[[], object]) -> None:
        self._ends.append(call)

    def machine(self, name: str, switch: str = "s") -> Machine:
        """Make a machine and plug it into a switch."""
        made = self._machines[name] = Machine(self, name, len(self._machines) + 1)
        self.at_end(lambda: run("ip", "netns", "del", made.namespace))
        self._switch(switch)
        run("ip", "link", "add", made.interface, "netns", self._core, "type", "veth", "peer", "eth0", "netns",
            made.namespace)  # fmt: skip
        run("ip", "-n", self._core, "link", "set", made.interface, "master", switch, "up")
        made.ip("addr", "add", f"{made.address}/24", "dev", "eth0")
        made.ip("addr", "add", f"{made.address6}/64", "dev", "eth0", "nodad")
        made.ip("link", "set", "eth0", "up")
        return made

    def _switch(self, name: str) -> None:
        known = subprocess.run(["ip", "-n", self._core, "link", "show", name], capture_output=True, check=False)
        if known.returncode:
            run("ip", "-n", self._core, "link", "add", name, "type", "bridge", "forward_delay", "0")
            run("ip", "-n", self._core, "link", "set", name, "up")

    def trunk(self, one: str, other: str) -> str:
        """Join two switches; returns the wire, for `unplug`."""
        self._trunks += 1
        ends = (f"t{self._trunks}a", f"t{self._trunks}b")
        run("ip", "-n", self._core, "link", "add", ends[0], "type", "veth", "peer", ends[1])
        for end, switch in zip(ends, (one, other), strict=True):
            self._switch(switch)
            run("ip", "-n", self._core, "link", "set", end, "master", switch, "up")
        return ends[0]

    def unplug(self, wire: str) -> None:
        run("ip", "-n", self._core, "link", "set", wire, "down")

    def plug(self, wire: str) -> None:
        run("ip", "-n", self._core, "link", "set", wire, "up")

    def slow_wire(self, one: Machine, other: Machine, *, delay_ms: int, kbit: int = 0) -> tuple[str, str]:
        """Put a second wire between two machines, slow in either direction; returns the addresses on it.

        The kernel's own `netem` is not there everywhere; a small relay between two TUN interfaces is.
        """
        number = len(self.programs) + 1
        addresses = (f"10.78.{number}.1", f"10.78.{number}.2")
        command = [
            *(sys.executable, str(Path(__file__).with_name("slow_wire.py")), f"tun{number}"),
            *(one.namespace, addresses[0], other.namespace, addresses[1], str(delay_ms), str(kbit)),
        ]
        program = Program(f"wire{number}", command, self.directory / f"wire{number}.log")
        self.programs.append(program)
        program.wait_for("^ready")
        return addresses

    def names_of(self, machine: Machine) -> NameServer:
        """Give a machine a name server of the test's; before anything is started on it."""
        folder = Path("/etc/netns") / machine.namespace
        folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n")  # not the machine's own name, which SASL wants to know
        self.at_end(lambda: shutil.rmtree(folder))
        server = NameServer(machine)
        self.at_end(server.close)
        return server

    def close(self) -> None:
        """Take everything down, the last first."""
        for program in (*self.routers, *self.programs):
            program.kill()
        while self._ends:
            with contextlib.suppress(AssertionError):
                self._ends.pop()()


class NameServer:
    """Answers for the names it was told, on 127.0.0.1:53 of one machine (RFC 1035, questions of class IN only)."""

    def __init__(self, machine: Machine) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.is_silent = False
        self.questions = 0
        self._socket = machine.socket(kind=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(2048)
            except OSError:
                return
            self.questions += 1
            if not self.is_silent and question:
                self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        at += 1
        kind = int.from_bytes(question[at : at + 2])
        found = self.addresses.get(".".join(labels).lower())
        packed = []
        for text in found or ():
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            if kind == (28 if family == socket.AF_INET6 else 1):
                packed.append(socket.inet_pton(family, text))
        rows = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2) + b"\0\1\0\0\0\0" + len(each).to_bytes(2) + each for each in packed
        )
        code = 0x8180 if found is not None else 0x8183
        header = question[:2] + code.to_bytes(2) + b"\0\1" + len(packed).to_bytes(2) + b"\0\0\0\0"
        return header + question[12 : at + 4] + rows

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def laboratory(directory: Path) -> Iterator[Lab]:
    """A lab for one test, or a skip."""
    Lab.require()
    lab = Lab(directory)
    try:
        yield lab
    finally:
        lab.close()


def time_passes(seconds: float = POLL_S) -> None:
    """Let real time pass: between two looks at something that says nothing, or while a network is cut."""
    threading.Event().wait(seconds)
