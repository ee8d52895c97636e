"""The C router's own programs, skstat and skmanage, against vanrouter and through it (management.md, 16 and 17).

A (vanrouter, with clients of TLS) - B (C router) - C (vanrouter); edges E (vanrouter, at A) and F (C router, at C).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from tests.system.network import Network, eventually
from tests.system.pki import Credentials, Pki
from tests.system.process import held
from vanrouter.mgmt.client import ManagementClient
from vanrouter.mgmt.entity_types import SCHEMA

TIMEOUT_S = 120
"""For one run of a program: 0.4 s, and much longer where the machine is busy."""

pytestmark = pytest.mark.timeout(900)

OPTIONS = (
    ["-g"], ["-c"], ["-l"], ["-n"], ["-n", "-v"], ["-e"], ["-a"], ["-a", "-v"], ["-m"], ["-p"], ["--autolinks"],
    ["--vhosts"], ["--vhostgroups"], ["--vhoststats"], ["--log"], ["-c", "--csv"], ["-a", "--limit", "3"], ["-c", "-v"],
    ["--all-entities"],
)  # fmt: skip
"""Every display of skstat, and what combines with them."""

FULL = (("A", ()), ("B", ("-r", "A")), ("B", ("-d", "E")))
"""Where skstat connects, and whom it asks, with every option: of vanrouter locally and through a C router."""

SHORT = (["-g"], ["-c"], ["-a"], ["-n"])
SOME = (
    ("A", ("-r", "C")), ("A", ("-r", "B")), ("A", ("-d", "E")), ("A", ("-d", "F")), ("B", ("-r", "C")), ("E", ()),
    ("E", ("-r", "B")), ("F", ("-r", "A")),
)  # fmt: skip
"""The same with a few options: of C routers through vanrouter, of edges, from edges."""

VARIABLE = (["--all-entities"], ["--log"], ["--autolinks"], ["--vhosts"], ["--vhostgroups"], ["--vhoststats"])
"""Displays without a table where there is nothing, as at the C routers here."""


@dataclass(frozen=True)
class Programs:
    """Both programs, and where they connect."""

    folder: Path
    network: Network
    credentials: Credentials

    def bus(self, name: str, *, is_tls: bool = False) -> list[str]:
        if not is_tls:
            return ["-b", f"127.0.0.1:{self.network[name].port('amqp')}"]
        files = self.credentials
        return [
            "-b", f"amqps://localhost:{self.network[name].port('tls')}", "--ssl-certificate", str(files.cert),
            "--ssl-key", str(files.key), "--ssl-trustfile", str(files.ca), "--sasl-mechanisms", "EXTERNAL",
        ]  # fmt: skip

    def run(self, program: str, at: Sequence[str], *arguments: str, given: str | None = None) -> tuple[int, str]:
        command = [str(self.folder / program), *arguments, *at, "-t", "30"]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return done.returncode, done.stdout + done.stderr

    def manage(self, *arguments: str, at: Sequence[str] = (), given: str | None = None) -> Any:
        """Run skmanage at A; what it prints, if that is JSON."""
        code, text = self.run("skmanage", at or self.bus("A"), *arguments, given=given)
        assert code == 0, f"skmanage {' '.join(arguments)}\n{text}"
        return json.loads(text) if text.startswith(("{", "[")) else text


@pytest.fixture(scope="module")
def programs(c_router: str, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    folder = Path(c_router).parent
    for name in ("skstat", "skmanage"):
        if not (folder / name).exists():
            pytest.skip(f"there is no {name} beside {c_router}")
    folder_of_vhosts = tmp_path_factory.mktemp("vhosts")
    group = {"users": "ann", "remoteHosts": "*", "targets": "q"}
    (folder_of_vhosts / "shop.json").write_text(json.dumps([["vhost", {"hostname": "shop", "groups": {"g": group}}]]))
    network = Network(tmp_path_factory.mktemp("programs"))
    network.add("A")
    network.add("B", c_router)
    network.add("C")
    network.add("E", mode="edge")
    network.add("F", c_router, mode="edge")
    network.link("A", "B")
    network.link("C", "B")
    network.link("E", "A", role="edge")
    network.link("F", "C", role="edge")
    network.section("A", pki.issue("router-a").ssl_profile("mutual"))
    listener = {"name": "tls", "host": "127.0.0.1", "port": 0, "sslProfile": "mutual", "authenticatePeer": True}
    network.section("A", ("listener", {**listener, "requireSsl": True, "saslMechanisms": "EXTERNAL"}))
    network.section("A", ("autoLink", {"address": "q", "direction": "in", "containerId": "broker"}))
    network.section("A", ("policy", {"enableVhostPolicy": False, "policyDir": str(folder_of_vhosts)}))
    with held(network):
        network.start()
        with ManagementClient(f"amqp://127.0.0.1:{network['A'].port('amqp')}") as client:
            eventually(lambda: len(list(client.query("router.node"))) == 3)
            eventually(lambda: len([row for row in client.query("connection") if row["role"] == "edge"]) == 1)
        yield Programs(folder, network, pki.issue("operator"))


def titles(text: str) -> list[str]:
    """The lines over the tables and the titles of columns: what does not depend on who runs."""
    lines = text.splitlines()
    found = [lines[0]] if lines else []
    for above, line in pairwise(lines):
        if line.strip() and set(line.strip()) == {"="}:
            found.append(" ".join(above.split()))
    return found[1:]


@pytest.fixture(scope="module")
def models(programs: Programs) -> dict[tuple[str, ...], tuple[list[str], list[str]]]:
    """What the C routers show for each option: the interior one, and the edge."""
    interior, edge = programs.bus("B"), [*programs.bus("F"), "-d", "F"]
    with ThreadPoolExecutor(2) as pool:
        shown = pool.map(
            lambda one: titles(programs.run("skstat", one[1], *one[0])[1]), product(OPTIONS, (interior, edge))
        )
        return {tuple(option): (next(shown), next(shown)) for option in OPTIONS}


@pytest.mark.parametrize(("at", "whom"), [*FULL, *SOME], ids="".join)
def test_every_option_of_skstat(
    programs: Programs, models: dict[tuple[str, ...], tuple[list[str], list[str]]], at: str, whom: tuple[str, ...]
) -> None:
    """It runs, says no word of an error, and shows the columns that the C router shows."""
    asked = whom[-1] if whom else at
    place = [*programs.bus(at), *whom]
    options = OPTIONS if (at, whom) in FULL else SHORT
    with ThreadPoolExecutor(2) as pool:
        shown = list(pool.map(lambda option: programs.run("skstat", place, *option), options))
    wrong = []
    for option, (code, text) in zip(options, shown, strict=True):
        mine, model = titles(text), models[tuple(option)][asked in "EF"]
        if code or "rror:" in text or "Traceback" in text:
            wrong.append((option, code, text[-400:]))
        elif mine and model and option not in VARIABLE and mine != model:
            wrong.append((option, 0, f"{mine} in place of {model}"))
    assert not wrong


@pytest.mark.parametrize("option", [["-g"], ["-c"], ["-l", "-v"], ["-a"], ["--all-entities"]])
def test_skstat_over_tls_and_for_all_routers(programs: Programs, option: list[str]) -> None:
    code, text = programs.run("skstat", programs.bus("A", is_tls=True), *option)
    assert code == 0, text
    if option != ["-l", "-v"]:  # which no C router answers
        code, text = programs.run("skstat", programs.bus("A"), "--all-routers", *option)
        assert code == 0, text
        shown = {
            line.split()[-1] for line in text.splitlines() if line.startswith("Router ") and len(line.split()) == 2
        }
        assert shown >= set("ABC"), text[:2000]
    code, text = programs.run("skstat", programs.bus("A", is_tls=True), "-c")
    assert "operator" in text
    assert "x.509" in text


# skmanage

PLACES = (
    ("A", ("-r", "C")),
    ("A", ("-d", "E")),
    ("B", ("-r", "A")),
    ("B", ("-d", "E")),
    ("E", ("-r", "B")),
    ("tls", ()),
)


def read_types(programs: Programs, bus: Sequence[str], names: Iterable[str]) -> None:
    """QUERY each type, and READ its first entity where the type has the operation and the C router allows it."""
    operations = programs.manage("GET-OPERATIONS", at=bus)

    def read(name: str) -> None:
        rows = programs.manage("QUERY", f"--type={name}", at=bus)
        assert isinstance(rows, list), name
        if rows and "READ" in operations[rows[0]["type"]] and not rows[0]["type"].endswith("routerMetrics"):
            which = (f"--type={rows[0]['type']}", f"--identity={rows[0]['identity']}")
            found = programs.manage("READ", *which, at=bus)
            assert found["identity"] == rows[0]["identity"]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, names))


def test_skmanage_reads_every_type(programs: Programs) -> None:
    bus = programs.bus("A")
    full = list(programs.manage("GET-TYPES", at=bus))
    assert full == [found.full for found in SCHEMA.listed(extensions=False)], "no type of its own is shown"
    read_types(programs, bus, full)


@pytest.mark.parametrize(("at", "whom"), PLACES, ids="".join)
def test_skmanage_reads_elsewhere(programs: Programs, at: str, whom: tuple[str, ...]) -> None:
    """Through other routers, at edges, over TLS; what a C router answers when vanrouter is asked about it."""
    bus = [*(programs.bus("A", is_tls=True) if at == "tls" else programs.bus(at)), *whom]
    read_types(programs, bus, [f"io.skupper.router.{name}" for name in ("router", "log", "router.node", "connection")])


GOOD: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "listener": ({"host": "127.0.0.1", "port": "0"}, {}),
    "connector": ({"host": "127.0.0.1", "port": "1"}, {}),
    "sslProfile": ({"caCertFile": "/nowhere"}, {"ordinal": 2}),
    "proxyProfile": ({"host": "127.0.0.1", "port": "3128"}, {"port": "3129"}),
    "tcpListener": ({"host": "127.0.0.1", "port": "0", "address": "x"}, {"observer": "none"}),
    "tcpConnector": ({"host": "127.0.0.1", "port": "1", "address": "x"}, {}),
    "address": ({"prefix": "made"}, {}),
    "autoLink": ({"address": "made", "direction": "in", "containerId": "c"}, {}),
    "vhost": ({"hostname": "made", "maxConnections": 2}, {"maxConnections": 7}),
    "dummy": ({"arg1": "x"}, {"arg1": "y"}),
}
"""What skmanage creates of each type, and what it changes; listenerAddress below."""


@pytest.mark.parametrize(("at", "whom"), [("A", ()), ("B", ("-r", "A")), ("tls", ())], ids="".join)
def test_skmanage_creates_changes_and_deletes(programs: Programs, at: str, whom: tuple[str, ...]) -> None:
    bus = [*(programs.bus("A", is_tls=True) if at == "tls" else programs.bus(at)), *whom]
    creatable = {short for short, found in SCHEMA.types.items() if "CREATE" in found.operations and not found.extension}
    assert creatable - {"listenerAddress"} == set(GOOD)

    def live(short: str, made: dict[str, object], changed: dict[str, object]) -> None:
        which = (f"--type={short}", f"--name=by-{at}-{short}")
        created = programs.manage("CREATE", *which, *(f"{key}={value}" for key, value in made.items()), at=bus)
        assert created | made == created
        if changed:
            updated = programs.manage("UPDATE", *which, *(f"{key}={value}" for key, value in changed.items()), at=bus)
            assert updated | changed == updated
        programs.manage("DELETE", *which, at=bus)
        code, text = programs.run("skmanage", bus, "READ", *which)
        assert (code, "NotFoundStatus" in text) == (1, True), text

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda short: live(short, *GOOD[short]), GOOD))


def test_skmanage_and_a_listener_of_several_addresses(programs: Programs) -> None:
    listener = ("--type=tcpListener", "--name=several")
    programs.manage("CREATE", *listener, "host=127.0.0.1", "port=0", "multiAddressStrategy=priority")
    address = ("--type=listenerAddress", "--name=one")
    made = programs.manage("CREATE", *address, "listener=several", "address=x", "value=3")
    assert made["value"] == 3
    code, text = programs.run("skmanage", programs.bus("A"), "DELETE", *listener)
    assert code == 1, text
    programs.manage("DELETE", *address)
    programs.manage("DELETE", *listener)


def test_the_operations_of_the_node(programs: Programs) -> None:
    bus, model = programs.bus("A"), programs.bus("B")
    for operation in ("GET-TYPES", "GET-OPERATIONS", "GET-ANNOTATIONS"):
        mine, wanted = programs.manage(operation, at=bus), programs.manage(operation, at=model)
        assert {name: mine.get(name) for name in wanted} == wanted, operation
    mine, wanted = programs.manage("GET-ATTRIBUTES", at=bus), programs.manage("GET-ATTRIBUTES", at=model)
    assert {name: set(mine[name]) for name in wanted} == {name: set(found) for name, found in wanted.items()}
    assert sorted(programs.manage("GET-MGMT-NODES", at=bus)) == [f"amqp:/_topo/0/{name}/$management" for name in "ABC"]
    assert len(programs.manage("GET-LOG", "limit=3", at=bus)) == 3
    assert programs.manage("UPDATE", "--type=log", "--name=log/HTTP", "enable=debug+", at=bus)["enable"] == "debug+"
    assert programs.manage("CREATE", "--stdin", at=bus, given='[{"type": "dummy", "name": "s1"}, {"type": "dummy"}]')


def plain(schema: Any) -> Any:
    """A schema without its texts, which are each router's own."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key not in ("description", "graph")}
    return schema


def test_the_schema_is_that_of_the_c_router_but_for_its_words(programs: Programs) -> None:
    mine, wanted = (programs.manage("GET-SCHEMA", at=programs.bus(name)) for name in "AB")
    for short, found in wanted["entityTypes"].items():
        assert plain(mine["entityTypes"][short]) == plain(found), short
    assert set(mine["entityTypes"]) == set(wanted["entityTypes"])
    assert mine["prefix"] == wanted["prefix"]
