"""Vhost rules in force over real connections (management.md, section 15)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.core.engines import ACCEPTED, REJECTED, RELEASED, Client, message
from tests.unit.server.sites import LISTENER, ROUTER, Bench, Manager
from vanrouter.engine import proton
from vanrouter.errors import ConfigError, ManagementError
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.server.policy import LINK_DENIED, LINK_LIMIT, REFUSED, host_of, vhost_entities

Made = Callable[[str], Bench]
Write = Callable[..., Bench]

OPEN = {"users": "*", "remoteHosts": "*", "sources": "*", "targets": "*", "allowAnonymousSender": True,
        "allowDynamicSource": True}  # fmt: skip


@pytest.fixture
def ruled(bench_of: Made, tmp_path: Path) -> Write:
    """Makes a site that runs with a vhost `v` whose one group is as asked, and one, `ops`, where all is allowed."""

    def make(*, policy: str = "", vhost: dict[str, Any] | None = None, **group: Any) -> Bench:
        settings = {"users": "*", "remoteHosts": "*", **group}
        limited = {"hostname": "v", **(vhost or {}), "groups": {"g": settings}}
        ops = {"hostname": "ops", "groups": {"g": OPEN}}
        (tmp_path / "rules.json").write_text(json.dumps([["vhost", limited], ["vhost", ops]]))
        section = f"policy {{\n    enableVhostPolicy: true\n    policyDir: {tmp_path}\n{policy}}}\n"
        return bench_of(ROUTER + LISTENER + section).start()

    return make


def enter(bench: Bench, hostname: str = "v") -> Client:
    return bench.connect(hostname=hostname)


def counts(bench: Bench, hostname: str = "v") -> dict[str, Any]:
    return next(dict(row) for row in bench.site.views.rows("vhostStats") if row["hostname"] == hostname)


# Connections.


def test_a_connection_is_let_in_and_counted(ruled: Write) -> None:
    bench = ruled()
    client = enter(bench)
    assert client.is_open
    row = counts(bench)
    assert (row["connectionsApproved"], row["connectionsCurrent"], row["connectionsDenied"]) == (1, 1, 0)
    assert row["perUserState"] == {"anonymous": [client.there.host]}
    assert row["perHostState"] == {"127.0.0.1": [client.there.host]}
    assert set(row) == set(SCHEMA["vhostStats"].attributes) - {"type"}
    client.close()
    bench.settle()
    row = counts(bench)
    assert (row["connectionsApproved"], row["connectionsCurrent"]) == (1, 0)


def test_no_rules_for_it(ruled: Write) -> None:
    bench = ruled()
    client = enter(bench, "elsewhere")
    assert client.condition == REFUSED
    bench.settle()
    assert client.is_lost
    assert bench.site.gate.totals()["totalDenials"] == 1
    assert not bench.site.router.amqp_connections


@pytest.mark.parametrize(
    ("vhost", "group"),
    [
        ({"maxConnections": 1}, {}),
        ({"maxConnectionsPerHost": 1}, {}),
        ({"maxConnectionsPerUser": 1}, {}),
        ({}, {"maxConnectionsPerHost": 1}),
    ],
)
def test_as_many_connections_as_allowed(ruled: Write, vhost: dict[str, Any], group: dict[str, Any]) -> None:
    bench = ruled(vhost=vhost, **group)
    first, second = enter(bench), enter(bench)
    assert first.is_open
    assert first.condition is None
    assert second.condition == REFUSED
    assert counts(bench)["connectionsDenied"] == 1
    first.close()
    bench.settle()
    assert enter(bench).condition is None, "the place is free again"


def test_only_from_where_it_may_come(ruled: Write) -> None:
    assert enter(ruled(remoteHosts="10.0.0.1,192.168.0.1-192.168.0.9")).condition == REFUSED


def test_limits_of_frames_and_sessions(ruled: Write) -> None:
    bench = ruled(maxFrameSize=2048, maxSessions=2, maxSessionWindow=8192)
    client = enter(bench)
    assert proton.transport_get_remote_max_frame(client.engine.transport) == 2048
    assert client.there.window_frames == 4
    sessions = [client.session() for _ in range(2)]
    bench.settle()
    assert client.closed_sessions == []
    assert len(client.there.sessions) == len(sessions)


# Links.


def test_who_may_send_and_receive_what(ruled: Write) -> None:
    bench = ruled(sources="a, b*", targets="c, ${user}_own")
    client = enter(bench)
    for address in ("a", "bcd"):
        assert not client.receiver(address).is_refused, address
    for address in ("c", "anonymous_own"):
        assert not client.sender(address).is_refused, address
    for address in ("ab", "c"):
        assert client.receiver(address).condition == LINK_DENIED, address
    for address in ("a", "own"):
        assert client.sender(address).condition == LINK_DENIED, address
    row = counts(bench)
    assert (row["receiverDenied"], row["senderDenied"]) == (2, 2)
    assert bench.site.gate.totals()["linksDenied"] == 4


@pytest.mark.parametrize("is_allowed", [True, False])
def test_senders_without_address_and_dynamic_receivers(ruled: Write, is_allowed: bool) -> None:
    bench = ruled(sources="*", targets="a", allowAnonymousSender=is_allowed, allowDynamicSource=is_allowed)
    client = enter(bench)
    sender, receiver = client.sender(None), client.receiver(dynamic=True)
    assert (sender.condition, receiver.condition) == ((None, None) if is_allowed else (LINK_DENIED, LINK_DENIED))


def test_each_message_of_a_sender_without_address_is_looked_at(ruled: Write) -> None:
    bench = ruled(sources="*", targets="a", allowAnonymousSender=True)
    client = enter(bench)
    drain = client.receiver("a", auto=ACCEPTED)
    client.receiver("b", auto=ACCEPTED)
    sender = client.sender(None)
    allowed, denied = sender.send(message("a")), sender.send(message("b"))
    bench.settle()
    assert allowed.state == ACCEPTED
    assert denied.state in (REJECTED, RELEASED)
    assert denied.is_settled
    assert len(drain.got) == 1


def test_as_many_links_as_allowed(ruled: Write) -> None:
    bench = ruled(sources="*", targets="*", maxSenders=1, maxReceivers=1)
    client = enter(bench)
    first = client.sender("a")
    assert client.sender("a").condition == LINK_LIMIT
    assert not client.receiver("a").is_refused
    assert client.receiver("a").condition == LINK_LIMIT
    first.detach()
    bench.settle()
    assert not client.sender("a").is_refused


def test_a_message_that_is_too_large(ruled: Write) -> None:
    bench = ruled(sources="*", targets="*", maxMessageSize=1000)
    client = enter(bench)
    drain = client.receiver("a", auto=ACCEPTED)
    sender = client.sender("a")
    small = sender.send(message(body=bytes(800)))
    bench.settle()
    assert small.state == ACCEPTED
    large = sender.send(message(body=bytes(1200)))
    bench.settle()
    assert large.state != ACCEPTED
    assert len([got for got in drain.got if got.is_complete and not got.is_aborted]) == 1
    assert counts(bench)["maxMessageSizeDenied"] == 1
    assert bench.site.gate.totals()["maxMessageSizeDenied"] == 1


# Rules that change.


def test_rules_made_changed_and_deleted_while_running(ruled: Write) -> None:
    bench = ruled()
    assert enter(bench, "late").condition == REFUSED
    site = bench.site
    made = site.registry.add(
        SCHEMA["vhost"],
        SCHEMA["vhost"].complete({"hostname": "late", "aliases": "later", "groups": {"g": dict(OPEN)}}),
        frozenset(),
    )
    site.create(made)
    assert enter(bench, "late").condition is None
    assert enter(bench, "later").condition is None
    made.attributes["maxConnections"] = 2
    site.update(made, {"maxConnections": 2})
    assert enter(bench, "late").condition == REFUSED
    site.delete(made)
    assert enter(bench, "late").condition == REFUSED


def test_rules_through_management(ruled: Write) -> None:
    bench = ruled()
    manager = Manager(enter(bench, "ops"))
    attributes = {"hostname": "new", "groups": {"g": {"users": "*", "remoteHosts": "*", "sources": "*"}}}
    manager.call("CREATE", attributes, type="vhost", name="new")
    assert enter(bench, "new").condition is None
    with pytest.raises(ManagementError, match="duplicates"):
        manager.call("CREATE", attributes, type="vhost", name="again")
    with pytest.raises(ManagementError) as raised:
        manager.call("CREATE", {"hostname": "bad", "groups": {"g": {"maxSenders": "x"}}}, type="vhost", name="bad")
    assert "bad" not in str(manager.query("vhost")), raised.value
    manager.call("DELETE", type="vhost", name="new")
    assert enter(bench, "new").condition == REFUSED


def test_deleting_connections_is_a_right(ruled: Write) -> None:
    everything = {key: value for key, value in OPEN.items() if key not in ("users", "remoteHosts")}
    bench = ruled(allowAdminStatusUpdate=False, **everything)
    victim = enter(bench, "ops")
    body, identity = {"adminStatus": "deleted"}, str(victim.there.id)
    with pytest.raises(ManagementError, match="not allowed") as raised:
        Manager(enter(bench)).call("UPDATE", body, type="connection", identity=identity)
    assert raised.value.status == 403
    assert not victim.is_lost
    Manager(enter(bench, "ops")).call("UPDATE", body, type="connection", identity=identity)
    assert victim.is_lost


# Files.


def test_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps([["vhost", {"hostname": name, "maxConnections": 3}]]))
    (tmp_path / "other.txt").write_text("no json")
    found = list(vhost_entities(str(tmp_path)))
    assert [entity.attributes["hostname"] for entity in found] == ["a", "b"]
    assert found[0].attributes["maxConnections"] == 3
    assert found[0].explicit == {"hostname", "maxConnections"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'[["listener", {"port": 1}]]', "only vhost belongs here"),
        (b'[["vhost", {"maxConnections": 3}]]', "hostname"),
        (b'[["vhost", {"hostname": "a", "maxConections": 3}]]', "maxConections"),
        (b"[", "rules"),
        (b"\xff\xff", "utf-8"),
    ],
)
def test_a_file_that_is_no_good_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "rules.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as raised:
        list(vhost_entities(str(tmp_path)))
    assert raised.value.file == str(path)


@pytest.mark.parametrize(("peer", "host"), [("10.0.0.1:5", "10.0.0.1"), ("::1:5", "::1"), ("[::1]:5", "::1"), ("", "")])
def test_hosts_of_peers(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_a_host_that_is_given_by_name_while_the_router_serves(ruled: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody connects by the name before its address is known; then it counts, without another word."""
    may_answer = threading.Event()

    def answer(_name: str) -> list[str]:
        may_answer.wait(10)
        return ["127.0.0.1"]

    monkeypatch.setattr("vanrouter.server.host_names.lookup", answer)
    bench = ruled()
    manager = Manager(enter(bench, "ops"))
    attributes = {"hostname": "named", "groups": {"g": {"users": "*", "remoteHosts": "office.test", "sources": "*"}}}
    manager.call("CREATE", attributes, type="vhost", name="named")
    assert enter(bench, "named").condition == REFUSED
    may_answer.set()
    deadline = time.monotonic() + 10
    while enter(bench, "named").condition == REFUSED:
        assert time.monotonic() < deadline
        bench.site.reactor.run_once(0.05)
