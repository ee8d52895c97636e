"""The list of series keeps the rules of names; documentation, dashboard and alert rules use nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.series import ALL, C_ROUTER, OWN, Series

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "config" / "grafana-dashboard.json"
RULES = ROOT / "config" / "prometheus-rules.yaml"
DOCUMENT = ROOT / "docs" / "metrics.md"


def exposed(series: Series) -> set[str]:
    """Names of the samples."""
    if series.kind != "histogram":
        return {series.name}
    return {f"{series.name}_{suffix}" for suffix in ("bucket", "sum", "count")}


EXPOSED = set().union(*map(exposed, ALL))


def test_names_are_unique_and_valid() -> None:
    names = [series.name for series in ALL]
    assert len(names) == len(set(names))
    for series in ALL:
        assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", series.name)
        assert all(re.fullmatch(r"[a-z]+", label) for label in series.labels)
        assert series.help.endswith(".")
    assert all(series.name.startswith("vanrouter_") for series in OWN)
    assert not any(":" in series.name for series in OWN)
    assert not any(series.labels for series in C_ROUTER)


@pytest.mark.parametrize("series", OWN, ids=lambda series: series.name)
def test_endings_follow_the_kind(series: Series) -> None:
    assert (series.kind == "counter") == series.name.endswith("_total")
    if series.kind == "histogram":
        assert series.name.endswith("_seconds")


def test_columns_are_those_of_router_metrics() -> None:
    columns = {attribute.name for attribute in SCHEMA["routerMetrics"].attributes.values()}
    assert {series.column for series in C_ROUTER if series.column} <= columns


def table() -> list[str]:
    rows = []
    for series in ALL:
        labels = ", ".join(f"`{label}`" for label in series.labels)
        rows.append(f"| `{series.name}` | {series.kind} | {labels} | {series.help} |")
    return rows


def test_the_document_shows_all_of_them() -> None:
    found = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(("| `qd", "| `van", "| `proc"))]
    assert found == table(), "docs/metrics.md: the table has to read\n" + "\n".join(table())


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:qdr|vanrouter|process)_\w+", expression))


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        found += [rule["expr"] for rule in group["rules"]]
    return found


@pytest.mark.parametrize("expression", expressions())
def test_expressions_use_what_there_is(expression: str) -> None:
    names = names_in(expression)
    assert names
    assert names <= EXPOSED, names - EXPOSED
