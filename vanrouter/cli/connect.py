"""How `van` finds the router to ask: options, a profile file, the environment. Layer: 6.

An option on the command line wins over the environment, that over the profile, that over the default. A profile is a
YAML map of the long option names, such as `url: amqps://router:5671` and `ssl-certificate: /etc/van/me.pem`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from click.core import ParameterSource

from vanrouter.errors import ConfigError
from vanrouter.mgmt.client import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    Credentials,
    ManagementClient,
    edge_target,
    router_target,
)

PATH = click.Path(exists=True, dir_okay=False)

PROFILE_FOLDER = Path("~/.config/van")
"""Where `--profile NAME` looks for `NAME.yaml`."""

PROFILE_KEYS = (
    "url", "router", "edge", "timeout", "ssl-certificate", "ssl-key", "ssl-password", "ssl-trustfile",
    "ssl-disable-peer-name-verify", "sasl-mechanisms", "sasl-username", "sasl-password",
)  # fmt: skip
PROFILE_FLAGS = ("ssl-disable-peer-name-verify",)
PROFILE_NUMBERS = ("timeout",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to connect, and as whom."""

    url: str
    timeout_s: float
    credentials: Credentials
    router: str | None
    """Interior router to ask instead."""
    edge: str | None


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection options, and call it with a connected client in their place."""

    @with_place
    @functools.wraps(command)
    def connected(place: Place, **others: Any) -> None:
        with ManagementClient(place.url, timeout_s=place.timeout_s, credentials=place.credentials) as client:
            if place.router is not None:
                client.target = router_target(place.router)
            elif place.edge is not None:
                client.target = edge_target(place.edge)
            command(client, **others)

    return connected


def with_place(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the connection options, and call it with what they say."""

    @click.option("-b", "--bus", "--url", "url", envvar="VAN_URL", default=DEFAULT_URL, show_default=True,
                  help="Router to ask.")  # fmt: skip
    @click.option("-p", "--profile", envvar="VAN_PROFILE", metavar="NAME|FILE",
                  help="Take the other options from a YAML file; a NAME means ~/.config/van/NAME.yaml.")  # fmt: skip
    @click.option("-r", "--router", envvar="VAN_ROUTER", help="Ask this interior router of the network instead.")
    @click.option("-e", "--edge", envvar="VAN_EDGE", help="Ask this edge router of the network instead.")
    @click.option("-t", "--timeout", envvar="VAN_TIMEOUT", type=click.FloatRange(0, min_open=True),
                  default=DEFAULT_TIMEOUT_S, show_default=True, help="Seconds to wait.")  # fmt: skip
    @click.option("--ssl-certificate", type=PATH, envvar="VAN_SSL_CERTIFICATE", help="Own certificate (PEM).")
    @click.option("--ssl-key", type=PATH, envvar="VAN_SSL_KEY", help="Its private key.")
    @click.option("--ssl-password", envvar="VAN_SSL_PASSWORD", help="Password of the key; better in VAN_SSL_PASSWORD.")
    @click.option("--ssl-trustfile", type=PATH, envvar="VAN_SSL_TRUSTFILE",
                  help="Certificates of trusted authorities (PEM).")  # fmt: skip
    @click.option("--ssl-disable-peer-name-verify", is_flag=True, help="Accept a certificate of another name.")
    @click.option("--sasl-mechanisms", envvar="VAN_SASL_MECHANISMS", help="SASL mechanisms allowed.")
    @click.option("--sasl-username", envvar="VAN_SASL_USERNAME", help="User name.")
    @click.option("--sasl-password", envvar="VAN_SASL_PASSWORD", help="Its password; better in VAN_SASL_PASSWORD.")
    @functools.wraps(command)
    def connected(profile: str | None, **given: Any) -> None:
        context = click.get_current_context()
        settled = _settled(context, given, {} if profile is None else read_profile(profile))
        others = {key: value for key, value in given.items() if key.replace("_", "-") not in PROFILE_KEYS}
        if settled["router"] is not None and settled["edge"] is not None:
            raise click.UsageError("--router and --edge exclude each other.")
        credentials = Credentials(
            certificate=settled["ssl-certificate"],
            key=settled["ssl-key"],
            key_password=settled["ssl-password"],
            trusted=settled["ssl-trustfile"],
            is_name_checked=not settled["ssl-disable-peer-name-verify"],
            mechanisms=settled["sasl-mechanisms"],
            user=settled["sasl-username"],
            password=settled["sasl-password"],
        )
        place = Place(
            url=settled["url"],
            timeout_s=settled["timeout"],
            credentials=credentials,
            router=settled["router"],
            edge=settled["edge"],
        )
        command(place, **others)

    return connected


def _settled(context: click.Context, given: dict[str, Any], profile: dict[str, object]) -> dict[str, Any]:
    """Return the options in force: a profile fills those that nobody has given."""
    settled: dict[str, Any] = {}
    for key in PROFILE_KEYS:
        name = key.replace("-", "_")
        is_default = context.get_parameter_source(name) is ParameterSource.DEFAULT
        settled[key] = profile[key] if is_default and key in profile else given[name]
    return settled


def read_profile(profile: str) -> dict[str, object]:
    """Return the options of a profile, by name or by file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    is_file = "/" in profile or profile.endswith((".yaml", ".yml"))
    path = Path(profile) if is_file else (PROFILE_FOLDER / f"{profile}.yaml").expanduser()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--profile", f"cannot read: {getattr(error, 'strerror', error)}", file=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        raise ConfigError("--profile", "is not YAML", file=str(path), line=line) from error
    if not isinstance(content, dict):
        raise ConfigError("--profile", "must be a map of options", file=str(path))
    unknown = [str(key) for key in content if key not in PROFILE_KEYS]
    if unknown:
        reason = f"unknown option {unknown[0]!r}; known are {', '.join(PROFILE_KEYS)}"
        raise ConfigError("--profile", reason, file=str(path))
    return {key: _option(key, value, str(path)) for key, value in content.items()}


def _option(key: str, value: object, file: str) -> object:
    """Return an option of a profile as the command line would give it."""
    if key in PROFILE_FLAGS:
        wanted = "true or false"  # a text would be true whatever it says
        if isinstance(value, bool):
            return value
    elif key in PROFILE_NUMBERS:
        wanted = "a number above 0"
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
    else:
        wanted = "a text"
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    raise ConfigError(f"--profile {key}", f"must be {wanted}", file=file)
