"""Whether a message costs more where many links and addresses lie idle: CPU of one router with 1, 100 and 10,000 links.

No floor: it has neither addresses nor rules. What counts is that the figures are the same.
"""

from __future__ import annotations

from bench.harness.chains import NO_ROUTER
from bench.harness.networks import ANSWER_TIMEOUT_S, World
from bench.harness.record import Figure, Target
from bench.messages import exchange

QUESTION = "CPU of an AMQP message, one to one, beside 1, 100 and 10,000 idle links and half as many addresses"
LEFT_OUT = NO_ROUTER
WARM_UP = False
ROUNDS_AT_MOST = None
COUNTS = (1, 100, 10_000)
FIGURES = (
    *(
        Figure(key=f"idle_links_{count}", title=f"CPU beside {count:,} idle links", unit="us/message", digits=2)
        for count in COUNTS
    ),
    Figure(key="idle_links_growth", title="10,000 idle links against 1", unit="times", digits=2),
)
TARGETS = (Target(figure="idle_links_growth", against=None, bound=1.2, sense="at most"),)


def measure(world: World, kind: str) -> dict[str, float]:
    """One run of each, on one network: idle links are added, so that they differ in nothing else."""
    figures: dict[str, float] = {}
    with world.fresh_network(kind) as network:
        hop = network.hops[0]
        exchange(world, network, 1, 1, 100, presettled=False)
        for count in COUNTS:
            idle = world.programs.python("bench.load.idle_links", network.amqp[0], count)
            idle.answer(ANSWER_TIMEOUT_S)
            cpu = hop.cpu_s()
            answer = exchange(world, network, 1, 1, 100, presettled=False)
            figures[f"idle_links_{count}"] = (hop.cpu_s() - cpu) * 1e6 / answer["total"]
            world.programs.end(idle)
    figures["idle_links_growth"] = figures[f"idle_links_{COUNTS[-1]}"] / figures[f"idle_links_{COUNTS[0]}"]
    return figures


PARTS = (measure,)
