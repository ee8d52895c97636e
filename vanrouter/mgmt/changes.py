"""The attribute maps of CREATE and UPDATE, checked against the flags of the schema. Layer: 2, pure.

Source: management specification, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from vanrouter.errors import ManagementError
from vanrouter.mgmt.attributes import quoted
from vanrouter.mgmt.schema import IDENTITY, NAME, TYPE, EntityType
from vanrouter.mgmt.secrets import Secret


def created(entity_type: EntityType, body: Mapping[str, object], name: str | None) -> dict[str, object]:
    """Return the attributes that a CREATE makes, defaults filled in.

    Args:
        entity_type: what is created.
        body: the map of the request.
        name: the name from the application properties.

    Raises:
        ManagementError: an attribute that CREATE may not set, or two names.
        InvalidEntityError: a value breaks the schema.
    """
    values = {key: value for key, value in body.items() if value is not None}
    for key in values:
        attribute = entity_type.attribute(key)
        if attribute is not TYPE and not attribute.creatable:
            raise ManagementError(400, f"Cannot set attribute '{key}' in CREATE")
    in_body = values.get("name")
    if name is not None and in_body is not None and in_body != name:
        raise ManagementError(400, f"Conflicting values for 'name': {quoted(name)} and {quoted(in_body)}")
    if name is not None:
        values["name"] = name
    return entity_type.complete(entity_type.convert(values))


def updated(
    entity_type: EntityType,
    body: Mapping[str, object],
    shown: Mapping[str, object],
    stored: Mapping[str, object],
) -> dict[str, object]:
    """Return the attributes that an UPDATE changes, converted; values that are as they were are left out.

    Args:
        entity_type: what is updated.
        body: the map of the request.
        shown: the attributes as READ gives them.
        stored: the configured values, passwords included.

    Raises:
        ManagementError: an attribute that UPDATE may not change has another value.
        InvalidEntityError: a value breaks the schema.
    """
    changes: dict[str, object] = {}
    for key, value in body.items():
        attribute = entity_type.attribute(key)
        if value is None:
            continue
        if attribute in (NAME, IDENTITY, TYPE):
            is_same = value == shown.get(key) or (attribute is TYPE and value in (entity_type.full, entity_type.short))
            if not is_same:
                raise ManagementError(400, f"Cannot update attribute '{key}' in UPDATE")
            continue
        converted = entity_type.convert({key: value})[key]
        if _is_same(converted, shown.get(key), stored.get(key)):
            continue
        if not attribute.updatable:
            raise ManagementError(400, f"Cannot update attribute '{key}' in UPDATE")
        changes[key] = converted
    return changes


def _is_same(converted: object, shown: object, stored: object) -> bool:
    if isinstance(converted, Secret):
        # What READ showed, sent back unchanged, keeps the password.
        return converted == stored or (stored is not None and converted.text == shown)
    return converted == shown and type(converted) is type(shown)
