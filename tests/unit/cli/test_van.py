from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.mgmt.fakes import Managed
from tests.unit.mgmt.peer import Peer
from vanrouter import __version__
from vanrouter.cli.van import main

Run = Callable[..., Result]


def van(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, list(arguments))


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(Managed()) as running:
        yield running


@pytest.fixture
def ask(peer: Peer) -> Run:
    return lambda *arguments: van(*arguments, VAN_URL=f"127.0.0.1:{peer.port}")


def test_stat(ask: Run) -> None:
    result = ask("stat", "services")
    assert result.exit_code == 0, result.stderr
    assert "web" in result.stdout
    assert "tcpListener" in result.stdout


def test_stat_as_json(ask: Run) -> None:
    result = ask("stat", "--json")
    assert json.loads(result.stdout)["router"]["id"] == "A"


@pytest.mark.parametrize(
    ("option", "address"), [("--router", "_topo/0/B/$management"), ("--edge", "_edge/B/$management")]
)
def test_other_routers(ask: Run, peer: Peer, option: str, address: str) -> None:
    assert ask("stat", "links", option, "B").exit_code == 0
    assert set(peer.addresses) == {address}


def test_router_and_edge_exclude_each_other() -> None:
    result = van("stat", "-r", "A", "-e", "B")
    assert result.exit_code == 2
    assert "exclude" in result.stderr


def test_refused(ask: Run) -> None:
    result = ask("manage", "read", "listener", "--name", "nosuch")
    assert result.exit_code == 1
    assert result.stderr == "van: refused (404): No entity with name=nosuch\n"


def test_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = van("stat", "-b", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"van: amqp://127.0.0.1:{port}: ")


def test_log(ask: Run) -> None:
    result = ask("log", "-n", "2")
    assert result.stdout == "1970-01-01 00:00:00 SERVER (info) event 3\n1970-01-01 00:00:00 SERVER (info) event 4\n"


def test_log_as_json(ask: Run) -> None:
    assert len(json.loads(ask("log", "--json").stdout)) == 5


def test_query(ask: Run) -> None:
    result = ask("manage", "query", "listener", "-a", "name,port", "--json")
    assert json.loads(result.stdout) == [{"name": "l0", "port": "5672"}]


def test_query_as_table(ask: Run) -> None:
    assert "l0" in ask("manage", "query", "listener").stdout


def test_create(ask: Run, peer: Peer) -> None:
    result = ask("manage", "create", "dummy", "name=d", "num1=3", "arg1=a=b", "--json")
    assert result.exit_code == 0, result.stderr
    assert peer.managed.router.done == [("create", "dummy/0")]
    assert json.loads(result.stdout) | {"arg1": "a=b", "num1": 3} == json.loads(result.stdout)


def test_update(ask: Run) -> None:
    assert "http1" in ask("manage", "update", "tcpListener", "observer=http1", "--name", "web").stdout


def test_delete(ask: Run, peer: Peer) -> None:
    assert ask("manage", "delete", "tcpListener", "--name", "web").exit_code == 0
    assert peer.managed.router.done == [("delete", "tcpListener/:8080:web")]


def test_pairs_need_a_value(ask: Run, peer: Peer) -> None:
    result = ask("manage", "create", "dummy", "name")
    assert result.exit_code == 2
    assert "'name' is not name=value" in result.stderr


def test_explain() -> None:
    result = van("manage", "explain", "tcpListener")
    assert result.exit_code == 0
    assert "whenUnreachable" in result.stdout
    assert "CREATE" in result.stdout
    unknown = van("manage", "explain", "nosuch")
    assert unknown.exit_code == 1
    assert "no such type" in unknown.stderr


def test_check(tmp_path: Path) -> None:
    file = tmp_path / "r.conf"
    file.write_text("router {\n id: R\n}\nlistener {\n port: 0\n}\naddress {\n}\n")
    result = van("check", str(file))
    assert result.exit_code == 0
    assert f"{file}: good (1 router, 1 listener)" in result.stdout
    assert "warning: " in result.stdout
    file.write_text("listener {\n prot: 0\n}\n")
    result = van("check", str(file))
    assert result.exit_code == 1
    assert f"van: {file}:2: listener.prot" in result.stderr


def test_version_and_wrong_command_lines() -> None:
    assert van("--version").stdout == f"{__version__}\n"
    assert van("nosuch").exit_code == 2
    assert van("stat", "nosuch").exit_code == 2
