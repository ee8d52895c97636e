"""The schema against what a running C router 3.5.1 answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vanrouter.mgmt.attributes import Attribute, Kind
from vanrouter.mgmt.entity_types import LOG, LOG_MODULES, SCHEMA

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "c_router_schema.json").read_text())
LISTED = {entity_type.full: entity_type for entity_type in SCHEMA.listed(extensions=False)}


def test_types_and_bases_in_order() -> None:
    ours = {full: [base.full for base in SCHEMA.bases(entity_type)] for full, entity_type in LISTED.items()}
    assert list(ours.items()) == list(GOLDEN["types"].items())


@pytest.mark.parametrize("full", GOLDEN["attributes"])
def test_attribute_names_in_order(full: str) -> None:
    assert LISTED[full].attribute_names(extensions=False) == GOLDEN["attributes"][full]


@pytest.mark.parametrize("full", GOLDEN["operations"])
def test_operations_in_order(full: str) -> None:
    assert SCHEMA.operations(LISTED[full], extensions=False) == GOLDEN["operations"][full]


@pytest.mark.parametrize("short", GOLDEN["schema"]["entityTypes"])
def test_types_defaults_and_flags(short: str) -> None:
    described = SCHEMA.describe(extensions=False)["entityTypes"]
    assert isinstance(described, dict)
    assert without_descriptions(described[short]) == GOLDEN["schema"]["entityTypes"][short]


def without_descriptions(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: without_descriptions(inner)
        for key, inner in value.items()
        if key != "description" or isinstance(inner, dict)
    }


ATTRIBUTES = [
    pytest.param(attribute, id=f"{entity_type.short}.{attribute.name}")
    for entity_type in SCHEMA.types.values()
    for attribute in entity_type.own
]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_declarations_are_consistent(attribute: Attribute) -> None:
    assert attribute.help.endswith((".", "?"))
    assert (attribute.kind is Kind.WORD) == bool(attribute.words)
    if attribute.default is not None:
        assert attribute.convert(attribute.default) == attribute.default
    if attribute.creatable or attribute.updatable:
        assert attribute.settable


@pytest.mark.parametrize("short", SCHEMA.types)
def test_column_orders_name_attributes(short: str) -> None:
    entity_type = SCHEMA[short]
    assert set(entity_type.columns) <= set(entity_type.attributes)
    if entity_type.columns:
        assert {"identity", "type"} <= set(entity_type.columns)


def test_log_modules_are_the_words_of_the_log_type() -> None:
    assert LOG.attributes["module"].words == LOG_MODULES
