"""The network at a glance: sites, links, services and flows with their rates, from a collector's picture.

Layer: 2, pure.
Rates are of the time between two looks, averaged over a few of them; totals are those since the picture began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_picture import Picture

RATE_SPAN_S = 5.0
"""Rates are averaged over so long, or since the first look."""
MAX_FLOWS = 200
"""Flows in a summary: those that move most."""

UNNAMED = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """A site, or a router that says nothing of its site."""

    name: str
    platform: str
    routers: int
    links_up: int
    links: int
    listeners: int
    connectors: int
    open_flows: int
    """Of clients at this site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRow:
    """A router."""

    name: str
    site: str
    mode: str
    version: str
    source: str
    """Identity of its records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """A link as the router tells that made it."""

    router: str
    name: str
    to: str
    """The router at its other end; `host:port` while that is not known."""
    role: str
    status: str
    cost: int
    octets_per_s: float
    octets_reverse_per_s: float
    downs: int
    reason: str
    """Why it is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRow:
    """An address with its listeners and connectors everywhere."""

    address: str
    protocol: str
    listeners: int
    connectors: int
    open_flows: int
    flows_per_s: float
    requests_per_s: float
    octets_per_s: float
    """Clients to servers."""
    octets_reverse_per_s: float
    octets: int
    octets_reverse: int
    latency_ms: float | None
    """Median of the newest flows: first octet towards the server to the first one back."""
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRow:
    """An open connection."""

    service: str
    client: str
    via: str
    """Router that took it."""
    server: str
    """Router and connector at the other end."""
    age_s: float
    octets: int
    octets_reverse: int
    octets_per_s: float
    octets_reverse_per_s: float
    latency_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All tables of one look."""

    sites: list[SiteRow] = field(default_factory=list)
    routers: list[RouterRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)
    services: list[ServiceRow] = field(default_factory=list)
    flows: list[FlowRow] = field(default_factory=list)
    open_flows: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it in values that JSON has."""
        return asdict(self)


def has_all_routers(picture: Picture) -> bool:
    """Tell whether both ends of every link that is up are known: then no router's beacon is waited for."""
    if not picture.live(RecordType.ROUTER):
        return False
    accesses = picture.live(RecordType.ROUTER_ACCESS)
    waiting = {identity: _number(record, Attribute.LINK_COUNT) for identity, record in accesses.items()}
    for record in picture.live(RecordType.LINK).values():
        if record.get(Attribute.OPER_STATUS) != "up":
            continue
        peer = record.get(Attribute.PEER)
        if not isinstance(peer, str) or peer not in waiting:
            return False
        waiting[peer] -= 1
    return all(count <= 0 for count in waiting.values())


