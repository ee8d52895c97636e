"""What takes minutes: every test below is marked `long`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.conftest import c_router  # noqa: F401  # fixtures are found by name
from tests.system.conftest import (  # noqa: F401  # the same
    echo_port,
    network,
    pki,
    start_module_sites,
    start_sites,
)

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.long)
