"""Finding entities and reading them: the targets of READ, UPDATE and DELETE, and the rows of QUERY. Layer: 2, pure.

Source: management specification, sections 2 (QUERY), 4 and 5. Rows are made one at a time, so that a page of a long
list costs a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from vanrouter.errors import ManagementError
from vanrouter.mgmt.attributes import cut, quoted
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import MANAGEMENT
from vanrouter.mgmt.schema import EntityType
from vanrouter.mgmt.secrets import Secret

MAX_COLUMNS = 1000
"""Attributes that one query may name; all types together have fewer."""

ALWAYS_THERE = frozenset({"identity", "type"})
"""Columns that are never null."""

COMMON = ("name", "identity", "type")
"""Columns that every entity has without asking the running router."""


class Views(Protocol):
    """The running router, read only."""

    def rows(self, entity_type: str, skip: int = 0) -> Iterable[Mapping[str, object]]:
        """Return the rows of an operational type, by its short name, in a steady order; without `type`.

        `skip`: leave out so many at the beginning; they need not be made.
        """

    def live(self, entity: Entity) -> Mapping[str, object]:
        """Return what was observed of a configured entity, such as `operStatus`."""

    def nodes(self) -> list[str]:
        """Return the ids of the known interior routers, self first; nothing on edge and standalone routers."""

    def log_entries(self, limit: int) -> list[list[object]]:
        """Return the newest `limit` events, oldest first: module, level, text, file, line, epoch seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about: a configured entity, or a row of the running router."""

    type: EntityType
    entity: Entity | None = None
    row: Mapping[str, object] = field(default_factory=dict)


def find_target(
    registry: Registry, views: Views, wanted: EntityType | None, name: str | None, identity: str | None
) -> Target:
    """Return the entity that a request names.

    Raises:
        ManagementError: it names none, or an unknown one, or one of another type.
    """
    if name is None and identity is None:
        text = "No name or identity provided"
        raise ManagementError(400, text if wanted is None or wanted.counted else f"{wanted.full}: {text}")
    target = _find_observed(views, registry, wanted, name, identity)
    if target is None and (wanted is None or not wanted.observed):
        entity = registry.find(wanted, name=name, identity=identity)
        target = None if entity is None else Target(type=entity.type, entity=entity)
    missing = ManagementError(
        404,
        "Not Found"
        if wanted is not None and wanted.counted and not wanted.observed
        else f"No entity with identity={cut(identity)}"
        if identity is not None
        else f"No entity with name={cut(name or '')}",
    )
    if target is None:
        raise missing
    if name is not None and identity is not None and _name_of(target) != name:
        raise ManagementError(400, f"Conflicting name={cut(name)} identity={cut(identity)}")
    if wanted is not None and target.type is not wanted:
        if registry.schema.is_a(target.type, wanted):
            raise missing
        reason = f"Entity type '{target.type.full}' does not extend requested type '{wanted.full}'"
        raise ManagementError(400, reason)
    return target


def _name_of(target: Target) -> object:
    return target.row.get("name") if target.entity is None else target.entity.name


def _find_observed(
    views: Views, registry: Registry, wanted: EntityType | None, name: str | None, identity: str | None
) -> Target | None:
    """Look among the rows of one type: the wanted one, or the one that the identity begins with."""
    candidates = [wanted] if wanted is not None else _types_named(registry, identity if identity is not None else name)
    for entity_type in candidates:
        if not entity_type.observed:
            continue
        key, value = ("identity", identity) if identity is not None else ("name", name)
        for row in views.rows(entity_type.short):
            if row.get(key) == value:
                return Target(type=entity_type, row=row)
    return None


def _types_named(registry: Registry, text: str | None) -> list[EntityType]:
    found = registry.schema.types.get((text or "").partition("/")[0])
    if found is not None:
        return [] if found.counted else [found]
    return [registry.schema["logStats"]]  # the one observed type whose names do not begin with the type


def attributes_of(target: Target, views: Views, *, extensions: bool) -> dict[str, object]:
    """Return the attribute map of a READ: without nulls, except for the types that clients know with them."""
    columns = target.type.all_columns(extensions=extensions)
    live = target.row if target.entity is None else views.live(target.entity)
    values = {column: _value(target, live, column) for column in columns}
    if target.type.counted:
        return values
    return {column: value for column, value in values.items() if value is not None}


def _value(target: Target, live: Mapping[str, object], column: str) -> object:
    if column == "type":
        return target.type.full
    entity = target.entity
    if entity is None:
        value = live.get(column)
        return _when_none(target.type, column) if value is None else value
    if column == "identity":
        return entity.identity
    if column == "name":
        return entity.name
    value = live.get(column)
    if value is None:
        value = entity.attributes.get(column)
    if value is None:
        return _when_none(target.type, column)
    return value.shown() if isinstance(value, Secret) else value


def _when_none(entity_type: EntityType, column: str) -> object:
    """Return what is shown for an attribute that has no value."""
    attribute = entity_type.attributes.get(column)
    if attribute is None:
        return None
    return attribute.default if entity_type.observed else attribute.unset


class Query:
    """One QUERY.

    Args:
        registry: configured entities.
        views: the running router.
        wanted: the type asked for, possibly a base type; None = all.
        asked: the attributeNames of the request, as received.
        extensions: list what vanrouter adds.
        may_show: whether the rows of a type may be shown; asked where no single type was.

    Raises:
        ManagementError: unknown or malformed attribute names.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        views: Views,
        wanted: EntityType | None,
        asked: object,
        extensions: bool,
        may_show: Callable[[EntityType], bool] = lambda entity_type: True,
    ) -> None:
        self._registry = registry
        self._views = views
        self._types = _concrete(registry, wanted, extensions=extensions)
        if len(self._types) > 1:
            self._types = [entity_type for entity_type in self._types if may_show(entity_type)]
        names = _column_names(asked)
        self._check(names, wanted)
        self.columns = names or _all_columns(
            self._types if wanted is None or len(self._types) > 1 else [wanted], extensions
        )

    def _check(self, names: Sequence[str], wanted: EntityType | None) -> None:
        types = self._registry.schema.types.values() if wanted is None or len(self._types) > 1 else [wanted]
        unknown = [name[:80] for name in names if not any(name in entity_type.attributes for entity_type in types)]
        if unknown:
            place = "" if wanted is None else f" for type {wanted.full}"
            raise ManagementError(404, f"Unknown attributes {unknown[:10]}{place}.")

    def page(self, offset: int, count: int) -> Iterator[list[object]]:
        """Yield rows, each made when it is asked for; `count` zero or less = all."""
        start = max(offset, 0)
        end = start + count if count > 0 else None
        if ALWAYS_THERE.isdisjoint(self.columns):
            made = (self._row(target) for target in self._all_targets())
            return islice((row for row in made if any(value is not None for value in row)), start, end)
        # No row can be all nulls: what is skipped need not be read.
        if len(self._types) == 1 and self._types[0].observed:
            rows = self._views.rows(self._types[0].short, start)
            targets: Iterator[Target] = (Target(type=self._types[0], row=row) for row in rows)
            return (self._row(target) for target in islice(targets, count if count > 0 else None))
        return (self._row(target) for target in islice(self._all_targets(), start, end))

    def _all_targets(self) -> Iterator[Target]:
        for entity_type in self._types:
            yield from self._targets(entity_type)

    def _row(self, target: Target) -> list[object]:
        live = self._live(target)
        return [_value(target, live, column) for column in self.columns]

    def _live(self, target: Target) -> Mapping[str, object]:
        if target.entity is None:
            return target.row
        attributes = target.type.attributes
        if any(
            column not in COMMON and column in attributes and not attributes[column].settable for column in self.columns
        ):
            return self._views.live(target.entity)
        return {}

    def _targets(self, entity_type: EntityType) -> Iterator[Target]:
        if entity_type is MANAGEMENT:
            yield Target(type=MANAGEMENT, row={"name": "self", "identity": "self"})
        elif entity_type.observed:
            for row in self._views.rows(entity_type.short):
                yield Target(type=entity_type, row=row)
        else:
            for entity in self._registry.of(entity_type.short):
                yield Target(type=entity_type, entity=entity)


