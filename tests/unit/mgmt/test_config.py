from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from vanrouter.errors import ConfigError
from vanrouter.mgmt import rules
from vanrouter.mgmt.config import START_ORDER, Configuration, load_file, load_text
from vanrouter.mgmt.entity_types import LOG_MODULES
from vanrouter.mgmt.secrets import Secret


def load(text: str, file: str = "x.conf") -> Configuration:
    return load_text(text, file, invent_suffix=lambda: "123456789012345")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.file == "x.conf"
    return caught.value


def test_a_comment_is_a_standalone_router() -> None:
    configuration = load("# nothing\n")
    assert configuration.router.attributes["id"] == "Standalone_123456789012345"
    assert configuration.router.attributes["mode"] == "standalone"
    assert configuration.router.attributes["area"] == "0"
    assert configuration.router.file is None
    assert {entity.type for entity in configuration.entities} == {"log", "router", "network", "policy"}
    assert configuration.warnings == []


def test_defaults_are_filled_and_what_was_given_is_known() -> None:
    listener = load("listener {\n port: 0\n http: yes\n}\n").of("listener")[0]
    assert listener.attributes["http"] is True
    assert listener.attributes["cost"] == 1
    assert "sslProfile" not in listener.attributes
    assert listener.explicit == {"port", "http"}
    assert (listener.file, listener.line) == ("x.conf", 1)


def test_start_up_order_holds_whatever_the_file_has() -> None:
    text = (
        "tcpListener {\n port: 1\n address: a\n}\nlistener {\n port: 2\n}\naddress {\n prefix: q\n}\n"
        "connector {\n port: 3\n}\nsslProfile {\n name: s\n}\nsite {\n name: here\n}\n"
    )
    types = [entity.type for entity in load(text).entities]
    assert types == sorted(types, key=START_ORDER.index)
    assert types[-3:] == ["connector", "listener", "tcpListener"]


def test_each_log_module_has_its_entity() -> None:
    logs = load("log {\n module: SERVER\n enable: debug+\n}\n").of("log")
    assert sorted(str(log.attributes["module"]) for log in logs) == sorted(LOG_MODULES)
    assert logs[0].attributes == {"module": "SERVER", "enable": "debug+"}
    default = next(log for log in logs if log.attributes["module"] == "DEFAULT")
    assert default.attributes["enable"] == "info+"
    assert default.attributes["outputFile"] == "stderr"


def test_secrets_do_not_show() -> None:
    profile = load("sslProfile {\n name: s\n password: pass:hush\n}\n").of("sslProfile")[0]
    assert profile.attributes["password"] == Secret("pass:hush")
    assert "hush" not in repr(profile)


