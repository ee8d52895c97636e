"""Networks of any shape for the system and interop tests: routers by name, links between them, services anywhere."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.system.harness import Router, Section, tcp_connector, tcp_listener
from tests.system.process import free_port

HARMLESS = re.compile(r"framing-error|Connection refused|proton:io|aborted")
"""Errors that a peer's start or end leaves in the log."""


class Network:
    """Routers that are described first and started together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._programs: dict[str, str | None] = {}
        self._modes: dict[str, str] = {}
        self._sections: dict[str, list[Section]] = {}
        self._running: dict[str, Router] = {}

    def add(self, name: str, program: str | None = None, *, mode: str = "interior") -> None:
        """Describe a router; vanrouter unless a program is given."""
        self._programs[name], self._modes[name] = program, mode
        self._sections[name] = [("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})]

    def section(self, name: str, section: Section) -> None:
        """Add a section to a router's configuration."""
        self._sections[name].append(section)

    def link(
        self,
        connector: str,
        listener: str,
        *,
        role: str = "inter-router",
        listener_more: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        """Describe a link; `more`: attributes of the connector."""
        port = free_port()
        host = "localhost" if "sslProfile" in more else "127.0.0.1"
        self._sections[listener].append(
            (
                "listener",
                {"name": f"from-{connector}", "host": "127.0.0.1", "port": port, "role": role, **(listener_more or {})},
            )
        )
        self._sections[connector].append(
            ("connector", {"name": f"to-{listener}", "host": host, "port": port, "role": role, **more})
        )

    def service(self, name: str, at: str, port: int, **more: object) -> None:
        """Describe a TCP service; `more`: attributes of its connector."""
        self._sections[at].append(tcp_connector(name, port, **more))  # type: ignore[arg-type]  # not its address

    def clients(self, name: str, at: str, **more: object) -> None:
        """Describe where clients reach a service; `more`: attributes of the listener."""
        self._sections[at].append(tcp_listener(f"to-{name}", name, **more))  # type: ignore[arg-type]  # the same

    def __getitem__(self, name: str) -> Router:
        return self._running[name]

    def __iter__(self) -> Iterator[Router]:
        return iter(self._running.values())

    def start(self, *names: str) -> Network:
        """Start all routers, or those named (again); who connects comes after those it connects to, where it can."""
        last_first = list(self._programs)[::-1]
        for name in names or sorted(last_first, key=self._connector_count):
            directory = self._directory / f"{name}-{len(list(self._directory.iterdir()))}"
            sections, program = self._sections[name], self._programs[name]
            self._running[name] = Router(name, sections, directory, program=program, mode=self._modes[name])
            self._running[name].ready()
        return self

    def start_at_once(self) -> Network:
        """Start all routers together, as after a power cut."""
        for name, sections in self._sections.items():
            directory = self._directory / name
            self._running[name] = Router(
                name, sections, directory, program=self._programs[name], mode=self._modes[name]
            )
        for router in self:
            router.ready()
        return self

    def _connector_count(self, name: str) -> int:
        return sum(kind == "connector" for kind, _ in self._sections[name])

    def check_logs(self) -> None:
        """Nothing has gone wrong on either side."""
        for router in self:
            bad = [
                line for line in router.log if re.search(r"\((error|critical)\)", line) and not HARMLESS.search(line)
            ]
            assert not bad, f"{router.name} logged\n" + "\n".join(bad[:5])

    def routers(self) -> list[Router]:
        """Return what was started."""
        return list(self)

    def stop(self) -> None:
        """Stop what runs and hold it to a clean end, and all logs to lines that no peer may provoke."""
        for router in self:
            if router.is_alive():
                router.stop()
            else:
                router.check_log()

    def kill(self) -> None:
        """End what runs without ceremony."""
        for router in self:
            router.kill()


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Ask until something is so: for what a router does not say in its log."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in {timeout_s} s"
        pause.wait(0.05)


def succeeds(port: int) -> bool:
    """Say whether a flow through the network works now."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as client:
            client.settimeout(2)
            client.sendall(b"ping")
            return client.recv(4) == b"ping"
    except OSError:
        return False
