import pytest

from vanrouter.engine.sections import UInt, ULong, decode
from vanrouter.errors import PeerError
from vanrouter.mgmt import vanflow
from vanrouter.mgmt.vanflow import Attribute, encode_records, log_line, records_of


def decoded(octets: bytes) -> object:
    assert octets[:3] == b"\x00\x53\x77"
    value, end = decode(octets, 3)
    assert end == len(octets)
    return value


def test_values_have_the_types_of_the_specification() -> None:
    record = {0: 16, 1: "abcde:5", 4: 0, 23: 255, 58: 256, 3: 1_795_269_438_683_305}
    value = decoded(encode_records([record]))
    assert value == [record]
    assert isinstance(value, list)
    found = value[0]
    assert all(isinstance(key, UInt) for key in found)
    assert isinstance(found[0], UInt)
    assert all(isinstance(found[key], ULong) for key in (4, 23, 58, 3))
    assert type(found[1]) is str
    assert decoded(encode_records([])) == []


def test_a_clock_that_was_set_back_makes_no_record_fail() -> None:
    assert decoded(encode_records([{0: 16, 1: "a:1", 24: -5}])) == [{0: 16, 1: "a:1", 24: 0}]


def test_a_site_is_type_0() -> None:
    assert decoded(encode_records([{0: 0, 1: "a:1"}])) == [{0: 0, 1: "a:1"}]


def test_long_texts_are_cut_and_large_numbers_bounded() -> None:
    value = decoded(encode_records([{0: 14, 1: "a:1", 49: "ä" * 400, 23: 1 << 70}]))
    assert value == [{0: 14, 1: "a:1", 49: "ä" * 300, 23: (1 << 64) - 1}]


def test_a_body_of_records_is_judged() -> None:
    assert records_of([{UInt(1): "a:1", UInt(23): ULong(5), 99: b"no", 24: True, "k": 1}]) == [{1: "a:1", 23: 5}]
    for body in (None, {}, [1], [{0: 1}], [{1: 5}]):
        with pytest.raises(PeerError):
            records_of(body)


def test_addresses_of_a_source() -> None:
    assert vanflow.event_address("a:0") == "mc/sfe.a:0"
    assert vanflow.flow_address("a:0") == "mc/sfe.a:0.flows"
    assert vanflow.log_address("a:0") == "mc/sfe.a:0.logs"
    assert vanflow.direct_address("a:0") == "sfe.a:0"
    assert vanflow.counterpart_address("abcde:17") == "vfcr.abcde:0"
    for identity in ("", "abc", ":5", "a:b", "a:", "x" * 70 + ":1"):
        assert vanflow.counterpart_address(identity) is None


def test_names_and_lines() -> None:
    assert (vanflow.label(Attribute.FLOW_COUNT_L4), vanflow.label(Attribute.NAME)) == ("flowCountL4", "name")
    assert (vanflow.label(200), vanflow.type_label(16), vanflow.type_label(99)) == ("200", "BIFLOW_TPORT", "99")
    record = {0: 2, 1: "a:1", 3: 5, 4: 6, 55: 7, 200: "x", 30: "up link"}
    assert log_line(record, is_begin=True, is_end=True) == "LINK [a:1] BEGIN END name=up link upTimeStamp=7 200=x"
    assert log_line(record, is_begin=False, is_end=True).startswith("LINK [a:1] END name")