class Looks:
    """Looks at a picture now and then, and remembers the last ones for the rates."""

    def __init__(self) -> None:
        self._history: dict[Hashable, deque[tuple[float, int]]] = {}
        self._seen: set[Hashable] = set()

    def rate(self, key: Hashable, now_s: float, total: int) -> float:
        """Return how fast a counter grows, in each second."""
        self._seen.add(key)
        history = self._history.get(key)
        if history is None:
            history = self._history[key] = deque()
        history.append((now_s, total))
        while len(history) > 2 and history[1][0] <= now_s - RATE_SPAN_S:
            history.popleft()
        began_s, before = history[0]
        return 0.0 if now_s <= began_s else max(0, total - before) / (now_s - began_s)

    def summary(self, picture: Picture, now_s: float, now_us: int) -> Summary:
        """Look.

        Args:
            picture: at rest meanwhile.
            now_s: any clock that does not go back.
            now_us: microseconds since 1970, for the age of flows.
        """
        self._seen = set()
        names = _Names(picture)
        open_flows = picture.live(RecordType.BIFLOW_TPORT)
        by_listener: dict[str, int] = {}
        for flow in open_flows.values():
            parent = str(flow.get(Attribute.PARENT))
            by_listener[parent] = by_listener.get(parent, 0) + 1
        summary = Summary(
            sites=self._sites(picture, names, by_listener),
            routers=_routers(picture, names),
            links=self._links(picture, names, now_s),
            services=self._services(picture, by_listener, now_s),
            flows=self._flows(open_flows.values(), names, now_s, now_us),
            open_flows=len(open_flows),
        )
        for key in self._history.keys() - self._seen:
            del self._history[key]
        return summary

    def _sites(self, picture: Picture, names: _Names, by_listener: dict[str, int]) -> list[SiteRow]:
        counts: dict[str, dict[str, int]] = {}

        def count(source: str, what: str, number: int = 1) -> None:
            row = counts.setdefault(names.site_of(source), {})
            row[what] = row.get(what, 0) + number

        for identity in picture.live(RecordType.ROUTER):
            count(identity, "routers")
        for record in picture.live(RecordType.LINK).values():
            count(_parent(record), "links")
            count(_parent(record), "links_up", record.get(Attribute.OPER_STATUS) == "up")
        for identity, record in picture.live(RecordType.LISTENER).items():
            count(_parent(record), "listeners")
            count(_parent(record), "open_flows", by_listener.get(identity, 0))
        for record in picture.live(RecordType.CONNECTOR).values():
            count(_parent(record), "connectors")
        platforms = {
            _text(site, Attribute.NAME): _text(site, Attribute.PLATFORM)
            for site in picture.live(RecordType.SITE).values()
        }
        fields = ("routers", "links_up", "links", "listeners", "connectors", "open_flows")
        return [
            SiteRow(name=name, platform=platforms.get(name, UNNAMED), **{key: row.get(key, 0) for key in fields})
            for name, row in sorted(counts.items())
        ]

    def _links(self, picture: Picture, names: _Names, now_s: float) -> list[LinkRow]:
        rows = []
        for identity, record in picture.live(RecordType.LINK).items():
            access = picture.get(_text(record, Attribute.PEER))
            place = f"{_text(record, Attribute.DEST_HOST)}:{_text(record, Attribute.DEST_PORT)}"
            is_up = record.get(Attribute.OPER_STATUS) == "up"
            rows.append(
                LinkRow(
                    router=names.router_of(_parent(record)),
                    name=_text(record, Attribute.NAME),
                    to=place if access is None else names.router_of(_parent(access)),
                    role=_text(record, Attribute.ROLE),
                    status=_text(record, Attribute.OPER_STATUS),
                    cost=_number(record, Attribute.LINK_COST) or 1,
                    octets_per_s=self.rate((identity, "out"), now_s, _number(record, Attribute.OCTETS)),
                    octets_reverse_per_s=self.rate((identity, "in"), now_s, _number(record, Attribute.OCTETS_REVERSE)),
                    downs=_number(record, Attribute.DOWN_COUNT),
                    reason="" if is_up else _text(record, Attribute.REASON).strip("-"),
                )
            )
        return sorted(rows, key=lambda row: (row.router, row.name))

    def _services(self, picture: Picture, by_listener: dict[str, int], now_s: float) -> list[ServiceRow]:
        listeners: dict[tuple[str, str], list[str]] = {}
        connectors: dict[tuple[str, str], int] = {}
        for identity, record in picture.live(RecordType.LISTENER).items():
            listeners.setdefault(_service(record), []).append(identity)
        for record in picture.live(RecordType.CONNECTOR).values():
            connectors[_service(record)] = connectors.get(_service(record), 0) + 1
        rows = []
        for service in sorted(listeners.keys() | connectors.keys()):
            own = listeners.get(service, [])
            totals = [picture.totals[identity] for identity in own if identity in picture.totals]
            octets, octets_reverse = sum(one.octets for one in totals), sum(one.octets_reverse for one in totals)
            flows = sum(_number(picture.get(identity) or {}, Attribute.FLOW_COUNT_L4) for identity in own)
            requests = sum(_number(picture.get(identity) or {}, Attribute.FLOW_COUNT_L7) for identity in own)
            requests = requests or sum(one.requests for one in totals)
            latencies = [latency for one in totals for latency in one.latencies_us]
            rows.append(
                ServiceRow(
                    address=service[0],
                    protocol=service[1],
                    listeners=len(own),
                    connectors=connectors.get(service, 0),
                    open_flows=sum(by_listener.get(identity, 0) for identity in own),
                    flows_per_s=self.rate((service, "flows"), now_s, flows),
                    requests_per_s=self.rate((service, "requests"), now_s, requests),
                    octets_per_s=self.rate((service, "out"), now_s, octets),
                    octets_reverse_per_s=self.rate((service, "in"), now_s, octets_reverse),
                    octets=octets,
                    octets_reverse=octets_reverse,
                    latency_ms=median(latencies) / 1000 if latencies else None,
                    failed=sum(one.failed for one in totals),
                )
            )
        return rows

    def _flows(self, flows: Iterable[Attributes], names: _Names, now_s: float, now_us: int) -> list[FlowRow]:
        moving = []
        for flow in flows:
            identity = flow[Attribute.IDENTITY]
            octets, octets_reverse = _number(flow, Attribute.OCTETS), _number(flow, Attribute.OCTETS_REVERSE)
            there = self.rate((identity, "out"), now_s, octets)
            back = self.rate((identity, "in"), now_s, octets_reverse)
            moving.append((there + back, octets + octets_reverse, str(identity), there, back, flow))
        moving.sort(key=lambda entry: entry[:3], reverse=True)
        rows = []
        for _, _, _, there, back, flow in moving[:MAX_FLOWS]:
            latency = flow.get(Attribute.LATENCY)
            listener = names.record(_parent(flow))
            connector = _text(flow, Attribute.CONNECTOR)
            rows.append(
                FlowRow(
                    service=_text(listener, Attribute.VAN_ADDRESS),
                    client=f"{_text(flow, Attribute.SOURCE_HOST)}:{_text(flow, Attribute.SOURCE_PORT)}",
                    via=names.router_of(_parent(listener)),
                    server=names.router_of(_parent(names.record(connector))),
                    age_s=max(0, now_us - _number(flow, Attribute.START_TIME)) / 1e6,
                    octets=_number(flow, Attribute.OCTETS),
                    octets_reverse=_number(flow, Attribute.OCTETS_REVERSE),
                    octets_per_s=there,
                    octets_reverse_per_s=back,
                    latency_ms=latency / 1000 if isinstance(latency, int) else None,
                )
            )
        return rows


