"""The configuration file read again while the router runs: only what differs changes, or nothing at all.

Layer: 5. Source: management.md, sections 9 and 10; the C router has no reload. What the file says wins over what
requests have changed of its entities; what requests have created stays. A change that could not be put in force is
undone, and so are those before it.

Ten thousand entities are some tenths of a second of work: it is done a little at a time, traffic goes on between, and
management requests that would change something wait for its end (`is_changing`, `when_done`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vanrouter.errors import ConfigError, ManagementError, VanrouterError
from vanrouter.mgmt import rules
from vanrouter.mgmt.config import START_ORDER, Configuration, load_file
from vanrouter.mgmt.entities import Entity, EntityConfig, Registry
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.schema import InvalidEntityError
from vanrouter.server.policy import vhost_entities
from vanrouter.server.renewal import FIXED, RUNNING
from vanrouter.server.settings import Settings, fingerprint

if TYPE_CHECKING:
    from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.mgmt")

SLICE_S = 0.0005
"""Processor time taken in one go; the change of an entity that was begun is finished."""
PAUSE_S = 0.001
"""For others, between two slices."""
MAX_WAITING = 10_000
"""Requests that may wait for the end of a reload."""

Outcome = dict[str, list[str]]
"""`created`, `updated` and `deleted`: identities."""


@dataclass(slots=True)
class Change:
    """An entity that the file has with other values."""

    entity: Entity
    config: EntityConfig
    changes: dict[str, object]
    """New values, None where there is none any more."""


@dataclass(slots=True)
class Plan:
    """What a reload does."""

    added: list[EntityConfig] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    removed: list[Entity] = field(default_factory=list)
    logs: list[EntityConfig] = field(default_factory=list)


_Read = tuple[Configuration, list[EntityConfig]]


class Reloader:
    """Reads the configuration file again.

    Args:
        site: the running router.
        file: what it was started with.
    """

    def __init__(self, site: Site, file: str) -> None:
        self._site = site
        self._file = file
        self._is_reading = False
        self.is_changing = False
        """What is configured is being compared and changed: nobody else may change anything."""
        self._steps: Generator[None, None, Outcome] | None = None
        self._warnings: list[str] = []
        self._done: Callable[[Outcome | VanrouterError], object] = lambda _outcome: None
        self._waiting: list[Callable[[], object]] = []
        self._undo: list[Callable[[], object]] = []
        self._left_changed = 0
        """What could not be put back as it was."""

    def reload(self, done: Callable[[Outcome | VanrouterError], object]) -> None:
        """Read the file beside the loop, put in force what differs, and tell `done` what that was, or why not."""
        if self._is_reading or self.is_changing:
            done(ManagementError(400, "A reload is going on; try again when it is over"))
            return
        if self._site.drain.is_on:
            done(ManagementError(400, "The router is draining; nothing is created any more"))
            return
        self._is_reading = True
        # The id stays: a file without one must not invent another.
        suffix = str(self._site.router_attributes["id"]).partition("_")[2]
        self._site.reactor.run_in_thread(lambda: _read(self._file, suffix), lambda result: self._loaded(result, done))

    def when_done(self, callback: Callable[[], object]) -> bool:
        """Have `callback` called when the reload that is going on is over; False: too many wait already."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(callback)
        return True

    def _loaded(self, result: _Read | Exception, done: Callable[[Outcome | VanrouterError], object]) -> None:
        self._is_reading = False
        self._done = done
        if isinstance(result, VanrouterError):
            self._failed(result)
            return
        if isinstance(result, Exception):
            self.on_crash()
            raise result
        configuration, vhosts = result
        self._warnings = list(configuration.warnings)
        self._steps = self.steps(configuration, vhosts)
        self.is_changing = True
        self._go_on()

    def _go_on(self) -> None:
        """Do some of it; the rest later."""
        steps = self._steps
        if steps is None or self._site.is_shutting_down:
            return
        begun = time.thread_time()
        try:
            next(steps)
            while time.thread_time() - begun < SLICE_S:
                next(steps)
        except StopIteration as stop:
            self._succeeded(stop.value)
        except VanrouterError as error:
            self._failed(error)
        else:
            self._site.reactor.call_later(PAUSE_S, self._go_on)

    def on_crash(self) -> None:
        """A step has failed for a reason that is a bug (the loop's crash boundary); it was undone."""
        self._failed(ManagementError(500, "Internal error while the configuration was reloaded; the log says more"))

    def _succeeded(self, outcome: Outcome) -> None:
        for warning in self._warnings:
            logger.warning("%s", warning)
        counts = [len(outcome[word]) for word in ("created", "updated", "deleted")]
        logger.info("Configuration reloaded: %d created, %d updated, %d deleted", *counts)
        self._over(outcome)

    def _failed(self, error: VanrouterError) -> None:
        changed, self._left_changed = self._left_changed, 0
        if changed:
            logger.error(
                "Configuration not reloaded, and %d changes not undone; restart the router: %s", changed, error
            )
        else:
            logger.error("Configuration not reloaded, nothing has changed: %s", error)
        self._over(error)

    def _over(self, outcome: Outcome | VanrouterError) -> None:
        self.is_changing = False
        self._steps = None
        done, self._done = self._done, lambda _outcome: None
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            self._site.reactor.call_soon(callback)
        done(outcome)

    def steps(self, configuration: Configuration, vhosts: list[EntityConfig]) -> Generator[None, None, Outcome]:
        """Change what differs, an entity or so at each step.

        Args:
            configuration: what the file says.
            vhosts: those of its `policyDir`.

        Returns:
            What has changed.

        Raises:
            ConfigError: something cannot be; what had changed by then was undone.
        """
        self._undo = []
        self._left_changed = 0
        try:
            plan = yield from self._plan([*configuration.entities, *vhosts])
            return (yield from self._execute(plan))
        except Exception:  # a bug as well: the loop's crash boundary is told of it once all is as it was
            while self._undo:
                self._put_back(self._undo.pop())
                yield
            raise

    def _put_back(self, undo: Callable[[], object]) -> None:
        """Undo one change. What cannot be, such as a port that is taken by now, keeps nothing else from it."""
        try:
            undo()
        except (VanrouterError, OSError) as error:
            self._left_changed += 1
            logger.error("A change could not be undone: %s", error)

    # --- what differs ---

    def _plan(self, wanted: list[EntityConfig]) -> Generator[None, None, Plan]:
        registry = self._site.registry
        plan = Plan()
        identities = yield from self._check_candidates(wanted)
        present: dict[tuple[object, ...], Entity] = {}
        for entity in registry:
            present[key_of(entity.type.short, _values(entity), entity.identity)] = entity
            yield
        seen: set[Entity] = set()
        for config, identity in zip(wanted, identities, strict=True):
            yield
            found = present.get(key_of(config.type, config.attributes, identity))
            if found is None or found in seen:
                plan.added.append(config)
                continue
            seen.add(found)
            changes = _differences(_values(found), config.attributes)
            if found.type.short == "sslProfile":
                changes |= self._changed_files(found)
            if changes and found.type.short == "log":
                plan.logs.append(config)
            elif changes:
                self._refuse_fixed(config, changes)
                plan.changed.append(Change(found, config, changes))
        plan.removed = [entity for entity in registry if entity.is_from_file and entity not in seen]
        return plan

    def _check_candidates(self, wanted: list[EntityConfig]) -> Generator[None, None, list[str]]:
        """Look whether everything that would be there can be: names, profiles, passwords, roles.

        Returns:
            The identities of what is wanted.

        Raises:
            ConfigError: something cannot.
        """
        candidates = Registry(SCHEMA)
        router = next(config for config in wanted if config.type == "router")
        settings = Settings(candidates, router.attributes, self._site.options.logs)
        loaded: list[tuple[Entity, EntityConfig]] = []
        for config in wanted:
            loaded.append((candidates.load(config), config))
            yield
        identities = [entity.identity for entity, _ in loaded]
        for own in self._site.registry:
            if not own.is_from_file:
                attributes = {**own.attributes, "name": own.name} if own.name != own.identity else own.attributes
                config = EntityConfig(type=own.type.short, attributes=dict(attributes))
                try:
                    loaded.append((candidates.add(own.type, attributes), config))
                except InvalidEntityError as error:
                    reason = f"{error.reason}; {own.identity} was created while running"
                    raise ConfigError(own.type.short, reason, file=self._file) from None
                yield
        for entity, config in loaded:
            try:
                _translate(settings, entity)
            except ConfigError as error:
                if error.file is not None:
                    raise
                raise ConfigError(error.key, error.reason, file=config.file, line=config.line) from error
            yield
        return identities

    def _refuse_fixed(self, config: EntityConfig, changes: Mapping[str, object]) -> None:
        fixed = FIXED.get(config.type, frozenset())
        if config.type == "router":
            fixed = frozenset(changes) - RUNNING
        wrong = sorted(fixed & set(changes))
        if wrong:
            reason = "cannot change while the router runs; restart it, or put the old value back"
            raise ConfigError(f"{config.type}.{wrong[0]}", reason, file=config.file, line=config.line)

    def _changed_files(self, profile: Entity) -> dict[str, object]:
        """Return the files of a profile that hold something else than when they were last read."""
        before = self._site.fingerprints.get(profile.name or "")
        return {} if before in (None, fingerprint(profile.attributes)) else {"certFile": profile.text("certFile")}

    # --- putting it in force ---

    def _execute(self, plan: Plan) -> Generator[None, None, Outcome]:
        registry = self._site.registry
        places = {_place(config.type, config.attributes) for config in plan.added} - {None}
        names = {config.attributes.get("name") for config in plan.added} - {None}
        early = [
            entity for entity in plan.removed
            if entity.name in names or _place(entity.type.short, entity.attributes) in places
            or entity.type.short in ("address", "autoLink", "vhost", "site")
        ]  # fmt: skip
        outcome: Outcome = {"created": [], "updated": [], "deleted": [entity.identity for entity in plan.removed]}
        yield from self._remove(early)
        steps: list[EntityConfig | Change] = [*plan.added, *plan.changed]
        for step in sorted(steps, key=_rank):
            if isinstance(step, Change):
                self._change(step)
                outcome["updated"].append(step.entity.identity)
            else:
                entity = registry.load(step)
                self._undo.append(lambda entity=entity: registry.remove(entity))  # type: ignore[misc]
                self._bring_up(entity, step)
                outcome["created"].append(entity.identity)
            yield
        left = set(plan.removed).difference(early)
        yield from self._remove([entity for entity in plan.removed if entity in left])
        outcome["updated"] += self._take_logs(plan)
        for change in plan.changed:
            change.entity.is_from_file = True
        return outcome

    def _remove(self, entities: list[Entity]) -> Generator[None, None, None]:
        if not entities:
            return
        site, registry = self._site, self._site.registry
        order = {entity: number for number, entity in enumerate(registry)}
        for entity in sorted(entities, key=lambda one: (-START_ORDER.index(one.type.short), -order[one])):
            had_live = entity in site.objects or entity.type.short in ("vhost", "logSink")
            try:
                site.take_down(entity, drop_connections=False)
            except ConfigError as error:
                raise ConfigError(entity.type.short, error.reason, file=self._file) from error
            if had_live:
                self._undo.append(lambda entity=entity: site.bring_up(entity))  # type: ignore[misc]
            registry.remove(entity)
            self._undo.append(lambda entity=entity: registry.restore(entity))  # type: ignore[misc]
            yield

    def _bring_up(self, entity: Entity, config: EntityConfig) -> None:
        site = self._site
        self._undo.append(lambda: site.take_down(entity, drop_connections=False))
        try:
            site.bring_up(entity)
        except (ConfigError, ManagementError, OSError) as error:
            raise self._placed(error, entity, config) from error

    def _change(self, change: Change) -> None:
        entity, renewal = change.entity, self._site.renewal
        before = entity.attributes
        values = dict(change.config.attributes)
        values.pop("name", None)
        inverse = {name: before.get(name) for name in change.changes}
        entity.attributes = values

        def undo() -> None:
            entity.attributes = before
            renewal.reload(entity, inverse)

        if entity.type.short == "router":
            running = self._site.router_attributes
            old = dict(running)
            _become(running, values)
            self._undo.append(lambda: _become(running, old))
        self._undo.append(undo)
        try:
            renewal.reload(entity, change.changes)
        except (ConfigError, ManagementError, OSError) as error:
            raise self._placed(error, entity, change.config) from error

    def _take_logs(self, plan: Plan) -> list[str]:
        """Put the log sections in force, last, since everything else can still fail; return what they change."""
        clock = [change.config for change in plan.changed if change.entity.type.short == "router"]
        if not plan.logs and not clock:
            return []
        site = self._site
        by_module = {str(config.attributes["module"]): config for config in plan.logs}
        logs = site.registry.of("log")
        values: dict[Entity, Mapping[str, object]] = {entity: entity.attributes for entity in logs}
        for entity in logs:
            if entity.text("module") in by_module:
                values[entity] = by_module[entity.text("module")].attributes
        site.options.logs.replace(values.values(), site.router_attributes)
        for entity in logs:
            entity.attributes = dict(values[entity])
        site.renewal.trace_as_logged()
        return [f"log/{module}" for module in by_module]

    @staticmethod
    def _placed(error: Exception, entity: Entity, config: EntityConfig) -> ConfigError:
        key, reason = entity.type.short, str(error)
        if isinstance(error, ConfigError):
            key, reason = error.key or key, error.reason
        elif isinstance(error, ManagementError):
            reason = error.description
        elif isinstance(error, OSError):
            place = f"{entity.text('host')}:{entity.text('port')}"
            key, reason = f"{key} {place}", f"cannot listen: {error.strerror or error}"
        return ConfigError(key, reason, file=config.file, line=config.line)


