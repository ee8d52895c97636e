"""Records of other routers: instances, numbers, link states, floods."""

from __future__ import annotations

from vanrouter.routing.linkstate import FLOOD_WINDOW_S, LOWER_NUMBERS_S, STALE_INSTANCE_S, Node, NodeTable
from vanrouter.routing.messages import Advertisement, LinkStateUpdate


def advertisement(ls_seq: int, mobile_seq: int, instance: int = 1) -> Advertisement:
    return Advertisement(id="B", instance=instance, ls_seq=ls_seq, mobile_seq=mobile_seq)


def update(ls_seq: int, instance: int | None = 1, **peers: int) -> LinkStateUpdate:
    return LinkStateUpdate(id="B", instance=instance, ls_seq=ls_seq, peers=peers)


def test_restart_empties_the_record() -> None:
    node = Node("B")
    assert not node.take_instance(1, 0.0)
    assert not node.take_instance(1, 0.0)
    assert node.take_link_state(update(5, A=1))
    node.take_numbers(advertisement(5, 3), 0.0)
    assert node.take_instance(0, 10.0)  # any difference counts, a smaller number too
    assert (node.ls_seq, node.peers, node.announced_ls_seq, node.announced_mobile_seq) == (0, {}, 0, 0)
    assert node.lacks_link_state


def test_late_messages_of_the_former_life() -> None:
    node = Node("B")
    node.take_instance(1, 0.0)
    node.take_instance(2, 10.0)
    assert node.is_late(1, 11.0)
    assert not node.is_late(2, 11.0)
    assert not node.is_late(3, 11.0)
    assert not node.is_late(1, 10.0 + STALE_INSTANCE_S)


def test_link_states_by_number() -> None:
    node = Node("B")
    assert node.take_link_state(update(0))  # the first counts even with the number of nothing
    assert node.instance == 1
    assert not node.take_link_state(update(0, A=1))
    assert node.take_link_state(update(2, A=1))
    assert not node.take_link_state(update(1))
    assert not node.take_link_state(update(9, instance=7))
    assert node.take_link_state(update(3, instance=None, A=2))
    node.is_confirmed = False
    assert node.take_link_state(update(3, A=2))
    node.is_confirmed = False
    assert not node.take_link_state(update(2, A=2))


def test_numbers_make_news() -> None:
    node = Node("B")
    assert node.take_numbers(advertisement(1, 0), 0.0)
    assert not node.take_numbers(advertisement(1, 0), 0.0)
    assert node.lacks_link_state
    assert not node.lacks_addresses
    assert node.take_numbers(advertisement(1, 2), 0.0)
    assert node.lacks_addresses


def test_lower_numbers_are_late_at_first_and_true_in_the_end() -> None:
    node = Node("B")
    node.take_link_state(update(50, A=1))
    node.addresses.mobile_seq = 50
    node.take_numbers(advertisement(50, 50), 0.0)
    assert not node.take_numbers(advertisement(2, 2), 1.0)
    assert node.take_numbers(advertisement(50, 50), 1.1) is False
    assert node.lower_since is None
    node.take_numbers(advertisement(2, 2), 2.0)
    node.take_numbers(advertisement(2, 2), 2.5)
    assert not node.lacks_link_state
    node.take_numbers(advertisement(2, 2), 2.0 + LOWER_NUMBERS_S)
    assert node.lacks_link_state
    assert node.lacks_addresses
    assert node.peers == {"A": 1}
    assert node.take_link_state(update(2))


def test_only_what_is_lower_is_given_up() -> None:
    node = Node("B")
    node.take_link_state(update(5, A=1))
    node.addresses.mobile_seq = 7
    node.take_numbers(advertisement(5, 3), 0.0)
    node.take_numbers(advertisement(5, 3), LOWER_NUMBERS_S)
    assert not node.lacks_link_state
    assert node.lacks_addresses
    node = Node("B")
    node.take_link_state(update(5, A=1))
    node.addresses.mobile_seq = 7
    node.take_numbers(advertisement(3, 7), 0.0)
    node.take_numbers(advertisement(3, 7), LOWER_NUMBERS_S)
    assert node.lacks_link_state
    assert not node.lacks_addresses


def test_floods_are_passed_on_once() -> None:
    node = Node("B")
    assert not node.is_repeated_flood(1, 1, 1, 3, 0.0)
    assert node.is_repeated_flood(1, 1, 1, 3, 0.1)
    assert not node.is_repeated_flood(1, 1, 1, 2, 0.1)  # a shorter way may get further
    assert node.is_repeated_flood(1, 1, 1, 3, 0.2)
    assert not node.is_repeated_flood(1, 2, 1, 9, 0.3)
    assert node.is_repeated_flood(1, 1, 1, 1, 0.3)  # older than what was passed on
    assert not node.is_repeated_flood(1, 2, 1, 9, 0.3 + FLOOD_WINDOW_S)  # the sender's own repetition


def test_floods_of_two_instances_do_not_take_turns() -> None:
    node = Node("B")
    assert not node.is_repeated_flood(1, 5, 5, 2, 0.0)
    assert not node.is_repeated_flood(2, 1, 1, 2, 0.1)
    assert node.is_repeated_flood(1, 5, 5, 2, 0.2)
    assert node.is_repeated_flood(2, 1, 1, 2, 0.2)
    assert not node.is_repeated_flood(3, 1, 1, 2, 0.3)
    assert len(node.flooded) == 2


def test_table_is_bounded() -> None:
    table = NodeTable("A", 3)
    assert table.learn("A") is None
    first = table.learn("B")
    assert first is table.learn("B") is table.get("B") is table["B"]
    assert table.learn("C") is not None
    assert table.learn("D") is None
    assert table.refused == 1
    assert len(table) == 2
    assert [node.id for node in table] == ["B", "C"]
    assert first is not None
    first.peers = {"C": 4}
    assert table.is_named("C")
    assert not table.is_named("B")
    assert table.link_states({"B": 1}) == {"A": {"B": 1}, "B": {"C": 4}, "C": {}}
    first.peers = {"B2": 1}
    table.note_change()
    assert table.is_named("B2")
    assert not table.is_named("C")
    table.delete(first)
    assert table.get("B") is None
