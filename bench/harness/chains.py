"""What is measured: hops in a row from a client to the services, as relays, as HAProxy, as stunnel, or as routers."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.processes import BenchError, Program, Programs, pause, wait_until

FLOOR = "floor"
HAPROXY = "haproxy"
STUNNEL = "stunnel"
SKROUTERD = "skrouterd"
VANROUTER = "vanrouter"
TLS_ONLY = frozenset({STUNNEL})
"""Kinds that have only encrypted ways: left out of every other question."""
NO_ROUTER = frozenset({FLOOR, HAPROXY, STUNNEL})
START_TIMEOUT_S = 30.0

_HAPROXY_HEAD = """global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
"""
_STUNNEL_HEAD = """foreground = yes
pid =
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""
_STUNNEL_SECRETS = "cert = {tls}/both.pem\nCAfile = {tls}/ca.crt\nverifyChain = yes\n"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a chain is built."""

    hops: int = 2
    tls: bool = False
    """The ways between the hops are mutual TLS."""
    observer: str | None = None
    """Of the routers' listeners; None: what they do by themselves."""


@dataclass(slots=True)
class Network:
    """Hops in a row, running."""

    kind: str
    hops: list[Program]
    """That at the clients first."""
    tcp: dict[str, int] = field(default_factory=dict)
    """Service to the port that leads to it through all hops."""
    amqp: list[int] = field(default_factory=list)
    """Port for AMQP clients of each router; of the floor, which is one hop, that of this hop."""

    def cpu_s(self) -> float:
        """CPU time used by the hops so far."""
        return sum(hop.cpu_s() for hop in self.hops)

    def kernel_s(self) -> float:
        """The part of that in the kernel."""
        return sum(hop.kernel_s() for hop in self.hops)

    def memory_kb(self) -> int:
        """Resident memory of the hops."""
        return sum(hop.memory_kb() for hop in self.hops)

    def descriptors(self) -> int:
        """Open descriptors of the hops."""
        return sum(hop.descriptors() for hop in self.hops)


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


