from __future__ import annotations

from pathlib import Path

import pytest

from vanrouter.errors import ConfigError
from vanrouter.mgmt.secrets import MASK, Secret, resolve

KEY = "sslProfile.password"


def test_nothing_shows_the_text() -> None:
    secret = Secret("hush")
    for shown in (repr(secret), str(secret), f"{secret}", secret.shown(), repr({"password": secret})):
        assert "hush" not in shown
    assert secret.shown() == MASK


def test_references_are_shown_as_they_stand() -> None:
    assert Secret("env:NAME").shown() == "env:NAME"
    assert Secret("file:/x").shown() == "file:/x"
    assert Secret("pass:x").shown() == MASK


def test_equal_by_text() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_resolved_by_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET_OF_TEST", "from env")
    file = tmp_path / "password"
    file.write_bytes(b"from file\r\nsecond line\n")
    assert resolve(Secret("env:SECRET_OF_TEST"), KEY) == "from env"
    assert resolve(Secret(f"file:{file}"), KEY) == "from file"
    assert resolve(Secret("pass:a:b"), KEY) == "a:b"
    assert resolve(Secret("literal:a"), KEY) == "a"
    assert resolve(Secret("plain"), KEY) == "plain"
    assert resolve(Secret("other:plain"), KEY) == "other:plain"


def test_literal_is_no_prefix_where_it_never_was() -> None:
    assert resolve(Secret("literal:a"), "connector.saslPassword", has_literal=False) == "literal:a"


def test_only_the_first_octets_of_a_file_count(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"x" * 1000)
    assert len(resolve(Secret(f"file:{file}"), KEY)) == 199


def test_missing_sources_are_named_without_the_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECRET_OF_TEST", raising=False)
    with pytest.raises(ConfigError, match="SECRET_OF_TEST"):
        resolve(Secret("env:SECRET_OF_TEST"), KEY)
    absent = tmp_path / "absent"
    with pytest.raises(ConfigError, match=f"Unable to open password file {absent}, error: No such file or directory"):
        resolve(Secret(f"file:{absent}"), KEY)
