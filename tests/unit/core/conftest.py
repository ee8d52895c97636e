from collections.abc import Iterator

import pytest

from tests.unit.core.engines import World
from tests.unit.core.engines import world as make_world


@pytest.fixture
def world() -> Iterator[World]:
    with make_world() as here:
        yield here
