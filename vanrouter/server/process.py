"""One run of the daemon: start in order, signals, the ready line, shutdown.

Layer: 5. Source: management.md, sections 11 and 12.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from types import FrameType

from vanrouter.engine.proton import check_engine
from vanrouter.engine.sasl import stand_guard
from vanrouter.errors import ConfigError, VanrouterError
from vanrouter.mgmt.config import Configuration
from vanrouter.mgmt.options import EXIT_INTERRUPTED, StartOptions
from vanrouter.net.names import ask_no_name_server
from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.core.router")
server_logger = logging.getLogger("vanrouter.engine.connection")

SASL_FREE = frozenset(("ANONYMOUS",))
"""Mechanisms that work without Cyrus SASL."""

COLLECT_AFTER = (5_000, 1, 1_200)
"""Objects, and younger collections, between two of the garbage collector. Records of flows and deliveries are in no
cycles and need none; one look at those of 10,000 open flows holds the loop for 90 ms. So a look at everything is rare,
and one at the 10,000 youngest objects takes some 5 ms."""


SWITCH_INTERVAL_S = 0.0002
"""How long another thread may keep the loop waiting each time that this has left the interpreter to read or write. With
the five milliseconds of CPython, requests took 50 ms while a thread read a file of 10,000 entities."""


def run(configuration: Configuration, options: StartOptions) -> int:
    """Run a router until a signal ends it; return the exit code.

    Raises:
        VanrouterError: it cannot start; the text says why.
    """
    check_engine(needs_tls=needs_tls(configuration), needs_sasl=needs_sasl(configuration))
    stand_guard()
    site = Site(configuration, options)
    code = 0

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal code
        if number == signal.SIGINT:
            code = EXIT_INTERRUPTED
        site.reactor.call_from_thread(site.terminate if number == signal.SIGTERM else site.shut_down)

    def reload() -> None:
        site.reload(lambda _outcome: None)  # the log tells it

    signal.set_wakeup_fd(site.reactor.wake_descriptor, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, on_signal)
    signal.signal(signal.SIGHUP, lambda _number, _frame: site.reactor.call_from_thread(reload))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        site.start()
    except OSError as error:
        raise VanrouterError(str(error)) from error
    except ConfigError as error:
        raise VanrouterError(str(error)) from error
    server_logger.info("Operational, 1 Threads Running (process ID %d)", os.getpid())
    options.on_ready()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    if sys.implementation.name == "cpython":  # PyPy's collector is of another kind
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
    ask_no_name_server()
    site.reactor.run()
    logger.info("Shut Down")
    signal.set_wakeup_fd(-1)
    return code


def needs_tls(configuration: Configuration) -> bool:
    """Tell whether an AMQP listener or connector uses TLS."""
    return any(
        entity.attributes.get("sslProfile") for kind in ("listener", "connector") for entity in configuration.of(kind)
    )


def needs_sasl(configuration: Configuration) -> bool:
    """Tell whether a mechanism is named that only Cyrus SASL provides."""
    for kind in ("listener", "connector"):
        for entity in configuration.of(kind):
            mechanisms = str(entity.attributes.get("saslMechanisms") or "").split()
            if any(mechanism not in SASL_FREE for mechanism in mechanisms):
                return True
    return False
