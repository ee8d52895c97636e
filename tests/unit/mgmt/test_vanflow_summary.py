import pytest

from vanrouter.mgmt.vanflow import Attributes
from vanrouter.mgmt.vanflow_picture import Picture
from vanrouter.mgmt.vanflow_summary import Looks, Summary, has_all_routers

NOW_US = 10_000_000


def network(picture: Picture | None = None, **more: Attributes) -> Picture:
    """Two routers, a link from B to A, a listener at A, a connector at B, a flow of 3 s."""
    picture = picture or Picture()
    for source, records in (
        (
            "a",
            [
                {0: 0, 1: "site-a", 30: "east", 11: "linux"},
                {0: 1, 1: "a:0", 2: "site-a", 3: 1, 30: "0/A", 13: "interior", 32: "1.0"},
                {0: 15, 1: "a:2", 2: "a:0", 30: "in", 52: 1},
                {0: 4, 1: "a:3", 2: "a:0", 19: "svc", 16: "tcp", 40: 10},
                {0: 16, 1: "a:5", 2: "a:3", 3: 7_000_000, 14: "h", 17: "1", 23: 100, 58: 200, 24: 1500, 60: "b:2"},
            ],
        ),
        (
            "b",
            [
                {0: 0, 1: "b:1", 30: "west"},  # a C router without the id of its site
                {0: 1, 1: "b:0", 3: 1, 30: "0/B", 13: "interior", 32: "3.5.1"},
                {0: 2, 1: "b:3", 2: "b:0", 30: "to-a", 53: "up", 54: "inter-router", 6: "a:2", 33: 7, 23: 10, 58: 10},
                {0: 2, 1: "b:4", 2: "b:0", 30: "lost", 53: "down", 15: "h", 18: "5", 29: "refused", 57: 2},
                {0: 5, 1: "b:2", 2: "b:0", 19: "svc", 16: "tcp", 40: 10},
                {0: 5, 1: "b:6", 2: "b:0", 19: "other", 16: "tcp"},
            ],
        ),
    ):
        address = f"mc/sfe.{source}:0"
        picture.on_message("mc/sfe.all", "BEACON", {"id": f"{source}:0", "address": address}, None, None, 0.0)
        picture.on_message(address, "HEARTBEAT", {"now": 1}, None, None, 0.0)
        picture.on_message(address, "RECORD", None, records + list(more.get(source, {}) and [more[source]]), None, 0.0)
    return picture


def look(looks: Looks, picture: Picture, now_s: float = 0.0) -> Summary:
    return looks.summary(picture, now_s, NOW_US)


def test_all_tables() -> None:
    summary = look(Looks(), network())
    assert [(site.name, site.platform, site.routers, site.links_up, site.links) for site in summary.sites] == [
        ("east", "linux", 1, 0, 0),
        ("west", "-", 1, 1, 2),
    ]
    east, west = summary.sites
    assert (east.listeners, east.open_flows, west.connectors) == (1, 1, 2)
    assert [(router.name, router.site, router.version) for router in summary.routers] == [
        ("A", "east", "1.0"),
        ("B", "west", "3.5.1"),
    ]
    lost, to_a = summary.links
    assert (lost.to, lost.status, lost.reason, lost.downs, lost.cost) == ("h:5", "down", "refused", 2, 1)
    assert (to_a.router, to_a.to, to_a.reason, to_a.cost) == ("B", "A", "", 7)
    other, svc = summary.services
    assert (other.address, other.listeners, other.connectors) == ("other", 0, 1)
    assert (svc.listeners, svc.connectors, svc.open_flows, svc.octets, svc.latency_ms) == (1, 1, 1, 100, 1.5)
    (flow,) = summary.flows
    assert (flow.service, flow.client, flow.via, flow.server, flow.age_s) == ("svc", "h:1", "A", "B", 3.0)
    assert (flow.octets, flow.octets_reverse, flow.latency_ms, summary.open_flows) == (100, 200, 1.5, 1)
    assert summary.as_dict()["flows"][0]["client"] == "h:1"


def test_rates_are_of_the_time_between_looks() -> None:
    looks, picture = Looks(), network()
    assert look(looks, picture, 100.0).flows[0].octets_per_s == 0
    records = [{0: 16, 1: "a:5", 23: 1100}, {0: 4, 1: "a:3", 40: 14}]
    picture.on_message("mc/sfe.a:0", "RECORD", None, records, None, 0.0)
    summary = look(looks, picture, 102.0)
    assert summary.flows[0].octets_per_s == summary.services[1].octets_per_s == 500
    assert summary.services[1].flows_per_s == 2
    for now_s in range(103, 120):
        summary = look(looks, picture, float(now_s))
    assert summary.flows[0].octets_per_s == 0
    picture.on_message("mc/sfe.a:0", "RECORD", None, [{0: 16, 1: "a:5", 4: 9}], None, 0.0)
    kept = len(looks._history)
    assert look(looks, picture, 121.0).flows == []
    assert len(looks._history) == kept - 2


def test_an_empty_picture() -> None:
    assert look(Looks(), Picture()) == Summary()
    assert not has_all_routers(Picture())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, True),
        ({"a": {0: 15, 1: "a:9", 2: "a:0", 52: 1}}, False),  # somebody is linked to A whom we have not heard of
        ({"b": {0: 2, 1: "b:9", 2: "b:0", 53: "up", 6: "c:1"}}, False),
        ({"b": {0: 2, 1: "b:9", 2: "b:0", 53: "up"}}, False),
    ],
)
def test_whether_all_routers_are_known(more: dict[str, Attributes], expected: bool) -> None:
    assert has_all_routers(network(**more)) is expected
