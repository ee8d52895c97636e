from __future__ import annotations

import pytest

from vanrouter.errors import ConfigError
from vanrouter.mgmt.syntax import camel_case, parse


def values(text: str, file: str = "x.conf") -> list[tuple[str, dict[str, object]]]:
    return [(section.name, section.values) for section in parse(text, file)]


def refused(text: str, file: str = "x.conf") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, file)
    assert caught.value.file == file
    return caught.value


@pytest.mark.parametrize(
    ("written", "meant"), [("ssl-profile", "sslProfile"), ("worker_threads", "workerThreads"), ("host", "host")]
)
def test_names_are_turned_to_camel_case(written: str, meant: str) -> None:
    assert camel_case(written) == meant


def test_conf_sections_with_comments_and_blanks() -> None:
    text = "# comment\n\n  listener   {\n   host :  a b \t\n port:1 # why\n saslMechanisms:\n  }\n\nssl-profile {\n}\n"
    assert values(text) == [("listener", {"host": "a b", "port": "1", "saslMechanisms": ""}), ("sslProfile", {})]


def test_conf_values_are_taken_as_they_stand() -> None:
    assert values('a {\n x: say "hi" \\ : ok\n}') == [("a", {"x": 'say "hi" \\ : ok'})]


def test_conf_patterns_may_hold_the_comment_sign() -> None:
    text = "address {\n pattern: a/#  # rest\n}\nvhost {\n hostname: #x ignored\n}\n"
    assert values(text) == [("address", {"pattern": "a/#"}), ("vhost", {"hostname": "#x"})]


def test_conf_json_blocks() -> None:
    text = 'listener {\n openProperties: {\n  "a": {"b": "}"},\n  # no\n  "c": [1, 2,],\n }\n port: 1\n}\n'
    assert values(text) == [("listener", {"openProperties": {"a": {"b": "}"}, "c": [1, 2]}, "port": "1"})]


def test_conf_nested_maps() -> None:
    text = "vhost {\n groups {\n  $default {\n   users: *\n   remote-hosts: *\n  }\n }\n}\n"
    assert values(text) == [("vhost", {"groups": {"$default": {"users": "*", "remote-hosts": "*"}}})]


def test_lines_are_remembered() -> None:
    section = parse("\n\na {\n b: 1\n\n c: 2\n}\n", "x.conf")[0]
    assert section.line == 3
    assert section.lines == {"b": 4, "c": 6}


def test_repeated_attributes_are_noted() -> None:
    section = parse("a {\n b: 1\n b: 2\n}\n", "x.conf")[0]
    assert section.values == {"b": "2"}
    assert section.repeated == ["b"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("port: 1\n", 1, "expected a section"),
        ("a { b: 1 }\n", 1, "brace ending the line"),
        ("a {\n nonsense\n}\n", 2, "expected `name: value`"),
        ("a {\n b: {1}\n}\n", 2, "expected `name: value`"),
        ("a {\n b: 1\n", 3, "no closing `}`"),
        ("a {\n groups: {\n  x\n }\n}\n", 3, "not JSON"),
        ('a {\n groups: {\n "x": 1, "x": 2\n }\n}\n', 2, "given twice"),
        ("a {\n groups: {\n", 3, "not closed"),
        ("a {\n other {\n  b\n }\n}\n", 3, "expected `name: value`"),
        ("a {\n other {\n", 3, "no closing"),
        ("}\n", 1, "expected a section"),
    ],
)
def test_conf_errors_say_where_and_what(text: str, line: int, said: str) -> None:
    error = refused(text)
    assert error.line == line
    assert said in error.reason


def test_json() -> None:
    text = (
        '# comment\n[\n ["router", {"id": "A"}],\n  # another\n ["ssl-profile", {\n  "name": "x", "ordinal": 3}]\n]\n'
    )
    sections = parse(text, "x.JSON")
    assert [(s.name, s.line, s.values) for s in sections] == [
        ("router", 3, {"id": "A"}),
        ("sslProfile", 5, {"name": "x", "ordinal": 3}),
    ]
    assert sections[1].lines == {"name": 6, "ordinal": 6}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[", "not JSON"),
        ("{}", "expected a list of pairs"),
        ('[["a"]]', "expected a list of pairs"),
        ('[["a", []]]', "expected a list of pairs"),
        ("[[1, {}]]", "expected a list of pairs"),
        ('[["a", {"b": 1, "b": 2}]]', "given twice"),
        ("[" * 100_000, "nested too deeply"),
        ('[["a", {"b": ' + "9" * 10_000 + "}]]", "integer string conversion"),
    ],
)
def test_json_errors(text: str, said: str) -> None:
    assert said in refused(text, "x.json").reason


@pytest.mark.parametrize(
    "text",
    [
        "- [listener, {port: 1, http: no}]\n- [router, {id: on}]\n",
        "- listener: {port: 1, http: no}\n- router: {id: on}\n",
        "listener:\n- port: 1\n  http: no\nrouter:\n  id: on\n",
    ],
)
def test_yaml_forms(text: str) -> None:
    assert values(text, "x.yaml") == [("listener", {"port": "1", "http": "no"}), ("router", {"id": "on"})]


def test_yaml_nested_values_have_their_own_types() -> None:
    text = "- listener:\n    openProperties: {a: 1, b: yes, c: [x, ~, 1.5], d: 2020-01-01}\n    name: ~\n- router:\n"
    expected = {"openProperties": {"a": 1, "b": True, "c": ["x", None, 1.5], "d": "2020-01-01"}, "name": None}
    assert values(text, "x.yml") == [("listener", expected), ("router", {})]


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n"])
def test_yaml_may_say_nothing(text: str) -> None:
    assert values(text, "x.yaml") == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: [", 1, "not YAML"),
        ("a: \x00", None, "not YAML"),
        ("just text", 1, "expected a list of sections"),
        ("- 1\n", 1, "expected `- type"),
        ("- [a, b]\n", 1, "expected a map of attributes"),
        ("- [a]\n", 1, "expected `- type"),
        ("- [[a], {}]\n", 1, "must be a word"),
        ("- a: {[x]: 1}\n", 1, "must be a word"),
        ("- a:\n    b: {[x]: 1}\n", 2, "keys must be words"),
        ("- a:\n    b: [!!int x]\n", 2, "not a valid int"),
        ("- a:\n    b: &x [*x]\n", None, "nested too deeply"),
    ],
)
def test_yaml_errors(text: str, line: int | None, said: str) -> None:
    error = refused(text, "x.yaml")
    assert said in error.reason
    assert line is None or error.line == line


def test_yaml_aliases_do_not_explode() -> None:
    lines = ["- a:", "    l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"    l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too many values" in refused("\n".join(lines), "x.yaml").reason
