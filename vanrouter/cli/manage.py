"""`van manage`: create, read, update, delete and list entities, and what each type is. Layer: 6."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem

from vanrouter.cli.connect import with_client
from vanrouter.cli.tables import PRINTERS, column, console, print_pairs, print_table, with_format
from vanrouter.errors import ConfigError
from vanrouter.mgmt.client import ManagementClient
from vanrouter.mgmt.entity_types import SCHEMA

STRUCTURED: dict[str, type] = {"list": list, "map": dict, "properties": dict}
"""Kinds of attributes whose values are written as YAML or JSON, and what those must hold."""

TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class _TypeName(click.ParamType[str]):
    """The name of an entity type; the shell completes those that vanrouter knows."""

    name = "type"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(short, help=found.help) for short, found in SCHEMA.types.items()
                if short.startswith(incomplete)]  # fmt: skip


TYPE = _TypeName()


@click.group()
def manage() -> None:
    """Create, read, update, delete and list entities."""


def typed(entity_type: str, name: str, text: str) -> object:
    """Return the text of an attribute as its type; as it stands where the type is not known here.

    Raises:
        click.UsageError: it does not fit.
    """
    found = SCHEMA.find(entity_type)
    attribute = None if found is None else found.attributes.get(name)
    kind = "" if attribute is None else attribute.kind.value
    if kind == "integer":
        try:
            return int(text)
        except ValueError:
            raise click.UsageError(f"{name}: {text!r} is not a whole number.") from None
    if kind == "boolean":
        if text.lower() not in TRUTH:
            raise click.UsageError(f"{name}: {text!r} is not one of {', '.join(TRUTH)}.")
        return TRUTH[text.lower()]
    if kind in STRUCTURED:
        value = _structure(f"{name}: {text!r}", text)
        if not isinstance(value, STRUCTURED[kind]):
            raise click.UsageError(f"{name}: {text!r} is not a {kind}; write it as JSON or YAML.")
        return value
    return text


def _structure(what: str, text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise click.UsageError(f"{what} is neither JSON nor YAML.") from None


def attributes_of(entity_type: str, pairs: tuple[str, ...], file: str | None) -> dict[str, object]:
    """Return the attributes that a file and `name=value` arguments give; the arguments win.

    Raises:
        click.UsageError: they do not fit.
    """
    attributes: dict[str, object] = {}
    if file is not None:
        content = _structure(file, sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise click.UsageError(f"{file} does not hold a map of attributes.")
        attributes.update(content)
    for text in pairs:
        name, found, value = text.partition("=")
        if not found:
            raise click.UsageError(f"{text!r} is not name=value.")
        attributes[name] = typed(entity_type, name, value)
    return attributes


def _show(entity: Mapping[str, object], output: str | None) -> None:
    if output is not None:
        PRINTERS[output](entity)
    else:
        print_pairs(str(entity.get("identity", "")), entity.items())


def selected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that select one entity, beside its name as an argument."""
    command = click.option("--identity", help="Identity of the entity.")(command)
    return click.option("--name", help="Name of the entity.")(command)


