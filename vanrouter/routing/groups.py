"""What becomes of a new control connection of a connection group, as a table. Layer: 2. Router protocol section 1.6.

One difference on purpose: a connection with the ordinal of an existing one takes its place instead of being dropped. A
connector makes it only when the old one is lost on its side; the C router refuses it until its own idle time-out.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class Standing(Enum):
    """What an existing connection of the same correlator is to the new one."""

    NONE = auto()
    """There is none."""
    OLDER = auto()
    """It has a lower ordinal."""
    SAME = auto()
    """It has the same ordinal."""
    NEWER = auto()
    """It has a higher ordinal."""


class Verdict(Enum):
    """What becomes of the new connection, and of those that exist."""

    SET_UP = auto()
    """Normal set-up: it becomes the current one when both control links are up."""
    PEND = auto()
    """It becomes pending and replaces the current one when both control links are up; the old one stays open."""
    PEND_DROP_PENDING = auto()
    """As PEND; the present pending one is dropped."""
    TAKE_PLACE = auto()
    """It takes the place of the current one, which is dead and is dropped once both control links are up."""
    DROP = auto()
    """Its socket is closed without an AMQP error."""


VERDICTS: Final[dict[tuple[Standing, Standing], Verdict]] = {
    # current, pending
    (Standing.NONE, Standing.NONE): Verdict.SET_UP,
    (Standing.NONE, Standing.OLDER): Verdict.PEND_DROP_PENDING,
    (Standing.NONE, Standing.SAME): Verdict.PEND_DROP_PENDING,
    (Standing.NONE, Standing.NEWER): Verdict.DROP,
    (Standing.OLDER, Standing.NONE): Verdict.PEND,
    (Standing.OLDER, Standing.OLDER): Verdict.PEND_DROP_PENDING,
    (Standing.OLDER, Standing.SAME): Verdict.PEND_DROP_PENDING,
    (Standing.OLDER, Standing.NEWER): Verdict.DROP,
    (Standing.SAME, Standing.NONE): Verdict.TAKE_PLACE,
    (Standing.SAME, Standing.OLDER): Verdict.TAKE_PLACE,
    (Standing.SAME, Standing.SAME): Verdict.TAKE_PLACE,
    (Standing.SAME, Standing.NEWER): Verdict.DROP,
    (Standing.NEWER, Standing.NONE): Verdict.DROP,
    (Standing.NEWER, Standing.OLDER): Verdict.DROP,
    (Standing.NEWER, Standing.SAME): Verdict.DROP,
    (Standing.NEWER, Standing.NEWER): Verdict.DROP,
}


def standing(existing: int | None, ordinal: int) -> Standing:
    """Return what a connection of ordinal `existing` (None: there is none) is to a new one."""
    if existing is None:
        return Standing.NONE
    if existing == ordinal:
        return Standing.SAME
    return Standing.OLDER if existing < ordinal else Standing.NEWER


def judge(ordinal: int, current: int | None, pending: int | None) -> Verdict:
    """Decide on a new control connection with a correlator.

    Args:
        ordinal: its group ordinal, 0 when the peer gave none.
        current: ordinal of the connection in use with the same correlator, None without one.
        pending: ordinal of the one that waits for its control links, None without one.
    """
    return VERDICTS[standing(current, ordinal), standing(pending, ordinal)]
