"""Networks of real routers, shared by the tests of a module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.harness import Sites
from tests.system.pki import Pki
from tests.system.services import echo_server

HERE = Path(__file__).parent

StartSites = Callable[..., Sites]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def foreign_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("foreign"), "another authority")


@contextlib.contextmanager
def running(sites: Sites, request: pytest.FixtureRequest) -> Iterator[Sites]:
    """Start two sites; stop them cleanly afterwards. Their logs appear in the report of a test that fails meanwhile."""
    session = request.session
    if not hasattr(session, "running_programs"):
        session.running_programs = []  # type: ignore[attr-defined]  # read by tests/conftest.py
    programs: list[object] = session.running_programs  # type: ignore[attr-defined]  # the same
    before = list(programs)
    try:
        programs[:] = [*before, _Live(sites, "A"), _Live(sites, "B")]
        yield sites.start()
        sites.stop()
    finally:
        sites.kill()
        programs[:] = before


class _Live:
    """The router that has this name now: a test may restart it."""

    def __init__(self, sites: Sites, name: str) -> None:
        self.name = name
        self._sites = sites

    def tail(self) -> str:
        for router in self._sites.routers():
            if router.router_id == self.name:
                return router.tail()
        return "was not started"


def _starter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, stack: contextlib.ExitStack
) -> StartSites:
    def start(**parameters: object) -> Sites:
        sites = Sites(directory=tmp_path_factory.mktemp("sites"), **parameters)  # type: ignore[arg-type]  # passed on
        return stack.enter_context(running(sites, request))

    return start


@pytest.fixture
def start_sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSites]:
    """Return a function that starts a network as `Sites` describes it, for one test."""
    with contextlib.ExitStack() as stack:
        yield _starter(request, tmp_path_factory, stack)


@pytest.fixture(scope="module")
def start_module_sites(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartSites]:
    """Return the same for fixtures that share a network among the tests of a module."""
    with contextlib.ExitStack() as stack:
        yield _starter(request, tmp_path_factory, stack)


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with echo_server() as port:
        yield port
