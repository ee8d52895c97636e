"""Passwords: held so that no log line or repr shows them, and read from where the configuration points. Layer: 2.

Source: management specification, section 8, `sslProfile.password` and `connector.saslPassword`. The C router returns
stored passwords in clear to any management client; vanrouter shows the reference (`env:NAME`, `file:PATH`) or a mask.
"""

from __future__ import annotations

import os

from vanrouter.errors import ConfigError

MASK = "***"
"""What is shown in place of a password that stands in the configuration itself."""

MAX_FILE_PASSWORD_BYTES = 199
"""Octets of the first line of a password file that count, as in the C router."""


class Secret:
    """Text that must not be shown: a password as the configuration has it, prefix included."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Secret({self.shown()!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def shown(self) -> str:
        """Return what management and logs may show: a reference as it stands, anything else masked."""
        return self.text if self.text.startswith(("env:", "file:")) else MASK


def resolve(secret: Secret, key: str, *, has_literal: bool = True) -> str:
    """Return the password that a configured secret stands for.

    Args:
        secret: the configured text: `env:VARIABLE`, `file:PATH`, `pass:TEXT`, `literal:TEXT` or the password itself.
        key: `type.attribute` for the error.
        has_literal: whether `literal:` is a prefix; for connector.saslPassword it is part of the password.

    Raises:
        ConfigError: the variable is not set or the file cannot be read; the text never contains the password.
    """
    prefix, separator, rest = secret.text.partition(":")
    if not separator or prefix not in _RESOLVERS or (prefix == "literal" and not has_literal):
        return secret.text
    return _RESOLVERS[prefix](rest, key)


def _from_environment(name: str, key: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise ConfigError(key, f"environment variable {name!r} is not set; set it or use file:PATH") from None


def _from_file(path: str, key: str) -> str:
    try:
        with open(path, "rb") as file:
            line = file.readline(MAX_FILE_PASSWORD_BYTES)
    except OSError as error:
        # The wording up to the reason is what programs written for the C router search for.
        raise ConfigError(key, f"Unable to open password file {path}, error: {error.strerror}") from error
    return line.rstrip(b"\r\n").decode("utf-8", "replace")


def _as_it_stands(text: str, key: str) -> str:
    return text


_RESOLVERS = {"env": _from_environment, "file": _from_file, "pass": _as_it_stands, "literal": _as_it_stands}
