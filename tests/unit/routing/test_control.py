"""The control plane by transcript: what it is told, and the commands that are expected."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vanrouter.routing import messages
from vanrouter.routing.commands import (
    BindAddress,
    Command,
    ControlSettings,
    RemoveNode,
    RouteChanged,
    SendControl,
    SetNode,
    SetRadius,
    UnbindAddress,
)
from vanrouter.routing.control import FORGET_AGAIN_S, FORGET_S, MAU_REPEAT_S, ControlPlane
from vanrouter.routing.messages import Descriptor

B_TO_A = SetNode(router_id="B", next_hop="B", connection_id=1, cost=1, is_neighbour=True)


def opcodes(commands: list[Command]) -> list[str]:
    return [command.opcode for command in commands if isinstance(command, SendControl)]


def bodies(commands: list[Command], opcode: str) -> list[dict[str, object]]:
    return [command.body for command in commands if isinstance(command, SendControl) and command.opcode == opcode]


def changes(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not isinstance(command, SendControl | RouteChanged)]


def hello(plane: ControlPlane, peer: str, now: float, connection: int = 1, instance: int = 5) -> list[Command]:
    return plane.on_message("HELLO", messages.hello_body(peer, instance, [plane.router_id]), connection, now)


def ra(plane: ControlPlane, peer: str, ls: int, mobile: int, now: float, instance: int = 5) -> list[Command]:
    return plane.on_message("RA", messages.advertisement_body(peer, instance, ls, mobile), 1, now)


def lsu(plane: ControlPlane, peer: str, seq: int, now: float, instance: int = 5, **peers: int) -> list[Command]:
    return plane.on_message("LSU", messages.link_state_update_body(peer, instance, seq, peers), 1, now)


def mau(plane: ControlPlane, peer: str, seq: int, now: float, *keys: str) -> list[Command]:
    entries = [Descriptor(key, 3, None, None) for key in keys]
    return plane.on_message("MAU", messages.absolute_body(peer, seq, entries), 1, now)


def differential(plane: ControlPlane, peer: str, seq: int, now: float, *keys: str) -> list[Command]:
    entries = [Descriptor(key, 3, None, None) for key in keys]
    return plane.on_message("MAU", messages.differential_body(peer, seq, entries, []), 1, now)


def with_neighbour(settings: ControlSettings | None = None) -> ControlPlane:
    """A with B beside it, whose link state and addresses are known, at second 1."""
    plane = ControlPlane("A", 7, settings)
    plane.on_link_up(1, 1, 0.0)
    hello(plane, "B", 0.5)
    ra(plane, "B", 1, 1, 0.6)
    lsu(plane, "B", 1, 0.7, A=1)
    mau(plane, "B", 1, 0.8, "Mfoo")
    plane.on_timer(1.0)
    return plane


def line(settings: ControlSettings | None = None) -> ControlPlane:
    """A - B - C, everything known, at second 2."""
    plane = with_neighbour(settings)
    lsu(plane, "B", 2, 1.1, A=1, C=1)
    plane.on_timer(1.5)
    ra(plane, "C", 1, 1, 1.6)
    lsu(plane, "C", 1, 1.7, B=1)
    mau(plane, "C", 1, 1.8, "Mbar")
    plane.on_timer(2.0)
    return plane


# -- links and HELLO ---------------------------------------------------------------------------------------------------


def test_greets_at_once_and_every_second() -> None:
    plane = ControlPlane("A", 7)
    assert plane.next_deadline() is None
    assert bodies(plane.on_link_up(1, 1, 0.0), "HELLO")[0]["seen"] == []
    assert plane.next_deadline() == 1.0
    assert opcodes(plane.on_timer(1.0)) == ["HELLO"]
    plane.on_link_lost(1, 1.5)
    assert plane.on_timer(2.0) == []
    assert plane.next_deadline() is None


def test_neighbour_at_its_first_hello_that_lists_us() -> None:
    plane = ControlPlane("A", 7)
    plane.on_link_up(1, 1, 0.0)
    first = plane.on_message("HELLO", messages.hello_body("B", 5, []), 1, 0.1)
    assert bodies(first, "HELLO")[0]["seen"] == ["B"]  # at once, so that B need not wait for the next second
    second = hello(plane, "B", 0.2)
    assert changes(second) == [B_TO_A, SetRadius(hops=1)]
    assert opcodes(second) == ["LSR", "MAR", "RA"]
    assert bodies(second, "RA")[0]["ls_seq"] == 1
    assert plane.neighbour_connections() == {"B": 1}
    assert opcodes(hello(plane, "B", 1.2)) == []


def test_hello_of_an_unknown_connection_or_of_ourselves() -> None:
    plane = ControlPlane("A", 7)
    assert hello(plane, "B", 0.0, connection=9) == []
    plane.on_link_up(1, 1, 0.0)
    assert hello(plane, "A", 0.0) == []
    assert hello(plane, "A", 0.0, instance=7) == []
    assert plane.counters.ignored["HELLO"] == 3


def test_neighbour_is_lost_without_hellos_and_comes_back() -> None:
    plane = with_neighbour()
    lost: list[Command] = []
    while plane.neighbour_connections():
        deadline = plane.next_deadline()
        assert deadline is not None
        lost = plane.on_timer(deadline)
    assert deadline == 3.5
    assert SetRadius(hops=0) in lost
    assert changes(hello(plane, "B", 3.6)) == [SetRadius(hops=1)]  # within the hold-off: the route is still there


def test_lost_connection_acts_at_once() -> None:
    plane = line()
    lost = plane.on_link_lost(1, 2.0)
    assert changes(lost) == [SetRadius(hops=0)]
    assert plane.counters.path_computations > 0
    assert changes(plane.on_timer(2.9)) == []
    assert changes(plane.on_timer(3.0)) == [RemoveNode(router_id="B"), RemoveNode(router_id="C")]
    assert plane.on_link_lost(1, 3.0) == []


def test_other_neighbours_hear_of_a_loss_at_once() -> None:
    plane = with_neighbour()
    plane.on_link_up(2, 1, 1.0)
    hello(plane, "C", 1.1, connection=2)
    plane.on_timer(1.3)
    assert bodies(plane.on_link_lost(1, 2.0), "RA")[0]["ls_seq"] == 3


def test_gains_are_gathered_for_a_moment() -> None:
    plane = with_neighbour()
    plane.on_link_up(2, 1, 5.0)
    plane.on_link_up(3, 1, 5.0)
    assert "RA" in opcodes(hello(plane, "C", 5.0, connection=2))
    assert "RA" not in opcodes(hello(plane, "D", 5.01, connection=3))
    assert "RA" in opcodes(plane.on_timer(5.1))


def test_cost_change() -> None:
    plane = with_neighbour()
    assert plane.on_cost_changed(9, 4, 2.0) == []
    assert plane.on_cost_changed(1, 1, 2.0) == []
    changed = plane.on_cost_changed(1, 4, 2.0)
    assert changes(changed) == [SetNode(router_id="B", next_hop="B", connection_id=1, cost=4, is_neighbour=True)]
    assert bodies(changed, "RA")[0]["ls_seq"] == 2


def test_second_connection_to_a_neighbour_takes_over() -> None:
    plane = with_neighbour()
    plane.on_link_up(2, 1, 1.0)
    assert changes(hello(plane, "B", 1.1, connection=2)) == []
    lost = plane.on_link_lost(1, 1.2)
    assert changes(lost) == [SetNode(router_id="B", next_hop="B", connection_id=2, cost=1, is_neighbour=True)]
    assert plane.ls_seq == 1  # nothing to tell the others


@pytest.mark.parametrize("is_told_before", [True, False])
def test_connection_upgrade_changes_no_topology(is_told_before: bool) -> None:
    plane = with_neighbour()
    if is_told_before:
        plane.on_link_up(2, 1, 1.0)
    replaced = plane.on_link_replaced(1, 2, 1.0)
    assert changes(replaced) == [SetNode(router_id="B", next_hop="B", connection_id=2, cost=1, is_neighbour=True)]
    assert opcodes(replaced) == ["HELLO"]
    assert [command.is_new_topology for command in replaced if isinstance(command, RouteChanged)] == [False]
    assert plane.ls_seq == 1
    assert plane.on_link_lost(1, 1.5) == []
    plane.on_timer(3.5)
    assert plane.neighbour_connections() == {}  # the new one has to speak too


def test_upgrade_of_an_unknown_or_silent_connection() -> None:
    plane = ControlPlane("A", 7)
    assert opcodes(plane.on_link_replaced(1, 2, 0.0)) == ["HELLO"]
    assert changes(plane.on_link_replaced(2, 3, 0.0)) == []


def test_flapping_neighbour_waits() -> None:
    plane = ControlPlane("A", 7)
    now = 0.0
    for connection in range(1, 5):
        plane.on_link_up(connection, 1, now)
        hello(plane, "B", now, connection=connection)
        assert plane.neighbour_connections() == ({"B": connection} if connection < 4 else {})
        if connection < 4:
            plane.on_link_lost(connection, now + 0.01)
        now += 0.02
    assert plane.counters.held_neighbours == 1
    plane.on_link_replaced(4, 5, now)  # held stays held over an upgrade, until the next deadline
    plane.on_timer(now)
    assert plane.neighbour_connections() == {"B": 5}


def test_held_neighbour_that_falls_silent() -> None:
    plane = ControlPlane("A", 7, ControlSettings(flap_hold_max_s=60, flap_threshold=0, hello_max_age_s=1))
    for _ in range(200):
        plane._neighbours.note_loss("B", 0.0)
    plane.on_link_up(1, 1, 0.0)
    hello(plane, "B", 0.0)
    assert plane.neighbour_connections() == {}
    plane.on_timer(1.0)
    plane.on_timer(61.0)
    assert plane.neighbour_connections() == {}


# -- RA, LSR, LSU ------------------------------------------------------------------------------------------------------


def test_advertises_often_in_flux_and_seldom_in_peace() -> None:
    plane = with_neighbour()
    times = []
    now = 1.0
    while now < 70:
        now = plane.next_deadline() or 70.0
        if now % 1 < 0.01:
            hello(plane, "B", now)
            ra(plane, "B", 1, 1, now)
        if "RA" in opcodes(plane.on_timer(now)):
            times.append(now)
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(times)]
    assert gaps[0] < 4.1
    assert max(gaps) > 25


def test_new_numbers_are_asked_for() -> None:
    plane = with_neighbour()
    assert opcodes(ra(plane, "B", 2, 1, 2.0)) == ["LSR"]
    assert opcodes(ra(plane, "B", 2, 1, 2.1)) == []
    assert opcodes(plane.on_timer(2.5)) == ["HELLO", "LSR"]
    assert opcodes(lsu(plane, "B", 2, 2.6, A=1, D=1)) == ["LSR", "MAR"]  # to D, which is new
    assert opcodes(lsu(plane, "B", 2, 2.7, A=1, D=1)) == []


def test_link_state_request_is_answered() -> None:
    plane = with_neighbour()
    answer = plane.on_message("LSR", messages.link_state_request_body("B"), 1, 2.0)
    assert bodies(answer, "LSU")[0]["ls"] == {"id": "A", "area": "0", "ls_seq": 1, "peers": {"B": 1}}
    stranger = plane.on_message("LSR", messages.link_state_request_body("X"), 1, 2.0)
    assert [command.connection_id for command in stranger if isinstance(command, SendControl)] == [1]
    reached = lsu(plane, "B", 2, 3.0, A=1, X=1)
    sent = [(command.opcode, command.to) for command in reached if isinstance(command, SendControl)]
    assert ("LSU", "amqp:/_topo/0/X/qdrouter") in sent  # once more, now that there is a way


def test_confirmed_link_state_changes_nothing() -> None:
    plane = line()
    plane.on_link_lost(1, 2.0)
    plane.on_link_up(2, 1, 2.1)
    hello(plane, "B", 2.2, connection=2)
    before = plane.counters.path_computations
    assert lsu(plane, "C", 1, 2.3, B=1) == []
    plane.on_timer(2.9)
    assert plane.counters.path_computations == before


def test_route_to_far_routers() -> None:
    plane = with_neighbour()
    found = lsu(plane, "B", 2, 1.1, A=1, C=1)
    assert changes(found) == [
        SetNode(router_id="C", next_hop="B", connection_id=1, cost=2, is_neighbour=False),
        SetRadius(hops=2),
    ]
    assert opcodes(found) == ["LSR", "MAR"]
    reason = next(command.reason for command in found if isinstance(command, RouteChanged))
    assert "link state 2 of B" in reason


def test_remote_changes_are_computed_after_a_growing_wait() -> None:
    plane = with_neighbour()
    hello(plane, "B", 5.0)
    before = plane.counters.path_computations
    for number in range(10):
        lsu(plane, "B", 2 + number, 5.0 + number / 1000, A=1, **{f"C{number}": 1})
    assert plane.counters.path_computations == before + 1
    plane.on_timer(5.1)
    assert plane.counters.path_computations == before + 2
    assert {"C9"} == {node.id for node in plane.nodes() if node.id[0] == "C" and node.next_hop and node.id != "C0"}


def test_restart_of_a_router() -> None:
    plane = line()
    restarted = ra(plane, "C", 1, 0, 5.0, instance=6)
    assert changes(restarted) == [
        RemoveNode(router_id="C"),
        SetNode(router_id="C", next_hop="B", connection_id=1, cost=2, is_neighbour=False),
    ]
    assert plane.counters.restarts_seen == 1
    assert ra(plane, "C", 9, 9, 5.1, instance=5) == []  # late, from its former life
    assert hello(plane, "B", 5.2, instance=6) != []
    assert plane.counters.restarts_seen == 2


def test_old_link_state_is_given_up() -> None:
    plane = line()
    now = 2.0
    while now < 63:
        now += 1
        hello(plane, "B", now)
        ra(plane, "B", 2, 1, now)
        aged = plane.on_timer(now)
        if any(isinstance(command, RouteChanged) and "too old" in command.reason for command in aged):
            break
    assert now == pytest.approx(62, abs=1.1)
    views = {view.id: view for view in plane.nodes()}
    assert views["C"].neighbours == ()
    assert views["C"].next_hop == "B"  # B still names it


def test_unnamed_routers_are_deleted() -> None:
    plane = with_neighbour()
    ra(plane, "X", 1, 1, 2.0)
    assert "X" in {view.id for view in plane.nodes()}
    plane.on_timer(2.0 + FORGET_S)
    assert "X" not in {view.id for view in plane.nodes()}


def test_named_but_unreachable_routers_are_kept() -> None:
    plane = ControlPlane("A", 7)
    lsu(plane, "X", 1, 0.0, Y=1)
    plane.on_timer(FORGET_S)
    assert {view.id for view in plane.nodes()} == {"A", "X", "Y"}
    lsu(plane, "X", 2, 4.0)
    plane.on_timer(FORGET_S + FORGET_AGAIN_S)
    assert {view.id for view in plane.nodes()} == {"A"}


def test_network_is_bounded() -> None:
    plane = with_neighbour(ControlSettings(max_routers=4))
    lsu(plane, "B", 2, 5.0, A=1, **{f"F{number}": 1 for number in range(1000)})
    assert len(list(plane.nodes())) == 4
    assert ra(plane, "Z", 1, 1, 6.0) == []
    assert plane.on_message("LSR", messages.link_state_request_body("Z"), 1, 6.0) == []
    assert lsu(plane, "Z", 1, 6.0) == []


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_first_change_at_once_and_the_next_gathered() -> None:
    plane = with_neighbour()
    first = plane.on_address_added("Mone", 3, 10.0)
    assert opcodes(first) == ["MAU", "RA"]
    assert bodies(first, "MAU")[0]["add"] == [["Mone", 3, 0]]
    assert plane.on_address_added("Mtwo", 3, 10.1, "mesh", 4) == []
    assert plane.on_address_added("Mthree", 3, 10.2) == []
    assert plane.on_address_removed("Mthree", 10.3) == []
    hello(plane, "B", 10.9)
    gathered = plane.on_timer(11.0)
    assert bodies(gathered, "MAU")[0]["add"] == [["Mtwo", 3, 0, None, "mesh", 4]]
    assert bodies(gathered, "RA")[0]["mobile_seq"] == 2
    assert plane.on_address_removed("Mtwo", 11.1) == []
    assert plane.on_address_added("Mtwo", 3, 11.2, "mesh", 4) == []
    assert "MAU" not in opcodes(plane.on_timer(12.5))


def test_addresses_of_a_lonely_router_wait_for_questions() -> None:
    plane = ControlPlane("A", 7)
    assert plane.on_address_added("Mone", 3, 0.0) == []
    plane.on_link_up(1, 1, 1.0)
    assert bodies(hello(plane, "B", 1.1), "RA")[0]["mobile_seq"] == 1
    answer = plane.on_message("MAR", messages.mobile_request_body("B", 0), 1, 1.2)
    assert bodies(answer, "MAU")[0]["exist"] == [["Mone", 3, 0]]


def test_address_requests() -> None:
    plane = with_neighbour()
    plane.on_address_added("Mone", 3, 5.0)

    def ask(peer: str, have: int, now: float) -> list[str]:
        return opcodes(plane.on_message("MAR", messages.mobile_request_body(peer, have), 1, now))

    assert ask("nobody", 0, 5.0) == []
    assert ask("B", 1, 5.0) == []
    assert ask("B", 0, 5.0) == ["MAU"]
    assert ask("B", 0, 5.1) == []
    assert ask("B", 0, 5.0 + MAU_REPEAT_S) == ["MAU"]
    assert ask("B", 99, 7.0) == ["MAU"]  # it has what was of a former life


def test_address_request_of_a_router_without_a_way_back() -> None:
    plane = with_neighbour()
    plane.on_address_added("Mone", 3, 2.0)
    ra(plane, "C", 1, 0, 2.0)
    assert plane.on_message("MAR", messages.mobile_request_body("C", 0), 1, 2.0) == []
    assert "MAU" in opcodes(lsu(plane, "B", 2, 2.1, A=1, C=1))


def test_address_updates() -> None:
    plane = with_neighbour()
    assert changes(differential(plane, "B", 2, 2.0, "Mbar")) == [
        BindAddress(router_id="B", key="Mbar", hint=3, mesh_id=None, weight=None)
    ]
    assert differential(plane, "B", 2, 2.0, "Mbar") == []
    assert mau(plane, "B", 1, 2.0) == []
    assert mau(plane, "nobody", 1, 2.0) == []
    assert changes(mau(plane, "B", 3, 2.1, "Mbar")) == [UnbindAddress(router_id="B", key="Mfoo")]


def test_gap_in_the_numbers_is_asked_for_once() -> None:
    plane = with_neighbour()
    gap = differential(plane, "B", 8, 2.0, "Mx")
    assert bodies(gap, "MAR") == [{"id": "A", "pv": 2, "area": "0", "have_seq": 1}]
    assert differential(plane, "B", 9, 2.1, "My") == []
    assert opcodes(mau(plane, "B", 8, 2.2, "Mx")) == ["MAR"]  # the ninth was dropped
    assert opcodes(mau(plane, "B", 9, 2.3, "Mx", "My")) == []
    assert changes(differential(plane, "B", 10, 2.4, "Mz")) != []


def test_update_that_is_older_than_announced_is_asked_on() -> None:
    plane = with_neighbour()
    ra(plane, "B", 1, 5, 2.0)
    assert opcodes(mau(plane, "B", 4, 2.1, "Mx")) == ["MAR"]


def test_addresses_of_an_unreachable_router_are_ignored() -> None:
    plane = with_neighbour()
    ra(plane, "C", 1, 0, 2.0)
    assert mau(plane, "C", 1, 2.0, "Mx") == []
    assert plane.counters.ignored["MAU"] == 1


def test_oversized_set_is_refused() -> None:
    plane = with_neighbour(ControlSettings(max_addresses_per_router=2))
    assert differential(plane, "B", 2, 2.0, "Ma", "Mb") == []
    assert plane.counters.oversized_updates == 1
    assert mau(plane, "B", 2, 2.0, "Ma", "Mb", "Mc") == []
    assert plane.counters.malformed["MAU"] == 1


def test_set_that_turns_out_to_be_somebody_elses_is_dropped() -> None:
    plane = with_neighbour()
    ra(plane, "B", 1, 0, 2.0)
    dropped = ra(plane, "B", 1, 0, 5.0)
    assert changes(dropped) == [UnbindAddress(router_id="B", key="Mfoo")]


# -- asked -------------------------------------------------------------------------------------------------------------


def test_a_neighbour_that_has_not_announced_its_link_yet_may_pass() -> None:
    plane = with_neighbour()
    plane.on_link_up(2, 1, 1.0)
    hello(plane, "C", 1.0, connection=2)
    plane.on_timer(2.0)
    assert not plane.is_valid_origin("B", "0/C")
    assert plane.may_pass("B", "0/C")


def test_valid_origins() -> None:
    plane = with_neighbour()
    plane.on_link_up(2, 1, 1.0)
    hello(plane, "C", 1.0, connection=2)
    lsu(plane, "C", 1, 1.1, A=1)
    plane.on_timer(2.0)
    assert plane.is_valid_origin("C", "B")
    assert plane.is_valid_origin("C", "0/B")
    assert not plane.is_valid_origin("B", "B")
    assert plane.is_valid_origin("C", None)
    assert plane.is_valid_origin("C", "0/A")
    assert plane.is_valid_origin("C", "unknown")
    assert plane.may_pass("C", "0/B")
    assert plane.may_pass("C", None)
    assert not plane.may_pass("B", "0/B")
    assert plane.is_known_origin("0/B")
    assert not plane.is_known_origin("0/A")
    assert not plane.is_known_origin("unknown")
    assert plane.is_plausible_trace("0/B", 2)
    assert not plane.is_plausible_trace("0/B", 3)


def test_trace_may_be_longer_than_the_radius_where_costs_differ() -> None:
    plane = line()
    plane.on_link_up(2, 1, 3.0)
    hello(plane, "B", 3.0)
    hello(plane, "C", 3.0, connection=2)
    lsu(plane, "C", 2, 3.1, B=1, A=9)
    plane.on_timer(3.5)
    assert {view.id: view.next_hop for view in plane.nodes()} == {"A": None, "B": "B", "C": "C"}
    assert plane.is_plausible_trace("C", 3)  # from C it is cheaper over B
    assert not plane.is_plausible_trace("B", 3)


def test_floods() -> None:
    plane = with_neighbour()
    body = messages.advertisement_body("B", 5, 4, 4)
    assert plane.should_forward("RA", body, 1, 2.0)
    assert not plane.should_forward("RA", body, 1, 2.1)
    assert plane.should_forward("RA", messages.advertisement_body("new", 5, 4, 4), 1, 2.0)
    assert not plane.should_forward("RA", messages.advertisement_body("A", 5, 4, 4), 1, 2.0)
    assert plane.should_forward("RA", None, 1, 2.0)
    assert plane.should_forward("MAU", {}, 1, 2.0)
    assert plane.counters.repeated == 1


def test_rows() -> None:
    plane = line()
    rows = {view.id: view for view in plane.nodes()}
    assert rows["A"].neighbours == ("B",)
    assert (rows["A"].next_hop, rows["A"].cost, rows["A"].ls_seq) == (None, 0, 1)
    assert (rows["B"].is_neighbour, rows["B"].connection_id, rows["B"].address_count) == (True, 1, 1)
    assert (rows["C"].is_neighbour, rows["C"].next_hop, rows["C"].cost, rows["C"].instance) == (False, "B", 2, 5)
    assert rows["C"].valid_origins == []


def test_junk_is_counted() -> None:
    plane = ControlPlane("A", 7)
    assert plane.on_message("RA", None, 1, 0.0) == []
    assert plane.on_message("NEWS", {}, 1, 0.0) == []
    assert plane.on_message("HELLO", {"id": "B", "pv": 2}, 1, 0.0) == []
    assert plane.counters.malformed == {"RA": 1, "other": 1}
    assert plane.counters.ignored == {"HELLO": 1}


def test_a_restarted_neighbour_is_reached_over_its_new_connection_at_once() -> None:
    """The machine ended without a word: its old connection still counts as open here."""
    plane = with_neighbour()
    plane.on_link_up(2, 1, 1.1)
    commands = hello(plane, "B", 1.2, connection=2, instance=6)
    (route,) = [command for command in commands if isinstance(command, SetNode)]
    assert route.connection_id == 2
    assert not [command for command in plane.on_timer(30.0) if isinstance(command, SetNode)]
