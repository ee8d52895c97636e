from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.mgmt.fakes import Managed
from tests.unit.mgmt.peer import Peer
from vanrouter.errors import ManagementError
from vanrouter.mgmt import client as module
from vanrouter.mgmt.client import ClientError, Credentials, ManagementClient, edge_target, router_target


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(Managed()) as running:
        yield running


@pytest.fixture
def client(peer: Peer) -> Iterator[ManagementClient]:
    with ManagementClient(f"127.0.0.1:{peer.port}") as connected:
        yield connected


def test_entities(client: ManagementClient) -> None:
    made = client.create("dummy", {"arg1": "x"}, name="d")
    assert made["identity"] == "dummy/0"
    assert client.read("dummy", name="d") == made
    assert client.update("dummy", {"num1": 3}, identity="dummy/0")["num1"] == 3
    assert [row["name"] for row in client.query("dummy", ["name"])] == ["d"]
    client.delete("dummy", name="d")
    with pytest.raises(ManagementError) as caught:
        client.read("dummy", name="d")
    assert (caught.value.status, caught.value.description) == (404, "No entity with name=d")


def test_every_request_knows_the_additions(client: ManagementClient, peer: Peer) -> None:
    client.read("router", identity="router/A")
    list(client.query("address"))
    assert [request["extensions"] for request in peer.requests] == [True, True]
    assert [request.get("type") or request["entityType"] for request in peer.requests] == [
        "io.skupper.router.router",
        "io.skupper.router.router.config.address",
    ]


def test_queries_go_page_by_page(client: ManagementClient, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 10)
    rows = list(client.query("log", ["module"]))
    assert len(rows) == 23
    assert [request["offset"] for request in peer.requests] == [0, 10, 20]


def test_a_router_that_ignores_the_offset_does_not_trap_the_client(
    client: ManagementClient, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 23)
    handle = peer.managed.agent.handle
    monkeypatch.setattr(
        peer.managed.agent,
        "handle",
        lambda request, _later: handle(type(request).of({**request.properties, "offset": 0}, request.body)),
    )
    assert len(list(client.query("log", ["module"]))) == 23


def test_other_routers_and_the_log(client: ManagementClient, peer: Peer) -> None:
    assert client.router_ids() == ["A", "B"]
    client.target = router_target("B")
    assert len(client.log(2)) == 2
    client.target = edge_target("E")
    client.log(1)
    assert peer.addresses == ["$management", "_topo/0/B/$management", "_edge/E/$management"]


@pytest.mark.parametrize("router", ["nosuch", "refused"])
def test_a_router_that_is_not_there(client: ManagementClient, router: str) -> None:
    client.target = router_target(router)
    with pytest.raises(ClientError, match=f"nothing answers at _topo/0/{router}"):
        client.router_ids()


def test_a_reply_without_status(client: ManagementClient, peer: Peer) -> None:
    peer.has_status = False
    with pytest.raises(ClientError, match="without statusCode"):
        client.router_ids()


def test_closed_twice(peer: Peer) -> None:
    connected = ManagementClient(f"amqp://127.0.0.1:{peer.port}")
    connected.close()
    connected.close()
    with pytest.raises(ClientError):
        connected.router_ids()


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClientError, match=rf"amqp://127\.0\.0\.1:{port}: "):
        ManagementClient(f"127.0.0.1:{port}")


def test_silent_router() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ClientError, match=r"no answer within 0\.1 s"),
    ):
        ManagementClient(f"127.0.0.1:{server.getsockname()[1]}", timeout_s=0.1)


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("host", ("amqp://host:5672", (None, None), False)),
        ("amqps://host", ("amqps://host:5671", (None, None), True)),
        ("amqp://u%40x:p%3A@host:1", ("amqp://host:1", ("u@x", "p:"), False)),
        ("amqp://[::1]:2", ("amqp://[::1]:2", (None, None), False)),
        ("amqp://:3", ("amqp://127.0.0.1:3", (None, None), False)),
    ],
)
def test_urls(url: str, parsed: tuple[str, tuple[str | None, str | None], bool]) -> None:
    shown, _, user, has_tls = module.parsed_url(url)
    assert (shown, user, has_tls) == parsed


@pytest.mark.parametrize("url", ["http://host", "amqp://host:99999", "amqp://host:x"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(ClientError, match="must be"):
        ManagementClient(url)


def test_bad_certificates(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    for credentials in (Credentials(certificate=absent), Credentials(trusted=absent)):
        with pytest.raises(ClientError, match="TLS set-up failed"):
            ManagementClient("amqps://127.0.0.1:1", credentials=credentials)


def test_sasl_is_left_out_when_there_is_nothing_to_say() -> None:
    assert not Credentials().wants_sasl
    for credentials in (Credentials(user="u"), Credentials(mechanisms="EXTERNAL"), Credentials(certificate="c")):
        assert credentials.wants_sasl


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Connection amqp://h:1 disconnected: Condition('proton.pythonio', 'Connection refused to all addresses')",
         "cannot connect: Connection refused to all addresses"),
        ("Connection h closed due to: Condition('amqp:unauthorized-access', \"it's not you\")",
         "it's not you (amqp:unauthorized-access)"),
        ("Condition('amqp:not-found')", "amqp:not-found"),
        ("plain words", "plain words"),
        ("", "ValueError"),
    ],
)  # fmt: skip
def test_what_went_wrong_in_words(text: str, wanted: str) -> None:
    assert module._reason(ValueError(text)) == wanted
