"""The error tree. Expected failures (refused, unreachable, no credit) are values or events, not exceptions.

    VanrouterError
    ├── ConfigError        the operator's input is wrong: names the key and the reason
    ├── MisuseError        our caller broke a contract
    ├── PeerError          the peer broke the protocol: ready to be put on the wire
    ├── ManagementError    a management request is refused: ready to be answered
    └── InternalError      a bug of ours

Layer: 1 (imports the standard library only).
"""

from __future__ import annotations


class VanrouterError(Exception):
    """Root of all errors that vanrouter raises on purpose."""


class ConfigError(VanrouterError):
    """A configuration value, section or file is wrong.

    Args:
        key: where: a section, `section.attribute`, or a file name.
        reason: what is wrong and what would be right, for the operator.
        file: name of the file, when it is known.
        line: line number in that file, from 1, when it is known.
    """

    def __init__(self, key: str, reason: str, *, file: str | None = None, line: int | None = None) -> None:
        self.key = key
        self.reason = reason
        self.file = file
        self.line = line
        place = "" if file is None else file if line is None else f"{file}:{line}"
        super().__init__(": ".join(part for part in (place, key, reason) if part))


class MisuseError(VanrouterError):
    """The caller of an interface inside vanrouter broke its contract."""


class PeerError(VanrouterError):
    """A peer broke the protocol.

    Args:
        condition: AMQP error condition symbol, for example `amqp:decode-error`.
        description: text for the peer and the log.
    """

    def __init__(self, condition: str, description: str) -> None:
        self.condition = condition
        self.description = description
        super().__init__(f"{condition} {description}")


class ManagementError(VanrouterError):
    """A management request is refused.

    Args:
        status: status code of the reply (400, 403, 404, 500, 501).
        description: text of the reply, saying why.
    """

    def __init__(self, status: int, description: str) -> None:
        self.status = status
        self.description = description
        super().__init__(f"{status} {description}")


class InternalError(VanrouterError):
    """A state that cannot be, by our own design."""
