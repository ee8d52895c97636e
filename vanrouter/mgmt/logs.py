"""The log, in the line format of the C router. Layer: 2. Only `cli/` and the server configure it.

Source: management specification, sections 8 (`log`, `logStats`), 3 (GET-LOG) and 14. Modules of vanrouter log to the
logger of their own name; one table says which module of the C router that is. Lines are formatted where they arise and
written by a thread (`sinks.py`). Debug events cost nothing while their level is off, and are then not counted either.
"""

from __future__ import annotations

import logging
import syslog
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vanrouter.errors import ConfigError, MisuseError
from vanrouter.mgmt.entity_types import DEFAULT_LOG_MODULE, LOG_MODULES, modules_of
from vanrouter.mgmt.levels import LEVELS, parse_levels
from vanrouter.mgmt.lines import TIME_FORMAT, Clock, Event, clean, json_line
from vanrouter.mgmt.recent import RecentEvents
from vanrouter.mgmt.sinks import Line, Sink, Writer, open_sink

MODULE_OF_LOGGER: dict[str, str] = {
    "": "PYTHON",
    "vanrouter": "ROUTER",
    "vanrouter.adaptors": "ROUTER_CORE",
    "vanrouter.adaptors.http": "HTTP_ADAPTOR",
    "vanrouter.adaptors.observer_http1": "HTTP1_OBSERVER",
    "vanrouter.adaptors.observer_http2": "HTTP2_OBSERVER",
    "vanrouter.adaptors.port": "HTTP",
    "vanrouter.adaptors.tcp": "TCP_ADAPTOR",
    "vanrouter.cli": "ROUTER",
    "vanrouter.connections": "CONN_MGR",
    "vanrouter.container": "CONTAINER",
    "vanrouter.core": "ROUTER_CORE",
    "vanrouter.core.router": "ROUTER",
    "vanrouter.core.watches": "ADDRESS_WATCH",
    "vanrouter.engine": "SERVER",
    "vanrouter.flow": "FLOW_LOG",
    "vanrouter.http": "HTTP",
    "vanrouter.message": "MESSAGE",
    "vanrouter.mgmt": "AGENT",
    "vanrouter.mgmt.policy": "POLICY",
    "vanrouter.net": "SERVER",
    "vanrouter.policy": "POLICY",
    "vanrouter.protocol": "PROTOCOL",
    "vanrouter.router": "ROUTER",
    "vanrouter.routing": "ROUTER",
    "vanrouter.routing.complaints": "ROUTER_LS",
    "vanrouter.routing.control": "ROUTER_LS",
    "vanrouter.routing.linkstate": "ROUTER_LS",
    "vanrouter.routing.mobile": "ROUTER_MA",
    "vanrouter.routing.neighbours": "ROUTER_HELLO",
    "vanrouter.routing.paths": "ROUTER_LS",
    "vanrouter.server": "SERVER",
    "vanrouter.tcp": "TCP_ADAPTOR",
}
"""From the beginning of a logger's name to the module that users of the C router know; the longest one decides."""

WARNING = LEVELS.index("warning")

RECENT_EVENTS = 1000
"""Events that GET-LOG answers with at most."""

_RANK_TO_PYTHON = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_PRIORITIES = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_WARNING, syslog.LOG_ERR, syslog.LOG_CRIT)

