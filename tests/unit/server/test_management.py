"""Requests of an AMQP client to the management node of a site (management.md, sections 1 to 5)."""

from __future__ import annotations

import json

import pytest

from tests.unit.core.engines import ACCEPTED, REJECTED, RELEASED
from tests.unit.server.sites import Bench, Manager
from vanrouter.core.peer import Role
from vanrouter.engine.messages import Head, Message, decode_message, encode_message, parse_head
from vanrouter.engine.sections import encode
from vanrouter.errors import ManagementError
from vanrouter.server.management import ADDRESSES, UNREADABLE, is_trusted

PREFIX = "io.skupper.router."


def status(manager: Manager, *args: object, **properties: object) -> tuple[int, str]:
    with pytest.raises(ManagementError) as raised:
        manager.call(*args, **properties)
    return raised.value.status, raised.value.description


@pytest.mark.parametrize("address", ADDRESSES)
def test_answers_at_each_of_its_addresses(bench: Bench, address: str) -> None:
    manager = Manager(bench.connect(), address)
    assert "routerMetrics" in str(manager.call("GET-TYPES"))
    assert manager.source.send(b"").link.credit > 0


def test_what_a_reply_looks_like(bench: Bench) -> None:
    reply = bench.manager.send("READ", {}, name="self")
    assert reply is not None
    assert reply.to == bench.manager.drain.address
    assert reply.application_properties == {"statusCode": 200, "statusDescription": "OK"}
    assert reply.body == {"name": "self", "identity": "self", "type": f"{PREFIX}management"}


def test_query_of_what_is_configured(bench: Bench) -> None:
    (row,) = bench.manager.query("listener")
    assert (row["name"], row["host"], row["port"], row["role"]) == ("l", "127.0.0.1", "0", "normal")
    assert row["type"] == f"{PREFIX}listener"


def test_query_of_columns_asked_for(bench: Bench) -> None:
    body = bench.manager.call("QUERY", {"attributeNames": ["role", "host"]}, entityType="connection")
    assert body["attributeNames"] == ["role", "host"]
    assert [row[0] for row in body["results"]] == ["normal"]


def test_query_page_by_page(bench: Bench) -> None:
    clients = [bench.connect() for _ in range(4)]
    whole = [row["identity"] for row in bench.manager.query("connection")]
    assert len(whole) == len(clients) + 1
    paged = []
    for offset in range(0, 8, 2):
        page = bench.manager.query("connection", offset=offset, count=2)
        assert len(page) <= 2
        paged += [row["identity"] for row in page]
    assert paged == whole


def test_connections_read_and_cut(bench: Bench) -> None:
    victim = bench.connect(container="victim")
    identity = str(victim.there.id)
    row = bench.manager.call("READ", type="connection", identity=identity)
    assert (row["container"], row["operStatus"], row["dir"]) == ("victim", "up", "in")
    answer = bench.manager.call("UPDATE", {"adminStatus": "deleted"}, type="connection", identity=identity)
    assert answer["adminStatus"] == "deleted"
    assert victim.is_lost
    assert victim.condition is None, "without a CLOSE, so that it comes back"
    assert status(bench.manager, "READ", type="connection", identity=identity)[0] == 404
    assert status(bench.manager, "UPDATE", {"adminStatus": "deleted"}, type="connection", identity=identity)[0] == 400


def test_a_connection_may_cut_itself(bench: Bench) -> None:
    identity = str(bench.manager.client.there.id)
    assert bench.manager.send("UPDATE", {"adminStatus": "deleted"}, type="connection", identity=identity) is None
    assert bench.manager.client.is_lost
    assert bench.reactor.crashes == 0


def test_frames_of_a_connection_are_traced_on_request(bench: Bench) -> None:
    client = bench.connect()
    identity = str(client.there.id)
    bench.manager.call("UPDATE", {"module": "PROTOCOL", "enable": "debug+"}, type="log", identity="log/PROTOCOL")
    bench.manager.call("UPDATE", {"module": "PROTOCOL", "enable": "default"}, type="log", identity="log/PROTOCOL")
    bench.manager.call("UPDATE", {"enableProtocolTrace": True}, type="connection", identity=identity)
    rows = {row["identity"]: row["enableProtocolTrace"] for row in bench.manager.query("connection")}
    assert rows.pop(identity) is True
    assert not any(rows.values())
    bench.manager.call("UPDATE", {"enableProtocolTrace": False}, type="connection", identity=identity)
    assert bench.manager.call("READ", type="connection", identity=identity)["enableProtocolTrace"] is False


