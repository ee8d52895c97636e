from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from vanrouter.cli import connect
from vanrouter.cli.connect import read_profile, with_client
from vanrouter.errors import ConfigError


class FakeClient:
    made: list[FakeClient] = []

    def __init__(self, url: str, *, timeout_s: float, credentials: object) -> None:
        self.url, self.timeout_s, self.credentials, self.target = url, timeout_s, credentials, "$management"
        self.made.append(self)

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None: ...


@click.command()
@click.option("--own")
@with_client
def command(client: Any, own: str | None) -> None:
    click.echo(f"{client.url} {client.target} {own}")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClient.made.clear()
    monkeypatch.setattr(connect, "ManagementClient", FakeClient)


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner(env=environment).invoke(command, list(arguments), catch_exceptions=False)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    file = tmp_path / "p.yaml"
    file.write_text("url: amqps://of.profile\nrouter: P\nsasl-username: me\nssl-disable-peer-name-verify: true\n")
    return file


def test_the_default() -> None:
    assert run("--own", "x").stdout == "amqp://127.0.0.1:5672 $management x\n"


def test_a_profile(profile: Path) -> None:
    assert run("-p", str(profile)).stdout == "amqps://of.profile _topo/0/P/$management None\n"
    (client,) = FakeClient.made
    assert client.credentials.user == "me"  # type: ignore[attr-defined]
    assert not client.credentials.is_name_checked  # type: ignore[attr-defined]
    assert client.timeout_s == 5.0


def test_the_environment_wins_over_the_profile_and_the_command_line_over_both(profile: Path) -> None:
    assert run("-p", str(profile), VAN_URL="env").stdout.startswith("env ")
    assert run("-p", str(profile), "-b", "option", VAN_URL="env").stdout.startswith("option ")
    assert run("-r", "Q", VAN_PROFILE=str(profile)).stdout.split()[1] == "_topo/0/Q/$management"


def test_profiles_by_name(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "PROFILE_FOLDER", profile.parent)
    assert read_profile("p")["router"] == "P"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must be a map"),
        ("a: [", r":1: --profile: is not YAML"),
        ("urll: x", "unknown option 'urll'; known are url"),
        ("ssl-disable-peer-name-verify: 'no'", "name-verify: must be true or false"),
        ("timeout: soon", "timeout: must be a number above 0"),
        ("timeout: 0", "timeout: must be a number above 0"),
        ("url:", "url: must be a text"),
        (None, "cannot read: No such file"),
    ],
)
def test_profiles_that_are_wrong(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "p.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_profile(str(file))


def test_router_and_edge_exclude_each_other(profile: Path) -> None:
    result = run("-p", str(profile), "-e", "E")
    assert result.exit_code == 2
    assert "exclude" in result.stderr
