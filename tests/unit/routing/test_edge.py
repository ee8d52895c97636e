"""The edge's side by transcript: event in, commands expected."""

from __future__ import annotations

import pytest

from vanrouter.errors import PeerError
from vanrouter.routing.edge import (
    PROXY_RETRY_S,
    ActivateUplink,
    AttachProxyIn,
    AttachProxyOut,
    BindProxyOut,
    BindUplink,
    DeactivateUplink,
    DetachProxy,
    EdgePlane,
    UnbindProxyOut,
    UnbindUplink,
)


def opened(plane: EdgePlane, connection_id: int = 1) -> EdgePlane:
    plane.on_uplink_opened(connection_id)
    return plane


def test_first_uplink_carries_everything() -> None:
    plane = EdgePlane()
    assert plane.on_consumer_added("Min") == []
    assert plane.on_producer_added("Mout") == []
    assert plane.on_uplink_opened(1) == [
        ActivateUplink(connection_id=1),
        BindUplink(connection_id=1),
        AttachProxyIn(connection_id=1, address="in"),
        AttachProxyOut(connection_id=1, address="out"),
    ]
    assert plane.active == 1
    assert plane.on_uplink_opened(2) == []


def test_local_links_come_and_go() -> None:
    plane = opened(EdgePlane())
    assert plane.on_consumer_added("Mfoo") == [AttachProxyIn(connection_id=1, address="foo")]
    assert plane.on_consumer_added("Mfoo") == []
    assert plane.on_consumer_added("HE") == []
    assert plane.on_consumer_removed("Mfoo") == [DetachProxy(connection_id=1, address="foo", direction="in")]
    assert plane.on_consumer_removed("Mfoo") == []
    assert plane.on_producer_added("Mbar") == [AttachProxyOut(connection_id=1, address="bar")]
    assert plane.on_producer_removed("Mbar") == [DetachProxy(connection_id=1, address="bar", direction="out")]


def test_links_without_an_uplink() -> None:
    plane = EdgePlane()
    plane.on_consumer_added("Mfoo")
    assert plane.on_consumer_removed("Mfoo") == []
    assert plane.on_uplink_opened(1) == [ActivateUplink(connection_id=1), BindUplink(connection_id=1)]


def test_tracking() -> None:
    plane = opened(EdgePlane())
    plane.on_producer_added("Mfoo")
    assert plane.on_tracking(1, ["Mfoo", True]) == [BindProxyOut(key="Mfoo")]
    assert plane.on_tracking(1, ["Mfoo", True]) == []
    assert plane.on_tracking(1, ["Mother", True]) == []
    assert plane.on_tracking(2, ["Mfoo", False]) == []
    assert plane.on_tracking(1, ["Mfoo", False]) == [UnbindProxyOut(key="Mfoo")]
    plane.on_tracking(1, ["Mfoo", True])
    assert plane.on_producer_removed("Mfoo") == [
        UnbindProxyOut(key="Mfoo"),
        DetachProxy(connection_id=1, address="foo", direction="out"),
    ]


@pytest.mark.parametrize("body", [None, [], ["Mfoo"], ["Mfoo", 1], [True, "Mfoo"], ["Mfoo", True, 1], {"Mfoo": True}])
def test_malformed_tracking_is_rejected(body: object) -> None:
    with pytest.raises(PeerError):
        opened(EdgePlane()).on_tracking(1, body)


def test_fail_over_at_once() -> None:
    plane = opened(EdgePlane())
    plane.on_uplink_opened(2)
    plane.on_uplink_opened(3)
    plane.on_producer_added("Mfoo")
    plane.on_tracking(1, ["Mfoo", True])
    assert plane.on_uplink_lost(3) == []
    assert plane.on_uplink_lost(9) == []
    assert plane.on_uplink_lost(1) == [
        UnbindProxyOut(key="Mfoo"),
        UnbindUplink(connection_id=1),
        ActivateUplink(connection_id=2),
        BindUplink(connection_id=2),
        AttachProxyOut(connection_id=2, address="foo"),
    ]
    assert plane.on_uplink_lost(2) == [UnbindUplink(connection_id=2)]
    assert plane.active is None


def test_higher_tls_ordinal_takes_over() -> None:
    plane = EdgePlane()
    plane.on_consumer_added("Mfoo")
    plane.on_uplink_opened(1, 3)
    assert plane.on_uplink_opened(2, 3) == []
    assert plane.on_uplink_opened(3, 4) == [
        UnbindUplink(connection_id=1),
        DetachProxy(connection_id=1, address="foo", direction="in"),
        DeactivateUplink(connection_id=1),
        ActivateUplink(connection_id=3),
        BindUplink(connection_id=3),
        AttachProxyIn(connection_id=3, address="foo"),
    ]


def test_lost_tls_uplink_is_followed_by_the_highest_ordinal() -> None:
    plane = EdgePlane()
    for connection_id, ordinal in ((1, 9), (2, 1), (3, 5), (4, 5), (5, None)):
        plane.on_uplink_opened(connection_id, ordinal)
    plane.on_uplink_lost(1)
    assert plane.active == 3


def test_refused_proxy_is_tried_again() -> None:
    plane = opened(EdgePlane())
    plane.on_consumer_added("Min")
    plane.on_producer_added("Mout")
    plane.on_tracking(1, ["Mout", True])
    assert plane.on_proxy_lost(1, "in", "in", 10.0) == []
    assert plane.on_proxy_lost(1, "out", "out", 10.0) == [UnbindProxyOut(key="Mout")]
    assert plane.on_proxy_lost(1, "out", "out", 10.0) == []
    assert plane.on_proxy_lost(2, "in", "in", 10.0) == []
    assert plane.on_proxy_lost(1, "other", "in", 10.0) == []
    assert plane.next_deadline() == 10.0 + PROXY_RETRY_S
    assert plane.on_timer(10.0) == []
    assert plane.on_timer(12.0) == [
        AttachProxyIn(connection_id=1, address="in"),
        AttachProxyOut(connection_id=1, address="out"),
    ]
    assert plane.next_deadline() is None


def test_waiting_proxy_is_not_detached() -> None:
    plane = opened(EdgePlane())
    plane.on_consumer_added("Min")
    plane.on_proxy_lost(1, "in", "in", 10.0)
    assert plane.on_consumer_removed("Min") == []
    assert plane.on_timer(20.0) == []
