"""Router annotations: round trip; any octets give a section, NEED_MORE or PeerError; whole equals octet by octet."""

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.engine.annotations import DESCRIPTOR, NO_ANNOTATIONS, encode, next_hop_section, parse
from vanrouter.engine.sections import NEED_MORE
from vanrouter.errors import PeerError

names = st.text(min_size=1, max_size=20)
sections = st.tuples(
    st.integers(0, 0xFFFFFFFF), st.none() | names, st.none() | names, st.lists(names), st.none() | names
)


@given(sections)
def test_what_goes_out_comes_back(section: tuple[int, str | None, str | None, list[str], str | None]) -> None:
    octets = encode(*section)
    found = parse(octets + b"rest", 0, len(octets) + 4)
    assert found is not NEED_MORE
    assert (found.flags, found.to_override, found.ingress, list(found.trace), found.mesh) == section
    onward_octets = next_hop_section(found, None, "0/B")
    onward = parse(onward_octets, 0, len(onward_octets))
    assert onward is not NEED_MORE
    assert onward.trace == (*found.trace, "0/B")
    assert onward.flags == found.flags


def answer(octets: bytes, end: int) -> object:
    try:
        found = parse(octets, 0, end)
    except PeerError:
        return "error"
    if found is NEED_MORE or found is NO_ANNOTATIONS:
        return found
    return (found.flags, found.to_override, found.ingress, found.trace, found.mesh, found.length)


@given(sections, st.data())
def test_changed_octets_give_the_same_answer_whole_and_in_parts(
    section: tuple[int, str | None, str | None, list[str], str | None], data: st.DataObject
) -> None:
    octets = bytearray(encode(*section))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    octets += b"\x00\x53\x70\x45 and more" * 2
    whole = answer(octets, len(octets))
    assert {answer(octets, end) for end in range(len(octets))} - {NEED_MORE} <= {whole}


@given(st.binary(max_size=60), st.booleans())
def test_any_octets_are_answered(octets: bytes, has_descriptor: bool) -> None:
    if has_descriptor:
        octets = DESCRIPTOR + octets
    whole = answer(octets, len(octets))
    assert {answer(octets, end) for end in range(len(octets))} - {NEED_MORE} <= {whole}
