"""The program `vanrouter`: command line, log, exit codes; the router itself is `vanrouter.server`. Layer: 6.

Source: management specification, section 12. Programs written for the C router start it, wait for the ready line and
read its log without changes.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from vanrouter import __version__
from vanrouter.cli.daemon import Handshake, become, detach, write_pid_file
from vanrouter.errors import ConfigError, VanrouterError
from vanrouter.mgmt.advice import Machine
from vanrouter.mgmt.config import Configuration, can_read, load_file
from vanrouter.mgmt.logs import Logs
from vanrouter.mgmt.options import EXIT_INTERRUPTED, StartOptions

PROGRAM = "vanrouter"
DEFAULT_CONFIG = "/etc/vanrouter/vanrouter.conf"

logger = logging.getLogger(__name__)


class _Arguments(argparse.ArgumentParser):
    """Usage on stdout and exit code 1 for a wrong command line, as the C router has it."""

    def error(self, message: str) -> NoReturn:
        self.print_help(sys.stdout)
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(1)


def _parser() -> _Arguments:
    parser = _Arguments(prog=PROGRAM, description="Application network router.", allow_abbrev=False)
    add = parser.add_argument
    add("-c", "--config", metavar="PATH", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)")
    add("-I", "--include", metavar="PATH", help="accepted and ignored: the C router's Python library")
    add("-d", "--daemon", action="store_true", help="run in the background; return once the router is ready")
    add("-P", "--pidfile", metavar="FILE", help="with -d: write the process id there")
    add("-U", "--user", metavar="NAME", help="with -d: run as this user")
    add("-T", "--test-hooks", action="store_true", help="shorten internal intervals, for tests")
    add("--check", action="store_true", help="check the configuration file, print what is wrong with it, and exit")
    add("-v", "--version", action="store_true", help="print the version and exit")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon's command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.version:
        print(__version__)
        return 0
    if arguments.check:
        return _check(arguments.config)
    if argv is None:
        _use_system_allocator()
    _raise_descriptor_limit()
    path = str(Path(arguments.config).absolute()) if arguments.daemon else arguments.config
    pid_file = str(Path(arguments.pidfile).absolute()) if arguments.daemon and arguments.pidfile else None
    handshake = detach(PROGRAM) if arguments.daemon else Handshake()
    logs = Logs()
    try:
        code = _start(arguments, path, pid_file, logs, handshake)
    except VanrouterError as error:
        code = _fail(str(error), handshake)
    finally:
        logs.shutdown()
    handshake.failed("the router ended before it was ready; see its log")
    if code == EXIT_INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return code


def _check(path: str) -> int:
    try:
        configuration = load_file(path, machine=Machine(can_read=can_read, knows_service=_knows_service))
    except ConfigError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    for warning in configuration.warnings:
        print(f"warning: {warning}")
    print(f"{path}: good, {len(configuration.warnings)} warnings")
    return 0


def _knows_service(name: str) -> bool:
    try:
        socket.getservbyname(name, "tcp")
    except OSError:
        return False
    return True


def _start(arguments: argparse.Namespace, path: str, pid_file: str | None, logs: Logs, handshake: Handshake) -> int:
    try:
        configuration = load_file(path, machine=Machine(can_read=can_read, knows_service=_knows_service))
    except ConfigError as error:
        return _fail(f"Cannot load configuration file {path}: {error}", handshake)
    logs.configure((entity.attributes for entity in configuration.of("log")), configuration.router.attributes)
    for warning in configuration.warnings:
        logger.warning("%s", warning)
    if pid_file is not None:
        write_pid_file(pid_file)
    if arguments.daemon and arguments.user:
        become(arguments.user)

    def on_ready() -> None:
        logs.drain()
        handshake.ready()

    return _serve(configuration, StartOptions(logs=logs, on_ready=on_ready, has_test_hooks=arguments.test_hooks))


def _serve(configuration: Configuration, options: StartOptions) -> int:
    # Imported here because it brings Proton: --check, --version and the report of a bad file work without it.
    from vanrouter.server import run  # noqa: PLC0415

    return run(configuration, options)


def _fail(reason: str, handshake: Handshake) -> int:
    logger.critical("Router start-up failed: %s", reason)
    print(f"{PROGRAM}: {reason}", file=sys.stderr)
    handshake.failed(reason)
    return 1


def _use_system_allocator() -> None:
    """Start this process again with every Python object in the C library's heap, unless the operator chose otherwise.

    Python's own allocator gives memory back a mebibyte at a time, and one counter that changed during a burst of flows
    holds each: after 2,000 flows it gave back 60 % of what they took, the C library 90 % (`net.memory` asks for it).
    It costs about an eighth of the CPU of small AMQP messages; `PYTHONMALLOC=pymalloc` chooses the other.
    """
    if sys.implementation.name == "cpython" and "PYTHONMALLOC" not in os.environ:
        os.environ["PYTHONMALLOC"] = "malloc"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # ourselves, as started


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each flow takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
