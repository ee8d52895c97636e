"""Configuration files: read, checked as a whole and put into start-up order. Layer: 2, pure but for reading the file.

Source: management specification, sections 10 (syntax and checks) and 11 (order). Every error names file, line, section,
attribute, what is wrong and what would be right; `Configuration.warnings` holds what is only worth saying.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vanrouter.errors import ConfigError
from vanrouter.ids import AREA, random_suffix
from vanrouter.mgmt import rules
from vanrouter.mgmt.advice import Machine, advise
from vanrouter.mgmt.attributes import suggestion
from vanrouter.mgmt.entities import EntityConfig, Registry
from vanrouter.mgmt.entity_types import DEFAULT_LOG_MODULE, LOG_MODULES, SCHEMA
from vanrouter.mgmt.schema import InvalidEntityError
from vanrouter.mgmt.syntax import RawSection, parse

MAX_FILE_BYTES = 64 * 1024 * 1024
"""A configuration larger than this is a mistake in the file name."""

START_ORDER = (
    "log", "logSink", "router", "network", "policy", "managementPermission", "sslProfile", "address", "autoLink",
    "vhost", "site", "proxyProfile", "connector", "listener", "tcpListener", "tcpConnector", "listenerAddress",
    "httpListener", "httpConnector",
)  # fmt: skip
"""The order in which entities are brought up."""

SINGLETONS = ("router", "network", "policy")
"""Types that are added with defaults when a file has none."""

DEFAULT_LOG = {"enable": "info+", "includeTimestamp": True, "includeSource": False, "outputFile": "stderr"}
"""What the log module DEFAULT starts with."""

TOLERATED = frozenset({("address", "prefix"), ("address", "pattern"), ("autoLink", "connection")})
"""Attributes whose rules the C router only logs when a file breaks them; the section is left out."""

GONE = {
    "linkRoute": "link routes ended with version 3; use autoLink or address",
    "exchange": "exchanges ended with version 3",
    "binding": "bindings ended with version 3",
    "console": "the console ended with version 3; use listener with http: yes",
}
"""Sections of older releases, and what to do without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole configuration that passed every check.

    Args:
        file: where it was read from.
        entities: in start-up order, singletons and log modules included.
        warnings: for the operator, each with file and line.
    """

    file: str
    entities: list[EntityConfig]
    warnings: list[str]

    def of(self, short: str) -> list[EntityConfig]:
        """Return the entities of one type, in order."""
        return [entity for entity in self.entities if entity.type == short]

    @property
    def router(self) -> EntityConfig:
        """Return the router entity, which is always there."""
        return self.of("router")[0]


def load_file(
    path: str, *, invent_suffix: Callable[[], str] = random_suffix, machine: Machine | None = None
) -> Configuration:
    """Read and check a file: JSON for `.json`, YAML for `.yaml` and `.yml`, conf for the rest.

    Args:
        path: the file.
        invent_suffix: gives the random part of a router id that is not configured.
        machine: whom to ask about what the file names; this machine's files when left out.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.
    """
    try:
        with Path(path).open("rb") as file:
            octets = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError("", f"cannot read: {error.strerror}", file=path) from error
    if len(octets) > MAX_FILE_BYTES:
        raise ConfigError("", f"larger than {MAX_FILE_BYTES} octets: not a configuration file", file=path)
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError("", "not text in UTF-8", file=path, line=line) from None
    return load_text(text, path, invent_suffix=invent_suffix, machine=machine or Machine(can_read=can_read))


def can_read(path: str) -> bool:
    """Say whether this process may read that file."""
    return os.access(path, os.R_OK)


def load_text(
    text: str, file: str, *, invent_suffix: Callable[[], str] = random_suffix, machine: Machine | None = None
) -> Configuration:
    """Check the text of a file, as `load_file` does.

    Args:
        text: what is in it.
        file: its name, for errors.
        invent_suffix: gives the random part of a router id that is not configured.
        machine: whom to ask about what the text names; nobody when left out.

    Raises:
        ConfigError: something in it is wrong.
    """
    if not text:
        raise ConfigError("", "is empty; a file with only a comment gives a standalone router", file=file)
    return _Builder(file, invent_suffix, machine or Machine()).build(parse(text, file))


class _Builder:
    def __init__(self, file: str, invent_suffix: Callable[[], str], machine: Machine) -> None:
        self._file = file
        self._machine = machine
        self._invent_suffix = invent_suffix
        self._warnings: list[str] = []
        self._registry = Registry(SCHEMA)
        self._entities: list[EntityConfig] = []

    def build(self, sections: list[RawSection]) -> Configuration:
        by_type: dict[str, list[EntityConfig]] = {short: [] for short in START_ORDER}
        places: dict[int, RawSection] = {}
        for section in sections:
            entity = self._converted(section)
            places[id(entity)] = section
            by_type[entity.type].append(entity)
        for short in SINGLETONS:
            if not by_type[short]:
                by_type[short].append(EntityConfig(type=short, attributes=SCHEMA[short].complete({})))
        self._finish_router(by_type)
        self._finish_logs(by_type["log"])
        # The router comes first here, since roles are checked against its mode; the result keeps the start-up order.
        for entity in [*by_type["router"], *by_type["log"]]:
            self._add(entity, places.get(id(entity)))
        self._entities.sort(key=lambda entity: START_ORDER.index(entity.type))
        for short in START_ORDER:
            for entity in by_type[short] if short not in ("router", "log") else ():
                self._add(entity, places.get(id(entity)))
        return Configuration(file=self._file, entities=self._entities, warnings=self._warnings)

    def _converted(self, section: RawSection) -> EntityConfig:
        entity_type = SCHEMA.section(section.name)
        if entity_type is None:
            raise self._unknown_section(section)
        values: dict[str, object] = {}
        for name, value in section.values.items():
            attribute = entity_type.attributes.get(name)
            if attribute is not None and not attribute.settable:
                self._warn(
                    section.lines[name], f"{section.name}.{name}", "is set by the router itself and ignored here"
                )
                continue
            values[name] = value
            if attribute is not None and attribute.deprecated:
                self._warn(section.lines[name], f"{section.name}.{name}", f"is deprecated: {attribute.help}")
        for name in section.repeated:
            self._warn(section.lines[name], f"{section.name}.{name}", "is given more than once; the last one counts")
        try:
            attributes = entity_type.complete(entity_type.convert(values))
        except InvalidEntityError as error:
            raise self._placed(error, section) from None
        explicit = frozenset(name for name in values if name in attributes)
        return EntityConfig(
            type=section.name, attributes=attributes, explicit=explicit, file=self._file, line=section.line
        )

    def _unknown_section(self, section: RawSection) -> ConfigError:
        known = SCHEMA.section_names()
        reason = f"unknown section {section.name!r}{suggestion(section.name, known)}"
        if section.name in GONE:
            reason = f"{reason}; {GONE[section.name]}"
        elif "did you mean" not in reason:
            reason = f"{reason}; known are {', '.join(known)}"
        return ConfigError(section.name, reason, file=self._file, line=section.line)

    def _finish_router(self, by_type: dict[str, list[EntityConfig]]) -> None:
        router, network = by_type["router"][0].attributes, by_type["network"][0].attributes
        router["area"] = AREA
        if not router.get("id"):
            router["id"] = f"{str(router['mode']).capitalize()}_{self._invent_suffix()}"
        if "vanId" in router:
            network.setdefault("tenantId", router["vanId"])

    def _finish_logs(self, logs: list[EntityConfig]) -> None:
        configured = {entity.attributes["module"] for entity in logs}
        for module in LOG_MODULES:
            if module not in configured:
                logs.append(EntityConfig(type="log", attributes={"module": module}))
        for entity in logs:
            if entity.attributes["module"] == DEFAULT_LOG_MODULE:
                for name, value in DEFAULT_LOG.items():
                    entity.attributes.setdefault(name, value)

    def _add(self, entity: EntityConfig, section: RawSection | None) -> None:
        entity_type = SCHEMA[entity.type]
        try:
            rules.check(entity_type, entity.attributes, self._registry)
            self._registry.load(entity)
        except InvalidEntityError as error:
            if (entity.type, error.attribute) in TOLERATED:
                self._warn(entity.line, error.key, f"{error.reason}; the section is ignored")
                return
            assert section is not None  # what is added by default breaks no rule
            raise self._placed(error, section) from None
        self._entities.append(entity)
        for advice in advise(entity, self._machine):
            key = f"{entity.type}.{advice.attribute}" if advice.attribute else entity.type
            line = section.lines.get(advice.attribute, entity.line) if section is not None else None
            self._warn(line, key, advice.text)

    def _placed(self, error: InvalidEntityError, section: RawSection) -> ConfigError:
        line = section.lines.get(error.attribute, section.line)
        return ConfigError(error.key, error.reason, file=self._file, line=line)

    def _warn(self, line: int | None, key: str, text: str) -> None:
        self._warnings.append(str(ConfigError(key, text, file=self._file, line=line)))
