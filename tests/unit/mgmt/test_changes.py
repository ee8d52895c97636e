from __future__ import annotations

import pytest

from vanrouter.errors import ManagementError
from vanrouter.mgmt.changes import created, updated
from vanrouter.mgmt.entity_types import DUMMY, SCHEMA
from vanrouter.mgmt.schema import InvalidEntityError
from vanrouter.mgmt.secrets import MASK, Secret

PROFILE = SCHEMA["sslProfile"]


def test_created_has_name_and_defaults() -> None:
    made = created(SCHEMA["listener"], {"port": 5672, "type": "listener", "host": None}, "n")
    assert made["name"] == "n"
    assert made["port"] == "5672"
    assert made["cost"] == 1


def test_created_without_a_name_has_none() -> None:
    assert created(DUMMY, {}, None) == {}


def test_two_names_conflict_unless_equal() -> None:
    assert created(DUMMY, {"name": "n"}, "n") == {"name": "n"}
    with pytest.raises(ManagementError, match="Conflicting values for 'name'"):
        created(DUMMY, {"name": "n"}, "m")


@pytest.mark.parametrize(
    ("short", "name"), [("dummy", "identity"), ("tcpListener", "operStatus"), ("vhost", "maxMessageSize")]
)
def test_create_does_not_set_what_it_may_not(short: str, name: str) -> None:
    with pytest.raises(ManagementError, match=f"Cannot set attribute '{name}' in CREATE"):
        created(SCHEMA[short], {name: "1"}, None)


def test_only_what_changes_is_an_update() -> None:
    shown: dict[str, object] = {"name": "n", "identity": "dummy/0", "type": DUMMY.full, "arg1": "a", "num1": 1}
    assert updated(DUMMY, {**shown, "num1": "1", "arg2": None}, shown, {}) == {}
    assert updated(DUMMY, {"num1": "2", "arg2": 3}, shown, {}) == {"num1": 2, "arg2": "3"}
    assert updated(DUMMY, {"type": "dummy"}, shown, {}) == {}


@pytest.mark.parametrize("name", ["name", "identity", "type"])
def test_names_do_not_change(name: str) -> None:
    with pytest.raises(ManagementError, match=f"Cannot update attribute '{name}'"):
        updated(DUMMY, {name: "other"}, {"name": "n", "identity": "i"}, {})


def test_fixed_attributes_may_be_repeated() -> None:
    shown: dict[str, object] = {"port": "1", "observer": "auto"}
    assert updated(SCHEMA["tcpListener"], {"port": 1, "observer": "none"}, shown, shown) == {"observer": "none"}
    with pytest.raises(ManagementError, match="Cannot update attribute 'port'"):
        updated(SCHEMA["tcpListener"], {"port": 2}, shown, shown)


def test_unknown_attributes_are_refused() -> None:
    with pytest.raises(InvalidEntityError, match="Unknown attribute"):
        updated(DUMMY, {"arg9": None}, {}, {})


def test_a_password_shown_and_sent_back_stays() -> None:
    stored = {"password": Secret("pass:hush")}
    assert updated(PROFILE, {"password": MASK}, {"password": MASK}, stored) == {}
    assert updated(PROFILE, {"password": "pass:hush"}, {"password": MASK}, stored) == {}
    assert updated(PROFILE, {"password": "new"}, {"password": MASK}, stored) == {"password": Secret("new")}
    assert updated(PROFILE, {"password": "new"}, {}, {}) == {"password": Secret("new")}
