from __future__ import annotations

import pytest

from vanrouter.mgmt.attributes import text, whole, word
from vanrouter.mgmt.schema import EntityType, InvalidEntityError, Schema

BASE = EntityType(short="base", help="", operations=("READ",))
THING = EntityType(
    short="thing",
    help="A thing.",
    base="base",
    operations=("CREATE",),
    extension_operations=("UPDATE",),
    own=(
        text("colour", "C", "Its colour.", default="red"),
        whole("size", "C", "Its size.", required=True),
        text("extra", "C", "Ours.", extension=True),
        text("seen", "", "Observed."),
        word("kind", ("a", "b"), "C", "Its kind.", extension_words=("c",)),
    ),
    section=True,
)
PART = EntityType(short="part", help="", base="thing", extension=True, columns=("size", "name"), own=THING.own)
SCHEMA = Schema((BASE, THING, PART))


def test_names_are_found_with_and_without_prefix() -> None:
    for name in ("thing", "io.skupper.router.thing"):
        assert SCHEMA.find(name) is THING
    assert SCHEMA.find("nothing") is None
    assert SCHEMA["thing"] is THING
    assert SCHEMA.section("thing") is THING
    assert SCHEMA.section("base") is None
    assert SCHEMA.section_names() == ("thing",)


def test_types_derive() -> None:
    assert SCHEMA.bases(PART) == (THING, BASE)
    assert SCHEMA.is_a(PART, BASE)
    assert SCHEMA.is_a(BASE, BASE)
    assert not SCHEMA.is_a(BASE, THING)


def test_operations_are_own_then_inherited() -> None:
    assert SCHEMA.operations(THING, extensions=False) == ["CREATE", "READ"]
    assert SCHEMA.operations(THING, extensions=True) == ["CREATE", "UPDATE", "READ"]


def test_extensions_are_listed_when_asked_for() -> None:
    assert THING.attribute_names(extensions=False) == ["colour", "size", "seen", "kind", "name", "identity", "type"]
    assert "extra" in THING.attribute_names(extensions=True)
    assert SCHEMA.listed(extensions=False) == [BASE, THING]
    assert SCHEMA.listed(extensions=True) == [BASE, THING, PART]
    assert THING.all_columns(extensions=False) == THING.attribute_names(extensions=False)
    assert PART.all_columns(extensions=False) == ["size", "name"]
    assert PART.all_columns(extensions=True) == ["size", "name", "colour", "extra", "seen", "kind", "identity", "type"]


def test_values_are_converted_and_completed() -> None:
    converted = THING.convert({"size": "3", "colour": None, "type": "thing", "identity": "x"})
    assert converted == {"size": 3}
    assert THING.complete(converted) == {"colour": "red", "size": 3}


def test_unknown_attribute_names_near_ones() -> None:
    with pytest.raises(InvalidEntityError) as caught:
        THING.convert({"color": "blue"})
    assert caught.value.status == 400
    assert caught.value.key == "thing.color"
    assert caught.value.description == "Unknown attribute 'color' for 'io.skupper.router.thing'; did you mean 'colour'?"


def test_a_huge_attribute_name_does_not_fill_the_error() -> None:
    with pytest.raises(InvalidEntityError) as caught:
        THING.convert({"x" * 100_000: 1})
    assert len(str(caught.value)) < 300


def test_wrong_value_names_the_attribute() -> None:
    with pytest.raises(InvalidEntityError, match=r"thing\.size: .*a whole number is needed") as caught:
        THING.convert({"size": "big"})
    assert caught.value.description.startswith("io.skupper.router.thing: invalid literal for int()")


def test_missing_attribute_says_what_it_is() -> None:
    with pytest.raises(InvalidEntityError, match="Missing required attribute 'size': Its size") as caught:
        THING.complete({})
    assert caught.value.description == "io.skupper.router.thing: Missing required attribute 'size'"


def test_a_type_may_be_listed_under_another_name() -> None:
    renamed = EntityType(short="address", help="", full="io.skupper.router.router.config.address")
    schema = Schema((renamed,))
    for name in ("address", "router.config.address", "io.skupper.router.router.config.address"):
        assert schema.find(name) is renamed


def test_added_words_are_described_when_asked_for() -> None:
    for extensions, words in ((False, ["a", "b"]), (True, ["a", "b", "c"])):
        types = SCHEMA.describe(extensions=extensions)["entityTypes"]
        assert isinstance(types, dict)
        assert types["thing"]["attributes"]["kind"]["type"] == words


def test_description_leaves_empty_things_out() -> None:
    described = SCHEMA.describe(extensions=False)
    types = described["entityTypes"]
    assert isinstance(types, dict)
    assert list(types) == ["base", "thing"]
    thing = types["thing"]
    assert thing["fullyQualifiedType"] == "io.skupper.router.thing"
    assert thing["attributes"]["colour"] == {"type": "string", "default": "red", "description": "Its colour."}
    assert thing["attributes"]["size"] == {"type": "integer", "required": True, "description": "Its size."}
    assert "type" not in thing["attributes"]
    assert "singleton" not in thing
