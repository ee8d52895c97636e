"""Independent peers: rhea on Node, Proton's Python and C++ clients, the C router of the Skupper project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import (  # noqa: F401  # fixtures are found by name
    echo_port,
    foreign_pki,
    network,
    pki,
    start_module_sites,
    start_sites,
)
from tests.system.harness import c_router_program
from tests.system.services import require

HERE = Path(__file__).parent
COMPILE_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def rhea() -> list[str | Path]:
    """Return the command that runs the client script, or skip."""
    node = require("node")
    if not (HERE / "node_modules" / "rhea").is_dir():
        pytest.skip("rhea is not installed (npm ci --prefix tests/interop)")
    return [node, HERE / "rhea_client.js"]


@pytest.fixture(scope="session")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Return the client on Proton's C++ binding, compiled, or skip."""
    compiler = require("g++")
    if not Path("/usr/include/proton/container.hpp").is_file():
        pytest.skip("no Proton C++: install Debian's libqpid-proton-cpp12-dev")
    program = tmp_path_factory.mktemp("cpp") / "cpp_client"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program]
    subprocess.run([*command, HERE / "cpp_client.cpp", "-lqpid-proton-cpp"], check=True, timeout=COMPILE_S)
    return [program]


@pytest.fixture(scope="session")
def c_router_2() -> str:
    """Return the C router of the line before (skupper-router 2.x), or skip."""
    program = os.environ.get("SKROUTERD2")
    if program is None:
        pytest.skip("no C router of version 2: SKROUTERD2 names none")
    return program


@pytest.fixture(scope="session")
def c_router() -> str:
    """Return the C router, or skip."""
    program = c_router_program()
    if program is None:
        pytest.skip("no C router: neither SKROUTERD nor skrouterd on the path")
    return program
