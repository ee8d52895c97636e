from collections.abc import Iterator

import pytest

from tests.unit.engine.pumps import Pumps


@pytest.fixture
def pumps() -> Iterator[Pumps]:
    here = Pumps()
    yield here
    here.close()
