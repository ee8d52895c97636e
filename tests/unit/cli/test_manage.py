from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.unit.mgmt.fakes import Managed
from tests.unit.mgmt.peer import Peer
from vanrouter.cli.manage import TYPE, typed
from vanrouter.cli.van import main

Run = Callable[..., Result]


def van(*arguments: str, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, list(arguments), input=stdin)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(Managed()) as running:
        yield running


@pytest.fixture
def ask(peer: Peer) -> Run:
    return lambda *arguments, **more: van(*arguments, VAN_URL=f"127.0.0.1:{peer.port}", **more)


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


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("read", "tcpListener", "web"), "shop"),
        (("update", "tcpListener", "web", "observer=http1"), "http1"),
        (("query", "tcpListener", "name", "port"), "8080"),
    ],
)
def test_an_entity_by_its_name_alone(ask: Run, arguments: tuple[str, ...], wanted: str) -> None:
    result = ask("manage", *arguments)
    assert result.exit_code == 0, result.stderr
    assert wanted in result.stdout


def test_deleted_by_its_name_alone(ask: Run, peer: Peer) -> None:
    assert ask("manage", "delete", "tcpListener", "web").exit_code == 0
    assert peer.managed.router.done == [("delete", "tcpListener/:8080:web")]


def test_two_names_are_one_too_many(ask: Run) -> None:
    result = ask("manage", "delete", "tcpListener", "web", "--name", "other")
    assert (result.exit_code, "Two names: 'web' and 'other'" in result.stderr) == (2, True)


def test_texts_are_shown_as_they_stand(ask: Run) -> None:
    """Colons and brackets in an identity are no pictures and no colours."""
    attributes = ("name=x", "port=abc", "address=[bold]a", "host=:smile:")
    shown = ask("manage", "create", "tcpListener", *attributes).stdout
    assert "tcpListener/:smile::abc:x" in shown.splitlines()[0]
    assert "[bold]a" in shown


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
    assert "type|" not in van("manage", "explain").stdout
    assert "tcpListener" in van("manage", "explain").stdout
    found = json.loads(van("manage", "explain", "log", "--json").stdout)
    assert found["operations"] == ["UPDATE", "READ"]


@pytest.mark.parametrize(
    ("kind", "name", "text", "value"),
    [
        ("listener", "cost", "7", 7),
        ("listener", "http", "YES", True),
        ("listener", "port", "5672", "5672"),
        ("listener", "openProperties", '{"a": 1}', {"a": 1}),
        ("vhost", "groups", "{g: {users: a}}", {"g": {"users": "a"}}),
        ("nosuch", "cost", "7", "7"),
    ],
)
def test_attributes_have_types(kind: str, name: str, text: str, value: object) -> None:
    assert typed(kind, name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("cost", "x", "'x' is not a whole number"),
        ("http", "maybe", "is not one of yes"),
        ("openProperties", "7", "is not a properties"),
        ("openProperties", "{", "neither JSON nor YAML"),
    ],
)
def test_what_does_not_fit_is_a_wrong_command_line(name: str, text: str, words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        typed("listener", name, text)


def test_attributes_of_a_file_and_of_arguments(ask: Run, tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("arg1: one\nnum1: 1\n")
    result = ask("manage", "create", "dummy", "-f", str(file), "num1=2", "--json")
    assert (json.loads(result.stdout)["arg1"], json.loads(result.stdout)["num1"]) == ("one", 2)


def test_attributes_from_the_terminal(ask: Run) -> None:
    result = ask("manage", "create", "dummy", "-f", "-", "--json", stdin='{"arg2": "x"}')
    assert json.loads(result.stdout)["arg2"] == "x"


def test_an_update_changes_something(ask: Run, peer: Peer) -> None:
    result = ask("manage", "update", "dummy", "--name", "d")
    assert result.exit_code == 2
    assert "Give what changes" in result.stderr


def test_types_are_completed() -> None:
    context = click.Context(click.Command("x"))
    found = TYPE.shell_complete(context, click.Argument(["t"]), "tcp")
    assert [item.value for item in found] == ["tcpListener", "tcpConnector", "tcpConnection"]
