"""tests/unit mirrors vanrouter file for file, both ways, so that the file tells the test and the test the file."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vanrouter"
UNIT = ROOT / "tests" / "unit"

WITHOUT_TEST: set[str] = {
    "__main__.py",  # one call; tests/system/test_daemon.py runs it
}
"""Modules without a test of their own, each with the reason. The list only shrinks: who has a test must leave."""

WITHOUT_MODULE = {"test_layering.py", "test_mirror.py"}
"""Tests of the tree as a whole."""


def modules() -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}


def twin(module: str) -> Path:
    path = UNIT / module
    return path.with_name(f"test_{path.name}")


@pytest.mark.parametrize("module", sorted(modules()))
def test_module_has_its_test(module: str) -> None:
    if module in WITHOUT_TEST:
        assert not twin(module).exists(), f"{module} has a test now: take it off WITHOUT_TEST"
    else:
        assert twin(module).exists(), f"vanrouter/{module} needs {twin(module).relative_to(ROOT)}"


def test_each_test_has_its_module() -> None:
    names = {str(path.relative_to(UNIT)) for path in UNIT.rglob("test_*.py")} - WITHOUT_MODULE
    orphans = sorted(
        name for name in names if not (PACKAGE / name).with_name(Path(name).name.removeprefix("test_")).exists()
    )
    assert not orphans, f"tests of no module: {orphans}"


def test_exceptions_exist() -> None:
    gone = WITHOUT_TEST - modules()
    assert not gone, f"no such modules: {sorted(gone)}"