def _read(file: str, suffix: str) -> _Read:
    """Read the file, and the vhosts that it names; in a thread beside the loop."""
    configuration = load_file(file, invent_suffix=lambda: suffix)
    return configuration, vhosts_of(configuration)


def key_of(short: str, values: Mapping[str, object], identity: str) -> tuple[object, ...]:
    """Return what makes an entity of the file the same as one that runs: its identity, or all it says."""
    if short in ("address", "autoLink"):
        return (short, *sorted((key, str(value)) for key, value in values.items()))
    if short in ("router", "network", "policy", "site"):
        return (short,)
    return (short, identity)


def _become(running: MutableMapping[str, object], values: Mapping[str, object]) -> None:
    """Change a map in place: others hold it."""
    running.clear()
    running.update(values)


def _values(entity: Entity) -> dict[str, object]:
    """Return the attributes of a running entity as a file would give them."""
    values = dict(entity.attributes)
    is_given = entity.name is not None and entity.name != entity.identity
    if is_given and not (entity.type.counted and str(entity.name).startswith(f"{entity.type.short}/")):
        values["name"] = entity.name
    return values


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    names = {*before, *after}
    return {name: after.get(name) for name in names if before.get(name) != after.get(name)}


def _place(short: str, attributes: Mapping[str, object]) -> tuple[object, object] | None:
    if short not in ("listener", "tcpListener", "httpListener") or str(attributes.get("port")) == "0":
        return None
    return attributes.get("host"), attributes.get("port")


def _rank(step: EntityConfig | Change) -> int:
    return START_ORDER.index(step.type if isinstance(step, EntityConfig) else step.config.type)


def vhosts_of(configuration: Configuration) -> list[EntityConfig]:
    """Return the vhosts of `policyDir`.

    Raises:
        ConfigError: a file there is wrong.
    """
    folder = configuration.of("policy")[0].attributes.get("policyDir")
    found = list(vhost_entities(folder)) if isinstance(folder, str) and folder else []
    candidates = Registry(SCHEMA)
    for config in found:
        rules.check(SCHEMA[config.type], config.attributes, candidates)
    return found


def _translate(settings: Settings, entity: Entity) -> None:
    kind = entity.type.short
    if kind in ("listener", "connector"):
        settings.amqp(entity)
    elif kind == "tcpListener":
        settings.tcp_listener(entity)
    elif kind == "tcpConnector":
        settings.tcp_connector(entity)
    elif kind in ("httpListener", "httpConnector"):
        settings.tls_files(entity)
