"""What tests of the whole schema (test_entity_types.py) do not say of these types."""

from __future__ import annotations

import pytest

from vanrouter.mgmt.types_router import ADDRESS, CONNECTOR, LISTENER, PROXY_PROFILE, ROUTER, SSL_PROFILE


@pytest.mark.parametrize(
    ("name", "default"),
    [("drainSeconds", 0), ("maxConnections", 0), ("maxBufferedBytes", 0), ("maxLinksPerConnection", 0)],
)
def test_limits_are_additions_and_off(name: str, default: int) -> None:
    assert ROUTER.attributes[name].extension
    assert ROUTER.attributes[name].default == default


@pytest.mark.parametrize(
    "attribute",
    [CONNECTOR.attributes["saslPassword"], SSL_PROFILE.attributes["password"], PROXY_PROFILE.attributes["password"]],
    ids=lambda attribute: attribute.name,
)
def test_passwords_are_secret(attribute: object) -> None:
    assert getattr(attribute, "secret")  # noqa: B009 - parametrized over attributes


def test_cost_can_be_updated() -> None:
    for entity_type in (LISTENER, CONNECTOR):
        updatable = [name for name, attribute in entity_type.attributes.items() if attribute.updatable]
        assert updatable == ["cost"]
        assert entity_type.extension_operations == ("UPDATE",)


def test_even_is_an_added_distribution() -> None:
    distribution = ADDRESS.attributes["distribution"]
    assert distribution.convert("even") == "even"
    assert "even" not in distribution.words