class Builder:
    """Starts chains of one kind and shape after the other in front of the same services."""

    def __init__(
        self,
        programs: Programs,
        folder: Path,
        commands: Mapping[str, list[str]],
        services: Mapping[str, int],
        tls: Path,
    ) -> None:
        self._programs = programs
        self._folder = folder
        self._commands = commands
        self._services = services
        self._tls = tls
        self._files = 0

    def start(self, kind: str, shape: Shape) -> Network:
        """Start a chain and wait until it serves."""
        if kind == FLOOR:
            return self._relays(shape)
        if kind == HAPROXY:
            return self._haproxies(shape)
        if kind == STUNNEL:
            return self._stunnels(shape)
        return self._routers(kind, shape)

    def _write(self, name: str, text: str) -> str:
        self._files += 1
        path = self._folder / f"{self._files}-{name}"
        path.write_text(text)
        return str(path)

    def _relays(self, shape: Shape) -> Network:
        targets = dict(self._services)
        hops: list[Program] = []
        for place in reversed(range(shape.hops)):
            options: list[object] = []
            if shape.tls:
                options += ["--accept-tls", self._tls] if place > 0 else []
                options += ["--connect-tls", self._tls] if place < shape.hops - 1 else []
            hop = self._programs.python("bench.relay", *options, *(f"0:{port}" for port in targets.values()))
            targets = dict(zip(targets, hop.answer(START_TIMEOUT_S)["ports"], strict=True))
            hops.insert(0, hop)
        return Network(FLOOR, hops, targets)

    def _haproxies(self, shape: Shape) -> Network:
        secrets = f"ssl crt {self._tls}/both.pem ca-file {self._tls}/ca.crt verify required"
        targets = dict(self._services)
        hops: list[Program] = []
        for place in reversed(range(shape.hops)):
            ports = {name: free_port() for name in targets}
            bind = secrets if shape.tls and place > 0 else ""
            server = f"{secrets} verifyhost localhost" if shape.tls and place < shape.hops - 1 else ""
            text = _HAPROXY_HEAD
            for name, port in ports.items():
                text += (
                    f"listen {name}\n  bind 127.0.0.1:{port} {bind}\n  server s 127.0.0.1:{targets[name]} {server}\n"
                )
            argv = [*self._commands[HAPROXY], "-db", "-f", self._write("haproxy.cfg", text)]
            hops.insert(0, self._start(HAPROXY, argv, ports.values()))
            targets = ports
        return Network(HAPROXY, hops, targets)

    def _stunnels(self, shape: Shape) -> Network:
        """Two, as stunnel is used: one encrypts, the other decrypts."""
        if shape != Shape(tls=True):
            raise BenchError(f"stunnel has two ends with TLS between them, and is asked for {shape}")
        targets = dict(self._services)
        hops: list[Program] = []
        secrets = _STUNNEL_SECRETS.format(tls=self._tls)
        for is_client in (False, True):
            ports = {name: free_port() for name in targets}
            text = _STUNNEL_HEAD + ("client = yes\n" if is_client else "")
            for name, port in ports.items():
                text += f"[{name}]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{targets[name]}\n{secrets}"
                text += "checkHost = localhost\n" if is_client else ""
            argv = [*self._commands[STUNNEL], self._write("stunnel.conf", text)]
            hops.insert(0, self._start(STUNNEL, argv, ports.values()))
            targets = ports
        return Network(STUNNEL, hops, targets)

    def _routers(self, kind: str, shape: Shape) -> Network:
        amqp, links = ([free_port() for _ in range(count)] for count in (shape.hops, shape.hops - 1))
        tcp = {name: free_port() for name in self._services}
        secret = "  sslProfile: sites\n  saslMechanisms: EXTERNAL\n" if shape.tls else ""
        checked = "  authenticatePeer: yes\n" if shape.tls else "  authenticatePeer: no\n  saslMechanisms: ANONYMOUS\n"
        observer = f"  observer: {shape.observer}\n" if shape.observer else ""
        hops: list[Program] = []
        for place, port in enumerate(amqp):
            text = _ROUTER_HEAD.format(id=f"bench{place}", amqp=port)
            text += _PROFILE.format(tls=self._tls) if shape.tls else ""
            if place < shape.hops - 1:
                text += f"listener {{\n  host: 127.0.0.1\n  port: {links[place]}\n  role: inter-router\n"
                text += f"{checked}{secret}}}\n"
            else:
                for name, service in self._services.items():
                    text += f"tcpConnector {{\n  host: 127.0.0.1\n  port: {service}\n  address: {name}\n}}\n"
            if place > 0:
                text += (
                    f"connector {{\n  host: localhost\n  port: {links[place - 1]}\n  role: inter-router\n{secret}}}\n"
                )
            else:
                for name, entry in tcp.items():
                    text += f"tcpListener {{\n  host: 127.0.0.1\n  port: {entry}\n  address: {name}\n{observer}}}\n"
            argv = [*self._commands[kind], "-c", self._write("router.conf", text)]
            hops.append(self._programs.start(kind, argv))
        for hop, port in zip(hops, amqp, strict=True):
            await_ports(hop, [port])
        await_ports(hops[0], list(tcp.values()))
        pause(0.5)  # the probes of the ports end, and the routers have told each other everything
        return Network(kind, hops, tcp, amqp)

    def _start(self, kind: str, argv: list[str], ports: Iterable[int]) -> Program:
        program = self._programs.start(kind, argv)
        await_ports(program, list(ports))
        return program


def await_ports(program: Program, ports: list[int]) -> None:
    """Wait until a program listens on all of them."""

    def is_open() -> bool:
        if not program.is_running:
            raise BenchError(f"{program.argv[0]} has ended: {program.last_words()}")
        return all(accepts(port) for port in ports)

    wait_until(is_open, START_TIMEOUT_S, f"ports of {' '.join(program.argv)}; {program.last_words()}")