def test_old_spelling_of_the_tenant() -> None:
    configuration = load("router {\n id: A\n vanId: blue\n}\n")
    assert configuration.of("network")[0].attributes["tenantId"] == "blue"
    assert any("vanId" in warning and "deprecated" in warning for warning in configuration.warnings)


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("listener {\n port: 0\n prot: 1\n}\n", 3, "listener.prot", "did you mean 'port'"),
        ("listener {\n cost: cheap\n}\n", 2, "listener.cost", "a whole number is needed"),
        ("listener {\n cost: 0\n}\n", 2, "listener.cost", "Invalid cost (0) specified. Minimum value for cost is 1"),
        ("listener {\n http: maybe\n}\n", 2, "listener.http", "yes, no"),
        ("router {\n mode: inferior\n}\n", 2, "router.mode", "did you mean 'interior'"),
        ("router {\n id: a|b\n}\n", 2, "router.id", 'Router ID "a|b" containes at least one illegal character'),
        ("router {\n id: a b\n}\n", 2, "router.id", "Router id attribute containing character ' '"),
        ("listenr {\n}\n", 1, "listenr", "did you mean 'listener'"),
        ("qqq {\n}\n", 1, "qqq", "known are router"),
        ("linkRoute {\n}\n", 1, "linkRoute", "ended with version 3"),
        ("listener {\n role: edge\n}\n", 2, "listener.role", "role='standalone' not allowed"),
        ("router {\n}\nrouter {\n}\n", 3, "router", "singleton"),
        ("listener {\n sslProfile: s\n}\n", 2, "listener.sslProfile", "sslProfile 's' not found"),
        (
            "listener {\n name: a\n}\nconnector {\n name: a\n}\n",
            2,
            "listener.name",
            "duplicates unique attribute 'name'",
        ),
        ("log {\n module: SERVER\n}\nlog {\n module: SERVER\n}\n", 4, "log.identity", "duplicates"),
        ("log {\n enable: info+\n}\n", 1, "log.module", "Missing required attribute"),
        ("log {\n module: SERVER\n enable: loud\n}\n", 3, "log.enable", "'loud' is not a log level"),
        ("tcpListener {\n port: 1\n}\n", 1, "tcpListener.address", "Exactly one of the 'address' or"),
        ("", None, "", "is empty"),
    ],
)
def test_errors_name_line_key_and_what_would_be_right(text: str, line: int | None, key: str, said: str) -> None:
    error = refused(text)
    assert error.line == line
    assert error.key == key
    assert said in error.reason
    assert "x.conf" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("address {\n}\n", "Either a 'prefix' or 'pattern'"),
        ("address {\n prefix: a\n pattern: b\n}\n", "Cannot specify both"),
        ("address {\n prefix: a\n}\naddress {\n prefix: a\n}\n", "Already exists"),
        ("autoLink {\n direction: in\n connection: a\n containerId: b\n}\n", "Both connection and containerId"),
        ("listener {\n port: 0\n port: 1\n}\n", "more than once"),
        ("tcpListener {\n address: a\n port: 1\n siteId: s\n}\n", "deprecated"),
        ("tcpListener {\n address: a\n port: 1\n operStatus: up\n}\n", "set by the router itself"),
        ("router {\n mode: interior\n}\nlistener {\n role: inter-router\n}\n", "without TLS"),
        (
            "router {\n mode: interior\n}\nsslProfile {\n name: s\n}\nlistener {\n role: edge\n sslProfile: s\n}\n",
            "set requireSsl",
        ),
        ("sslProfile {\n name: s\n}\nconnector {\n sslProfile: s\n verifyHostname: no\n}\n", "does not check"),
        ("sslProfile {\n name: s\n uidFormat: xyz\n}\n", "Invalid format for uidFormat field in sslProfile 's': xyz"),
    ],
)
def test_what_is_only_worth_a_warning(text: str, said: str) -> None:
    (warning,) = load(text).warnings
    assert said in warning
    assert warning.startswith("x.conf:")


def test_sections_that_are_only_warned_of_are_left_out() -> None:
    assert load("address {\n}\naddress {\n prefix: a\n}\n").of("address")[0].attributes["prefix"] == "a"


def test_priority_out_of_range_is_no_mere_warning() -> None:
    assert "Priority value" in refused("address {\n prefix: a\n priority: 10\n}\n").reason


def test_a_listener_of_routers_that_requires_tls_is_fine() -> None:
    text = (
        "router {\n mode: interior\n}\nsslProfile {\n name: s\n}\n"
        "listener {\n role: inter-router\n sslProfile: s\n requireSsl: yes\n}\n"
    )
    assert load(text).warnings == []


@pytest.mark.parametrize(("mode", "role"), [("interior", "inter-router"), ("interior", "edge"), ("edge", "normal")])
def test_roles_that_fit_the_mode(mode: str, role: str) -> None:
    text = f"router {{\n mode: {mode}\n}}\nlistener {{\n role: {role}\n}}\nconnector {{\n role: {role}\n}}\n"
    assert load(text).of("listener")[0].attributes["role"] == role


@pytest.mark.parametrize(
    ("mode", "kind", "role"),
    [("edge", "listener", "inter-router"), ("edge", "connector", "inter-router"), ("edge", "listener", "edge")],
)
def test_roles_that_do_not(mode: str, kind: str, role: str) -> None:
    error = refused(f"router {{\n mode: {mode}\n}}\n{kind} {{\n role: {role}\n}}\n")
    assert f"role='{role}' only allowed with router mode='interior'" in error.reason


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "r.conf"
    good.write_text("router {\n id: R\n}\n")
    assert load_file(str(good)).router.attributes["id"] == "R"
    with pytest.raises(ConfigError, match="cannot read: No such file"):
        load_file(str(tmp_path / "absent.conf"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_file(str(tmp_path))
    good.write_bytes(b"router {\n id: \xff\n}\n")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        load_file(str(good))
    assert caught.value.line == 2


def test_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.mgmt.config.MAX_FILE_BYTES", 10)
    big = tmp_path / "r.conf"
    big.write_text("# " + "x" * 20)
    with pytest.raises(ConfigError, match="not a configuration file"):
        load_file(str(big))


def test_the_work_for_an_address_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    pattern = rules.address_pattern

    def counted(attributes: Mapping[str, object]) -> str:
        nonlocal seen
        seen += 1
        return pattern(attributes)

    monkeypatch.setattr(rules, "address_pattern", counted)
    load_text("".join(f"address {{\n prefix: p{number}\n}}\n" for number in range(500)), "many.conf")
    assert seen <= 3 * 500
