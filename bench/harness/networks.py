"""What is measured: two hops from a client to the services, as relays, as HAProxy, or as two linked routers."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import certificates
from bench.harness.processes import BenchError, Program, Programs, pause, wait_until

FLOOR = "floor"
HAPROXY = "haproxy"
SKROUTERD = "skrouterd"
VANROUTER = "vanrouter"
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 60.0
SERVICES = ("sink", "source", "echo")

_HAPROXY_HEAD = """global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
"""
_ROUTER_HEAD = """router {{
  mode: interior
  id: {id}
}}
listener {{
  host: 127.0.0.1
  port: {amqp}
  role: normal
  authenticatePeer: no
  saslMechanisms: ANONYMOUS
}}
"""
_PROFILE = """sslProfile {{
  name: sites
  caCertFile: {tls}/ca.crt
  certFile: {tls}/tls.crt
  privateKeyFile: {tls}/tls.key
}}
"""


def available(more: Sequence[str]) -> dict[str, list[str]]:
    """Return the kinds that can be measured here, with the command of each; `more` are NAME=COMMAND."""
    kinds: dict[str, list[str]] = {FLOOR: []}
    haproxy = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if haproxy:
        kinds[HAPROXY] = [haproxy]
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


def free_port() -> int:
    """A port that nothing listens on. Somebody may take it before we do; the run then says so and can be repeated."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Network:
    """Two hops, running."""

    kind: str
    hops: list[Program]
    tcp: dict[str, int] = field(default_factory=dict)
    """Service to the port that leads to it through both hops."""
    amqp: list[int] = field(default_factory=list)
    """Port for AMQP clients of each router; of the floor, which is one hop, that of this hop."""

    def cpu_s(self) -> float:
        """CPU time used by the hops so far."""
        return sum(hop.cpu_s() for hop in self.hops)

    def memory_kb(self) -> int:
        """Resident memory of the hops."""
        return sum(hop.memory_kb() for hop in self.hops)


