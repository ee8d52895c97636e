"""Entity types and the schema: lookup, validation with defaults, listings for GET-*. Layer: 2, pure.

Source: management specification, sections 2 (type names), 3 (listings), 5 (refusals) and 8; the types themselves stand
in `entity_types.py`. What vanrouter adds is marked `extension` and left out of listings unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vanrouter.errors import ConfigError
from vanrouter.mgmt.attributes import Attribute, Kind, quoted, suggestion, text

PREFIX = "io.skupper.router"
"""Prefix of all type names, without the dot."""

NAME = text("name", "C", "Name given by the operator; unique over all entities.", unique=True)
IDENTITY = text("identity", "", "Name given by the router; unique and unchanging.", unique=True)
TYPE = text("type", "", "Full name of the entity type.")
COMMON_ATTRIBUTES = (NAME, IDENTITY, TYPE)
"""What every entity has, listed after its own."""


class InvalidEntityError(ConfigError):
    """Configured values break the schema or a rule between entities.

    Args:
        type_name: full name of the entity type, or empty.
        attribute: the attribute that is wrong, or empty.
        reason: what is wrong and what would be right.
        status: status code for a management reply.
        description: text for a management reply when it is not `<type>: <reason>`.
    """

    def __init__(
        self, type_name: str, attribute: str, reason: str, *, status: int = 400, description: str | None = None
    ) -> None:
        short = type_name.removeprefix(PREFIX + ".").removeprefix("router.config.")
        super().__init__(".".join(part for part in (short, attribute) if part), reason)
        self.attribute = attribute
        self.status = status
        self.description = description if description is not None else f"{type_name}: {reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityType:
    """One entity type.

    Args:
        short: name without prefix, as in identities and files: `listener`, `router.link`; `address` and `autoLink` for
            the two configuration types whose full names differ.
        help: what it is, for operators.
        base: short name of the type it derives from; empty for `entity`.
        own: its attributes, in declared order, without the common ones.
        operations: its own operations; the base's follow.
        extension_operations: operations that vanrouter adds.
        full: full name; by default prefix and short name.
        columns: order for "all columns" where it is not the declared one.
        section: a file may configure it.
        singleton: exactly one exists.
        counted: identities are decimal numbers, and untyped queries leave it out (section 4, the core half).
        observed: its rows come from the running router, not from configuration.
        forbidden: operations that answer 403 where others answer 501.
        extension: added by vanrouter.
    """

    short: str
    help: str
    base: str = ""
    own: tuple[Attribute, ...] = ()
    operations: tuple[str, ...] = ()
    extension_operations: tuple[str, ...] = ()
    full: str = ""
    columns: tuple[str, ...] = ()
    section: bool = False
    singleton: bool = False
    counted: bool = False
    observed: bool = False
    forbidden: frozenset[str] = frozenset()
    extension: bool = False
    attributes: dict[str, Attribute] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.full:
            object.__setattr__(self, "full", f"{PREFIX}.{self.short}")
        self.attributes.update((attribute.name, attribute) for attribute in (*self.own, *COMMON_ATTRIBUTES))

    def attribute_names(self, *, extensions: bool) -> list[str]:
        """Return the names as GET-ATTRIBUTES lists them."""
        return [name for name, attribute in self.attributes.items() if extensions or not attribute.extension]

    def all_columns(self, *, extensions: bool) -> list[str]:
        """Return the columns of a query that names none."""
        names = self.attribute_names(extensions=extensions)
        if not self.columns:
            return names
        return [*self.columns, *(name for name in names if name not in self.columns and extensions)]

    def attribute(self, name: str) -> Attribute:
        """Return the attribute called `name`.

        Raises:
            InvalidEntityError: there is none; the text names near ones.
        """
        found = self.attributes.get(name)
        if found is not None:
            return found
        hint = suggestion(name, tuple(self.attributes))
        reason = f"Unknown attribute {quoted(name)} for '{self.full}'{hint}"
        raise InvalidEntityError(self.full, name if len(name) < len(reason) else "", reason, description=reason)

    def convert(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return the values as stored, nulls left out. `type` and `identity` are left out too.

        Raises:
            InvalidEntityError: an unknown attribute or a value that does not fit.
        """
        converted: dict[str, object] = {}
        for name, value in values.items():
            attribute = self.attribute(name)
            if value is None or attribute is TYPE or attribute is IDENTITY:
                continue
            try:
                converted[name] = attribute.convert(value)
            except ValueError as error:
                reason = f"{error} (attribute '{name}')"
                raise InvalidEntityError(self.full, name, str(error), description=f"{self.full}: {reason}") from None
        return converted

    def complete(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return converted values with defaults added, in declared order.

        Raises:
            InvalidEntityError: a required attribute is missing.
        """
        completed: dict[str, object] = {}
        for name, attribute in self.attributes.items():
            value = values.get(name, attribute.default)
            if value is not None:
                completed[name] = value
            elif attribute.required:
                reason = f"Missing required attribute '{name}'"
                raise InvalidEntityError(
                    self.full, name, f"{reason}: {attribute.help}", description=f"{self.full}: {reason}"
                )
        return completed


class Schema:
    """All entity types, in declared order."""

    def __init__(self, types: Iterable[EntityType]) -> None:
        self.types: dict[str, EntityType] = {entity_type.short: entity_type for entity_type in types}
        self._by_full = {entity_type.full: entity_type for entity_type in self.types.values()}
        self._bases = {short: tuple(self._chain(entity_type)) for short, entity_type in self.types.items()}

    def _chain(self, entity_type: EntityType) -> Iterable[EntityType]:
        base = entity_type.base
        while base:
            yield self.types[base]
            base = self.types[base].base

    def __getitem__(self, short: str) -> EntityType:
        return self.types[short]

    def find(self, name: str) -> EntityType | None:
        """Return the type that `name` means: as it stands, with the prefix put before it, or a section name."""
        return self._by_full.get(name) or self._by_full.get(f"{PREFIX}.{name}") or self.types.get(name)

    def section(self, name: str) -> EntityType | None:
        """Return the type that a file section configures."""
        found = self.types.get(name)
        return found if found is not None and found.section else None

    def section_names(self) -> tuple[str, ...]:
        """Return the sections that a file may have."""
        return tuple(short for short, entity_type in self.types.items() if entity_type.section)

    def bases(self, entity_type: EntityType) -> tuple[EntityType, ...]:
        """Return the types it derives from, nearest first."""
        return self._bases[entity_type.short]

    def is_a(self, entity_type: EntityType, wanted: EntityType) -> bool:
        """Tell whether `entity_type` is `wanted` or derives from it."""
        return entity_type is wanted or wanted in self._bases[entity_type.short]

    def operations(self, entity_type: EntityType, *, extensions: bool) -> list[str]:
        """Return the operations of a type: its own, then inherited ones."""
        own = list(entity_type.operations)
        if extensions:
            own += entity_type.extension_operations
        for base in self.bases(entity_type):
            own += (operation for operation in base.operations if operation not in own)
        return own

    def listed(self, *, extensions: bool) -> list[EntityType]:
        """Return the types that listings show."""
        return [entity_type for entity_type in self.types.values() if extensions or not entity_type.extension]

    def describe(self, *, extensions: bool) -> dict[str, object]:
        """Return the answer to GET-SCHEMA."""
        types = {
            item.short: self._describe_type(item, extensions=extensions) for item in self.listed(extensions=extensions)
        }
        return {"prefix": PREFIX, "entityTypes": types}

    def _describe_type(self, entity_type: EntityType, *, extensions: bool) -> dict[str, object]:
        attributes = {
            attribute.name: _describe_attribute(attribute, extensions=extensions)
            for attribute in entity_type.attributes.values()
            if attribute is not TYPE and (extensions or not attribute.extension)
        }
        return _without_empty(
            {
                "attributes": attributes,
                "operations": self.operations(entity_type, extensions=extensions),
                "description": entity_type.help,
                "fullyQualifiedType": entity_type.full,
                "singleton": entity_type.singleton,
            }
        )


def _describe_attribute(attribute: Attribute, *, extensions: bool) -> dict[str, object]:
    kind: object = attribute.kind.value
    if attribute.kind is Kind.WORD:
        kind = [*attribute.words, *(attribute.extension_words if extensions else ())]
    return _without_empty(
        {
            "type": kind,
            "default": attribute.default,
            "required": attribute.required,
            "unique": attribute.unique,
            "description": attribute.help,
            "graph": attribute.graph,
        }
    )


def _without_empty(values: dict[str, object]) -> dict[str, object]:
    """Return the map without keys whose value is empty or false, as clients know it."""
    return {key: value for key, value in values.items() if value}
