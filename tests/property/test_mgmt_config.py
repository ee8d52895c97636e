"""Any text is a configuration or a ConfigError; what the schema allows comes back whatever the syntax."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.errors import ConfigError
from vanrouter.mgmt.attributes import Attribute, Kind
from vanrouter.mgmt.config import load_text
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.levels import LEVELS, parse_levels
from vanrouter.mgmt.syntax import parse

ENDINGS = ("conf", "json", "yaml")

WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=12)
LETTERS = st.text("abcdefghij", min_size=1, max_size=8)
PIECES = st.sampled_from(
    ["router {", "listener {", "}", "{", "port: 1", "groups: {", '"a": 1,', "[", "]", '["router", {}]', ",", "- ", ":",
     "openProperties: {", "#", "id: A", "\n", " ", "pattern: a/#", "&a", "*a", "!!int", "\x00", "é", '"', "\\", "log:"]
)  # fmt: skip


def refusal(text: str, file: str) -> ConfigError | None:
    """Return the error that a text gives, if any; anything but a ConfigError ends the test."""
    try:
        load_text(text, file)
    except ConfigError as error:
        return error
    return None


@given(st.lists(PIECES | st.text(max_size=8), max_size=30).map("\n".join), st.sampled_from(ENDINGS))
def test_junk_is_a_configuration_or_an_error(text: str, ending: str) -> None:
    error = refusal(text, f"x.{ending}")
    assert error is None or (error.file == f"x.{ending}" and error.reason)


@given(st.text(max_size=60), st.sampled_from(ENDINGS))
def test_any_text_is_a_configuration_or_an_error(text: str, ending: str) -> None:
    error = refusal(text, f"x.{ending}")
    assert error is None or error.file == f"x.{ending}"


SECTIONS = st.lists(st.tuples(LETTERS, st.dictionaries(LETTERS, WORDS, max_size=4)))


@given(SECTIONS, st.sampled_from(["", " ", "  \t"]))
def test_three_syntaxes_say_the_same(sections: list[tuple[str, dict[str, str]]], blank: str) -> None:
    conf = "".join(
        f"{blank}{name}{blank}{{\n"
        + "".join(f"{blank}{key}{blank}:{blank}{value}{blank}\n" for key, value in attributes.items())
        + f"{blank}}}\n"
        for name, attributes in sections
    )
    document = json.dumps(sections, indent=1)
    expected = [(name, attributes) for name, attributes in sections]
    for text, file in ((conf, "x.conf"), (document, "x.json"), (document, "x.yaml")):
        assert [(section.name, section.values) for section in parse(text, file)] == expected


def valid_texts(attribute: Attribute) -> st.SearchStrategy[str]:
    """Return texts that the schema takes for an attribute."""
    if attribute.kind is Kind.INTEGER:
        return st.integers(max(attribute.minimum, 1), min(attribute.maximum, 9)).map(str)
    if attribute.kind is Kind.BOOLEAN:
        return st.sampled_from(["yes", "no", "true", "false", "on", "off", "True", "NO"])
    if attribute.kind is Kind.WORD:
        return st.sampled_from(attribute.words)
    return WORDS


DUMMIES = ("network", "site", "sslProfile")
"""Types whose textual attributes are free of rules between entities."""


@pytest.mark.parametrize("short", DUMMIES)
@given(data=st.data())
def test_what_the_schema_takes_is_loaded_from_each_syntax(short: str, data: st.DataObject) -> None:
    free = [a for a in SCHEMA[short].own if a.settable and a.name not in ("ordinal", "oldestValidOrdinal")]
    chosen = data.draw(st.lists(st.sampled_from(free), unique_by=lambda a: a.name))
    values = {attribute.name: data.draw(valid_texts(attribute)) for attribute in chosen}
    conf = f"{short} {{\n" + "".join(f"  {name}: {value}\n" for name, value in values.items()) + "}\n"
    document = json.dumps([[short, values]])
    loaded = [
        load_text(text, file).of(short)[0].attributes
        for text, file in ((conf, "x.conf"), (document, "x.json"), (document, "x.yaml"))
    ]
    assert loaded[0] == loaded[1] == loaded[2]
    for attribute in chosen:
        assert loaded[0][attribute.name] == attribute.convert(values[attribute.name])


@given(st.text(max_size=30))
def test_levels_of_any_text(text: str) -> None:
    try:
        levels = parse_levels(text)
    except ValueError:
        return
    assert levels is None or levels <= set(LEVELS)
