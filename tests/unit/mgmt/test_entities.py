from __future__ import annotations

from itertools import count

import pytest

from vanrouter.mgmt.entities import EntityConfig, Registry
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.schema import InvalidEntityError


@pytest.fixture
def registry() -> Registry:
    return Registry(SCHEMA, count(7).__next__)


def identity_of(registry: Registry, short: str, **attributes: object) -> str:
    return registry.add(SCHEMA[short], attributes).identity


@pytest.mark.parametrize(
    ("short", "attributes", "identity"),
    [
        ("listener", {"host": "", "port": "5672"}, "listener/:5672"),
        ("listener", {"host": "h", "port": "5672", "name": "n"}, "listener/h:5672:n"),
        ("tcpConnector", {"host": "h", "port": "1", "name": "n"}, "tcpConnector/h:1:n"),
        ("listenerAddress", {"listener": "l", "address": "a"}, "listenerAddress/l:a"),
        ("listenerAddress", {"listener": "l", "address": "a", "name": "n"}, "listenerAddress/l:a:n"),
        ("router", {"id": "A"}, "router/A"),
        ("router", {"id": "A", "name": "n"}, "router/A"),
        ("network", {}, "network/0"),
        ("policy", {}, "policy/None"),
        ("site", {"name": "here"}, "site/None"),
        ("log", {"module": "SERVER"}, "log/SERVER"),
        ("sslProfile", {"name": "s"}, "sslProfile/s"),
        ("vhost", {"hostname": "v"}, "vhost/v"),
        ("dummy", {}, "dummy/0"),
        ("address", {"prefix": "q"}, "7"),
        ("autoLink", {"name": "n"}, "7"),
    ],
)
def test_identities(registry: Registry, short: str, attributes: dict[str, object], identity: str) -> None:
    assert identity_of(registry, short, **attributes) == identity


def test_name_is_the_identity_unless_given(registry: Registry) -> None:
    assert registry.add(SCHEMA["log"], {"module": "HTTP"}).name == "log/HTTP"
    assert registry.add(SCHEMA["dummy"], {"name": "d"}).name == "d"
    assert registry.add(SCHEMA["address"], {"prefix": "q"}).name is None


def test_addresses_of_a_file_are_named_by_number(registry: Registry) -> None:
    names = [registry.load(EntityConfig(type="address", attributes={"prefix": prefix})).name for prefix in "ab"]
    assert names == ["address/0", "address/1"]
    assert registry.load(EntityConfig(type="autoLink", attributes={})).name == "autoLink/0"


def test_a_name_in_the_file_is_kept(registry: Registry) -> None:
    assert registry.load(EntityConfig(type="address", attributes={"prefix": "q", "name": "n"})).name == "n"
    assert registry.load(EntityConfig(type="log", attributes={"module": "HTTP"})).name == "log/HTTP"


def test_names_are_unique_over_types(registry: Registry) -> None:
    registry.add(SCHEMA["listener"], {"host": "", "port": "1", "name": "n"})
    with pytest.raises(InvalidEntityError, match="duplicates unique attribute 'name' from existing listener/:1:n"):
        registry.add(SCHEMA["dummy"], {"name": "n"})
    registry.add(SCHEMA["address"], {"prefix": "q", "name": "n"})
    with pytest.raises(InvalidEntityError) as caught:
        registry.add(SCHEMA["address"], {"prefix": "r", "name": "n"})
    assert caught.value.description == "Name conflicts with an existing entity"


def test_identities_are_unique(registry: Registry) -> None:
    registry.add(SCHEMA["log"], {"module": "HTTP"})
    with pytest.raises(InvalidEntityError, match="duplicates"):
        registry.add(SCHEMA["log"], {"module": "HTTP", "name": "other"})


def test_second_singleton(registry: Registry) -> None:
    registry.add(SCHEMA["network"], {})
    with pytest.raises(InvalidEntityError, match=r"Adding network singleton when network/0 already exists"):
        registry.add(SCHEMA["network"], {"name": "other"})


def test_found_and_removed(registry: Registry) -> None:
    entity = registry.add(SCHEMA["dummy"], {"name": "d", "arg1": "x", "num1": 3})
    address = registry.add(SCHEMA["address"], {"prefix": "q"})
    assert registry.find(None, name="d", identity=None) is entity
    assert registry.find(SCHEMA["dummy"], name=None, identity="dummy/0") is entity
    assert registry.find(SCHEMA["address"], name=None, identity="7") is address
    assert registry.find(None, name=None, identity=None) is None
    assert registry.named("dummy", "d") is entity
    assert registry.named("listener", "d") is None
    assert registry.of("dummy") == [entity]
    assert list(registry) == [entity, address]
    for gone in (entity, address):
        registry.remove(gone)
    assert list(registry) == []
    assert registry.find(None, name="d", identity=None) is None
    assert registry.single("dummy") is None
    assert identity_of(registry, "dummy", name="d") == "dummy/1"


def test_typed_reading(registry: Registry) -> None:
    entity = registry.add(SCHEMA["listener"], {"host": "h", "port": "1", "cost": 2, "http": True})
    assert (entity.text("host"), entity.text("sslProfile"), entity.text("cost")) == ("h", "", "")
    assert (entity.number("cost"), entity.number("linkCapacity"), entity.number("host")) == (2, 0, 0)
    assert entity.is_on("http")
    assert not entity.is_on("metrics")
    assert str(entity) == "listener/h:1"


def test_numbers_count_by_themselves() -> None:
    assert identity_of(Registry(SCHEMA), "address", prefix="q") == "1"


def test_by_key_follows_what_comes_and_goes() -> None:
    registry = Registry(SCHEMA)
    prefix = lambda attributes: str(attributes.get("prefix"))  # noqa: E731
    first = registry.add(SCHEMA["address"], {"prefix": "a"})
    assert registry.by_key("address", prefix) == {"a": first}
    second = registry.add(SCHEMA["address"], {"prefix": "b"})
    assert registry.by_key("address", prefix) == {"a": first, "b": second}
    registry.remove(first)
    registry.restore(first)
    registry.remove(second)
    assert registry.by_key("address", prefix) == {"a": first}
