"""What tests of the whole schema (test_entity_types.py) do not say of these types."""

from __future__ import annotations

import pytest

from vanrouter.mgmt.types_services import HTTP_CONNECTOR, HTTP_LISTENER, TCP_CONNECTOR, TCP_LISTENER


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("idleTimeoutSeconds", 0),
        ("halfCloseTimeoutSeconds", 0),
        ("connectTimeoutSeconds", 5),
        ("weight", 1),
        ("healthCheck", "none"),
        ("healthCheckIntervalSeconds", 5),
        ("healthyThreshold", 1),
        ("unhealthyThreshold", 3),
    ],
)
def test_additions_of_tcp_connectors(name: str, default: object) -> None:
    assert TCP_CONNECTOR.attributes[name].extension
    assert TCP_CONNECTOR.attributes[name].default == default


def test_unreachable_listeners_close_by_default() -> None:
    assert TCP_LISTENER.attributes["whenUnreachable"].default == "close"
    assert HTTP_LISTENER.attributes["whenUnreachable"].words == ("close", "503")


def test_http_types_are_additions() -> None:
    for entity_type in (HTTP_LISTENER, HTTP_CONNECTOR):
        assert entity_type.extension
        assert all(attribute.extension for attribute in entity_type.own)
        assert entity_type.attributes["form"].default == "stream"
