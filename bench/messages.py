"""How many AMQP messages a second go from producers to consumers: through one router, and through two.

The floor is one hop (`amqp_floor.py`), also for the figures of two routers. Counted is what arrives: routers drop
presettled messages when a link is congested.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

from bench.harness.chains import FLOOR, HAPROXY, SKROUTERD, STUNNEL, Network
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.record import Figure, Target

QUESTION = "AMQP messages a second: settled by the consumer or presettled, one link or 100, 100 octets or 10,000"
LEFT_OUT = frozenset({HAPROXY, STUNNEL})
ROUNDS_AT_MOST = None
WARM_UP = False
ROUTERS = (1, 2)
LINKS = (1, 100)
SIZES = (100, 10_000)
PRESETTLED = (False, True)


def _key(routers: int, links: int, size: int, presettled: bool) -> str:
    return f"amqp_{routers}r_{links}l_{size}{'_pre' if presettled else ''}"


CPU_OF = {
    _key(1, 1, 100, False): "one router, 1 to 1",
    _key(1, 100, 100, False): "one router, 100 to 100",
    _key(2, 1, 100, False): "both of a pair, 1 to 1",
}
"""What a message costs, where the machine has other work to do and the rate says little."""


def _figures() -> tuple[Figure, ...]:
    figures: list[Figure] = []
    for routers, links, size, presettled in product(ROUTERS, LINKS, SIZES, PRESETTLED):
        where = "one router" if routers == 1 else "a pair"
        how = "presettled" if presettled else "unsettled"
        what = "100 B" if size == 100 else "10 kB"
        title = f"AMQP {where}, {links} to {links}, {what}, {how}"
        figures.append(Figure(key=_key(routers, links, size, presettled), title=title, unit="msg/s"))
    for key, title in CPU_OF.items():
        figures.append(Figure(key=f"{key}_cpu", title=f"CPU of {title}, 100 B, unsettled", unit="us/message", digits=2))
    return tuple(figures)


FIGURES = _figures()


def _targets() -> tuple[Target, ...]:
    targets: list[Target] = []
    for routers, links, size, presettled in product(ROUTERS, LINKS, SIZES, PRESETTLED):
        key = _key(routers, links, size, presettled)
        if routers == 1:
            targets.append(Target(figure=key, against=FLOOR, bound=0.65, sense="at least"))
        bound = 0.8 if routers == 1 and size == min(SIZES) else 1.2
        targets.append(Target(figure=key, against=SKROUTERD, bound=bound, sense="at least", aim=1.5))
    return tuple(targets)


TARGETS = _targets()


def exchange(world: World, network: Network, routers: int, links: int, size: int, presettled: bool) -> dict[str, Any]:
    """Return what the consumers counted in one run of the load programs."""
    enter, leave = network.amqp[0], network.amqp[routers - 1]
    options = ["--links", links, "--size", size, "--seconds", world.seconds, *(["--presettled"] if presettled else [])]
    address = f"bench/{_key(routers, links, size, presettled)}"
    consumers = world.programs.python("bench.load.amqp_client", "receive", leave, address, *options)
    consumers.answer(ANSWER_TIMEOUT_S)
    producers = world.programs.python("bench.load.amqp_client", "send", enter, address, *options)
    answer = consumers.answer(ANSWER_TIMEOUT_S)
    world.programs.end(producers, consumers)
    world.busiest_load = max(world.busiest_load, answer["busy"])
    return answer


def measure(links: int, size: int, presettled: bool, world: World, kind: str) -> dict[str, float]:
    """One run through one router and one through two."""
    network = world.amqp_floor() if kind == FLOOR else world.network(kind)
    figures: dict[str, float] = {}
    for routers in ROUTERS:
        key = _key(routers, links, size, presettled)
        hops = network.hops[:routers]
        cpu = sum(hop.cpu_s() for hop in hops)
        if kind != FLOOR or routers == 1:
            answer = exchange(world, network, routers, links, size, presettled)
            rate = answer["count"] / answer["seconds"]
            cost = (sum(hop.cpu_s() for hop in hops) - cpu) * 1e6 / answer["total"]
        figures[key] = rate
        if key in CPU_OF:
            figures[f"{key}_cpu"] = cost
    return figures


PARTS = tuple(partial(measure, *shape) for shape in product(LINKS, SIZES, PRESETTLED))
