"""The kinds that are on this machine, the services, and the networks in front of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.harness import certificates
from bench.harness.chains import (
    FLOOR,
    HAPROXY,
    SKROUTERD,
    START_TIMEOUT_S,
    STUNNEL,
    VANROUTER,
    Builder,
    Network,
    Shape,
)
from bench.harness.processes import BenchError, Programs

ANSWER_TIMEOUT_S = 60.0
SERVICES = ("sink", "source", "echo", "http")


def available(more: Sequence[str]) -> dict[str, list[str]]:
    """Return the kinds that can be measured here, with the command of each; `more` are NAME=COMMAND."""
    kinds: dict[str, list[str]] = {FLOOR: []}
    for name in (HAPROXY, STUNNEL):
        program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program:
            kinds[name] = [program]
    skrouterd = os.environ.get("SKROUTERD")
    if skrouterd and shutil.which(skrouterd):
        kinds[SKROUTERD] = [skrouterd]
    for text in more:
        name, _, command = text.partition("=")
        if not command:
            raise BenchError(f"--router {text}: NAME=COMMAND is needed")
        kinds[name] = shlex.split(command)
    kinds[VANROUTER] = [sys.executable, "-m", "vanrouter"]
    return kinds


class World:
    """Services, and the networks in front of them; each network is started when first asked for, and then kept."""

    def __init__(self, programs: Programs, folder: Path, kinds: dict[str, list[str]], seconds: float) -> None:
        self.programs = programs
        self.folder = folder
        self.kinds = kinds
        self.seconds = seconds
        self.connections: int | None = None
        """How many new connections to make, instead of as many as the time allows."""
        self.busiest_load = 0.0
        """CPU of the busiest AMQP load process, as a share of a core: near 1 it measured itself."""
        self._networks: dict[tuple[str, Shape], Network] = {}
        self._amqp_floor: Network | None = None
        self._services: dict[str, int] = {}
        self._builder: Builder | None = None

    def services(self) -> dict[str, int]:
        """Return the ports of the services themselves."""
        if not self._services:
            started = {name: self.programs.python("bench.load.tcp_server", name) for name in SERVICES}
            self._services = {name: program.answer(START_TIMEOUT_S)["port"] for name, program in started.items()}
        return self._services

    def network(self, kind: str, *, hops: int = 2, tls: bool = False, observer: str | None = None) -> Network:
        """Return the network of a kind and shape (`Shape` says what each means)."""
        shape = Shape(hops=hops, tls=tls, observer=observer)
        network = self._networks.get((kind, shape))
        if network is None:
            network = self._networks[kind, shape] = self._start(kind, shape)
        for hop in network.hops:
            if not hop.is_running:
                raise BenchError(f"{kind} has ended: {hop.last_words()}")
        return network

    def amqp_floor(self) -> Network:
        """Return the floor of the AMQP figures."""
        if self._amqp_floor is None:
            program = self.programs.python("bench.amqp_floor")
            port = program.answer(START_TIMEOUT_S)["port"]
            self._amqp_floor = Network("amqp floor", [program], amqp=[port, port])
        return self._amqp_floor

    @contextlib.contextmanager
    def fresh_network(self, kind: str) -> Iterator[Network]:
        """A network of its own, ended afterwards: one that has worked says little of memory."""
        network = self._start(kind, Shape())
        try:
            yield network
        finally:
            self.programs.end(*network.hops)

    def _start(self, kind: str, shape: Shape) -> Network:
        if self._builder is None:
            tls = certificates.make(self.folder / "tls")
            self._builder = Builder(self.programs, self.folder, self.kinds, self.services(), tls)
        return self._builder.start(kind, shape)
