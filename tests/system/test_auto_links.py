"""Auto-links between running routers: one plays the container. Made, shown and taken away by management."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proton import Message
from proton.utils import BlockingConnection, SyncRequestResponse

from tests.system.harness import Router
from tests.system.process import free_port

TIMEOUT_S = 20
TYPE = "io.skupper.router.router.config.autoLink"


def url_of(router: Router, line: str) -> str:
    return f"amqp://127.0.0.1:{router.wait_for(line)[1]}"


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Router, Router]]:
    directory = tmp_path_factory.mktemp("auto-links")
    port = free_port()
    listener = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})
    container = Router(
        "B",
        [listener, ("listener", {"name": "from-a", "host": "127.0.0.1", "port": port})],
        directory,
        mode="standalone",
    )
    made = [container]
    try:
        container.wait_for("Operational")
        connector = {"name": "container", "role": "route-container", "host": "127.0.0.1", "port": port}
        out = {
            "name": "out",
            "direction": "out",
            "address": "to",
            "externalAddress": "queue",
            "connection": "container",
        }
        back = {"name": "in", "direction": "in", "address": "from", "externalAddress": "queue", "containerId": "B"}
        sections = [listener, ("connector", connector), ("autoLink", out), ("autoLink", back)]
        made.append(Router("A", sections, directory, mode="standalone"))
        made[1].wait_for("Operational")
        yield made[1], container
        for router in made:
            assert router.terminate() == 0
    finally:
        for router in made:
            router.kill()


@pytest.fixture
def connection(routers: tuple[Router, Router]) -> Iterator[BlockingConnection]:
    made = BlockingConnection(url_of(routers[0], r"Listening on 127\.0\.0\.1:(\d+) \(amqp\)"), timeout=TIMEOUT_S)
    yield made
    made.close()


@pytest.fixture
def client(connection: BlockingConnection) -> SyncRequestResponse:
    return SyncRequestResponse(connection, "$management")


def ask(client: SyncRequestResponse, operation: str, name: str, body: object = None) -> Message:
    return client.call(Message(properties={"operation": operation, "type": TYPE, "name": name}, body=body))


def wait_active(client: SyncRequestResponse, name: str) -> dict[str, object]:
    while True:  # the fixture's connection times out
        reply = ask(client, "READ", name)
        assert reply.properties["statusCode"] == 200
        if reply.body["operStatus"] == "active":
            return dict(reply.body)


def test_through_the_container(connection: BlockingConnection, client: SyncRequestResponse) -> None:
    for name in ("out", "in"):
        assert str(wait_active(client, name)["linkRef"]).isdigit()
    receiver = connection.create_receiver("from", credit=1)
    link = connection.create_sender("to").link
    connection.wait(lambda: link.credit > 0)
    link.send(Message(body="there and back"))
    assert receiver.receive().body == "there and back"
    receiver.accept()


def test_made_and_taken_away_while_running(client: SyncRequestResponse) -> None:
    body = {"direction": "out", "address": "later", "externalAddress": "queue2", "containerId": "B"}
    assert ask(client, "CREATE", "later", body).properties["statusCode"] == 201
    wait_active(client, "later")
    assert ask(client, "DELETE", "later").properties["statusCode"] == 204
    assert ask(client, "READ", "later").properties["statusCode"] == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"direction": "out", "containerId": "B"}, "address field is only optional if direction is incoming"),
        ({"direction": "in", "containerId": "B", "connection": "c"}, "Specify only one"),
    ],
)
def test_refused(client: SyncRequestResponse, body: dict[str, object], words: str) -> None:
    reply = ask(client, "CREATE", "bad", body)
    assert reply.properties["statusCode"] == 400
    assert words in reply.properties["statusDescription"]
