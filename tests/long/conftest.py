"""What takes minutes: every test below is marked `long`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.conftest import pki, start_module_sites, start_sites  # noqa: F401  # fixtures are found by name

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.long)
