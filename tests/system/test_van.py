"""The operator's tool against two live routers, as a person or a script calls it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.system.network import Network, eventually
from tests.system.pki import Pki
from tests.system.process import free_port, held

TIMEOUT_S = 60
VAN = str(Path(sys.executable).with_name("van"))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, echo_port: int, pki: Pki) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("van"))
    made.add("paris")
    made.add("rome")
    made.add("hut", mode="edge")
    made.link("rome", "paris", cost=3)
    made.link("hut", "rome", role="edge")
    made.service("shop", "rome", echo_port)
    made.clients("shop", "paris")
    made.section("paris", pki.issue("router-paris").ssl_profile("mutual"))
    listener = {"name": "tls", "host": "127.0.0.1", "port": 0, "sslProfile": "mutual", "authenticatePeer": True}
    made.section("paris", ("listener", {**listener, "requireSsl": True, "saslMechanisms": "EXTERNAL"}))
    with held(made):
        made.start()
        made["paris"].port("to-shop")  # both know each other by then
        made["rome"].wait_for(r"container_id=hut")
        hut = ("stat", "-e", "hut")  # its name travels in an update of its own
        eventually(lambda: run(*hut, VAN_URL=f"amqp://127.0.0.1:{made['paris'].port('amqp')}").returncode == 0, 30)
        yield made


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VAN, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        env={**os.environ, "HOME": "/nonexistent", "VAN_TIMEOUT": "30", **environment},
    )  # fmt: skip


def van(network: Network, *arguments: str, code: int = 0) -> str:
    """Run it at paris; what it prints, errors first."""
    done = run(*arguments, VAN_URL=f"amqp://127.0.0.1:{network['paris'].port('amqp')}")
    assert done.returncode == code, f"van {' '.join(arguments)}\n{done.stderr}{done.stdout}"
    return done.stderr + done.stdout


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("general", ["paris", "interior", "uptime"]),
        ("routers", ["paris", "rome"]),
        ("nodes", ["rome", "(self)"]),
        ("connections", ["inter-router", "rome"]),
        ("links", ["router-control"]),
        ("addresses", ["shop", "rome"]),
        ("services", ["to-shop", "up"]),
        ("memory", ["resident"]),
    ],
)
def test_stat(network: Network, what: str, words: list[str]) -> None:
    text = van(network, "stat", what)
    assert not [word for word in words if word not in text], text
    rows = json.loads(van(network, "stat", what, "--json"))
    assert rows
    assert yaml.safe_load(van(network, "stat", what, "--yaml")).__class__ is rows.__class__


def test_stat_of_others_and_again_and_again(network: Network) -> None:
    assert "rome" in van(network, "stat", "-r", "rome").splitlines()[0]
    assert "hut" in van(network, "stat", "-e", "hut").splitlines()[0]
    url = f"127.0.0.1:{network['paris'].port('amqp')}"
    with subprocess.Popen([VAN, "stat", "--watch", "0.2", "-b", url], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        guard = threading.Timer(TIMEOUT_S, watching.kill)
        guard.start()
        seen = 0
        for line in watching.stdout:
            seen += "Every 0.2 s" in line
            if seen == 3:
                break
        guard.cancel()
        watching.send_signal(2)
        watching.stdout.close()
        assert (seen, watching.wait(TIMEOUT_S)) == (3, 130)


def test_manage(network: Network) -> None:
    made = json.loads(van(network, "manage", "create", "dummy", "name=d", "num1=3", "--json"))
    assert made["num1"] == 3
    assert "arg1" in van(network, "manage", "update", "dummy", "d", "arg1=new")
    assert "new" in van(network, "manage", "read", "dummy", "d")
    assert "d" in van(network, "manage", "query", "dummy", "name", "num1")
    van(network, "manage", "delete", "dummy", "d")
    assert "refused (404)" in van(network, "manage", "read", "dummy", "d", code=1)
    assert "did you mean 'address'" in van(network, "manage", "create", "tcpListener", "adress=x", code=1)
    assert "not a whole number" in van(network, "manage", "create", "dummy", "num1=x", code=2)
    assert "whenUnreachable" in van(network, "manage", "explain", "tcpListener")
    assert "managementPermission" in van(network, "manage", "explain")


def test_topology(network: Network) -> None:
    tree = van(network, "topology")
    assert "rome  cost 3" in tree
    assert "hut" in tree
    dot = van(network, "topology", "--dot")
    assert '"paris" -- "rome" [label=3]' in dot
    assert "graph LR" in van(network, "topology", "--mermaid")
    if shutil.which("dot"):
        assert subprocess.run(["dot", "-Tsvg"], input=dot, text=True, capture_output=True, check=True).stdout


def test_ping_and_trace(network: Network) -> None:
    assert "2 of 2 answered" in van(network, "ping", "shop", "-c", "2", "-i", "0")
    assert "address shop at rome" in van(network, "ping", "shop", "-c", "1")
    assert "1 of 1 answered" in van(network, "ping", "hut", "-c", "1")
    hops = json.loads(van(network, "trace", "shop", "--json"))["hops"]
    assert [hop["router"] for hop in hops] == ["paris", "rome"]
    assert all(hop["ms"] > 0 for hop in hops)
    assert "knows no router" in van(network, "trace", "nowhere", code=1)


def test_log(network: Network) -> None:
    """Of another router: its levels changed, its lines followed."""
    van(network, "log", "-r", "rome", "--set", "AGENT=debug+")
    assert "debug+" in next(
        line for line in van(network, "log", "-r", "rome", "--levels").splitlines() if "AGENT" in line
    )
    url = f"127.0.0.1:{network['paris'].port('amqp')}"
    command = [VAN, "log", "-r", "rome", "-f", "-i", "0.2", "-m", "AGENT", "-l", "error", "--json", "-b", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        guard = threading.Timer(TIMEOUT_S, following.kill)
        guard.start()
        van(network, "manage", "read", "dummy", "nobody", "-r", "rome", code=1)
        line = json.loads(following.stdout.readline())
        guard.cancel()
        following.send_signal(2)
        following.stdout.close()
        assert (line["module"], line["level"]) == ("AGENT", "error")
        assert following.wait(TIMEOUT_S) == 130
    van(network, "log", "-r", "rome", "--set", "AGENT=default")


def test_check_and_reload(network: Network, tmp_path: Path) -> None:
    good, bad = network["paris"].config_file, tmp_path / "bad.conf"
    assert "good (" in van(network, "check", str(good))
    bad.write_text("tcpListener {\n    port: 1\n    adress: x\n}\n")
    assert f"{bad}:3: tcpListener.adress" in van(network, "check", str(bad), code=1)
    assert "nothing differs" in van(network, "reload")
    text = good.read_text()
    good.write_text(text + "address {\n    prefix: later\n}\n")
    assert "created" in van(network, "reload")
    good.write_text(text + "address {\n    prefix later\n}\n")
    assert f"{good}:" in van(network, "reload", code=1)
    good.write_text(text)
    assert "deleted" in van(network, "reload")


def test_who_is_asked(network: Network, pki: Pki, tmp_path: Path) -> None:
    """By the command line, by a profile, by the environment, over TLS; and nobody."""
    issued = pki.issue("operator")
    profile = {
        "url": f"amqps://localhost:{network['paris'].port('tls')}", "ssl-certificate": str(issued.cert),
        "ssl-key": str(issued.key), "ssl-trustfile": str(issued.ca),
    }  # fmt: skip
    folder = tmp_path / "home" / ".config" / "van"
    folder.mkdir(parents=True)
    (folder / "paris.yaml").write_text(yaml.safe_dump(profile))
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(folder.parent)}
    for arguments, environment in (
        (("-p", "paris"), home),
        ((), {**home, "VAN_PROFILE": "paris"}),
        (("-p", str(folder / "paris.yaml")), {}),
        (("-b", f"127.0.0.1:{network['paris'].port('amqp')}"), {"VAN_URL": "amqp://127.0.0.1:1"}),
    ):
        done = run("stat", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Router paris")
    nobody = run("stat", "-b", f"127.0.0.1:{free_port()}")
    assert (nobody.returncode, "cannot connect" in nobody.stderr) == (3, True)
    missing = run("stat", "-b", f"127.0.0.1:{network['paris'].port('amqp')}", "-r", "atlantis", "-t", "2")
    assert (missing.returncode, "does that router exist" in missing.stderr) == (3, True)
    assert run("stat", "bogus").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, tmp_path: Path) -> None:
    """The script is one that the shell reads, and it asks van for the words."""
    script = run("completion", shell).stdout
    asked = run(_VAN_COMPLETE=f"{shell}_complete", COMP_WORDS="van manage explain tcp", COMP_CWORD="3").stdout
    assert {"tcpListener", "tcpConnector"} <= set(asked.replace(",", "\n").split("\n"))
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(script)
        assert subprocess.run([shell, "-n", str(file)], check=False, capture_output=True).returncode == 0
    if shell == "bash":
        line = 'COMP_WORDS=(van st); COMP_CWORD=1; _van_completion van; echo "${COMPREPLY[@]}"'
        path = f"{Path(VAN).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
        assert "stat" in done.stdout.split(), done.stderr
