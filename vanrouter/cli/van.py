"""The program `van`: the operator's tool. Layer: 6.

Exit codes: 0 done; 1 refused by the router, or a file is wrong, or there is no way; 2 wrong command line; 3 the router
cannot be reached or does not answer; 130 interrupted. The reason is one line on stderr that begins with `van: `.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import click
from click.shell_completion import get_completion_class

from vanrouter import __version__
from vanrouter.cli import events, path, stat, topology
from vanrouter.cli.connect import with_client
from vanrouter.cli.manage import manage
from vanrouter.cli.tables import PRINTERS, column, console, number, print_table, with_format
from vanrouter.cli.top import top
from vanrouter.errors import ManagementError, VanrouterError
from vanrouter.mgmt.client import ClientError, ManagementClient
from vanrouter.mgmt.config import load_file
from vanrouter.mgmt.entity_types import LOG_MODULES
from vanrouter.mgmt.levels import LEVELS
from vanrouter.mgmt.lines import printable

UNREACHABLE = 3
INTERRUPTED = 130


class _Program(click.Group):
    """Turns expected failures into a line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        code = 1
        try:
            return super().invoke(ctx)
        except ManagementError as error:
            click.echo(f"van: refused ({error.status}): {printable(error.description)}", err=True)
        except ClientError as error:
            click.echo(f"van: {printable(str(error))}", err=True)
            code = UNREACHABLE
        except VanrouterError as error:
            click.echo(f"van: {error}", err=True)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            sys.stderr.close()
        sys.exit(code)


def pause(seconds: float) -> None:
    """Wait; Ctrl-C ends it."""
    threading.Event().wait(seconds)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, "-v", "--version", message="%(version)s")
def main() -> None:
    """Look at and change routers of an application network.

    The router to ask is given by options, by a profile (-p) or by the environment: VAN_URL, VAN_PROFILE, VAN_SSL_...
    """


main.add_command(manage)
main.add_command(top)


@main.command("stat")
@click.argument("what", type=click.Choice(stat.NAMES), default="general")
@click.option("-w", "--watch", "interval_s", type=click.FloatRange(0.1), is_flag=False, flag_value=2.0,
              metavar="[SECONDS]", help="Show it again and again, every 2 seconds unless said.")  # fmt: skip
@with_format
@with_client
def stat_command(client: ManagementClient, what: str, interval_s: float | None, output: str | None) -> None:
    """Show what a router knows and does."""
    if interval_s is None:
        stat.show(client, what, output=output)
    elif output is not None:
        raise click.UsageError("--watch is for people: leave out --json and --yaml.")
    else:
        stat.watch(client, what, interval_s, wait=pause)


@main.command("topology")
@click.option("--dot", "form", flag_value="dot", help="Print a Graphviz graph.")
@click.option("--mermaid", "form", flag_value="mermaid", help="Print a Mermaid flow chart.")
@with_format
@with_client
def topology_command(client: ManagementClient, form: str | None, output: str | None) -> None:
    """Show the network as a tree, from the router that is asked."""
    network = topology.discover(client)
    if form is not None:
        for line in {"dot": topology.as_dot, "mermaid": topology.as_mermaid}[form](network):
            click.echo(line)
    elif output is not None:
        PRINTERS[output](topology.as_map(network))
    else:
        console().print(topology.tree_of(network))


HOP_COLUMNS = (number("hop"), column("router"), number("ms"), number("cost"))


@main.command()
@click.argument("destination")
@with_format
@with_client
def trace(client: ManagementClient, destination: str, output: str | None) -> None:
    """Show the routers on the way to a router or an address, and the time each takes to answer."""
    found = path.find(client, destination)
    rows = [path.as_row(hop) for hop in path.trace(client, found)]
    if output is not None:
        PRINTERS[output]({"destination": destination, "kind": found.kind, "hosts": list(found.hosts), "hops": rows})
    else:
        hosts = "" if found.kind == "router" else f" at {', '.join(found.hosts)}"
        print_table(f"To {found.kind} {destination}{hosts}", HOP_COLUMNS, rows)
    if rows and rows[-1]["ms"] is None:
        raise ClientError(f"{rows[-1]['router']} does not answer")


