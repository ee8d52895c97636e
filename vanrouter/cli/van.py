"""The program `van`: the operator's tool. Layer: 6.

Exit codes: 0 done, 1 refused or unreachable (the reason on stderr), 2 wrong command line.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from vanrouter import __version__
from vanrouter.cli import stat
from vanrouter.cli.tables import column, print_json, print_pairs, print_table
from vanrouter.errors import ConfigError, ManagementError, VanrouterError
from vanrouter.mgmt.client import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    Credentials,
    ManagementClient,
    edge_target,
    router_target,
)
from vanrouter.mgmt.config import load_file
from vanrouter.mgmt.entity_types import SCHEMA

PATH = click.Path(exists=True, dir_okay=False)


class _Program(click.Group):
    """Turns expected failures into a line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ManagementError as error:
            click.echo(f"van: refused ({error.status}): {error.description}", err=True)
        except VanrouterError as error:
            click.echo(f"van: {error}", err=True)
        except BrokenPipeError:
            sys.stderr.close()
        sys.exit(1)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "VAN"})
@click.version_option(__version__, "-v", "--version", message="%(version)s")
def main() -> None:
    """Look at and change routers of an application network."""


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection options, and call it with a connected client in their place."""

    @click.option(
        "-b", "--bus", "--url", "url", envvar="VAN_URL", default=DEFAULT_URL, show_default=True, help="Router to ask."
    )
    @click.option("-r", "--router", help="Ask this interior router of the network instead.")
    @click.option("-e", "--edge", help="Ask this edge router of the network instead.")
    @click.option("-t", "--timeout", type=float, default=DEFAULT_TIMEOUT_S, show_default=True, help="Seconds to wait.")
    @click.option("--ssl-certificate", type=PATH, help="Own certificate (PEM).")
    @click.option("--ssl-key", type=PATH, help="Its private key.")
    @click.option("--ssl-password", help="Password of the key; better in VAN_SSL_PASSWORD.", envvar="VAN_SSL_PASSWORD")
    @click.option("--ssl-trustfile", type=PATH, help="Certificates of trusted authorities (PEM).")
    @click.option("--ssl-disable-peer-name-verify", is_flag=True, help="Accept a certificate of another name.")
    @click.option("--sasl-mechanisms", help="SASL mechanisms allowed.")
    @click.option("--sasl-username", help="User name.")
    @click.option("--sasl-password", help="Its password; better in VAN_SASL_PASSWORD.", envvar="VAN_SASL_PASSWORD")
    @functools.wraps(command)
    def connected(url: str, router: str | None, edge: str | None, timeout: float, **others: Any) -> None:
        if router is not None and edge is not None:
            raise click.UsageError("--router and --edge exclude each other.")
        credentials = Credentials(
            certificate=others.pop("ssl_certificate"),
            key=others.pop("ssl_key"),
            key_password=others.pop("ssl_password"),
            trusted=others.pop("ssl_trustfile"),
            is_name_checked=not others.pop("ssl_disable_peer_name_verify"),
            mechanisms=others.pop("sasl_mechanisms"),
            user=others.pop("sasl_username"),
            password=others.pop("sasl_password"),
        )
        with ManagementClient(url, timeout_s=timeout, credentials=credentials) as client:
            if router is not None:
                client.target = router_target(router)
            elif edge is not None:
                client.target = edge_target(edge)
            command(client, **others)

    return connected


@main.command("stat")
@click.argument("what", type=click.Choice(stat.NAMES), default="general")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every attribute.")
@with_client
def stat_command(client: ManagementClient, what: str, as_json: bool) -> None:
    """Show what a router knows and does."""
    stat.show(client, what, as_json=as_json)


@main.command()
@click.argument("file", type=click.Path())
def check(file: str) -> None:
    """Check a configuration file."""
    configuration = load_file(file)
    for warning in configuration.warnings:
        click.echo(f"warning: {warning}")
    counts: dict[str, int] = {}
    for entity in configuration.entities:
        if entity.file is not None:
            counts[entity.type] = counts.get(entity.type, 0) + 1
    listed = ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "defaults only"
    click.echo(f"{file}: good ({listed})")


@main.command()
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Newest events shown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_client
def log(client: ManagementClient, limit: int, as_json: bool) -> None:
    """Show the recent log of a router."""
    entries = client.log(limit)
    if as_json:
        print_json(entries)
        return
    for module, level, text, _file, _line, seconds in entries:
        time = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{time} {module} ({level}) {text}")


@main.group()
def manage() -> None:
    """Create, read, update, delete and list entities."""


def _pairs(texts: tuple[str, ...]) -> dict[str, object]:
    """Return `name=value` arguments as a map; the router converts by its schema."""
    attributes: dict[str, object] = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found:
            raise click.UsageError(f"{text!r} is not name=value.")
        attributes[name] = value
    return attributes


def _show(entity: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(entity)
    else:
        print_pairs(str(entity.get("identity", "")), entity.items())


with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_selection = [
    click.option("--name", help="Name of the entity."),
    click.option("--identity", help="Identity of the entity."),
]


def selected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that select one entity."""
    for option in with_selection:
        command = option(command)
    return command


