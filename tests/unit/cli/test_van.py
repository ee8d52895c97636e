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
    assert result.exit_code == 3
    assert result.stderr.startswith(f"van: amqp://127.0.0.1:{port}: ")


def test_log(ask: Run) -> None:
    result = ask("log", "-n", "2")
    assert result.stdout == "1970-01-01 00:00:00 SERVER (info) event 3\n1970-01-01 00:00:00 SERVER (info) event 4\n"


def test_log_as_json(ask: Run) -> None:
    assert len([json.loads(line) for line in ask("log", "--json").stdout.splitlines()]) == 5
    assert ask("log", "-m", "agent").stdout == ""


def test_levels(ask: Run, peer: Peer) -> None:
    assert ask("log", "--set", "HTTP=warning+").exit_code == 0
    assert peer.managed.router.done == [("update", "log/HTTP", {"enable": "warning+"})]


def test_levels_are_shown(ask: Run) -> None:
    assert "ROUTER_CORE" in ask("log", "--levels").stdout


def test_levels_need_a_module() -> None:
    with Peer(Managed()) as peer:
        result = van("log", "--set", "debug", VAN_URL=f"127.0.0.1:{peer.port}")
    assert result.exit_code == 2


def test_topology(ask: Run) -> None:
    assert "A  (asked)" in ask("topology").stdout


@pytest.mark.parametrize(
    ("option", "text"),
    [("--dot", "graph network {"), ("--mermaid", "graph LR"), ("--json", '"asked": "A"'), ("--yaml", "asked: A")],
)
def test_topology_for_other_programs(ask: Run, option: str, text: str) -> None:
    assert text in ask("topology", option).stdout


def test_trace(ask: Run) -> None:
    result = ask("trace", "A", "--json")
    assert result.exit_code == 0, result.stderr
    assert [hop["router"] for hop in json.loads(result.stdout)["hops"]] == ["A"]


def test_trace_to_nowhere(ask: Run) -> None:
    result = ask("trace", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("van: nowhere: A knows no router")


def test_ping(ask: Run) -> None:
    result = ask("ping", "A", "-c", "2", "-i", "0")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0] == "router A at A"
    assert "2 of 2 answered" in result.stdout


def test_reload_refused(ask: Run, peer: Peer) -> None:
    result = ask("reload")
    assert (result.exit_code, result.stderr) == (1, "van: refused (400): no file\n")
    assert peer.managed.router.reloads == 1


def test_a_profile_and_what_wins(peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"url: 127.0.0.1:{peer.port}\nrouter: B\n")
    assert van("stat", "links", VAN_PROFILE=str(file)).exit_code == 0
    assert set(peer.addresses) == {"_topo/0/B/$management"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str) -> None:
    assert "_VAN_COMPLETE" in van("completion", shell).stdout


def test_watching_is_for_people(ask: Run) -> None:
    result = ask("stat", "links", "--watch", "--json")
    assert result.exit_code == 2


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


def test_check_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "r.conf"
    file.write_text("router {\n id: R\n}\n")
    assert json.loads(van("check", str(file), "--json").stdout)["entities"] == {"router": 1}
