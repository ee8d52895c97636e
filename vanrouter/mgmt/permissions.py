"""Who may do what on management: by user, operation and entity type. Layer: 2, pure.

Source: extensions. `managementPermission` entities are asked in their order, the first that fits decides. Where none
does, routers of the network and clients that come over loopback may do everything, others may read. What another router
passes on counts as that router's: it is the one that let its client in, and has judged it by its own permissions.
"""

from __future__ import annotations

from collections.abc import Iterable

from vanrouter.errors import ManagementError
from vanrouter.mgmt.attributes import text, word
from vanrouter.mgmt.entities import Entity
from vanrouter.mgmt.schema import EntityType

READING = frozenset({"READ", "QUERY"})
READING_PREFIX = "GET-"
"""Operations that change nothing."""

ALL, READ, WRITE = "*", "READ", "WRITE"
"""Words for operations: every one, those that change nothing, the others."""

OPERATIONS = frozenset({"CREATE", "READ", "UPDATE", "DELETE", "QUERY", "RELOAD", "PROFILE", "CALLME", WRITE, ALL})
"""What `managementPermission.operations` may name, beside GET-*."""

MANAGEMENT_PERMISSION = EntityType(
    short="managementPermission",
    help="Who may do what on management; the first that fits a request decides.",
    base="configurationEntity",
    section=True,
    extension=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text("users", "CU", "Comma list of users; `*` = everyone, `anonymous` = those without a name.", default=ALL),
        text(
            "operations",
            "CU",
            "Comma list of operations such as `CREATE,DELETE`; `read` = those that change nothing, `write` = the "
            "others, `*` = all.",
            default=ALL,
        ),
        text(
            "entityTypes",
            "CU",
            "Comma list of entity types such as `tcpListener`; `*` = all.",
            default=ALL,
        ),
        word("effect", ("allow", "deny"), "CU", "What becomes of a request that fits.", default="allow"),
    ),
)


def is_reading(operation: str) -> bool:
    """Tell whether an operation changes nothing."""
    return operation in READING or operation.startswith(READING_PREFIX)


def is_allowed(
    permissions: Iterable[Entity], *, user: str, is_trusted: bool, operation: str, entity_type: EntityType
) -> bool:
    """Tell whether a request may be done.

    Args:
        permissions: the managementPermission entities, in order.
        user: who asks.
        is_trusted: it came from a router of the network, or over loopback.
        operation: in capitals.
        entity_type: what it is about; that of the node for operations on the node.
    """
    for permission in permissions:
        if (
            _fits(permission.text("users"), {user})
            and _fits(permission.text("operations").upper(), {operation, READ if is_reading(operation) else WRITE})
            and _fits(permission.text("entityTypes"), {entity_type.short, entity_type.full})
        ):
            return permission.text("effect") == "allow"
    return is_trusted or is_reading(operation)


def refusal(user: str, operation: str, entity_type: EntityType) -> ManagementError:
    """Return the answer to a request that may not be done."""
    return ManagementError(
        403,
        f"User '{user[:80]}' may not {operation} {entity_type.short}: unless a managementPermission says otherwise, "
        "clients that come from another machine may only read",
    )


def entries(value: str) -> set[str]:
    """Return the entries of a comma list."""
    return {entry.strip() for entry in value.split(",")} - {""}


def _fits(value: str, wanted: set[str]) -> bool:
    found = entries(value)
    return ALL in found or not found.isdisjoint(wanted)
