"""What tests of the whole schema (test_entity_types.py) do not say of these types."""

from __future__ import annotations

from vanrouter.mgmt.types_policy import POLICY, VHOST, VHOST_USER_GROUP_SETTINGS


def test_policy_is_configured_in_files_and_counts() -> None:
    assert POLICY.section
    assert POLICY.singleton
    assert POLICY.attributes["connectionsDenied"].graph


def test_message_size_of_a_vhost_is_for_files_only() -> None:
    size = VHOST.attributes["maxMessageSize"]
    assert size.settable
    assert not size.creatable


def test_group_settings_have_no_section() -> None:
    assert not VHOST_USER_GROUP_SETTINGS.section
