from collections.abc import Callable, Iterator

import pytest

from tests.unit.server.sites import Bench


@pytest.fixture
def bench_of() -> Iterator[Callable[[str], Bench]]:
    """Makes benches of configurations that have not started yet."""
    made: list[Bench] = []

    def make(text: str) -> Bench:
        made.append(Bench(text))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A site with a listener that has started."""
    bench = Bench().start()
    yield bench
    bench.close()
