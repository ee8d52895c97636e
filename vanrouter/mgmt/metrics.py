"""Every series of `/metrics` by name, and their text.

Layer: 2, pure. Source: management.md section 13. The list of series is in `mgmt/series.py`. A family is made when
somebody asks, of numbers that are kept anyway: nothing here is touched while traffic flows. Families come in pieces, so
that whoever renders a large router can stop between any two and let the loop go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from vanrouter.histogram import Histogram
from vanrouter.mgmt.series import Series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus and everything like it reads."""

PIECE_SAMPLES = 32
"""Samples rendered in one go, about a tenth of a millisecond."""

Values = Iterable[tuple[Sequence[str], float]]
"""Label values, as many as the series has labels, and the value."""

Families = Iterator[Metric | None]
"""Families or pieces of them, those of one series next to each other; None is a place to take breath."""

_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def families(series: Series, values: Values) -> Iterator[Metric]:
    """Yield a counter or gauge with its values, in pieces."""
    made = _KINDS[series.kind]
    family = made(series.name, series.help, labels=series.labels)
    for labels, value in values:
        if len(family.samples) >= PIECE_SAMPLES:
            yield family
            family = made(series.name, series.help, labels=series.labels)
        family.add_metric(labels, value)
    yield family


def family(series: Series, value: float) -> Metric:
    """Return a counter or gauge without labels."""
    made: Metric = _KINDS[series.kind](series.name, series.help, value)
    return made


def histogram(series: Series, values: Iterable[tuple[Sequence[str], Histogram]]) -> Iterator[Metric]:
    """Yield a histogram, a piece for each set of labels."""
    for labels, source in values:
        made = HistogramMetricFamily(series.name, series.help, labels=series.labels)
        bounds = [*map(repr, source.bounds), "+Inf"]
        made.add_metric(labels, list(zip(bounds, source.cumulative(), strict=True)), source.total)
        yield made


class _One(Collector):
    """What the library renders at once: one piece."""

    def __init__(self, piece: Metric) -> None:
        self._piece = piece

    def collect(self) -> Iterable[Metric]:
        return (self._piece,)


def exposition(pieces: Families) -> Iterator[bytes]:
    """Yield the text of families, piece by piece; an empty one is a place to take breath."""
    last = ""
    for piece in pieces:
        if piece is None:
            yield b""
            continue
        text = generate_latest(_One(piece))
        if piece.name == last:  # the first two lines are HELP and TYPE, said already
            text = text.split(b"\n", 2)[2]
        last = piece.name
        yield text


def plain_exposition(pieces: Families) -> Iterator[bytes]:
    """Yield the text as the C router writes it: two lines for each series, a whole number, no help and no labels."""
    for piece in pieces:
        if piece is None:
            yield b""
            continue
        name, value = piece.samples[0].name, int(piece.samples[0].value)
        yield f"# TYPE {name} {piece.type}\n{name} {value}\n".encode()