def chosen(entity: str | None, which: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return `name` and `identity` of the entity that the arguments mean.

    Raises:
        click.UsageError: two names.
    """
    if entity is not None and which.get("name") is not None:
        raise click.UsageError(f"Two names: {entity!r} and {which['name']!r}.")
    return {**which, "name": which.get("name") if entity is None else entity}


def with_attributes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `name=value` arguments and a file."""
    command = click.argument("pairs", metavar="NAME=VALUE...", nargs=-1)(command)
    return click.option("-f", "--file", type=click.Path(allow_dash=True, dir_okay=False, exists=True),
                        help="Attributes as a JSON or YAML map; - reads it from the terminal.")(command)  # fmt: skip


@manage.command()
@click.argument("entity_type", metavar="TYPE", required=False, type=TYPE)
@click.argument("names", metavar="[ATTRIBUTE]...", nargs=-1)
@click.option("-a", "--attributes", default="", help="The same as a comma list; none = all.")
@with_format
@with_client
def query(
    client: ManagementClient, entity_type: str | None, names: tuple[str, ...], attributes: str, output: str | None
) -> None:
    """List the entities of a type, or all, with all attributes or those named."""
    columns = [*names, *(name for name in attributes.split(",") if name)]
    rows = [
        {key: value for key, value in row.items() if value is not None} for row in client.query(entity_type, columns)
    ]
    if output is not None:
        PRINTERS[output](rows)
        return
    used = columns or list(dict.fromkeys(name for row in rows for name in row))
    front = [name for name in ("name", "identity") if name in used and not columns]
    order = [*front, *(name for name in used if name not in front)]
    ranked = [column(name, rank=0 if columns else place) for place, name in enumerate(order)]
    print_table(entity_type or "All entities", ranked, rows)


@manage.command()
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@click.argument("entity", metavar="[NAME]", required=False)
@selected
@with_format
@with_client
def read(
    client: ManagementClient, entity_type: str, entity: str | None, output: str | None, **which: str | None
) -> None:
    """Show one entity."""
    _show(client.read(entity_type, **chosen(entity, which)), output)


@manage.command()
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@with_attributes
@with_format
@with_client
def create(
    client: ManagementClient, entity_type: str, pairs: tuple[str, ...], file: str | None, output: str | None
) -> None:
    """Create an entity."""
    _show(client.create(entity_type, attributes_of(entity_type, pairs, file)), output)


@manage.command()
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@with_attributes
@selected
@with_format
@with_client
def update(
    client: ManagementClient,
    entity_type: str,
    pairs: tuple[str, ...],
    file: str | None,
    output: str | None,
    **which: str | None,
) -> None:
    """Change an entity: that of the name in front of what changes, of --name or of --identity."""
    entity = pairs[0] if pairs and "=" not in pairs[0] else None
    attributes = attributes_of(entity_type, pairs if entity is None else pairs[1:], file)
    if not attributes:
        raise click.UsageError("Give what changes: NAME=VALUE or --file.")
    _show(client.update(entity_type, attributes, **chosen(entity, which)), output)


@manage.command()
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@click.argument("entity", metavar="[NAME]", required=False)
@selected
@with_client
def delete(client: ManagementClient, entity_type: str, entity: str | None, **which: str | None) -> None:
    """Delete an entity."""
    client.delete(entity_type, **chosen(entity, which))


@manage.command()
@click.argument("entity_type", metavar="[TYPE]", type=TYPE, required=False)
@with_format
def explain(entity_type: str | None, output: str | None) -> None:
    """Explain an entity type and its attributes; without one, list the types."""
    if entity_type is None:
        rows: list[dict[str, Any]] = [{"type": short, "meaning": found.help} for short, found in SCHEMA.types.items()]
        if output is not None:
            PRINTERS[output](rows)
        else:
            print_table("Entity types", [column("type"), column("meaning")], rows)
        return
    found = SCHEMA.find(entity_type)
    if found is None:
        raise ConfigError(entity_type, f"no such type; there are {', '.join(SCHEMA.types)}")
    operations = SCHEMA.operations(found, extensions=True)
    rows = [
        {
            "attribute": attribute.name,
            "type": "|".join(attribute.words + attribute.extension_words) or attribute.kind.value,
            "default": attribute.default,
            "set by": "".join(
                letter
                for letter, is_allowed in (
                    ("F", attribute.settable),
                    ("C", attribute.creatable),
                    ("U", attribute.updatable),
                    ("!", attribute.required),
                )
                if is_allowed
            ),
            "meaning": attribute.help,
        }
        for attribute in found.attributes.values()
    ]
    if output is not None:
        head = {"type": found.full, "meaning": found.help, "operations": operations}
        PRINTERS[output]({**head, "attributes": rows})
        return
    console().print(f"{found.short} ({found.full}): {found.help}\nOperations: {', '.join(operations)}\n")
    headings = [column("attribute"), column("type"), column("default"), column("set by"), column("meaning")]
    print_table("F = file, C = CREATE, U = UPDATE, ! = required", headings, rows)
