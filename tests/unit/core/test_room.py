"""Whom a C router knows, as its neighbour can tell: the first to come, then those that it addresses."""

from __future__ import annotations

from vanrouter.core.room import C_MAX_ROUTERS, MAX_NAMES, OTHERS, PATIENCE, Room


def test_the_first_to_come() -> None:
    room = Room()
    names = [f"R{number}" for number in range(C_MAX_ROUTERS)]
    assert [room.admits(name) for name in names] == [True] * OTHERS + [False, False]
    assert room.is_full
    assert room.admits(names[0])
    room.forget(names[0])
    assert room.admits("late")
    assert not room.admits(names[0])


def test_those_that_it_addresses() -> None:
    """Its link states made it know others than were told: those go before."""
    room = Room()
    assert all(room.admits(f"R{number}") for number in range(OTHERS))
    for number in range(OTHERS - 10, OTHERS + 10):
        room.note_known(f"R{number}")
    admitted = [number for number in range(OTHERS + 20) if room.admits(f"R{number}")]
    assert len(admitted) == OTHERS
    assert set(range(OTHERS - 10, OTHERS + 10)) <= set(admitted)


def test_it_is_believed_about_its_own_room() -> None:
    room = Room()
    for number in range(OTHERS + 2):
        room.note_known(f"R{number}")
    assert all(room.admits(f"R{number}") for number in range(OTHERS + 2))
    assert not room.admits("another")


def test_those_that_it_never_addresses() -> None:
    """Its room went to others that nobody can see: who is told of in vain makes place for the next."""
    room = Room()
    assert all(room.admits(f"R{number}") for number in range(OTHERS))
    for _ in range(3 * PATIENCE):
        assert room.admits("R0"), "there is room for all: no need to know"
    assert not room.admits("late")
    assert [room.admits("R0") for _ in range(PATIENCE + 2)] == [True] * PATIENCE + [False] * 2
    assert room.admits("late")
    assert not room.admits("R0")
    room.note_known("R0")
    assert room.admits("R0")
    assert [room.admits("R1") for _ in range(PATIENCE + 1)][-1] is False
    room.forget("R2")
    assert room.admits("R1"), "everybody may try again"


def test_names_that_a_peer_makes_up_are_not_remembered_without_end() -> None:
    room = Room()
    for number in range(OTHERS + 1):
        room.admits(f"r{number}")
    assert room.is_full
    for number in range(2 * MAX_NAMES):
        while room.admits(f"r{number}"):
            pass
    assert 0 < len(room._strangers) <= MAX_NAMES
    for number in range(2 * MAX_NAMES):
        room.note_known(f"k{number}")
    assert len(room._known) == MAX_NAMES