def test_the_log_is_turned_up_and_read(bench: Bench) -> None:
    bench.manager.call("UPDATE", {"enable": "debug+"}, type="log", identity="log/AGENT")
    assert bench.manager.call("READ", type="log", identity="log/AGENT")["enable"] == "debug+"
    status(bench.manager, "READ", type="listener", name="nobody")
    events = bench.manager.call("GET-LOG", limit=10)
    assert any(module == "AGENT" and level == "error" for module, level, *_ in events)
    assert any("Agent request user=anonymous" in event[2] for event in events)
    assert status(bench.manager, "UPDATE", {"enable": "loud"}, type="log", identity="log/AGENT")[0] == 500
    assert bench.manager.call("READ", type="log", identity="log/AGENT")["enable"] == "debug+"


def test_a_service_created_and_deleted(bench: Bench) -> None:
    attributes = {"address": "shop", "host": "127.0.0.1", "port": "0"}
    made = bench.manager.call("CREATE", attributes, type="tcpListener", name="web")
    assert (made["name"], made["address"], made["operStatus"]) == ("web", "shop", "down")
    service = bench.live("web")
    bench.manager.call("DELETE", type="tcpListener", name="web")
    assert service.flows == set()
    assert bench.manager.query("tcpListener") == []
    assert not any(found is service for found in bench.site.objects.values())


def test_create_that_fails_leaves_nothing(bench: Bench) -> None:
    attributes = {"host": "127.0.0.1", "port": "0", "sslProfile": "nobody"}
    assert status(bench.manager, "CREATE", attributes, type="listener", name="x")[0] in (400, 500)
    assert [row["name"] for row in bench.manager.query("listener")] == ["l"]


@pytest.mark.parametrize(
    ("operation", "body", "properties", "wanted"),
    [
        (None, {}, {}, 400),
        ("DANCE", {}, {}, 501),
        ("READ", {}, {"type": "nosuch", "name": "x"}, 400),
        ("READ", {}, {"type": "listener", "name": "x"}, 404),
        ("DELETE", {}, {"type": "connection", "identity": "1"}, 403),
        ("CREATE", "text", {"type": "tcpListener"}, 500),
        ("QUERY", {"attributeNames": 5}, {"entityType": "connection"}, 400),
    ],
)
def test_refusals(bench: Bench, operation: object, body: object, properties: dict[str, object], wanted: int) -> None:
    assert status(bench.manager, operation, body, **properties)[0] == wanted
    assert bench.manager.query("listener")


def test_nodes_of_a_standalone_router(bench: Bench) -> None:
    assert bench.manager.call("GET-MGMT-NODES", name="self") == []
    assert json.loads(bench.manager.call("GET-JSON-SCHEMA"))["prefix"] == "io.skupper.router"


def test_what_is_no_message_has_no_reply(bench: Bench) -> None:
    sent = bench.manager.source.send(b"\x00\x53\x77")
    bench.settle()
    assert sent.is_settled
    assert bench.manager.drain.got == []
    assert bench.manager.query("listener"), "the next one has"


def test_a_request_without_reply_to_is_not_carried_out(bench: Bench) -> None:
    request = Message(
        to="$management",
        durable=False,
        application_properties={"operation": "DELETE", "type": "listener", "name": "l"},
        body={},
    )
    sent = bench.manager.source.send(encode_message(request))
    bench.settle()
    assert (sent.state, sent.is_settled) == (ACCEPTED, True)
    assert len(bench.manager.query("listener")) == 1


def test_a_reply_that_nobody_waits_for_is_counted(bench: Bench) -> None:
    request = Message(
        to="$management", durable=False, reply_to="nowhere", application_properties={"operation": "GET-TYPES"}, body={}
    )
    sent = bench.manager.source.send(encode_message(request))
    bench.settle()
    assert sent.state == ACCEPTED
    assert bench.site.management.undeliverable == 1


