"""Attributes of management entities: kinds, flags and the conversion of values. Layer: 2, pure.

Source: management specification, sections 6 (value types) and 8 (flags). One conversion serves configuration files
and management requests: text is taken wherever a typed value is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import TypedDict, Unpack

from vanrouter.mgmt.secrets import Secret

INTEGER_MINIMUM = -(2**63)
INTEGER_MAXIMUM = 2**64 - 1
"""What an AMQP integer type can carry."""

MAX_INTEGER_DIGITS = 20
"""Characters of the longest integer text that can be in range, sign included."""

QUOTE_LIMIT = 80
"""Characters of a wrong value that an error text repeats."""

_TRUE = frozenset({"yes", "true", "on"})
_FALSE = frozenset({"no", "false", "off"})


class Kind(Enum):
    """The schema type of an attribute; the value is its name in GET-SCHEMA."""

    TEXT = "string"
    PATH = "path"
    ENTITY_ID = "entityId"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    WORD = "enum"
    LIST = "list"
    MAP = "map"
    PROPERTIES = "properties"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of an entity type.

    Args:
        name: as on the wire and in files.
        kind: schema type.
        help: what it means, for operators.
        words: the words of an enumeration, in the order of their index.
        extension_words: further words that vanrouter adds; not listed unless asked for.
        default: value when none is given; None: the attribute is then absent.
        unset: what is shown when there is no value.
        required: must be given.
        unique: no two entities share a value.
        creatable: CREATE may set it.
        updatable: UPDATE may change it.
        settable: a file may set it (management too, by the flags above); otherwise it is live state of the router.
        extension: added by vanrouter; listings leave it out unless asked for.
        secret: a password: kept as `Secret`.
        deprecated: accepted with a warning.
        graph: a number that can be drawn over time.
        minimum: least integer allowed.
        maximum: greatest integer allowed.
    """

    name: str
    kind: Kind
    help: str
    words: tuple[str, ...] = ()
    extension_words: tuple[str, ...] = ()
    default: object = None
    unset: object = None
    required: bool = False
    unique: bool = False
    creatable: bool = False
    updatable: bool = False
    settable: bool = False
    extension: bool = False
    secret: bool = False
    deprecated: bool = False
    graph: bool = False
    minimum: int = INTEGER_MINIMUM
    maximum: int = INTEGER_MAXIMUM

    def convert(self, value: object) -> object:
        """Return `value` as this attribute stores it.

        Raises:
            ValueError: the value does not fit; the text says what would.
        """
        if self.kind in _TEXTUAL:
            text = _to_text(value)
            return Secret(text) if self.secret else text
        if self.kind is Kind.INTEGER:
            return self._to_integer(value)
        if self.kind is Kind.BOOLEAN:
            return _to_boolean(value)
        if self.kind is Kind.WORD:
            return self._to_word(value)
        if self.kind is Kind.LIST:
            return _to_list(value)
        return _to_map(value, ascii_keys=self.kind is Kind.PROPERTIES)

    def _to_integer(self, value: object) -> int:
        number = _parse_integer(value)
        if self.minimum <= number <= self.maximum:
            return number
        if self.maximum == INTEGER_MAXIMUM:
            raise ValueError(f"{number} is out of range; at least {self.minimum} is needed")
        raise ValueError(f"{number} is out of range; {self.minimum} to {self.maximum} is allowed")

    def _to_word(self, value: object) -> str:
        words = self.words + self.extension_words
        if isinstance(value, str) and value in words:
            return value
        if not isinstance(value, bool) and isinstance(value, int | str):
            index = int(value) if isinstance(value, int) or (value.isdecimal() and len(value) < 3) else -1
            if 0 <= index < len(words):
                return words[index]
        near = suggestion(value, words) if isinstance(value, str) else ""
        raise ValueError(f"Invalid value for enum[{', '.join(words)}]: {quoted(value)}{near}")


_TEXTUAL = frozenset({Kind.TEXT, Kind.PATH, Kind.ENTITY_ID})


