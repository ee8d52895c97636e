"""The registry of configured entities: names, identities, uniqueness. Layer: 2, pure.

Source: management specification, section 7. Entities of the running router (links, connections) are not kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from vanrouter.mgmt.schema import EntityType, InvalidEntityError, Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityConfig:
    """One entity as a configuration gives it: converted values, defaults filled in.

    Args:
        type: short name of its type, such as `listener` or `address`.
        attributes: values by name; what has neither value nor default is absent.
        explicit: names of the attributes that were given.
        file: where it stands; None when it was added by default.
        line: line of its section in that file.
    """

    type: str
    attributes: dict[str, object]
    explicit: frozenset[str] = frozenset()
    file: str | None = None
    line: int | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Entity:
    """One configured entity of the running router.

    Args:
        type: its type.
        identity: given by the router, unchanging.
        name: given by the operator, else the identity; None for an address or autoLink created without one.
        attributes: its own values, without name, identity and type. Changed by UPDATE.
        explicit: names of the attributes that were given.
        is_from_file: a configuration file made it, not a request; a reload takes it away when the file has it no more.
    """

    type: EntityType
    identity: str
    name: str | None
    attributes: dict[str, object]
    explicit: frozenset[str] = frozenset()
    is_from_file: bool = False

    def text(self, name: str) -> str:
        """Return a textual attribute, empty when it has no value."""
        value = self.attributes.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """Return an integer attribute, 0 when it has no value."""
        value = self.attributes.get(name)
        return value if isinstance(value, int) else 0

    def is_on(self, name: str) -> bool:
        """Tell whether a boolean attribute is true."""
        return self.attributes.get(name) is True

    def __str__(self) -> str:
        return self.identity


@dataclass(slots=True)
class _Names:
    by_name: dict[str, Entity] = field(default_factory=dict)
    by_identity: dict[str, Entity] = field(default_factory=dict)


class Registry:
    """All configured entities, in the order they were added.

    Args:
        schema: the entity types.
        next_number: gives the next decimal identity; addresses and autoLinks share it with links.
    """

    def __init__(self, schema: Schema, next_number: Callable[[], int] | None = None) -> None:
        self.schema = schema
        self._next_number = next_number if next_number is not None else count(1).__next__
        self._of: dict[str, dict[str, Entity]] = {}
        self._shared = _Names()
        self._own: dict[str, _Names] = {}
        self._unnamed: dict[str, int] = {}
        self._by_key: dict[tuple[str, Callable[[Mapping[str, object]], str]], dict[str, Entity]] = {}

    def __iter__(self) -> Iterator[Entity]:
        for entities in self._of.values():
            yield from entities.values()

    def of(self, short: str) -> list[Entity]:
        """Return the entities of exactly this type, in order."""
        return list(self._of.get(short, {}).values())

    def single(self, short: str) -> Entity | None:
        """Return the first entity of a type, the only one of a singleton."""
        return next(iter(self._of.get(short, {}).values()), None)

    def named(self, short: str, name: str) -> Entity | None:
        """Return the entity of exactly this type with this name."""
        found = self._names(self.schema[short]).by_name.get(name)
        return found if found is not None and found.type.short == short else None

    def by_key(self, short: str, key: Callable[[Mapping[str, object]], str]) -> Mapping[str, Entity]:
        """Return the entities of a type by what `key` makes of their attributes, which must not change while they live.

        Made at the first call, kept up to date afterwards: one more entity costs the same among few and among many.
        """
        found = self._by_key.get((short, key))
        if found is None:
            found = self._by_key[short, key] = {key(entity.attributes): entity for entity in self.of(short)}
        return found

    def find(self, entity_type: EntityType | None, *, name: str | None, identity: str | None) -> Entity | None:
        """Return an entity by identity, else by name, among those that share names with the type."""
        names = self._shared if entity_type is None else self._names(entity_type)
        if identity is not None:
            return names.by_identity.get(identity)
        return names.by_name.get(name) if name is not None else None

    def load(self, config: EntityConfig) -> Entity:
        """Add an entity of a configuration file.

        Raises:
            InvalidEntityError: as for `add`.
        """
        entity_type = self.schema[config.type]
        attributes = dict(config.attributes)
        if entity_type.counted and "name" not in attributes:
            number = self._unnamed.get(config.type, 0)
            self._unnamed[config.type] = number + 1
            attributes["name"] = f"{config.type}/{number}"
        entity = self.add(entity_type, attributes, config.explicit)
        entity.is_from_file = True
        return entity

    def restore(self, entity: Entity) -> None:
        """Take back an entity that was removed, with the identity it had."""
        names = self._names(entity.type)
        self._refuse_duplicate(entity, names)
        self._put(entity, names)

    def add(
        self, entity_type: EntityType, attributes: Mapping[str, object], explicit: frozenset[str] = frozenset()
    ) -> Entity:
        """Add an entity with converted and completed attributes, `name` among them when it has one.

        Raises:
            InvalidEntityError: name or identity are taken, or it is a second singleton.
        """
        own = dict(attributes)
        given = own.pop("name", None)
        name = given if isinstance(given, str) and given else None
        if entity_type.singleton and (existing := self.single(entity_type.short)) is not None:
            reason = f"Adding {entity_type.short} singleton when {existing.identity} already exists"
            raise InvalidEntityError(entity_type.full, "", reason, description=reason)
        names = self._names(entity_type)
        if entity_type.counted and name is not None and name in names.by_name:
            reason = "Name conflicts with an existing entity"
            raise InvalidEntityError(entity_type.full, "name", f"{reason}: {name!r}", description=reason)
        identity = self._identity(entity_type, own, name)
        if not entity_type.counted and name is None:
            name = identity
        entity = Entity(type=entity_type, identity=identity, name=name, attributes=own, explicit=explicit)
        self._refuse_duplicate(entity, names)
        self._put(entity, names)
        return entity

    def _put(self, entity: Entity, names: _Names) -> None:
        if entity.name is not None:
            names.by_name[entity.name] = entity
        names.by_identity[entity.identity] = entity
        self._of.setdefault(entity.type.short, {})[entity.identity] = entity
        for (short, key), found in self._by_key.items():
            if short == entity.type.short:
                found[key(entity.attributes)] = entity

    def remove(self, entity: Entity) -> None:
        """Forget an entity."""
        names = self._names(entity.type)
        del self._of[entity.type.short][entity.identity]
        del names.by_identity[entity.identity]
        if entity.name is not None:
            del names.by_name[entity.name]
        for (short, key), found in self._by_key.items():
            if short == entity.type.short:
                found.pop(key(entity.attributes), None)

    def _names(self, entity_type: EntityType) -> _Names:
        return self._own.setdefault(entity_type.short, _Names()) if entity_type.counted else self._shared

    def _refuse_duplicate(self, entity: Entity, names: _Names) -> None:
        existing = names.by_identity.get(entity.identity)
        attribute = "identity"
        if entity.name is not None and entity.name != entity.identity and entity.name in names.by_name:
            existing = names.by_name[entity.name]
            attribute = "name"
        if existing is not None:
            reason = (
                f"adding {entity.identity} duplicates unique attribute '{attribute}' from existing {existing.identity}"
            )
            if entity.name is None or entity.name == entity.identity:
                reason += "; give each a name"
            raise InvalidEntityError(entity.type.full, attribute, reason, description=reason)

    def _identity(self, entity_type: EntityType, attributes: Mapping[str, object], name: str | None) -> str:
        short = entity_type.short
        if entity_type.counted:
            return str(self._next_number())
        parts = _IDENTIFIERS.get(short)
        if parts is not None:
            texts = [str(attributes.get(part, "")) for part in parts]
            if short in _NAMED_AFTER_PLACE and name is not None:
                texts.append(name)
            return f"{short}/{':'.join(texts)}"
        if short == "dummy":
            number = self._unnamed.get(short, 0)
            self._unnamed[short] = number + 1
            return f"dummy/{number}"
        return f"{short}/{_FIXED.get(short, name)}"


_PLACE = ("host", "port")
_IDENTIFIERS: dict[str, tuple[str, ...]] = {
    "listener": _PLACE,
    "connector": _PLACE,
    "tcpListener": _PLACE,
    "tcpConnector": _PLACE,
    "httpListener": _PLACE,
    "httpConnector": _PLACE,
    "listenerAddress": ("listener", "address"),
    "router": ("id",),
    "log": ("module",),
    "vhost": ("hostname",),
}
"""The attributes that make up the identity of a type, joined by colons."""

_NAMED_AFTER_PLACE = frozenset(short for short, parts in _IDENTIFIERS.items() if len(parts) > 1)
"""Types whose identity ends in the name when there is one."""

_FIXED = {"network": "0", "policy": "None", "site": "None"}
"""Identifiers of types with one entity, spelled as clients know them from the C router."""