class World:
    """Services, and the networks in front of them; each network is started when first asked for, and then kept."""

    def __init__(self, programs: Programs, folder: Path, kinds: dict[str, list[str]], seconds: float) -> None:
        self.programs = programs
        self.folder = folder
        self.kinds = kinds
        self.seconds = seconds
        self.busiest_load = 0.0
        """CPU of the busiest AMQP load process, as a share of a core: near 1 it measured itself."""
        self._networks: dict[tuple[str, bool], Network] = {}
        self._services: dict[str, int] = {}
        self._tls: Path | None = None
        self._files = 0

    def services(self) -> dict[str, int]:
        """Return the ports of the services themselves."""
        if not self._services:
            started = {name: self.programs.python("bench.load.tcp_server", name) for name in SERVICES}
            self._services = {name: program.answer(START_TIMEOUT_S)["port"] for name, program in started.items()}
        return self._services

    def tls(self) -> Path:
        """Return the folder of the certificates."""
        if self._tls is None:
            self._tls = certificates.make(self.folder / "tls")
        return self._tls

    def network(self, kind: str, *, tls: bool = False) -> Network:
        """Return the network of a kind; with `tls` the way between its hops is mutual TLS."""
        network = self._networks.get((kind, tls))
        if network is None:
            network = self._networks[kind, tls] = self._start(kind, tls=tls)
        for hop in network.hops:
            if not hop.is_running:
                raise BenchError(f"{kind} has ended: {hop.last_words()}")
        return network

    def amqp_floor(self) -> Network:
        """Return the floor of the AMQP figures."""
        network = self._networks.get(("amqp floor", False))
        if network is None:
            program = self.programs.python("bench.amqp_floor")
            port = program.answer(START_TIMEOUT_S)["port"]
            network = self._networks["amqp floor", False] = Network("amqp floor", [program], amqp=[port, port])
        return network

    @contextlib.contextmanager
    def fresh_network(self, kind: str) -> Iterator[Network]:
        """A network of its own, ended afterwards: one that has worked says little of memory."""
        network = self._start(kind, tls=False)
        try:
            yield network
        finally:
            self.programs.end(*network.hops)

    def _start(self, kind: str, *, tls: bool) -> Network:
        if kind == FLOOR:
            return self._start_relays(tls=tls)
        if kind == HAPROXY:
            return self._start_haproxy(tls=tls)
        return self._start_routers(kind, tls=tls)

    def _write(self, name: str, text: str) -> Path:
        self._files += 1
        path = self.folder / f"{self._files}-{name}"
        path.write_text(text)
        return path

    def _start_relays(self, *, tls: bool) -> Network:
        targets = self.services()
        hops = []
        for option in ("--accept-tls", "--connect-tls"):  # the hop at the services first
            ways = [f"0:{port}" for port in targets.values()]
            hop = self.programs.python("bench.relay", *([option, self.tls()] if tls else []), *ways)
            targets = dict(zip(targets, hop.answer(START_TIMEOUT_S)["ports"], strict=True))
            hops.append(hop)
        return Network(FLOOR, hops, dict(targets))

    def _start_haproxy(self, *, tls: bool) -> Network:
        targets = self.services()
        hops = []
        secrets = f"crt {self.tls()}/both.pem ca-file {self.tls()}/ca.crt verify required" if tls else ""
        for accepting in (True, False):
            ports = {name: free_port() for name in targets}
            text = _HAPROXY_HEAD
            for name, port in ports.items():
                bind = f"ssl {secrets}" if tls and accepting else ""
                server = f"ssl {secrets} verifyhost localhost" if tls and not accepting else ""
                text += (
                    f"listen {name}\n  bind 127.0.0.1:{port} {bind}\n  server s 127.0.0.1:{targets[name]} {server}\n"
                )
            argv = [*self.kinds[HAPROXY], "-db", "-f", str(self._write("haproxy.cfg", text))]
            hops.append(self.programs.start(HAPROXY, argv))
            self._await_ports(hops[-1], list(ports.values()))
            targets = ports
        return Network(HAPROXY, hops, targets)

    def _start_routers(self, kind: str, *, tls: bool) -> Network:
        amqp, link = [free_port(), free_port()], free_port()
        tcp = {name: free_port() for name in SERVICES}
        profile = _PROFILE.format(tls=self.tls()) if tls else ""
        secret = "  sslProfile: sites\n  saslMechanisms: EXTERNAL\n" if tls else ""
        checked = "  authenticatePeer: yes\n" if tls else "  authenticatePeer: no\n  saslMechanisms: ANONYMOUS\n"
        listener = f"listener {{\n  host: 127.0.0.1\n  port: {link}\n  role: inter-router\n{checked}{secret}}}\n"
        connector = f"connector {{\n  host: localhost\n  port: {link}\n  role: inter-router\n{secret}}}\n"
        head = [_ROUTER_HEAD.format(id=f"bench{index}", amqp=port) + profile for index, port in enumerate(amqp)]
        entry = head[0] + listener
        for name, port in tcp.items():
            entry += f"tcpListener {{\n  host: 127.0.0.1\n  port: {port}\n  address: {name}\n}}\n"
        far = head[1] + connector
        for name, port in self.services().items():
            far += f"tcpConnector {{\n  host: 127.0.0.1\n  port: {port}\n  address: {name}\n}}\n"
        hops = []
        for text in (entry, far):
            argv = [*self.kinds[kind], "-c", str(self._write("router.conf", text))]
            hops.append(self.programs.start(kind, argv))
        for hop, port in zip(hops, amqp, strict=True):
            self._await_ports(hop, [port])
        self._await_ports(hops[0], list(tcp.values()))
        pause(0.5)  # the probes of the ports end, and the routers have told each other everything
        return Network(kind, hops, tcp, amqp)

    def _await_ports(self, program: Program, ports: list[int]) -> None:
        def is_open() -> bool:
            if not program.is_running:
                raise BenchError(f"{program.argv[0]} has ended: {program.last_words()}")
            return all(accepts(port) for port in ports)

        wait_until(is_open, START_TIMEOUT_S, f"ports of {' '.join(program.argv)}; {program.last_words()}")
