"""A running router reads its file again: what differs changes, what flows goes on, a bad file changes nothing."""

from __future__ import annotations

import re
import signal
import ssl
from pathlib import Path

import pytest

from tests.system.harness import Router, conf_text, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.services import connect, echo_once, has_ended, receive_exactly
from vanrouter.errors import ManagementError
from vanrouter.mgmt.client import ManagementClient

pytestmark = pytest.mark.system

AMQP = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})


def hang_up(router: Router, pattern: str) -> re.Match[str]:
    mark = router.mark()
    router.process.send_signal(signal.SIGHUP)
    return router.wait_for(pattern, after=mark)


def test_a_file_read_again(tmp_path: Path, echo_port: int) -> None:
    sections = [AMQP, tcp_listener("echo"), tcp_connector("out", echo_port, "echo")]
    with Router("R", sections, tmp_path, mode="standalone").ready() as router:
        flow = connect(router.port("echo"))
        flow.sendall(b"before")
        assert receive_exactly(flow, 6) == b"before"

        own = router.sections
        service = tcp_listener("second", "echo", idleTimeoutSeconds=100)
        router.config_file.write_text(conf_text([*own, service]))
        hang_up(router, r"AGENT \(info\) Configuration reloaded: 1 created, 0 updated, 0 deleted")
        echo_once(router.port("second"))

        broken = conf_text([*own, service]).replace("idleTimeoutSeconds: 100", "idleTimeoutSeconds: long")
        router.config_file.write_text(broken)
        line = 1 + broken.splitlines().index("    idleTimeoutSeconds: long")
        place = re.escape(f"{router.config_file}:{line}: tcpListener.idleTimeoutSeconds")
        hang_up(router, rf"AGENT \(error\) Configuration not reloaded, nothing has changed: {place}: .*'long'")
        echo_once(router.port("second"))
        with ManagementClient(f"amqp://127.0.0.1:{router.port('amqp')}") as client:
            with pytest.raises(ManagementError, match=place):
                client.reload()
            router.config_file.write_text(conf_text(own))
            assert client.reload() == {"created": [], "updated": [], "deleted": ["tcpListener/127.0.0.1:0:second"]}
        with pytest.raises(OSError, match="refused"):
            connect(router.port("second"))
        flow.sendall(b"after")
        assert receive_exactly(flow, 5) == b"after"
        flow.close()
        router.stop()


def shown(port: int, ca: Path) -> tuple[ssl.SSLSocket, str]:
    """Connect; the connection and the common name that the other side shows."""
    context = ssl.create_default_context(cafile=str(ca))
    flow = context.wrap_socket(connect(port), server_hostname="localhost")
    subject = flow.getpeercert()["subject"]  # type: ignore[index]
    return flow, dict(pair[0] for pair in subject)["commonName"]  # type: ignore[misc]


def test_a_certificate_replaced_on_disk(tmp_path: Path, pki: Pki, echo_port: int) -> None:
    old, new = pki.issue("shop-old"), pki.issue("shop-new")
    profile = old.ssl_profile("tls")
    sections = [AMQP, profile, tcp_listener("echo", sslProfile="tls"), tcp_connector("out", echo_port, "echo")]
    with Router("R", sections, tmp_path, mode="standalone").ready() as router:
        flow, name = shown(router.port("echo"), pki.ca)
        assert name == "shop-old"
        hang_up(router, r"Configuration reloaded: 0 created, 0 updated, 0 deleted")
        old.cert.write_bytes(new.cert.read_bytes())
        old.key.write_bytes(new.key.read_bytes())
        hang_up(router, r"Configuration reloaded: 0 created, 1 updated, 0 deleted")
        other, name = shown(router.port("echo"), pki.ca)
        assert name == "shop-new"
        flow.sendall(b"still here")
        assert receive_exactly(flow, 10) == b"still here"
        with ManagementClient(f"amqp://127.0.0.1:{router.port('amqp')}") as client:
            client.update("sslProfile", {"ordinal": 2}, name="tls")
            flow.sendall(b"and still")
            assert receive_exactly(flow, 9) == b"and still"
            client.update("sslProfile", {"oldestValidOrdinal": 1}, name="tls")
        assert has_ended(flow)
        assert has_ended(other)
        flow.close()
        other.close()
        router.stop()
