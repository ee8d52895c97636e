"""What tests of the whole schema (test_entity_types.py) do not say of these types."""

from __future__ import annotations

from vanrouter.mgmt.types_observed import CONNECTION, ROUTER_LINK, ROUTER_METRICS


def test_nothing_observed_is_configured() -> None:
    for entity_type in (ROUTER_LINK, ROUTER_METRICS):
        assert entity_type.observed
        assert not any(attribute.settable for attribute in entity_type.own)


def test_a_connection_can_be_cut_and_traced() -> None:
    assert [a.name for a in CONNECTION.own if a.updatable] == ["adminStatus", "enableProtocolTrace"]


def test_columns_that_clients_ask_for_beyond_the_schema() -> None:
    assert ROUTER_LINK.attributes["adminStatus"].default == "enabled"
    assert "adminStatus" not in ROUTER_LINK.all_columns(extensions=False)
    assert {"linksBlocked", "deliveriesRedirectedToFallback"} <= set(ROUTER_METRICS.all_columns(extensions=False))
    assert "name" not in ROUTER_METRICS.columns
    assert "active" in CONNECTION.columns
