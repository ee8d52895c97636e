"""Families to text: whole values, pieces that read as one family, histograms that parsers of others understand."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from vanrouter.histogram import Histogram
from vanrouter.mgmt.metrics import PIECE_SAMPLES, exposition, families, family, histogram, plain_exposition
from vanrouter.mgmt.series import Series

GAUGE = Series("vanrouter_things", "gauge", "Things.", ("name", "way"))
COUNTER = Series("vanrouter_events_total", "counter", "Events.")
HISTOGRAM = Series("vanrouter_wait_seconds", "histogram", "Waits.")


def text_of(pieces: Iterator[Metric | None]) -> str:
    return b"".join(exposition(pieces)).decode()


def test_one_family() -> None:
    text = text_of(iter([family(COUNTER, 3)]))
    assert (
        text
        == "# HELP vanrouter_events_total Events.\n# TYPE vanrouter_events_total counter\nvanrouter_events_total 3.0\n"
    )


def test_pieces_read_as_one_family() -> None:
    count = 3 * PIECE_SAMPLES + 1
    made = list(families(GAUGE, (((str(number), "in"), number) for number in range(count))))
    assert len(made) == 4
    text = text_of(iter([made[0], None, *made[1:], family(COUNTER, 1)]))
    assert text.count("# TYPE") == text.count("# HELP") == 2
    things, events = text_string_to_metric_families(text)
    assert [sample.value for sample in things.samples] == list(range(count))
    assert things.samples[0].labels == {"name": "0", "way": "in"}
    assert events.name == "vanrouter_events"


@given(st.lists(st.tuples(st.text(), st.floats(0, 1e18)), unique_by=lambda entry: entry[0]))
def test_any_label_comes_back(values: list[tuple[str, float]]) -> None:
    text = text_of(families(GAUGE, (((name, ""), value) for name, value in values)))
    (parsed,) = text_string_to_metric_families(text)
    # The reader of the library splits lines at what Python calls their end, which Prometheus does not.
    if not any(name.splitlines() not in ([name], []) for name, _ in values):
        assert [(sample.labels["name"], sample.value) for sample in parsed.samples] == values


def test_histogram() -> None:
    source = Histogram((0.5, 1.0))
    for value in (0.1, 0.6, 7.0):
        source.observe(value)
    (parsed,) = text_string_to_metric_families(text_of(histogram(HISTOGRAM, [((), source)])))
    assert [
        (sample.name.removeprefix("vanrouter_wait_seconds"), sample.labels, sample.value) for sample in parsed.samples
    ] == [
        ("_bucket", {"le": "0.5"}, 1),
        ("_bucket", {"le": "1.0"}, 2),
        ("_bucket", {"le": "+Inf"}, 3),
        ("_count", {}, 3),
        ("_sum", {}, 7.7),
    ]


def test_a_place_to_take_breath_is_an_empty_piece() -> None:
    assert list(exposition(iter([None, None]))) == [b"", b""]


def test_as_the_c_router_writes_it() -> None:
    gauge = Series("qdr_rss_bytes", "gauge", "Memory.")
    pieces = plain_exposition(iter([None, family(COUNTER, 3), family(gauge, 46444544)]))
    assert list(pieces) == [
        b"",
        b"# TYPE vanrouter_events_total counter\nvanrouter_events_total 3\n",
        b"# TYPE qdr_rss_bytes gauge\nqdr_rss_bytes 46444544\n",
    ]
