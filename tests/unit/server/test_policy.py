"""Policy in force: folders of vhosts, and what a permit means for links, sessions and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.core.engines import Client, World
from tests.unit.core.engines import world as make_world
from vanrouter.adaptors.amqp import AmqpSettings
from vanrouter.errors import ConfigError
from vanrouter.server.policy import PolicyGate, host_of, lookup, vhost_entities

GROUP = {
    "remoteHosts": "*",
    "sources": "a",
    "targets": "a",
    "maxSenders": 2,
    "maxReceivers": 1,
    "maxSessions": 2,
    "maxFrameSize": 1024,
    "maxSessionWindow": 10_000,
    "maxMessageSize": 500,
    "allowAdminStatusUpdate": False,
}


@pytest.mark.parametrize(("peer", "host"), [("10.0.0.1:5", "10.0.0.1"), ("[::1]:5", "::1"), ("::1:5", "::1")])
def test_hosts(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_names_of_hosts() -> None:
    assert lookup("127.0.0.1") == ["127.0.0.1"]
    assert lookup("no such host.invalid") == []


def test_a_folder_of_vhosts(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('[["vhost", {"hostname": "two"}], ["vhost", {"hostname": "three"}]]')
    (tmp_path / "a.json").write_text('# a comment\n[["vhost", {"hostname": "one", "maxConnections": 3}]]')
    (tmp_path / "c.txt").write_text("not this one")
    found = list(vhost_entities(str(tmp_path)))
    assert [entity.attributes["hostname"] for entity in found] == ["one", "two", "three"]
    assert found[0].attributes["maxConnections"] == 3
    assert found[0].line == 2


@pytest.mark.parametrize("text", ["{", "[7]", '[["listener", {"port": "1"}]]', '[["vhost", {"nonsense": 1}]]'])
def test_a_bad_file_in_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.json"):
        list(vhost_entities(str(tmp_path)))


def gate() -> PolicyGate:
    made = PolicyGate({"enableVhostPolicy": True, "defaultVhost": "v"})
    made.policies.put({"hostname": "v", "groups": {"$default": GROUP}, "allowUnknownUser": True})
    return made


def test_what_a_connection_may_do() -> None:
    with make_world() as world:
        client, made = _admitted(world)
        there = client.there
        assert there.policy is not None
        assert there.policy.max_message_bytes == 500
        assert there.window_frames == 9
        assert not there.allows_admin_delete
        assert not client.sender("a").is_refused
        assert client.sender("b").condition == ("amqp:unauthorized-access", "link disallowed by local policy")
        assert client.sender(None).is_refused
        assert not client.sender("a").is_refused
        assert client.sender("a").condition == ("amqp:resource-limit-exceeded", "link disallowed by local policy")
        assert client.receiver(None, dynamic=True).is_refused
        assert client.receiver("b").is_refused
        assert not client.receiver("a").is_refused
        assert client.receiver("a").is_refused
        assert made.totals() == {"linksDenied": 6, "maxMessageSizeDenied": 0, "totalDenials": 6}
        (row,) = made.rows()
        assert (row["connectionsCurrent"], row["senderDenied"], row["receiverDenied"]) == (1, 3, 3)
        client.close()
        (row,) = made.rows()
        assert row["connectionsCurrent"] == 0


def _admitted(world: World) -> tuple[Client, PolicyGate]:
    made = gate()
    client = world.unopened(world.router())
    settings: AmqpSettings = client.there.settings
    client.there.admit = lambda: made.admit(client.there, settings, None)
    client.open()
    world.settle()
    return client, made


def test_refused_by_a_close() -> None:
    with make_world() as world:
        made = PolicyGate({})
        client = world.unopened(world.router())
        client.there.admit = lambda: made.admit(client.there, client.there.settings, "joe")
        client.open()
        world.settle()
        assert client.condition == ("amqp:resource-limit-exceeded", "connection disallowed by local policy")
        assert made.totals()["totalDenials"] == 1
