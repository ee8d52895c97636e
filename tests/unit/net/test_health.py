import socket
import threading

import pytest

from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, accepted, opened
from tests.unit.net.test_dial import silent_server
from vanrouter.net.dial import Address
from vanrouter.net.health import DOWN, UNKNOWN, UP, Probe

FAST = {"health_check_interval_s": 0.02, "connect_timeout_s": 0.2}


class HttpServer:
    """Answers each probe with what the test says."""

    def __init__(self, site: Site) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        self.requests: list[bytes] = []
        self._server = site.server
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                with self._server.accept()[0] as sock:
                    self.requests.append(sock.recv(4096))
                    sock.sendall(self.answer)
            except OSError:
                return


def test_without_checks_the_flows_tell(loop: Loop) -> None:
    site = Site(loop)
    assert site.connector.health.status == UNKNOWN
    site.pair()
    loop.wait_for(lambda: site.connector.health.status == UP)
    assert site.connector.health.probes == 0


def test_tcp_checks_withdraw_and_announce(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="vanrouter.connections")
    site = Site(loop, connector={"health_check": "tcp", "unhealthy_threshold": 2, "healthy_threshold": 2, **FAST})
    health = site.connector.health
    loop.wait_for(lambda: health.status == UP)
    accepted(site.server).close()
    address = site.server.getsockname()
    site.server.close()
    loop.wait_for(lambda: health.status == DOWN)
    assert health.withdrawals == 1
    assert site.listener.oper_status == "down"
    back = opened(socket.create_server(address))
    loop.wait_for(lambda: health.status == UP)
    assert site.listener.oper_status == "up"
    assert health.last_error == "Connection refused"
    place = f"127.0.0.1:{address[1]}"
    assert [record.getMessage() for record in caplog.records if record.name == "vanrouter.connections"] == [
        f"Connector c withdraws address svc: {place} does not answer (Connection refused); looked at until it does",
        "Connector c announces address svc again",
    ]
    back.close()


def test_http_checks_read_the_status(loop: Loop) -> None:
    site = Site(loop, connector={"health_check": "http:/healthz", "unhealthy_threshold": 1, **FAST})
    server = HttpServer(site)
    health = site.connector.health
    loop.wait_for(lambda: health.status == UP)
    assert server.requests[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:")
    server.answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    loop.wait_for(lambda: health.status == DOWN)
    assert "503" in health.last_error
    server.answer = b"HTTP/1.0 301 Moved\r\n\r\n"
    loop.wait_for(lambda: health.status == UP)
    loop.call(health.stop)
    site.server.shutdown(socket.SHUT_RDWR)
    server._thread.join(5)


def test_a_server_that_says_nothing_is_down(loop: Loop) -> None:
    site = Site(loop, connector={"health_check": "http:", "unhealthy_threshold": 1, **FAST})
    health = site.connector.health
    loop.wait_for(lambda: health.status == DOWN)
    assert health.last_error == "Connection timed out"


@pytest.mark.parametrize("kind", ["silent", "unresolvable", "reset"])
def test_probes_that_fail(loop: Loop, kind: str) -> None:
    answers: list[str] = []
    silent, fillers = silent_server()
    site = Site(loop)

    def begin() -> Probe:
        probe = Probe(loop.reactor, 0.2, b"x", answers.append)
        if kind == "unresolvable":
            probe.on_resolved(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        elif kind == "silent":
            probe.on_resolved([Address(socket.AF_INET, silent.getsockname())])
        else:
            probe.on_resolved([Address(socket.AF_INET, site.server.getsockname())])
        return probe

    probe = loop.call(begin)
    if kind == "reset":
        from tests.unit.adaptors.streams import reset

        reset(accepted(site.server))
    loop.wait_for(lambda: answers)
    assert answers[0] in ("Name or service not known", "Connection timed out", "Connection reset by peer")
    loop.call(lambda: probe.on_resolved([]))
    loop.call(probe.cancel)
    assert len(answers) == 1
    for each in (silent, *fillers):
        each.close()


def test_refusals_count_beside_checks(loop: Loop) -> None:
    site = Site(loop, connector={"health_check": "tcp", "health_check_interval_s": 0.05})
    other = loop.call(lambda: site.router.subscribe_stream("svc", site.connector))
    health = site.connector.health
    loop.wait_for(lambda: health.status == UP)
    loop.call(lambda: [health.flow_refused(111) for _ in range(3)])
    assert health.withdrawals == 1
    loop.wait_for(lambda: site.connector.is_announced)
    loop.call(other.cancel)
    loop.call(health.flow_connected)
    loop.call(health.stop)
    loop.call(health.stop)


@pytest.mark.parametrize("comes_back", ["never", "for flows", "for probes"])
def test_the_last_server_of_an_address_is_asked_once_more(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, comes_back: str
) -> None:
    """One that is started again refuses for a moment: nobody's port is closed for that."""
    monkeypatch.setattr("vanrouter.net.health.LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr("vanrouter.net.health.FIRST_PROBE_S", 10.0)
    site = Site(loop)
    health = site.connector.health
    if comes_back == "never":
        site.server.close()
    loop.call(lambda: [health.flow_refused(111) for _ in range(10)])
    assert (health.status, health.withdrawals, site.connector.is_announced) == (DOWN, 0, True)
    if comes_back == "for flows":
        loop.call(health.flow_connected)
    loop.wait_for(lambda: health.probes == 1 and health._probe is None)
    assert health.withdrawals == (comes_back == "never")
    assert site.connector.is_announced == (comes_back != "never")
    assert health.status == (DOWN if comes_back == "never" else UP)
    loop.call(health.stop)
