"""The configuration file read again (management.md, sections 9 and 10)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.pki import Pki
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from tests.unit.server.test_site import section
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.errors import ConfigError, ManagementError, VanrouterError
from vanrouter.mgmt.config import load_text
from vanrouter.server import reload
from vanrouter.server.policy import REFUSED
from vanrouter.server.reload import Reloader, vhosts_of

BASE = ROUTER + LISTENER


def again(bench: Bench, text: str) -> dict[str, list[str]]:
    configuration = load_text(text, "test.conf")
    steps = bench.site.reloader.steps(configuration, vhosts_of(configuration))
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            outcome: dict[str, list[str]] = stop.value
            return outcome


def told(**words: list[str]) -> dict[str, list[str]]:
    return {"created": [], "updated": [], "deleted": [], **words}


def shape(bench: Bench) -> dict[str, tuple[str | None, dict[str, object], Any]]:
    """Everything configured, with the live objects."""
    return {
        f"{one.type.short} {one.identity}": (one.name, dict(one.attributes), bench.site.objects.get(one))
        for one in bench.site.registry
    }


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_the_same_file_changes_nothing(bench_of: Callable[[str], Bench]) -> None:
    text = BASE + "".join(
        [
            section("address", prefix="q", distribution="multicast"),
            section("address", name="named", pattern="a.*"),
            section("autoLink", address="q", direction="in", containerId="x"),
            section("sslProfile", name="p", certFile="/nowhere"),
            section("connector", name="c", port=1),
            section("tcpListener", name="t", host="127.0.0.1", port=0, address="a"),
            section("tcpListener", name="m", host="127.0.0.1", port=0, multiAddressStrategy="priority"),
            section("listenerAddress", listener="m", address="x", value=3),
            section("tcpConnector", port=1, address="a"),
            section("vhost", hostname="h"),
            section("log", module="AGENT", enable="warning+"),
            section("site", name="here", location="there"),
        ]
    )
    bench = bench_of(text).start()
    before = shape(bench)
    assert again(bench, text) == told()
    assert shape(bench) == before


def test_only_what_differs_changes(bench_of: Callable[[str], Bench], server: socket.socket) -> None:
    connector = section("tcpConnector", name="c", port=server.getsockname()[1], address="a")
    kept = section("tcpListener", name="kept", host="127.0.0.1", port=0, address="a")
    gone = section("tcpListener", name="gone", host="127.0.0.1", port=0, address="b")
    bench = bench_of(BASE + connector + kept + gone).start()
    client = socket.create_connection(("127.0.0.1", bench.live("kept").bound_port), 5)
    bench.settle()
    taken, _ = server.accept()
    before = bench.live("kept"), bench.live("c")
    made = section("tcpConnector", name="more", port=9, address="a")
    outcome = again(bench, BASE + connector + kept + made + section("log", module="AGENT", enable="error+"))
    assert outcome == told(
        created=["tcpConnector/127.0.0.1:9:more"], updated=["log/AGENT"], deleted=["tcpListener/127.0.0.1:0:gone"]
    )
    assert (bench.live("kept"), bench.live("c")) == before
    client.sendall(b"still here")
    bench.settle()
    assert taken.recv(100) == b"still here"
    client.close()
    taken.close()


def test_a_service_that_changes_keeps_its_flows(bench_of: Callable[[str], Bench], server: socket.socket) -> None:
    def text(timeout: int) -> str:
        connector = section("tcpConnector", name="c", port=server.getsockname()[1], address="a", weight=timeout)
        listener = section("tcpListener", name="l2", host="127.0.0.1", port=0, address="a", idleTimeoutSeconds=timeout)
        return BASE + connector + listener

    bench = bench_of(text(50)).start()
    port = bench.live("l2").bound_port
    client = socket.create_connection(("127.0.0.1", port), 5)
    bench.settle()
    taken, _ = server.accept()
    outcome = again(bench, text(60))
    assert outcome["updated"] == ["tcpListener/127.0.0.1:0:l2", f"tcpConnector/127.0.0.1:{server.getsockname()[1]}:c"]
    assert bench.live("l2").config.idle_timeout_s == 60
    assert bench.live("c").config.weight == 60
    client.sendall(b"still here")
    bench.settle()
    assert taken.recv(100) == b"still here"
    client.close()
    taken.close()


def test_what_requests_have_made_stays_and_what_they_changed_goes_back(bench: Bench) -> None:
    manager = bench.manager
    manager.call("CREATE", {"host": "127.0.0.1", "port": "0", "address": "x"}, type="tcpListener", name="mine")
    manager.call("UPDATE", {"enable": "debug+"}, type="log", identity="log/POLICY")
    assert again(bench, BASE) == told(updated=["log/POLICY"])
    assert bench.live("mine")
    with pytest.raises(ConfigError, match=r"mine.* was created while running"):
        again(bench, BASE + section("tcpConnector", name="mine", port=1, address="x"))


def test_a_connection_stays_while_its_listener_changes(bench: Bench) -> None:
    client = bench.connect()
    live = bench.live("l")
    outcome = again(bench, BASE.replace("authenticatePeer: no", "linkCapacity: 7"))
    assert outcome["updated"] == ["listener/127.0.0.1:0:l"]
    assert bench.live("l") is live
    assert bench.connect().there.capacity == 7
    assert client.is_open
    assert client.there.capacity == 250


def test_a_cost_is_changed_in_place(bench_of: Callable[[str], Bench]) -> None:
    bench = bench_of(BASE + section("connector", name="c", port=1)).start()
    live = bench.live("c")
    again(bench, BASE + section("connector", name="c", port=1, cost=7))
    assert bench.live("c") is live
    assert live.settings.cost == 7
    again(bench, BASE + section("connector", name="c", port=1, cost=7, role="route-container"))
    assert bench.live("c") is not live


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BASE.replace("id: S", "id: T"), r"test\.conf:2: router\.id: cannot change while the router runs"),
        (BASE + section("network", tenantId="t"), r"network\.tenantId: cannot change"),
        (BASE.replace("port: 0", "port: 0\n    sslProfile: p"), r"test\.conf:.* 'p' not found"),
        (BASE + section("listener", port=0, nonsense=1), r"test\.conf:\d+: listener\.nonsense: Unknown attribute"),
        (BASE + section("connector", port=1, sslProfile="q") +
         section("sslProfile", name="q", caCertFile="/nowhere/ca.pem"), r"/nowhere/ca\.pem"),
    ],
)  # fmt: skip
def test_a_bad_file_changes_nothing_and_says_where(bench: Bench, text: str, words: str) -> None:
    text += (
        section("address", prefix="new")
        + section("vhost", hostname="new")
        + section("log", module="HTTP", enable="debug+")
    )
    client = bench.connect()
    before = shape(bench)
    with pytest.raises(ConfigError, match=words):
        again(bench, text)
    assert shape(bench) == before
    assert client.is_open
    assert bench.site.gate.policies.find("new") is None


def test_what_fails_in_the_middle_is_undone(bench_of: Callable[[str], Bench], server: socket.socket) -> None:
    extra = section("listener", name="x", host="127.0.0.1", port=0) + section("connector", name="c", port=1)
    bench = bench_of(BASE + extra + section("vhost", hostname="h") + section("address", prefix="old")).start()
    client = bench.connect("x")
    before = {name: found[:2] for name, found in shape(bench).items()}
    taken = section("listener", name="x", host="127.0.0.1", port=server.getsockname()[1])
    text = BASE.replace("authenticatePeer: no", "linkCapacity: 7") + taken + section("address", prefix="new")
    with pytest.raises(ConfigError, match=r"test\.conf:\d+: listener 127\.0\.0\.1:\d+: cannot listen: Address already"):
        again(bench, text)
    assert {name: found[:2] for name, found in shape(bench).items()} == before
    assert client.is_open, "listeners that go leave their connections"
    assert bench.connect("x").is_open
    assert bench.live("l").settings.link_capacity == 250
    assert bench.site.gate.policies.find("h") is not None
    rules = bench.site.router.table.rules
    assert (rules.match("new/x"), rules.match("old/x") is None) == (None, False)


def test_what_cannot_be_put_back_keeps_nothing_else_from_it(
    bench_of: Callable[[str], Bench], server: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base = BASE + section("address", prefix="old")
    bench = bench_of(base + section("listener", name="x", host="127.0.0.1", port=port)).start()
    taken = section("listener", name="x", host="127.0.0.1", port=server.getsockname()[1])
    configuration = load_text(BASE + taken, "test.conf")
    steps = bench.site.reloader.steps(configuration, [])
    thief: socket.socket | None = None
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        while True:
            next(steps)
            bench.settle()
            if thief is None:
                with contextlib.suppress(OSError):  # the router still has it
                    thief = socket.create_server(("127.0.0.1", port))
    assert thief is not None
    thief.close()
    assert bench.site.router.table.rules.match("old/x") is not None
    bench.site.reloader._failed(caught.value)
    assert "Configuration not reloaded, and 1 changes not undone; restart the router: test.conf:" in caplog.messages[-1]


def test_a_certificate_that_was_replaced_on_disk_is_read_again(
    bench_of: Callable[[str], Bench], tmp_path: Path
) -> None:
    files = Pki(tmp_path).issue("r", host="127.0.0.1")
    profile = section("sslProfile", name="p", caCertFile=files.ca, certFile=files.cert, privateKeyFile=files.key)
    text = ROUTER + profile + LISTENER.replace("port: 0", "port: 0\n    sslProfile: p")
    bench = bench_of(text).start()
    domain = bench.live("l")._domain
    assert again(bench, text) == told()
    Path(files.ca).write_text(Path(files.ca).read_text() + "\n")
    assert again(bench, text) == told(updated=["sslProfile/p"])
    assert bench.live("l")._domain != domain
    assert again(bench, text) == told()


def test_policies(bench_of: Callable[[str], Bench], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('[["vhost", {"hostname": "fromdir", "allowUnknownUser": false}]]')
    bench = bench_of(BASE).start()
    assert bench.site.amqp.gate is None
    on = BASE + section("policy", enableVhostPolicy="yes", maxConnections=5, policyDir=tmp_path)
    assert again(bench, on) == told(created=["vhost/fromdir"], updated=["policy/None"])
    assert bench.site.amqp.max_connections == 5
    assert bench.connect(hostname="fromdir").condition == REFUSED
    again(bench, BASE)
    assert bench.connect(hostname="fromdir").condition is None
    assert bench.site.amqp.max_connections == 65535


def test_limits_of_the_router(bench: Bench) -> None:
    again(
        bench,
        BASE.replace("id: S", "id: S\n    maxLinksPerConnection: 3\n    drainSeconds: 9\n    timestampsInUTC: yes"),
    )
    assert bench.site.router.max_links == 3
    assert bench.site.router_attributes["drainSeconds"] == 9
    assert bench.site.settings._router["drainSeconds"] == 9
    again(bench, BASE)
    assert bench.site.router.max_links == 100_000


def test_by_request(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "r.conf"
    file.write_text(BASE + section("address", prefix="x"))
    bench.site.reloader = Reloader(bench.site, str(file))
    answer = wait_for(bench, lambda: bench.manager.send("RELOAD", {}, name="self"))
    assert answer.body["created"] == [entity.identity for entity in bench.site.registry.of("address")]
    file.write_text("nonsense")
    answer = wait_for(bench, lambda: bench.manager.send("RELOAD", {}, name="self"))
    assert answer.application_properties["statusCode"] == 400
    assert f"{file}:1" in answer.application_properties["statusDescription"]


def wait_for(bench: Bench, ask: Callable[[], Any]) -> Any:
    """Ask; the file is read by another thread, so that the answer is not there at once."""
    manager = bench.manager
    before = len(manager.drain.got)
    if ask() is None:
        for _ in range(500):
            bench.reactor.run_once(0.01)
            bench.advance(0.01)
            if len(manager.drain.got) > before:
                break
    manager.drain.credit(1)
    return decode_message(bytes(manager.drain.got[-1].content))


def test_one_at_a_time(bench: Bench) -> None:
    told: list[VanrouterError | dict[str, list[str]]] = []
    bench.site.reload(told.append)
    bench.site.reload(told.append)
    assert [type(one) for one in told] == [ManagementError]
    while len(told) < 2:
        bench.reactor.run_once(0.05)
    assert isinstance(told[1], ConfigError), "there is no file"


def many(count: int) -> str:
    return "".join(section("address", prefix=f"p{number}", distribution="closest") for number in range(count))


def test_a_large_file_is_put_in_force_a_little_at_a_time(
    bench_of: Callable[[str], Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads go on between, what would change something waits for the end."""
    monkeypatch.setattr(reload, "SLICE_S", 0.0)  # each step is a slice: the processor's clock is not the test's
    file = tmp_path / "big.conf"
    file.write_text(BASE + many(30))
    bench = bench_of(BASE)
    bench.site.reloader._file = str(file)
    bench.start()
    manager = bench.manager
    outcomes: list[object] = []
    bench.site.reload(outcomes.append)
    while not bench.site.reloader.is_changing:
        bench.reactor.run_once(0.05)
    for operation, properties in (
        ("CREATE", {"type": "dummy"}),
        ("RELOAD", {"name": "self"}),
        ("READ", {"type": "router", "identity": "router/S"}),
    ):
        request = Message(
            reply_to=manager.drain.address,
            correlation_id=operation,
            application_properties={"operation": operation, **properties},
            body={},
        )
        manager.source.send(encode_message(request))
    bench.settle()
    answers = lambda: [decode_message(bytes(got.content)).correlation_id for got in manager.drain.got]  # noqa: E731
    assert answers() == ["READ"]
    assert outcomes == []
    bench.advance(1)
    assert len(outcomes) == 1
    assert len(outcomes[0]["created"]) == 30  # type: ignore[index]
    assert answers()[:2] == ["READ", "CREATE"]


def test_a_bug_in_a_reload_is_told_and_undone(
    bench_of: Callable[[str], Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.conf"
    file.write_text(BASE + many(3) + section("tcpListener", name="t", host="127.0.0.1", port=0, address="a"))
    bench = bench_of(BASE)
    bench.allows_crashes = True
    bench.site.reloader._file = str(file)
    bench.start()
    before = shape(bench)

    def fail(_entity: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.site, "_up_tcpListener", fail)
    outcomes: list[object] = []
    bench.site.reload(outcomes.append)
    while not outcomes:
        bench.reactor.run_once(0.02)
        bench.advance(0.01)
    assert isinstance(outcomes[0], ManagementError)
    assert shape(bench) == before
    assert not bench.site.reloader.is_changing


def test_too_many_requests_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "MAX_WAITING", 1)
    reloader = bench.site.reloader
    reloader.is_changing = True
    assert bench.manager.send("CREATE", {}, type="dummy") is None
    reply = bench.manager.send("CREATE", {}, type="dummy")
    assert reply is not None
    assert reply.application_properties["statusCode"] == 500
    reloader._over(ManagementError(400, "enough"))
    bench.settle()
    assert len(bench.manager.query("dummy")) == 1
