"""One run of the daemon in the test's own process, ended by signals (management.md, sections 11 and 12)."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.server.sites import LISTENER, ROUTER
from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.errors import VanrouterError
from vanrouter.mgmt.config import Configuration, load_text
from vanrouter.mgmt.logs import Logs
from vanrouter.mgmt.options import EXIT_INTERRUPTED, StartOptions
from vanrouter.server import process
from vanrouter.server.process import needs_sasl, needs_tls, run
from vanrouter.server.site import Site

TOUCHED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)


class Run:
    """Runs a router in this thread; `at_ready` is called when it is up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sites: list[Site] = []
        self.logs = Logs()
        monkeypatch.setattr(process, "Site", self._make)

    def _make(self, *args: Any) -> Site:
        self.sites.append(Site(*args))
        return self.sites[-1]

    def __call__(self, text: str, at_ready: Any) -> int:
        return run(load_text(text, "test.conf"), StartOptions(logs=self.logs, on_ready=at_ready))

    def close(self) -> None:
        for site in self.sites:
            for live in site.objects.values():
                if isinstance(live, AmqpListener):
                    live.close()
            site.reactor.run_once(0)
            assert site.reactor.crashes == 0
            site.reactor.close()
        self.logs.shutdown()


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    handlers = {number: signal.getsignal(number) for number in TOUCHED}
    is_cpython = sys.implementation.name == "cpython"
    thresholds = gc.get_threshold() if is_cpython else ()
    found = Run(monkeypatch)
    yield found
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if is_cpython:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
    found.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGQUIT, 0), (signal.SIGINT, EXIT_INTERRUPTED)]
)
def test_a_signal_ends_it(router: Run, number: signal.Signals, code: int) -> None:
    assert router(ROUTER + LISTENER, lambda: os.kill(os.getpid(), number)) == code


def test_it_is_ready_when_it_listens(router: Run, caplog: pytest.LogCaptureFixture) -> None:
    clients: list[socket.socket] = []

    def connect() -> None:
        (live,) = router.sites[0].objects.values()
        clients.append(socket.create_connection(("127.0.0.1", live._acceptor.port), 5))
        assert any(
            f"Operational, 1 Threads Running (process ID {os.getpid()})" in line.getMessage() for line in caplog.records
        )
        os.kill(os.getpid(), signal.SIGTERM)

    assert router(ROUTER + LISTENER, connect) == 0
    clients[0].close()
    assert "Shut Down" in caplog.messages


def test_signals_that_mean_nothing_to_it(router: Run) -> None:
    def send() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGPIPE)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    assert router(ROUTER, send) == 0


def test_a_start_that_fails_says_why(router: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = ROUTER + LISTENER.replace("port: 0", f"port: {port}")
        with pytest.raises(VanrouterError, match=f"127.0.0.1:{port}.*Address already in use"):
            router(text, lambda: pytest.fail("it is not ready"))


def configuration(more: str) -> Configuration:
    return load_text(ROUTER + "sslProfile {\n    name: p\n}\n" + more, "test.conf")


@pytest.mark.parametrize(
    ("section", "has_tls", "has_sasl"),
    [
        ("listener {\n    port: 1\n}", False, False),
        ("listener {\n    port: 1\n    sslProfile: p\n}", True, False),
        ("connector {\n    port: 1\n    sslProfile: p\n    saslMechanisms: EXTERNAL\n}", True, True),
        ("connector {\n    port: 1\n    saslMechanisms: ANONYMOUS\n}", False, False),
        ("listener {\n    port: 1\n    saslMechanisms: ANONYMOUS PLAIN\n}", False, True),
        ("tcpListener {\n    port: 1\n    address: a\n    sslProfile: p\n}", False, False),
    ],
)
def test_what_is_needed_of_proton(section: str, has_tls: bool, has_sasl: bool) -> None:
    found = configuration(section + "\n")
    assert (needs_tls(found), needs_sasl(found)) == (has_tls, has_sasl)


def test_proton_is_asked_before_anything_is_brought_up(router: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, needs_tls: bool, needs_sasl: bool) -> None:
        raise VanrouterError(f"{needs_tls} {needs_sasl}")

    monkeypatch.setattr(process, "check_engine", refuse)
    with pytest.raises(VanrouterError, match="False False"):
        router(ROUTER + LISTENER, lambda: None)
    assert router.sites == []