def _concrete(registry: Registry, wanted: EntityType | None, *, extensions: bool) -> list[EntityType]:
    """Return the types whose rows a query lists."""
    schema = registry.schema
    general = [entity_type for entity_type in schema.listed(extensions=extensions) if not entity_type.counted]
    if wanted is None:
        return general
    derived = [entity_type for entity_type in general if schema.is_a(entity_type, wanted)]
    return derived if len(derived) > 1 else [wanted]


def _column_names(asked: object) -> list[str]:
    if asked is None:
        return []
    if not isinstance(asked, list | tuple):
        raise ManagementError(400, f"attributeNames must be a list of names, not {quoted(asked)}")
    if len(asked) > MAX_COLUMNS:
        raise ManagementError(400, f"attributeNames holds {len(asked)} names; at most {MAX_COLUMNS} are allowed")
    names: list[str] = []
    for name in asked:
        if not isinstance(name, str):
            raise ManagementError(400, f"attributeNames must be a list of names, not of {quoted(name)}")
        names.append(str(name))
    return names


def _all_columns(types: Sequence[EntityType], extensions: bool) -> list[str]:
    if len(types) == 1:
        return types[0].all_columns(extensions=extensions)
    union = dict.fromkeys(
        name
        for entity_type in types
        for name in entity_type.attribute_names(extensions=extensions)
        if name not in COMMON
    )
    return [*union, *COMMON]
