"""What the data path asks by origin: three routers in a row, seen from the middle."""

from __future__ import annotations

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.complaints import Complaints
from vanrouter.routing.neighbours import Neighbours
from vanrouter.routing.origins import Origins
from vanrouter.routing.paths import PathMap
from vanrouter.routing.views import ControlCounters


class Middle(Origins):
    def __init__(self) -> None:
        self.router_id = "B"
        self._paths = PathMap("B", {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {}})
        self._radius = self._paths.radius
        self._is_dirty = False
        self._newest = None
        self.asked = 0

    def _link_states(self) -> dict[str, dict[str, int]]:
        self.asked += 1
        return {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {"B": 1, "D": 1}, "D": {"C": 1}}


def test_valid_origins() -> None:
    middle = Middle()
    assert middle.is_valid_origin("C", "D")  # unknown: as what begins here
    assert middle.is_valid_origin("C", "A")
    assert middle.is_valid_origin("C", "0/A")
    assert not middle.is_valid_origin("A", "A")
    assert middle.is_valid_origin("A", None)
    assert middle.is_valid_origin("A", "0/B")


def test_a_link_that_only_this_end_has_announced() -> None:
    middle = Middle()
    assert not middle.is_valid_origin("A", "C")
    assert middle.may_pass("A", "C")
    assert middle.may_pass("C", "A")
    assert not middle.may_pass("A", "A")


def test_link_states_that_came_after_the_last_computation() -> None:
    """The answer of a server in a network that has just come up: the routes are a fraction of a second behind."""
    middle = Middle()
    middle._paths = PathMap("B", {"A": {"B": 1}, "B": {"A": 1, "C": 1}, "C": {"B": 1, "D": 1}, "D": {}})
    assert not middle.may_pass("A", "0/D")
    assert not middle.asked
    middle._is_dirty = True
    assert middle.may_pass("A", "0/D")
    assert middle.may_pass("A", "D")
    assert not middle.may_pass("C", "D")
    assert middle.asked == 1


def test_known_origins_and_traces() -> None:
    middle = Middle()
    assert middle.is_known_origin("0/A")
    assert not middle.is_known_origin("0/B")
    assert not middle.is_known_origin("0/D")
    assert middle.is_plausible_trace("0/A", 2)
    assert not middle.is_plausible_trace("0/A", 3)


def test_who_speaks_for_whom() -> None:
    """A peer speaks under the name of its OPEN or of its HELLOs, and passes on what has gone through others."""
    counters = ControlCounters()
    middle = Middle()
    middle._complaints = Complaints(counters)
    middle._neighbours = Neighbours("B", ControlSettings())
    link = middle._neighbours.add(1, 1, "uuid")
    assert not middle.is_forged("HELLO", "TEST", None, (), 1, "uuid")  # its first words, without annotations
    assert middle.is_forged("RA", "TEST", None, (), 1, "uuid")
    link.peer_id = "TEST"
    assert not middle.is_forged("RA", "TEST", None, (), 1, "uuid")
    assert middle.is_forged("HELLO", "A", None, (), 1, "uuid")
    assert not middle.is_forged("RA", "A", "0/A", ("0/A", "0/TEST"), 1, "uuid")
    assert middle.is_forged("RA", "A", "0/C", ("0/A", "0/TEST"), 1, "uuid")
    assert not middle.has_strange_trace(("0/A", "0/TEST"), 1, "uuid")
    assert not middle.has_strange_trace(("0/uuid",), 1, "uuid")
    assert middle.has_strange_trace(("0/A",), 1, "uuid")
    assert middle.has_strange_trace(("0/A",), 2, "X")  # its control links are not both up
    assert counters.forged == 5
