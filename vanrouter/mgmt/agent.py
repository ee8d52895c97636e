"""The management agent: one request in, one reply out. Layer: 2, pure.

Source: management specification, sections 2 to 5. The C router splits the work between two halves with different rules;
here one path follows the schema, and what clients can see of the split (decimal identities, types left out of untyped
queries, rows with nulls) is a flag of the entity type. The agent sees the running router through `Views` and changes it
through `Actions`; the encoding of requests and replies is the engine's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from vanrouter.errors import ConfigError, ManagementError, VanrouterError
from vanrouter.mgmt import rules
from vanrouter.mgmt.attributes import quoted
from vanrouter.mgmt.changes import created, updated
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import MANAGEMENT
from vanrouter.mgmt.permissions import MANAGEMENT_PERMISSION, is_allowed, refusal
from vanrouter.mgmt.query import Query, Target, Views, attributes_of, find_target
from vanrouter.mgmt.schema import EntityType, InvalidEntityError
from vanrouter.mgmt.types_observed import CONNECTION

__all__ = ["Actions", "Agent", "Reply", "Request", "Views"]

logger = logging.getLogger(__name__)

MAX_LOG_ENTRIES = 1000
"""Events that GET-LOG can return."""

MAX_INDENT = 16
"""Widest indentation of GET-JSON-SCHEMA."""

LOGGED_CHARACTERS = 1024
"""How much of a request goes into the log."""

_DESCRIPTIONS = {200: "OK", 201: "Created", 204: "No Content"}

UNTOUCHABLE_ROLES = frozenset({"inter-router", "edge"})
UNTOUCHABLE_HOST = "egress-dispatch"
"""Connections that management may not cut (section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A management request.

    Args:
        operation: the application property of that name, whatever it is; None when there is none.
        properties: all application properties.
        body: the value of the body.
        correlation_id: copied to the reply by whoever sends it.
        reply_to: where the reply goes.
        user: who asks, for the log and for policy.
        is_trusted: it came from a router of the network, or over loopback.
        extensions: show what vanrouter adds to the schema.
    """

    operation: object
    properties: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    correlation_id: object = None
    reply_to: str | None = None
    user: str = "anonymous"
    is_trusted: bool = True
    extensions: bool = False

    @classmethod
    def of(
        cls,
        properties: Mapping[str, object],
        body: object,
        *,
        correlation_id: object = None,
        reply_to: str | None = None,
        user: str = "anonymous",
        is_trusted: bool = True,
    ) -> Request:
        """Return the request that application properties and body make."""
        return cls(
            operation=properties.get("operation"),
            properties=properties,
            body=body,
            correlation_id=correlation_id,
            reply_to=reply_to,
            user=user,
            is_trusted=is_trusted,
            extensions=properties.get("extensions") is True,
        )

    def text(self, key: str) -> str | None:
        """Return a property as text, None when it is absent or empty."""
        value = self.properties.get(key)
        if value is None or value == "":
            return None
        return str(value) if isinstance(value, str | int) else ""

    def map_body(self) -> Mapping[str, object]:
        """Return the body as a map with text keys.

        Raises:
            ManagementError: it is something else.
        """
        if self.body is None:
            return {}
        if not isinstance(self.body, Mapping):
            raise ManagementError(500, f"The body must be a map, not {quoted(self.body)}")
        for key in self.body:
            if not isinstance(key, str):
                raise ManagementError(400, f"The keys of the body must be text, not {quoted(key)}")
        return self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer: status code, its text and the body."""

    status: int
    description: str
    body: object


Gather = Callable[[Iterator[list[object]], Callable[[list[object] | None], None]], None]
"""Collects rows and calls back with them; with None when making them has failed."""


class Actions(Protocol):
    """What changes the running router. Each may raise ManagementError or ConfigError: the change is then undone."""

    def create(self, entity: Entity) -> None:
        """Bring up an entity that was just registered."""

    def update(self, entity: Entity, changes: Mapping[str, object]) -> None:
        """Apply changes; the entity has its new values already."""

    def delete(self, entity: Entity) -> None:
        """Take down an entity; it leaves the registry afterwards."""

    def reload(self, done: Callable[[Mapping[str, list[str]] | VanrouterError], object]) -> None:
        """Read the configuration file again; `done` is told what has changed, or why nothing has."""

    def update_connection(self, identity: str, changes: Mapping[str, object]) -> None:
        """Cut a connection (`adminStatus` = deleted) or switch its frame trace (`enableProtocolTrace`)."""


class Agent:
    """Answers management requests.

    Args:
        registry: the configured entities; the agent adds and removes them.
        views: the running router, read only.
        actions: what changes it.
    """

    def __init__(self, registry: Registry, views: Views, actions: Actions) -> None:
        self._registry = registry
        self._schema = registry.schema
        self._views = views
        self._actions = actions
        self.refused = 0
        self.crashed = 0
        self._node_operations: dict[str, Callable[[Request], object]] = {
            "GET-TYPES": self._get_types,
            "GET-ATTRIBUTES": self._get_attributes,
            "GET-OPERATIONS": self._get_operations,
            "GET-ANNOTATIONS": self._get_annotations,
            "GET-MGMT-NODES": self._get_nodes,
            "GET-SCHEMA": self._get_schema,
            "GET-JSON-SCHEMA": self._get_json_schema,
            "GET-LOG": self._get_log,
            "PROFILE": self._profile,
            "READ": self._read_node,
        }
        self._entity_operations: dict[str, Callable[[Request, Target], tuple[int, object]]] = {
            "READ": self._read,
            "UPDATE": self._update,
            "DELETE": self._delete,
            "CALLME": self._call_me,
        }

    def handle(
        self, request: Request, later: Callable[[Reply], object] = lambda reply: None, gather: Gather | None = None
    ) -> Reply | None:
        """Answer one request; whatever it holds, there is a reply: returned, or given to `later` and None returned.

        Args:
            request: what is asked.
            later: told the reply that takes its time.
            gather: collects the rows of a QUERY, in its own time; None: they are collected at once.
        """
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("Agent request user=%s properties=%s", request.user, _for_log(request.properties))
        try:
            answer = self._answer(request, later, gather)
        except ManagementError as error:
            return self._refuse(request, error.status, error.description)
        except InvalidEntityError as error:
            return self._refuse(request, error.status, error.description)
        except ConfigError as error:
            return self._refuse(request, 500, f"CError: Configuration: {error.reason}")
        except Exception as error:  # the second crash boundary: whoever asked is told, and the connection stays
            self.crashed += 1
            logger.exception("Error performing %s: %s", quoted(request.operation), type(error).__name__)
            return Reply(status=500, description=f"Internal error: {type(error).__name__}", body={})
        if answer is None:
            return None
        status, body = answer
        return Reply(status=status, description=_DESCRIPTIONS[status], body=body)

    def _refuse(self, request: Request, status: int, description: str) -> Reply:
        self.refused += 1
        operation = request.operation if isinstance(request.operation, str) else quoted(request.operation)
        logger.error("Error performing %s: %s", operation[:LOGGED_CHARACTERS], description)
        return Reply(status=status, description=description, body={})

    def _answer(
        self, request: Request, later: Callable[[Reply], object], gather: Gather | None
    ) -> tuple[int, object] | None:
        if not isinstance(request.operation, str) or not request.operation:
            raise ManagementError(400, f"No 'operation' property: {_for_log(request.properties)}")
        operation = request.operation.upper()
        if operation == "CREATE":
            return self._create(request)
        if operation == "QUERY":
            return self._begin_query(request, later, gather)
        wanted = self._type_of(request, "type")
        if self._is_for_node(request, wanted):
            self._permit(request, operation, MANAGEMENT)
            if operation == "RELOAD":
                self._reload(request, later)
                return None
            handler = self._node_operations.get(operation)
            if handler is None:
                raise self._not_implemented(request, MANAGEMENT)
            return 200, handler(request)
        if wanted is not None:
            self._allow(request, operation, wanted)
        target = self._target(request, operation, wanted)
        self._allow(request, operation, target.type)
        self._permit(request, operation, target.type)
        return self._entity_operations[operation](request, target)

    def _may(self, request: Request, operation: str, entity_type: EntityType) -> bool:
        return is_allowed(
            self._registry.of(MANAGEMENT_PERMISSION.short),
            user=request.user,
            is_trusted=request.is_trusted,
            operation=operation,
            entity_type=entity_type,
        )

    def judge(self, request: Request) -> Reply | None:
        """Judge a request that goes to another router: None when it may go there, or why not.

        The entity that it means is not here to be looked at: who may do something with one of the types that it may be
        about must be allowed it with all of them. The body is not needed.
        """
        try:
            if not isinstance(request.operation, str) or not request.operation:
                raise ManagementError(400, f"No 'operation' property: {_for_log(request.properties)}")
            operation = request.operation.upper()
            for entity_type in self._meant(request, operation):
                self._permit(request, operation, entity_type)
        except ManagementError as error:
            return self._refuse(request, error.status, error.description)
        return None

    def _meant(self, request: Request, operation: str) -> list[EntityType]:
        """Return the types that a request may be about, by its properties alone."""
        every = list(self._schema.types.values())
        if not self._registry.of(MANAGEMENT_PERMISSION.short):
            return [MANAGEMENT]  # where nothing is said of types, they make no difference
        wanted = self._schema.find(request.text("type") or "")
        if operation == "QUERY":
            queried = request.text("entityType")
            if queried is not None:
                wanted = self._schema.find(queried)
            elif wanted is not None and self._schema.is_a(MANAGEMENT, wanted):
                wanted = None
        elif operation != "CREATE" and self._is_for_node(request, wanted):
            return [MANAGEMENT]
        return every if wanted is None else [found for found in every if self._schema.is_a(found, wanted)]

    def _permit(self, request: Request, operation: str, entity_type: EntityType) -> None:
        if not self._may(request, operation, entity_type):
            raise refusal(request.user, operation, entity_type)

    def _is_for_node(self, request: Request, wanted: EntityType | None) -> bool:
        if wanted is not None and not self._schema.is_a(MANAGEMENT, wanted):
            return False
        keys = {request.text("name"), request.text("identity")} - {None}
        return not keys or keys == {"self"}

    def _type_of(self, request: Request, key: str) -> EntityType | None:
        name = request.text(key)
        if name is None:
            return None
        found = self._schema.find(name)
        if found is None:
            raise ManagementError(400, f"No such entity type {quoted(name)}")
        return found

    def _target(self, request: Request, operation: str, wanted: EntityType | None) -> Target:
        try:
            return find_target(self._registry, self._views, wanted, request.text("name"), request.text("identity"))
        except ManagementError as error:
            if wanted is CONNECTION and operation == "UPDATE":
                raise ManagementError(400, error.description) from None  # as the C router answers here
            raise

    def _allow(self, request: Request, operation: str, entity_type: EntityType) -> None:
        if operation in entity_type.forbidden:
            raise ManagementError(403, "Forbidden")
        allowed = self._schema.operations(entity_type, extensions=True)
        if entity_type is CONNECTION:
            allowed.append("UPDATE")
        if operation not in allowed:
            raise self._not_implemented(request, entity_type)

    def _not_implemented(self, request: Request, entity_type: EntityType) -> ManagementError:
        operations = self._schema.operations(entity_type, extensions=request.extensions)
        return ManagementError(
            501, f"Operation {quoted(request.operation)} not implemented for '{entity_type.full}' {operations}"
        )

    # --- the node ---

    def _begin_query(
        self, request: Request, later: Callable[[Reply], object], gather: Gather | None
    ) -> tuple[int, object] | None:
        columns, rows = self._query(request)
        if gather is None:
            return 200, {"attributeNames": columns, "results": list(rows)}

        def done(results: list[object] | None) -> None:
            if results is None:
                self.crashed += 1
                later(Reply(status=500, description="Internal error while rows were made", body={}))
            else:
                body = {"attributeNames": columns, "results": results}
                later(Reply(status=200, description=_DESCRIPTIONS[200], body=body))

        gather(rows, done)
        return None

    def _query(self, request: Request) -> tuple[list[str], Iterator[list[object]]]:
        wanted = self._type_of(request, "entityType")
        if wanted is None:
            named = self._type_of(request, "type")
            wanted = None if named is None or self._schema.is_a(MANAGEMENT, named) else named
        if wanted is not None:
            self._permit(request, "QUERY", wanted)
        query = Query(
            registry=self._registry,
            views=self._views,
            wanted=wanted,
            asked=request.map_body().get("attributeNames"),
            extensions=request.extensions,
            may_show=lambda entity_type: self._may(request, "QUERY", entity_type),
        )
        return list(query.columns), query.page(_whole(request, "offset", 0), _whole(request, "count", 0))

    def _listed(self, request: Request) -> list[EntityType]:
        wanted = self._type_of(request, "entityType")
        return [wanted] if wanted is not None else self._schema.listed(extensions=request.extensions)

    def _get_types(self, request: Request) -> object:
        wanted = self._type_of(request, "entityType")
        listed = self._schema.listed(extensions=request.extensions)
        if wanted is not None:
            listed = [entity_type for entity_type in listed if self._schema.is_a(entity_type, wanted)]
        return {entity_type.full: [base.full for base in self._schema.bases(entity_type)] for entity_type in listed}

    def _get_attributes(self, request: Request) -> object:
        return {
            entity_type.full: entity_type.attribute_names(extensions=request.extensions)
            for entity_type in self._listed(request)
        }

    def _get_operations(self, request: Request) -> object:
        return {
            entity_type.full: self._schema.operations(entity_type, extensions=request.extensions)
            for entity_type in self._listed(request)
        }

    def _get_annotations(self, request: Request) -> object:
        self._type_of(request, "entityType")
        return {}

    def _get_nodes(self, _: Request) -> object:
        return [f"amqp:/_topo/0/{router_id}/$management" for router_id in self._views.nodes()]

    def _get_schema(self, request: Request) -> object:
        return self._schema.describe(extensions=request.extensions)

    def _get_json_schema(self, request: Request) -> object:
        indent = _whole(request, "indent", 0)
        if not 0 <= indent <= MAX_INDENT:
            raise ManagementError(400, f"indent {indent} is out of range; 0 to {MAX_INDENT} is needed")
        return json.dumps(self._schema.describe(extensions=request.extensions), indent=indent or None)

    def _get_log(self, request: Request) -> object:
        limit = _whole(request, "limit", MAX_LOG_ENTRIES)
        if limit < 0:
            raise ManagementError(400, f"limit {limit} is out of range; 0 to {MAX_LOG_ENTRIES} is needed")
        return self._views.log_entries(min(limit, MAX_LOG_ENTRIES))

    def _profile(self, _: Request) -> object:
        raise ManagementError(400, "No profiler runs here: PROFILE belongs to the C router")

    def _reload(self, request: Request, later: Callable[[Reply], object]) -> None:
        def done(outcome: Mapping[str, list[str]] | VanrouterError) -> None:
            if isinstance(outcome, VanrouterError):
                later(self._refuse(request, 400, str(outcome)))
            else:
                later(Reply(status=200, description=_DESCRIPTIONS[200], body=dict(outcome)))

        self._actions.reload(done)

    def _read_node(self, _: Request) -> object:
        return {"name": "self", "identity": "self", "type": MANAGEMENT.full}

    # --- entities ---

    def _create(self, request: Request) -> tuple[int, object]:
        body = request.map_body()
        named = self._type_of(request, "type")
        in_body = body.get("type")
        entity_type = self._schema.find(in_body) if isinstance(in_body, str) else named
        if entity_type is None and in_body is not None:
            raise ManagementError(400, f"No such entity type {quoted(in_body)}")
        if entity_type is None:
            raise ManagementError(400, f"No 'type' attribute in {_for_log(request.properties)}")
        if named is not None and named is not entity_type:
            raise ManagementError(400, f"Conflicting values for 'type': {named.full} and {entity_type.full}")
        self._allow(request, "CREATE", entity_type)
        self._permit(request, "CREATE", entity_type)
        attributes = created(entity_type, body, request.text("name"))
        rules.check(entity_type, attributes, self._registry)
        entity = self._registry.add(entity_type, attributes, frozenset(body))
        with ExitStack() as undo:
            undo.callback(self._registry.remove, entity)
            self._actions.create(entity)
            undo.pop_all()
        target = Target(type=entity_type, entity=entity)
        return 201, attributes_of(target, self._views, extensions=request.extensions)

    def _read(self, request: Request, target: Target) -> tuple[int, object]:
        if target.type is CONNECTION and request.text("identity") is None:
            raise ManagementError(400, "Name not supported. Identity required")
        return 200, attributes_of(target, self._views, extensions=request.extensions)

    def _update(self, request: Request, target: Target) -> tuple[int, object]:
        if target.entity is None:
            return self._update_connection(request, target)
        entity = target.entity
        body = request.map_body()
        current = attributes_of(target, self._views, extensions=True)
        changes = self._changes(request, entity, body, current)
        if changes:
            merged = {**entity.attributes, **changes}
            self._check_update(entity, merged)
            with ExitStack() as undo:
                undo.callback(setattr, entity, "attributes", entity.attributes)
                entity.attributes = merged
                self._actions.update(entity, changes)
                undo.pop_all()
        return 200, attributes_of(target, self._views, extensions=request.extensions)

    def _changes(
        self, request: Request, entity: Entity, body: Mapping[str, object], current: Mapping[str, object]
    ) -> dict[str, object]:
        if "UPDATE" in self._schema.operations(entity.type, extensions=request.extensions):
            return updated(entity.type, body, current, entity.attributes)
        # An operation that vanrouter adds: a client that does not know of it gets the known refusal.
        if not body or any(not _is_updatable(entity.type, name) for name in body):
            raise self._not_implemented(request, entity.type)
        return updated(entity.type, body, current, entity.attributes)

    def _check_update(self, entity: Entity, merged: Mapping[str, object]) -> None:
        try:
            rules.check(entity.type, merged, self._registry)
        except InvalidEntityError as error:
            if entity.type.short != "sslProfile":
                raise
            raise ManagementError(400, f"sslProfile configuration update failed: {error.reason}") from None

    def _update_connection(self, request: Request, target: Target) -> tuple[int, object]:
        body = request.map_body()
        identity = request.text("identity")
        if identity is None:
            raise ManagementError(400, "No identity provided")
        if not body:
            raise ManagementError(400, "The body is empty; give adminStatus or enableProtocolTrace")
        changes = updated(target.type, body, attributes_of(target, self._views, extensions=True), {})
        if changes.get("adminStatus") == "deleted":
            row = target.row
            if row.get("role") in UNTOUCHABLE_ROLES or row.get("host") == UNTOUCHABLE_HOST:
                raise ManagementError(403, "You are not allowed to perform this operation.")
        if changes:
            self._actions.update_connection(identity, changes)
        return 200, {**attributes_of(target, self._views, extensions=request.extensions), **changes}

    def _delete(self, _: Request, target: Target) -> tuple[int, object]:
        assert target.entity is not None  # no observed type has the operation
        rules.check_delete(target.entity, self._registry)
        self._actions.delete(target.entity)
        self._registry.remove(target.entity)
        return 204, {}

    def _call_me(self, request: Request, _: Target) -> tuple[int, object]:
        return 200, dict(request.properties)


def _is_updatable(entity_type: EntityType, name: str) -> bool:
    attribute = entity_type.attributes.get(name)
    return attribute is not None and (attribute.updatable or name in ("type", "identity"))


def _whole(request: Request, key: str, default: int) -> int:
    """Return a property that is an integer or its text."""
    value = request.properties.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 20:
        return int(value)
    raise ManagementError(400, f"{key} must be a whole number, not {quoted(value)}")


def _for_log(properties: Mapping[str, object]) -> str:
    """Return properties as text, cut; they never hold a secret, the body may."""
    pairs = [f"{key}={quoted(value)}" for key, value in list(properties.items())[:20]]
    return ", ".join(pairs)[:LOGGED_CHARACTERS]
