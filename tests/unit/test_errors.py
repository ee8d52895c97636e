"""The error tree says on one line what an operator or a peer needs."""

from __future__ import annotations

import pytest

from vanrouter import errors


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "listener.port: is no port"),
        ({"file": "a.conf"}, "a.conf: listener.port: is no port"),
        ({"file": "a.conf", "line": 7}, "a.conf:7: listener.port: is no port"),
        ({"line": 7}, "listener.port: is no port"),
    ],
)
def test_config_error_names_the_place(place: dict[str, object], text: str) -> None:
    error = errors.ConfigError("listener.port", "is no port", **place)
    assert str(error) == text
    assert (error.key, error.reason) == ("listener.port", "is no port")


def test_config_error_of_a_whole_file() -> None:
    assert str(errors.ConfigError("", "is empty", file="a.conf")) == "a.conf: is empty"


def test_peer_error_is_ready_for_the_wire() -> None:
    error = errors.PeerError("amqp:decode-error", "list too short")
    assert (error.condition, error.description) == ("amqp:decode-error", "list too short")
    assert str(error) == "amqp:decode-error list too short"


def test_management_error_is_ready_to_be_answered() -> None:
    error = errors.ManagementError(404, "No entity with name=x")
    assert (error.status, error.description) == (404, "No entity with name=x")


def test_one_root() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 6
    assert all(issubclass(kind, errors.VanrouterError) for kind in kinds)