class _Names:
    """Names of routers and sites by the identities of records."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._site_of_source = {
            source.identity: site
            for identity, site in picture.live(RecordType.SITE).items()
            if (source := picture.source_of(identity)) is not None
        }
        """A C router that does not know its site's id tells no parent, but its site's record."""

    def record(self, identity: str) -> Attributes:
        return self._picture.get(identity) or {}

    def router_of(self, source: str) -> str:
        return _text(self.record(source), Attribute.NAME).removeprefix("0/")

    def site_of(self, source: str) -> str:
        site = self._picture.get(_text(self.record(source), Attribute.PARENT)) or self._site_of_source.get(source)
        return self.router_of(source) if site is None else _text(site, Attribute.NAME)


def _routers(picture: Picture, names: _Names) -> list[RouterRow]:
    rows = [
        RouterRow(
            name=names.router_of(identity),
            site=names.site_of(identity),
            mode=_text(record, Attribute.MODE),
            version=_text(record, Attribute.BUILD_VERSION),
            source=identity,
        )
        for identity, record in picture.live(RecordType.ROUTER).items()
    ]
    return sorted(rows, key=lambda row: row.name)


def _parent(record: Attributes) -> str:
    return str(record.get(Attribute.PARENT, ""))


def _service(record: Attributes) -> tuple[str, str]:
    return _text(record, Attribute.VAN_ADDRESS), _text(record, Attribute.PROTOCOL)


def _text(record: Attributes, key: Attribute) -> str:
    return str(record.get(key) or UNNAMED)


def _number(record: Attributes, key: Attribute) -> int:
    value = record.get(key)
    return value if isinstance(value, int) else 0
