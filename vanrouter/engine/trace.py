"""Frame traces: what the engine sends and receives on a connection, as text for the log.

Layer: 2. Source: management.md section 18 (frame trace). Costs nothing for connections that are not traced.
"""

from __future__ import annotations

import logging
from typing import Any

from vanrouter.engine import proton

logger = logging.getLogger("vanrouter.protocol")

ASKED = {"is_asked_for": True}
"""Mark of an event that is written although its level is off."""

_traced: dict[Any, int] = {}
"""Numbers of the connections that are traced, by the engine's transport."""


def _write(transport: Any, message: Any) -> None:
    """Log a frame whatever the level is: who traces one connection need not switch on those of all."""
    line = _write.__code__.co_firstlineno
    arguments = (_traced.get(transport, 0), proton.text(message))
    record = logger.makeRecord(logger.name, logging.DEBUG, __file__, line, "[C%d]:%s", arguments, None, extra=ASKED)
    logger.handle(record)


_tracer: Any = proton.tracer(_write)


def is_wanted() -> bool:
    """Tell whether the log asks for the frames of all connections."""
    return logger.isEnabledFor(logging.DEBUG)


def start(transport: Any, connection_id: int) -> None:
    """Trace a connection's frames from now on."""
    _traced[transport] = connection_id
    proton.transport_set_tracer(transport, _tracer)
    proton.transport_trace(transport, proton.TRACE_FRAMES)


def stop(transport: Any) -> None:
    """Trace them no longer; also when the connection is over."""
    if _traced.pop(transport, None) is not None:
        proton.transport_trace(transport, proton.TRACE_OFF)


def is_traced(transport: Any) -> bool:
    """Tell whether a connection's frames are traced."""
    return transport in _traced