@main.command()
@click.argument("destination")
@click.option("-c", "--count", type=click.IntRange(1), default=4, show_default=True, help="How often.")
@click.option("-i", "--interval", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between.")
@with_client
def ping(client: ManagementClient, destination: str, count: int, interval: float) -> None:
    """Time the router that has an address, or is of that name: round trips through the network."""
    found = path.find(client, destination)
    target = path.target_of(client, found)
    host = found.text if found.kind == "edge" else found.hosts[0]
    click.echo(f"{found.kind} {destination} at {host}")
    times: list[float] = []
    for turn in range(count):
        if turn:
            pause(interval)
        seconds = path.round_trip(client, target)
        if seconds is None:
            click.echo(f"{turn + 1}: no answer")
        else:
            times.append(seconds)
            click.echo(f"{turn + 1}: {seconds * 1000:.2f} ms")
    if not times:
        raise ClientError(f"{host} does not answer")
    low, mean, high = min(times) * 1000, sum(times) / len(times) * 1000, max(times) * 1000
    click.echo(f"{len(times)} of {count} answered; least {low:.2f}, mean {mean:.2f}, most {high:.2f} ms")


@main.command()
@click.argument("file", type=click.Path())
@with_format
def check(file: str, output: str | None) -> None:
    """Check a configuration file."""
    configuration = load_file(file)
    counts: dict[str, int] = {}
    for entity in configuration.entities:
        if entity.file is not None:
            counts[entity.type] = counts.get(entity.type, 0) + 1
    if output is not None:
        PRINTERS[output]({"file": file, "warnings": configuration.warnings, "entities": counts})
        return
    for warning in configuration.warnings:
        click.echo(f"warning: {warning}")
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "defaults only"
    click.echo(f"{file}: good ({listed})")


@main.command()
@with_format
@with_client
def reload(client: ManagementClient, output: str | None) -> None:
    """Have a router read its configuration file again."""
    outcome = client.reload()
    if output is not None:
        PRINTERS[output](outcome)
        return
    for word in ("created", "updated", "deleted"):
        for identity in outcome.get(word) or ():
            click.echo(f"{word} {identity}")
    if not any(outcome.values()):
        click.echo("nothing differs")


@main.command()
@click.option("-n", "--limit", type=click.IntRange(1, events.MOST), default=50, show_default=True,
              help="Newest events shown.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-i", "--interval", type=click.FloatRange(0.1), default=1.0, show_default=True,
              help="Seconds between two looks, with --follow.")  # fmt: skip
@click.option("-m", "--module", "modules", multiple=True, type=click.Choice(LOG_MODULES, case_sensitive=False),
              help="Only this module; may be repeated.")  # fmt: skip
@click.option("-l", "--level", type=click.Choice(LEVELS), default="debug", help="Only this level and graver ones.")
@click.option("--levels", "shows_levels", is_flag=True, help="Show which levels are on, by module.")
@click.option("--set", "settings", multiple=True, metavar="MODULE=LEVELS",
              help="Change the levels of a module first, such as AGENT=debug+; may be repeated.")  # fmt: skip
@click.option("--json", "output", flag_value="json", help="Print JSON, one object a line.")
@with_client
def log(
    client: ManagementClient,
    limit: int,
    follow: bool,
    interval: float,
    modules: tuple[str, ...],
    level: str,
    shows_levels: bool,
    settings: tuple[str, ...],
    output: str | None,
) -> None:
    """Show the recent log of a router, and change its levels."""
    for setting in settings:
        module, found, levels = setting.partition("=")
        if not found:
            raise click.UsageError(f"{setting!r} is not MODULE=LEVELS.")
        events.set_level(client, module, levels)
    if shows_levels:
        events.show_levels(client)
        return
    if settings and not follow:
        return
    first = client.log(events.MOST)
    newest = list(events.chosen(first, modules, level))[-limit:]
    events.show(newest, output=output)
    if follow:
        for new in events.follow(client, first, interval_s=interval, wait=pause):
            events.show(events.chosen(new, modules, level), output=output)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete van's arguments: put `source <(van completion bash)` into ~/.bashrc."""
    found = get_completion_class(shell)
    assert found is not None  # the two are click's own
    click.echo(found(main, {}, "van", "_VAN_COMPLETE").source())
