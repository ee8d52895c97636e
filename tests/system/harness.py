"""Real routers for the system tests: written configuration, ports read back from the log, two sites as one network."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.pki import Credentials, Pki
from tests.system.process import START_TIMEOUT_S, Program, free_port

Section = tuple[str, Mapping[str, object]]

BAD_LINE = re.compile(r"Traceback|Internal error|\(critical\)")
"""What no run may leave in the log, whatever peers do: each is a bug of the router."""


COLLECTED_AT = 1.82 if sys.implementation.name == "pypy" else 1.0
"""PyPy's collector looks again when the heap has grown by so much (its `PYPY_GC_MAJOR_COLLECT`), and an array of octets
that grows leaves its shorter copies to it: 22 to 104 MB over 118 were seen there, up and down with each body. Bounds of
memory there are over so many times what there was before."""


def vanrouter_program() -> str:
    """Return the daemon under test; VANROUTER names another one (the PyPy build, an installed one)."""
    return os.environ.get("VANROUTER") or str(Path(sys.executable).with_name("vanrouter"))


def c_router_program() -> str | None:
    """Return the C router of the Skupper project where there is one (SKROUTERD, or on the path)."""
    return os.environ.get("SKROUTERD") or shutil.which("skrouterd")


def conf_text(sections: Iterable[Section]) -> str:
    """Write sections in the conf syntax that both routers read."""
    lines: list[str] = []
    for kind, attributes in sections:
        lines.append(f"{kind} {{")
        for key, value in attributes.items():
            text = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
            lines.append(f"    {key}: {text}")
        lines.append("}")
    return "\n".join(lines) + "\n"


class Router(Program):
    """A router process of its own configuration.

    Args:
        name: router id.
        sections: configuration besides `router` and `log`, in order.
        directory: where configuration and log go.
        program: the daemon; vanrouter unless given.
        mode: `interior` unless given.
        log_level: of all modules.
        more: further attributes of `router`.
        prefix: put before the command, such as what enters a network namespace.
    """

    def __init__(
        self,
        name: str,
        sections: Sequence[Section],
        directory: Path,
        *,
        program: str | None = None,
        mode: str = "interior",
        log_level: str = "info+",
        env: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.router_id = name
        self.directory = directory
        program = program or vanrouter_program()
        self.is_c_router = program in (c_router_program(), os.environ.get("SKROUTERD2"))
        self.sections: list[Section] = [
            ("router", {"mode": mode, "id": name, **(more or {})}),
            ("log", {"module": "DEFAULT", "enable": log_level, "outputFile": "stderr"}),
            *(self._with_port(section) for section in sections),
        ]
        self.config_file = directory / f"{name}.conf"
        self.config_file.write_text(conf_text(self.sections))
        self._tcp_ports = {
            str(attributes.get("name")): int(str(attributes.get("port")))
            for kind, attributes in self.sections
            if kind == "tcpListener"
        }
        super().__init__(name, [*prefix, program, "-c", self.config_file], directory / f"{name}.log", env=env)

    def _with_port(self, section: Section) -> Section:
        """Give a tcpListener of the C router a port: it does not say which one it got for port 0."""
        kind, attributes = section
        if self.is_c_router and kind == "tcpListener" and not attributes.get("port"):
            return kind, {**attributes, "port": free_port()}
        return section

    def ready(self) -> Router:
        """Wait for the line that other programs wait for, too."""
        self.wait_for(r"SERVER \(info\) Operational, \d+ Threads Running \(process ID \d+\)")
        return self

    def port(self, listener: str, *, timeout_s: float = START_TIMEOUT_S, after: int = 0) -> int:
        """Return the real port of a listener, by name, when it is open.

        A tcpListener opens when its address is reachable, so that its line is also the readiness of the service.
        """
        if self.is_c_router and listener in self._tcp_ports:
            self.wait_for(
                rf"Listener {re.escape(listener)}: listening for client connections", timeout_s=timeout_s, after=after
            )
            return self._tcp_ports[listener]
        match = self.wait_for(
            rf"Listening (?:for HTTP )?on \S*?:(\d+) \({re.escape(listener)}\)", timeout_s=timeout_s, after=after
        )
        return int(match[1])

    def stop(self) -> None:
        """Stop it as an operator does, and hold it to a clean end and a clean log."""
        code = self.terminate()
        assert code == 0, f"{self.name} ended with {code}\n{self.tail()}"
        self.check_log()

    def check_log(self) -> None:
        """Fail on lines that no peer may provoke."""
        if self.is_c_router:
            return
        bad = [line for line in self.log if BAD_LINE.search(line)]
        assert not bad, f"{self.name} logged\n" + "\n".join(bad[:5]) + "\n" + self.tail()


@dataclass(kw_only=True)
class Sites:
    """Two routers, linked: clients are at A, services at B.

    Args:
        a_sections, b_sections: services and further listeners of each.
        directory: files and logs.
        credentials_a, credentials_b: for mutual TLS between the routers; without them the link is plain.
        a_program, b_program: daemons; vanrouter unless given.
        connects: which of the two opens the inter-router connection.
        router_more: further attributes of `router`, of both.
    """

    directory: Path
    a_sections: list[Section] = field(default_factory=list)
    b_sections: list[Section] = field(default_factory=list)
    credentials_a: Credentials | None = None
    credentials_b: Credentials | None = None
    a_program: str | None = None
    b_program: str | None = None
    connects: str = "B"
    router_more: Mapping[str, object] = field(default_factory=dict)
    link_port: int = 0
    a: Router = field(init=False)
    b: Router = field(init=False)
    starts: int = field(init=False, default=0)

    def start(self) -> Sites:
        """Start both; returns when both are ready, which is before they know each other's addresses."""
        self.link_port = self.link_port or free_port()
        if self.connects == "B":  # who listens goes first: no connector waits for its next attempt
            self.start_a()
            self.start_b()
        else:
            self.start_b()
            self.start_a()
        return self

    def start_a(self) -> Router:
        """Start, or start again, site A alone."""
        self.a = self._start("A", self.a_sections, self.credentials_a, self.a_program)
        return self.a

    def start_b(self) -> Router:
        """Start, or start again, site B alone."""
        self.b = self._start("B", self.b_sections, self.credentials_b, self.b_program)
        return self.b

    def _start(self, name: str, own: list[Section], credentials: Credentials | None, program: str | None) -> Router:
        sections: list[Section] = [("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})]
        link: dict[str, object] = {"name": "link", "role": "inter-router", "port": self.link_port}
        if credentials:
            sections.append(credentials.ssl_profile("mutual"))
            link |= {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL"}
        if self.connects == name:
            sections.append(("connector", {"host": "localhost" if credentials else "127.0.0.1", **link}))
        else:
            if credentials:
                link |= {"authenticatePeer": True, "requireSsl": True}
            sections.append(("listener", {"host": "127.0.0.1", **link}))
        self.starts += 1
        directory = self.directory / f"{self.starts}"
        router = Router(name, [*sections, *own], directory, program=program, more=self.router_more)
        try:
            return router.ready()
        except BaseException:
            router.kill()
            raise

    def stop(self) -> None:
        """Stop both and hold both to a clean end."""
        problems: list[AssertionError] = []
        for router in self.routers():
            try:
                router.stop()
            except AssertionError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    def routers(self) -> list[Router]:
        """Return what was started."""
        return [router for router in (getattr(self, "a", None), getattr(self, "b", None)) if router is not None]

    def kill(self) -> None:
        """End both without ceremony, after a failure."""
        for router in self.routers():
            router.kill()


def tcp_listener(name: str, address: str | None = None, port: int = 0, **more: object) -> Section:
    """Return a tcpListener section on loopback."""
    return ("tcpListener", {"name": name, "host": "127.0.0.1", "port": port, "address": address or name, **more})


def tcp_connector(name: str, port: int, address: str | None = None, **more: object) -> Section:
    """Return a tcpConnector section to a loopback port."""
    return ("tcpConnector", {"name": name, "host": "127.0.0.1", "port": port, "address": address or name, **more})


def mutual_credentials(pki: Pki) -> tuple[Credentials, Credentials]:
    """Return certificates for the two sites."""
    return pki.issue("site-a"), pki.issue("site-b")


Cleanup = Callable[[], None]