@manage.command()
@click.argument("entity_type", metavar="TYPE", required=False)
@click.option("-a", "--attributes", default="", help="Comma list of attributes; none = all.")
@with_json
@with_client
def query(client: ManagementClient, entity_type: str | None, attributes: str, as_json: bool) -> None:
    """List the entities of a type, or all."""
    columns = [name for name in attributes.split(",") if name]
    rows = [
        {key: value for key, value in row.items() if value is not None} for row in client.query(entity_type, columns)
    ]
    if as_json:
        print_json(rows)
        return
    used = columns or list(dict.fromkeys(name for row in rows for name in row))
    print_table(entity_type or "All entities", [column(name) for name in used], rows)


@manage.command()
@click.argument("entity_type", metavar="TYPE")
@selected
@with_json
@with_client
def read(client: ManagementClient, entity_type: str, name: str | None, identity: str | None, as_json: bool) -> None:
    """Show one entity."""
    _show(client.read(entity_type, name=name, identity=identity), as_json=as_json)


@manage.command()
@click.argument("entity_type", metavar="TYPE")
@click.argument("attributes", metavar="NAME=VALUE...", nargs=-1)
@with_json
@with_client
def create(client: ManagementClient, entity_type: str, attributes: tuple[str, ...], as_json: bool) -> None:
    """Create an entity."""
    _show(client.create(entity_type, _pairs(attributes)), as_json=as_json)


@manage.command()
@click.argument("entity_type", metavar="TYPE")
@click.argument("attributes", metavar="NAME=VALUE...", nargs=-1, required=True)
@selected
@with_json
@with_client
def update(
    client: ManagementClient,
    entity_type: str,
    attributes: tuple[str, ...],
    name: str | None,
    identity: str | None,
    as_json: bool,
) -> None:
    """Change an entity."""
    _show(client.update(entity_type, _pairs(attributes), name=name, identity=identity), as_json=as_json)


@manage.command()
@click.argument("entity_type", metavar="TYPE")
@selected
@with_client
def delete(client: ManagementClient, entity_type: str, name: str | None, identity: str | None) -> None:
    """Delete an entity."""
    client.delete(entity_type, name=name, identity=identity)


@manage.command()
@click.argument("entity_type", metavar="TYPE")
def explain(entity_type: str) -> None:
    """Explain an entity type and its attributes."""
    found = SCHEMA.find(entity_type)
    if found is None:
        raise ConfigError(entity_type, f"no such type; there are {', '.join(SCHEMA.types)}")
    operations = ", ".join(SCHEMA.operations(found, extensions=True))
    click.echo(f"{found.short} ({found.full}): {found.help}\nOperations: {operations}\n")
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
    headings = ("attribute", "type", "default", "set by", "meaning")
    print_table("F = file, C = CREATE, U = UPDATE, ! = required", [column(heading) for heading in headings], rows)
