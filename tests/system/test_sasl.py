"""SASL with names and passwords, through Cyrus: who gets in, as whom."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from proton import ConnectionException, Message
from proton.utils import BlockingConnection

from tests.system.harness import Router, Section

TIMEOUT_S = 20
DOMAIN = "site.example"
MECHANISMS = ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"]
PLUGINS = Path("/usr/lib").glob("*/sasl2/libscram.so")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    command = shutil.which("saslpasswd2") or shutil.which("saslpasswd2", path="/usr/sbin")
    if command is None or not any(PLUGINS):
        pytest.skip("no Cyrus tools: install Debian's sasl2-bin and libsasl2-modules")
    folder = tmp_path_factory.mktemp("sasl")
    database = folder / "users.sasldb"
    subprocess.run(
        [command, "-c", "-p", "-f", database, "-u", DOMAIN, "pilot"],
        input=b"s3cret word",
        check=True,
        timeout=TIMEOUT_S,
    )
    (folder / "tests-router.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {database}\nmech_list: {' '.join(MECHANISMS)}\n"
    )
    listener = {"host": "127.0.0.1", "port": 0, "authenticatePeer": True}
    sections: list[Section] = [
        ("listener", {"name": mechanism, "saslMechanisms": mechanism, **listener}) for mechanism in MECHANISMS
    ]
    more = {"saslConfigDir": folder, "saslConfigName": "tests-router"}
    made = Router("R", sections, folder, mode="standalone", more=more)
    try:
        made.wait_for("Operational")
        yield made
        assert made.terminate() == 0
    finally:
        made.kill()


def connect(router: Router, mechanism: str, password: str) -> BlockingConnection:
    return BlockingConnection(
        f"amqp://127.0.0.1:{router.port(mechanism)}",
        timeout=TIMEOUT_S,
        user=f"pilot@{DOMAIN}",
        password=password,
        allowed_mechs=mechanism,
        sasl_enabled=True,
        allow_insecure_mechs=True,
    )


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_let_in_by_name_and_password(router: Router, mechanism: str) -> None:
    mark = router.mark()
    connection = connect(router, mechanism, "s3cret word")
    receiver = connection.create_receiver("a")
    connection.create_sender("a").link.send(Message(body=mechanism))
    assert receiver.receive().body == mechanism
    receiver.accept()
    router.wait_for(f"Connection Opened: dir=in .* auth={mechanism} user=pilot@{DOMAIN} ", after=mark)
    connection.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_refused_with_another_password(router: Router, mechanism: str) -> None:
    with pytest.raises(ConnectionException):
        connect(router, mechanism, "another word")
    assert not any("another word" in line or "s3cret" in line for line in router.log)


def test_refused_without_a_name(router: Router) -> None:
    with pytest.raises(ConnectionException):
        BlockingConnection(
            f"amqp://127.0.0.1:{router.port('SCRAM-SHA-256')}", timeout=TIMEOUT_S, allowed_mechs="ANONYMOUS"
        )


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_connector_with_name_and_password(router: Router, tmp_path: Path, mechanism: str) -> None:
    """As towards a broker: let in as that user, and with another password told why not, and tried again."""
    connector = {"host": "127.0.0.1", "port": router.port(mechanism), "role": "route-container"}
    connector |= {"saslMechanisms": mechanism, "saslUsername": f"pilot@{DOMAIN}"}
    mark = router.mark()
    with Router(
        "C", [("connector", {**connector, "saslPassword": "s3cret word"})], tmp_path, mode="standalone"
    ) as made:
        router.wait_for(f"Connection Opened: dir=in .* auth={mechanism} user=pilot@{DOMAIN} ", after=mark)
        made.stop()
    with Router(
        "D", [("connector", {**connector, "saslPassword": "another word"})], tmp_path, mode="standalone"
    ) as made:
        made.wait_for(r"failed: amqp:unauthorized-access Authentication failed \[mech=")
        made.wait_for("Connection Closed", after=made.mark())
        made.stop()
        assert not any("another word" in line for line in made.log)
