"""Changes to what is up already (management.md, section 9)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.pki import Pki
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from tests.unit.server.test_site import entity, section
from vanrouter.errors import ManagementError

Made = Callable[[str], Bench]


def profile_section(files: object, **more: object) -> str:
    return section(
        "sslProfile", name="p", caCertFile=files.ca, certFile=files.cert, privateKeyFile=files.key, **more  # type: ignore[attr-defined]
    )  # fmt: skip


def test_an_update_whose_file_is_wrong_is_refused_and_changes_nothing(bench_of: Made, tmp_path: Path) -> None:
    files = Pki(tmp_path).issue("r", host="127.0.0.1")
    listener = LISTENER.replace("port: 0", "port: 0\n    sslProfile: p")
    service = section("tcpListener", name="s", host="127.0.0.1", port=0, address="a", sslProfile="p")
    bench = bench_of(ROUTER + profile_section(files) + listener + service).start()
    before = (bench.live("l")._domain, bench.live("s")._tls, bench.live("l").settings)
    with pytest.raises(ManagementError, match=r"sslProfile configuration update failed: .*nothing\.pem") as raised:
        bench.manager.call("UPDATE", {"certFile": str(tmp_path / "nothing.pem")}, type="sslProfile", name="p")
    assert raised.value.status == 400
    assert (bench.live("l")._domain, bench.live("s")._tls, bench.live("l").settings) == before
    assert bench.manager.call("READ", type="sslProfile", name="p")["certFile"] == str(files.cert)


def test_flows_of_older_credentials_end_when_those_are_no_longer_valid(bench_of: Made, tmp_path: Path) -> None:
    files = Pki(tmp_path).issue("r")
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = section("tcpConnector", name="c", port=server.getsockname()[1], address="a")
        service = section("tcpListener", name="s", host="127.0.0.1", port=0, address="a", sslProfile="p")
        bench = bench_of(ROUTER + profile_section(files) + LISTENER + connector + service).start()
        context = ssl.create_default_context(cafile=str(files.ca))
        client = context.wrap_socket(
            socket.create_connection(("127.0.0.1", bench.live("s").bound_port), 5),
            server_hostname="localhost",
            do_handshake_on_connect=False,
        )
        client.setblocking(False)
        for _ in range(100):
            bench.settle()
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        (row,) = [row for row in bench.manager.query("connection") if row["isEncrypted"]]
        assert row["tlsOrdinal"] == 0
        bench.manager.call("UPDATE", {"ordinal": 3}, type="sslProfile", name="p")
        assert bench.live("s").flows, "a raised ordinal alone ends nothing"
        bench.manager.call("UPDATE", {"oldestValidOrdinal": 2}, type="sslProfile", name="p")
        assert not bench.live("s").flows
        client.close()


def test_a_level_of_protocol_traces_the_connections_that_are_open(bench: Bench) -> None:
    manager = bench.manager
    (row,) = manager.query("connection")
    assert not row["enableProtocolTrace"]
    manager.call("UPDATE", {"enable": "debug+"}, type="log", identity="log/PROTOCOL")
    (row,) = manager.query("connection")
    assert row["enableProtocolTrace"]
    manager.call("UPDATE", {"enable": "info+"}, type="log", identity="log/PROTOCOL")
    assert not manager.query("connection")[0]["enableProtocolTrace"]


def test_a_vhost_that_contradicts_itself_is_refused(bench: Bench) -> None:
    bench.manager.call("CREATE", {"hostname": "h"}, type="vhost")
    with pytest.raises(ManagementError, match="PolicyError"):
        bench.manager.call(
            "UPDATE", {"groups": {"g": {"users": "a", "remoteHosts": "9.9.9.9-1.1.1.1"}}}, type="vhost", name="vhost/h"
        )
    assert entity(bench, "vhost", "vhost/h").attributes.get("groups") is None


def test_frames_are_traced_as_the_level_of_all_modules_says(bench: Bench) -> None:
    """The module PROTOCOL follows DEFAULT; the trace of one connection is left alone by changes of other modules."""
    client = bench.connect()

    def traced() -> set[object]:
        return {row["enableProtocolTrace"] for row in bench.manager.query("connection")}

    def level(module: str, words: str) -> None:
        bench.manager.call("UPDATE", {"enable": words}, type="log", identity=f"log/{module}")

    assert traced() == {False}
    level("DEFAULT", "debug+")
    assert traced() == {True}
    level("DEFAULT", "info+")
    assert traced() == {False}
    identity = str(client.there.id)
    bench.manager.call("UPDATE", {"enableProtocolTrace": True}, type="connection", identity=identity)
    level("HTTP", "debug+")
    assert traced() == {True, False}
