"""Only the right certificate links two sites; a refusal is logged and costs nobody else anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import Router, Section, tcp_connector, tcp_listener
from tests.system.pki import Credentials, Pki
from tests.system.services import echo_once

REFUSED = r"SERVER \((error|warning|info)\) .*Connection (to|from) \S+.* failed: "


def listening_site(credentials: Credentials, directory: Path) -> Router:
    sections: list[Section] = [
        credentials.ssl_profile("mutual"),
        (
            "listener",
            {
                "name": "link",
                "role": "inter-router",
                "host": "127.0.0.1",
                "port": 0,
                "sslProfile": "mutual",
                "saslMechanisms": "EXTERNAL",
                "authenticatePeer": True,
                "requireSsl": True,
            },
        ),
        tcp_listener("echo"),
    ]
    return Router("A", sections, directory)


def connecting_site(
    name: str, port: int, profile: Section | None, directory: Path, echo_port: int, **more: object
) -> Router:
    connector: dict[str, object] = {"role": "inter-router", "host": "localhost", "port": port}
    sections: list[Section] = []
    if profile:
        sections.append(profile)
        connector |= {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL"}
    sections += [("connector", connector | more), tcp_connector("echo", echo_port)]
    return Router(name, sections, directory)


@pytest.fixture
def listening(pki: Pki, tmp_path: Path) -> Router:
    return listening_site(pki.issue("site-a"), tmp_path)


@pytest.mark.parametrize("kind", ["foreign", "expired", "none", "no TLS"])
def test_wrong_client_certificate_is_refused(
    listening: Router, pki: Pki, foreign_pki: Pki, tmp_path: Path, echo_port: int, kind: str
) -> None:
    good = pki.issue("good").ssl_profile("mutual")
    only_ca: Section = ("sslProfile", {"name": "mutual", "caCertFile": str(pki.ca)})
    profile = {
        "foreign": foreign_pki.issue("foreign", trusts=pki.ca).ssl_profile("mutual"),
        "expired": pki.issue("expired", expired=True).ssl_profile("mutual"),
        "none": only_ca,
        "no TLS": None,
    }[kind]
    with listening:
        port = listening.ready().port("link")
        with connecting_site("B", port, profile, tmp_path, echo_port) as intruder:
            intruder.ready()
            listening.wait_for(REFUSED)
            assert not any("(echo)" in line for line in listening.log)
            with connecting_site("C", port, good, tmp_path, echo_port) as guest:
                guest.ready()
                echo_once(listening.port("echo"))
                guest.stop()
            intruder.stop()
        listening.stop()


@pytest.mark.parametrize("kind", ["foreign", "expired", "other host"])
def test_wrong_server_certificate_is_refused(
    pki: Pki, foreign_pki: Pki, tmp_path: Path, echo_port: int, kind: str
) -> None:
    credentials = {
        "foreign": foreign_pki.issue("foreign-server", trusts=pki.ca),
        "expired": pki.issue("expired-server", expired=True),
        "other host": pki.issue("elsewhere", host="elsewhere.example"),
    }[kind]
    with listening_site(credentials, tmp_path) as server:
        port = server.ready().port("link")
        profile = pki.issue("client").ssl_profile("mutual")
        with connecting_site("B", port, profile, tmp_path, echo_port) as client:
            client.ready().wait_for(REFUSED)
            client.stop()
        assert not any("(echo)" in line for line in server.log)
        server.stop()


def test_host_name_is_not_looked_at_where_the_file_says_so(pki: Pki, tmp_path: Path, echo_port: int) -> None:
    with listening_site(pki.issue("elsewhere", host="elsewhere.example"), tmp_path) as server:
        profile = pki.issue("client").ssl_profile("mutual")
        port = server.ready().port("link")
        with connecting_site("B", port, profile, tmp_path, echo_port, verifyHostname=False) as client:
            client.ready()
            echo_once(server.port("echo"))
            client.stop()
        server.stop()
