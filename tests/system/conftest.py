"""Networks of real routers, shared by the tests of a module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.harness import Sites
from tests.system.network import Network
from tests.system.pki import Pki
from tests.system.process import held
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


def _starter(tmp_path_factory: pytest.TempPathFactory, stack: contextlib.ExitStack) -> StartSites:
    def start(**parameters: object) -> Sites:
        sites = Sites(directory=tmp_path_factory.mktemp("sites"), **parameters)  # type: ignore[arg-type]  # passed on
        return stack.enter_context(held(sites)).start()

    return start


@pytest.fixture
def start_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSites]:
    """Return a function that starts a network as `Sites` describes it, for one test."""
    with contextlib.ExitStack() as stack:
        yield _starter(tmp_path_factory, stack)


@pytest.fixture(scope="module")
def start_module_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSites]:
    """Return the same for fixtures that share a network among the tests of a module."""
    with contextlib.ExitStack() as stack:
        yield _starter(tmp_path_factory, stack)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network that a test describes and starts; a module that shares one among its tests makes its own."""
    with held(Network(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with echo_server() as port:
        yield port
