"""What the command line hands to the server beside the configuration. Layer: 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vanrouter.mgmt.logs import Logs

EXIT_INTERRUPTED = 130
"""Returned by the server after SIGINT; the program then ends itself by that signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Options of one run.

    Args:
        logs: the running log; the server passes `log` updates to it and reads events and counts from it.
        on_ready: to be called once when the ready line has been logged; releases the starting process of a daemon.
        has_test_hooks: shorten internal intervals for tests, write lines of the log on request (`-T`).
    """

    logs: Logs
    on_ready: Callable[[], None]
    has_test_hooks: bool = False