def quoted(value: object) -> str:
    """Return `value` for an error text: quoted and cut."""
    if isinstance(value, str | bytes):
        cut = value[:QUOTE_LIMIT]
        return repr(cut) + ("..." if len(value) > QUOTE_LIMIT else "")
    if isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**QUOTE_LIMIT else "a huge integer"
    return f"a {type(value).__name__}"


def cut(text: str) -> str:
    """Return a text for an error text, shortened where it is long."""
    return text if len(text) <= QUOTE_LIMIT else f"{text[:QUOTE_LIMIT]}..."


def suggestion(wrong: str, known: tuple[str, ...]) -> str:
    """Return `; did you mean 'x'?` when a known name is near, else nothing."""
    if len(wrong) > QUOTE_LIMIT:
        return ""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(wrong.lower(), lower, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(repr(lower[name]) for name in near)}?" if near else ""


def _to_text(value: object) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can write it; no other router could be told of it
            raise ValueError("Invalid string value: a surrogate, half of a character, stands alone in it") from None
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple | Mapping):
        raise ValueError(f"Invalid string value: {quoted(value)}; one text is needed")
    return str(value)


def _parse_integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        digits = text[1:] if text[:1] in ("-", "+") else text
        if digits.isascii() and digits.isdigit() and len(text) <= MAX_INTEGER_DIGITS:
            return int(text)
    raise ValueError(f"invalid literal for int() with base 10: {quoted(value)}; a whole number is needed")


def _to_boolean(value: object) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"Invalid Boolean value {quoted(value)}; yes, no, true, false, on or off is needed")
    return bool(value)


def _to_list(value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError(f"Invalid list value {quoted(value)}; a list is needed")


def _to_map(value: object, *, ascii_keys: bool) -> dict[str, object]:
    if not isinstance(value, Mapping):
        subject = "Properties must be a map, not" if ascii_keys else "Invalid map value"
        raise ValueError(f"{subject} {quoted(value)}; a map is needed")
    converted: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValueError(f"Invalid map key {quoted(key)}; every key must be text")
        if ascii_keys and not key.isascii():
            raise ValueError(f"Property keys must be ASCII encoded, not {quoted(key)}")
        converted[str(key)] = item
    return converted


class Options(TypedDict, total=False):
    """What the short constructors below take beside name, access and help; meanings as in `Attribute`."""

    default: object
    unset: object
    required: bool
    unique: bool
    extension: bool
    extension_words: tuple[str, ...]
    secret: bool
    deprecated: bool
    graph: bool
    minimum: int
    maximum: int


def _attribute(
    kind: Kind, name: str, access: str, meaning: str, options: Options, words: tuple[str, ...] = ()
) -> Attribute:
    return Attribute(
        name=name,
        kind=kind,
        help=meaning,
        words=words,
        creatable="C" in access,
        updatable="U" in access,
        settable=bool(access),
        **options,
    )


def text(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a string. `access`: C = CREATE, U = UPDATE, F = files only, empty = live state."""
    return _attribute(Kind.TEXT, name, access, meaning, options)


def path(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a file or folder name; `access` as for `text`."""
    return _attribute(Kind.PATH, name, access, meaning, options)


def entity_id(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare the identity of another entity; `access` as for `text`."""
    return _attribute(Kind.ENTITY_ID, name, access, meaning, options)


def whole(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare an integer; `access` as for `text`."""
    return _attribute(Kind.INTEGER, name, access, meaning, options)


def measured(name: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare an integer that the running router counts or measures."""
    return _attribute(Kind.INTEGER, name, "", meaning, {"graph": True, **options})


def flag(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a boolean; `access` as for `text`."""
    return _attribute(Kind.BOOLEAN, name, access, meaning, options)


def word(name: str, words: tuple[str, ...], access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare an enumeration; `access` as for `text`."""
    return _attribute(Kind.WORD, name, access, meaning, options, words)


def many(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a list; `access` as for `text`."""
    return _attribute(Kind.LIST, name, access, meaning, options)


def mapping(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a map; `access` as for `text`."""
    return _attribute(Kind.MAP, name, access, meaning, options)


def properties(name: str, access: str, meaning: str, **options: Unpack[Options]) -> Attribute:
    """Declare a map with ASCII keys; `access` as for `text`."""
    return _attribute(Kind.PROPERTIES, name, access, meaning, options)