Settings = dict[str, object]
"""The attributes of one `log` entity that have a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """Where events of a module go, and which."""

    levels: frozenset[str]
    has_time: bool
    has_source: bool
    is_json: bool
    sink: Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outputs:
    """All that is in force for one module; `levels` are those that any of them wants."""

    levels: frozenset[str]
    each: tuple[_Output, ...]


class Logs:
    """The running log: created with the defaults, configured once the configuration is known.

    One per process, since Python's loggers are. `start` is called by the constructor; `shutdown` undoes it.
    """

    def __init__(self) -> None:
        self._settings = _initial()
        self._sinks: dict[str, Sink] = {}
        self._writer = Writer()
        self._recent = RecentEvents()
        self._counts = {module: dict.fromkeys(LEVELS, 0) for module in LOG_MODULES}
        self._hidden: list[str] = []
        self.on_event: Callable[[Event], object] = lambda event: None
        """Told of each warning and worse that is written, in the thread that it comes from."""
        self._clock = Clock(TIME_FORMAT, in_utc=False)
        self._further: dict[str, Settings] = {}
        self._outputs: dict[str, _Outputs] = {}
        self._modules: dict[str, str] = {}
        self._apply(self._settings, self._further)
        self._handler = _Handler(self)
        self._former_level = logging.getLogger().level
        logging.getLogger().addHandler(self._handler)

    # --- configuration ---

    def configure(self, logs: Iterable[Mapping[str, object]], router: Mapping[str, object]) -> None:
        """Put the `log` sections and the time settings of the router in force.

        Args:
            logs: the attributes of the log entities.
            router: the attributes of the router entity.

        Raises:
            ConfigError: a log file cannot be opened; nothing has changed then.
            ValueError: a level is unknown; the schema's rules have refused that before.
        """
        settings = {module: dict(given) for module, given in self._settings.items()}
        for entity in logs:
            settings[str(entity["module"])].update(_settings(entity))
        self._apply(settings, self._further)
        pattern = router.get("timestampFormat")
        self._clock = Clock(
            pattern if isinstance(pattern, str) and pattern else TIME_FORMAT,
            in_utc=router.get("timestampsInUTC") is True,
        )

    def replace(self, logs: Iterable[Mapping[str, object]], router: Mapping[str, object]) -> None:
        """Put a whole new configuration in force, as `configure` does at the start; what it does not name ends.

        Raises:
            ConfigError, ValueError: as for `configure`.
        """
        before = self._settings
        self._settings = _initial()
        try:
            self.configure(logs, router)
        except (ConfigError, ValueError):
            self._settings = before
            raise

    def update(self, module: str, changes: Mapping[str, object]) -> None:
        """Put changed attributes of one `log` entity in force.

        Raises:
            ConfigError, ValueError: as for `configure`.
        """
        if module not in self._settings:
            raise MisuseError(f"no log module {module!r}")
        settings = {name: dict(given) for name, given in self._settings.items()}
        settings[module].update(_settings(changes))
        self._apply(settings, self._further)

    def put_sink(self, name: str, attributes: Mapping[str, object]) -> None:
        """Write to one more destination, or change what is written there (`logSink`).

        Args:
            name: of the entity.
            attributes: outputFile, modules, enable, format, includeTimestamp, includeSource.

        Raises:
            ConfigError, ValueError: as for `configure`.
        """
        self._apply(self._settings, {**self._further, name: dict(attributes)})

    def remove_sink(self, name: str) -> None:
        """Write to one destination less."""
        self._apply(self._settings, {key: given for key, given in self._further.items() if key != name})

    def sink_counts(self, name: str) -> dict[str, int]:
        """Return what became of the lines for one destination: `linesWritten`, `linesQueued` and `linesDropped`."""
        sink = self._sinks.get(str(self._further.get(name, {}).get("outputFile")))
        return {} if sink is None else self._writer.counts(sink)

    def hide(self, secret: str) -> None:
        """Mask a text, such as a resolved password, in every later line."""
        if len(secret) > 3 and secret not in self._hidden:
            self._hidden.append(secret)

    def drain(self) -> None:
        """Wait until the lines so far have been written, for a short while."""
        self._writer.drain()

    def shutdown(self) -> None:
        """Write what is queued and leave Python's loggers as they were."""
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._former_level)
        for name in _loggers() - {""}:
            logging.getLogger(name).setLevel(logging.NOTSET)
        for sink in self._sinks.values():
            self._writer.close_sink(sink)
        self._writer.stop()

    def _apply(self, settings: dict[str, Settings], further: dict[str, Settings]) -> None:
        default = settings[DEFAULT_LOG_MODULE]
        opened: dict[str, Sink] = {}
        collected: dict[str, list[_Output]] = {}
        try:
            for module in LOG_MODULES:
                given = settings[module]
                levels = None if "enable" not in given else parse_levels(str(given["enable"]))
                if levels is None:
                    levels = parse_levels(str(default.get("enable", "info+")))
                output = self._output({**default, **given}, levels or frozenset(), opened)
                collected[module] = [output]
            for given in further.values():
                levels = parse_levels(str(given.get("enable", "info+")))
                output = self._output(given, levels or frozenset(), opened)
                for module in modules_of(str(given.get("modules", ""))) or LOG_MODULES:
                    collected[module].append(output)
        except (ConfigError, ValueError):
            for name, sink in opened.items():
                if name not in self._sinks:
                    self._writer.close_sink(sink)
            raise
        for name, sink in self._sinks.items():
            if name not in opened:
                self._writer.close_sink(sink)
        self._settings, self._further, self._sinks = settings, further, opened
        self._outputs = {
            module: _Outputs(levels=frozenset().union(*(output.levels for output in each)), each=tuple(each))
            for module, each in collected.items()
        }
        self._set_logger_levels()

    def _output(self, given: Settings, levels: frozenset[str], opened: dict[str, Sink]) -> _Output:
        name = str(given.get("outputFile", "stderr"))
        if name not in opened:
            opened[name] = self._sinks.get(name) or open_sink(name)
        return _Output(
            levels=levels,
            has_time=given.get("includeTimestamp") is not False,
            has_source=given.get("includeSource") is True,
            is_json=given.get("format") == "json",
            sink=opened[name],
        )

    def _set_logger_levels(self) -> None:
        """Let Python's loggers drop what is off before any text is built; info and above are always counted.

        Loggers made later inherit from the one above them in name, which at worst passes events to be dropped here.
        """
        for name in _loggers():
            outputs = self._outputs[self._module_of(name)]
            logging.getLogger(name or None).setLevel(logging.DEBUG if LEVELS[0] in outputs.levels else logging.INFO)

    # --- events ---

    def record(self, record: logging.LogRecord) -> None:
        """Count an event, keep it and queue its line when its level is on, or when it was asked for by itself."""
        module = self._module_of(record.name)
        rank = sum(record.levelno >= level for level in _RANK_TO_PYTHON[1:])
        level = LEVELS[rank]
        self._counts[module][level] += 1
        outputs = self._outputs[module]
        is_asked_for = getattr(record, "is_asked_for", False)
        if level not in outputs.levels and not is_asked_for:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:
            text = f"{record.msg!r} does not fit its arguments: {error}"
        texts = [clean(text, self._hidden)]
        if record.exc_info:
            lines = logging.Formatter().formatException(record.exc_info).splitlines()
            texts += [clean(line, self._hidden) for line in lines]
        file = record.pathname.rpartition("/vanrouter/")[2]
        for text in texts:
            self._recent.add((module, level, text, file, record.lineno, record.created))
        event = Event(module=module, level=level, texts=texts, file=file, line=record.lineno, created=record.created)
        if rank >= WARNING:
            self.on_event(event)
        for output in outputs.each:
            if level in output.levels or is_asked_for:
                self._put(output, event, _PRIORITIES[rank])

    def _put(self, output: _Output, event: Event, priority: int) -> None:
        if output.is_json:
            text = json_line(event, has_time=output.has_time, has_source=output.has_source)
            self._writer.put(output.sink, Line(stamp="", text=text, priority=priority))
            return
        stamp = f"{self._clock.text(event.created)} " if output.has_time else ""
        source = f" ({event.file}:{event.line})" if output.has_source else ""
        for text in event.texts:
            line = Line(stamp=stamp, text=f"{event.module} ({event.level}) {text}{source}", priority=priority)
            self._writer.put(output.sink, line)

    def entries(self, limit: int) -> list[list[object]]:
        """Return the newest `limit` events, oldest first, as GET-LOG has them."""
        return [[*event[:5], int(event[5])] for event in self._recent.newest(min(limit, RECENT_EVENTS))]

    def counts(self) -> list[dict[str, object]]:
        """Return the rows of `logStats`."""
        return [
            {
                "name": module,
                "identity": f"logStats/{module}",
                **{f"{level}Count": number for level, number in levels.items()},
            }
            for module, levels in self._counts.items()
        ]

    @property
    def dropped(self) -> int:
        """Lines lost because sinks were too slow or failed."""
        return self._writer.dropped + self._writer.failed

    @property
    def queued(self) -> int:
        """Lines that wait for their sinks."""
        return self._writer.queued

    def _module_of(self, logger: str) -> str:
        module = self._modules.get(logger)
        if module is None:
            best = max((name for name in MODULE_OF_LOGGER if logger.startswith(name)), key=len)
            module = self._modules[logger] = MODULE_OF_LOGGER[best]
        return module


class _Handler(logging.Handler):
    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        self._logs.record(record)


def _loggers() -> set[str]:
    """Return the names of the table and of all loggers of vanrouter that exist."""
    existing = {name for name in logging.root.manager.loggerDict if name.startswith("vanrouter.")}
    return existing.union(MODULE_OF_LOGGER)


def _initial() -> dict[str, Settings]:
    settings: dict[str, Settings] = {module: {} for module in LOG_MODULES}
    settings[DEFAULT_LOG_MODULE] = {"enable": "info+", "includeTimestamp": True, "outputFile": "stderr"}
    return settings


def _settings(entity: Mapping[str, object]) -> Settings:
    names = ("enable", "includeTimestamp", "includeSource", "outputFile", "format")
    return {name: entity[name] for name in names if entity.get(name) is not None}