def test_a_reply_to_an_address_of_the_network(bench: Bench) -> None:
    drain = bench.connect().receiver("answers", auto=RELEASED)
    request = Message(
        to="$management", durable=False, reply_to="answers", application_properties={"operation": "GET-TYPES"}, body={}
    )
    bench.manager.source.send(encode_message(request))
    bench.settle()
    (content,) = drain.contents
    assert decode_message(content).application_properties["statusCode"] == 200
    assert bench.site.management.undeliverable == 0


def test_a_crash_of_the_agent_is_an_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.site.views, "nodes", fail)
    assert status(bench.manager, "GET-MGMT-NODES", name="self") == (500, "Internal error: ZeroDivisionError")
    assert bench.site.agent.crashed == 1
    assert not bench.manager.client.is_lost


# Who may do what.


@pytest.mark.parametrize("host", ["10.0.0.9:5", "192.168.1.1", "[fe80::1]:7", "nonsense"])
def test_clients_from_elsewhere_may_only_read(bench: Bench, host: str) -> None:
    client = bench.connect(container="far")
    client.there.host = host
    far = Manager(client)
    with pytest.raises(ManagementError, match="User 'anonymous' may not CREATE listener") as raised:
        far.call("CREATE", {"host": "127.0.0.1", "port": "0"}, type="listener", name="x")
    assert raised.value.status == 403
    assert far.query("listener")
    bench.manager.call("CREATE", {"users": "anonymous", "entityTypes": "dummy"}, type="managementPermission", name="p")
    assert far.call("CREATE", {}, type="dummy")
    with pytest.raises(ManagementError, match="may not RELOAD"):
        far.call("RELOAD", {}, name="self")


@pytest.mark.parametrize("host", ["127.0.0.1:5", "127.9.9.9", "::1:77"])
def test_clients_of_this_machine_may_change(bench: Bench, host: str) -> None:
    client = bench.connect(container="near")
    client.there.host = host
    assert Manager(client).call("CREATE", {}, type="dummy")


@pytest.mark.parametrize(
    ("role", "is_outbound", "trusted"),
    [
        (Role.INTER_ROUTER, False, True),
        (Role.INTER_ROUTER_DATA, True, True),
        (Role.EDGE, False, True),
        (Role.INTER_NETWORK, True, False),
        (Role.ROUTE_CONTAINER, True, False),
        (Role.NORMAL, False, True),
    ],
)
def test_who_is_trusted(bench: Bench, role: Role, is_outbound: bool, trusted: bool) -> None:
    there = bench.connect().there
    there.role, there.is_outbound = role, is_outbound
    assert is_trusted(there) is trusted
    there.role, there.is_outbound = Role.NORMAL, False


def test_requests_for_other_routers(bench: Bench) -> None:
    """The guard's answers; tests/unit/core/test_guarding.py shows what becomes of them."""
    client = bench.connect(container="far")
    client.there.host = "10.0.0.9:5"
    drain = client.receiver(dynamic=True, auto=ACCEPTED)
    guard = bench.site.router.guard
    assert guard is not None

    def verdict(reply_to: str | None = drain.address, **properties: object) -> object:
        octets = encode_message(Message(reply_to=reply_to, correlation_id=7, application_properties=properties))
        head = parse_head(octets, 0, len(octets), True)
        assert isinstance(head, Head)
        return guard(client.there, head)

    assert verdict(operation="READ", type="listener", name="l") is None
    assert verdict(operation="DELETE", type="listener", name="l") == (ACCEPTED, None)
    bench.settle()
    reply = decode_message(drain.contents[-1])
    assert (reply.application_properties["statusCode"], reply.correlation_id) == (403, 7)
    outcome, condition = verdict(None, operation="DELETE", type="listener", name="l")  # type: ignore[misc]
    assert (outcome, condition[0]) == (REJECTED, "amqp:unauthorized-access")
    assert "may not DELETE" in condition[1]


def test_a_request_that_can_be_read_in_two_ways_is_refused(bench: Bench) -> None:
    pairs = encode("operation") + encode("READ") + encode("operation") + encode("DELETE")
    octets = b"\x00\x53\x74\xc1" + bytes((len(pairs) + 1, 4)) + pairs
    head = parse_head(octets, 0, len(octets), True)
    assert isinstance(head, Head)
    assert bench.site.router.guard is not None
    assert bench.site.router.guard(bench.connect().there, head) == (REJECTED, UNREADABLE)
