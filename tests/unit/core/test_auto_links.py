"""Auto-links: attached where they belong, tried again, taken away."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import World, message
from vanrouter.core.auto_links import FIRST_RETRY_S, RETRY_S, AutoLinkConfig, AutoLinkState
from vanrouter.core.peer import Role
from vanrouter.core.table import AddressRule, Treatment

IN = AutoLinkConfig(is_in=True, address="inside", external_address="queue", container_id="B")
OUT = AutoLinkConfig(is_in=False, address="inside", external_address="queue", container_id="B")


def forbid(router: object, pattern: str) -> AddressRule:
    rule = AddressRule(pattern=pattern, treatment=Treatment.UNAVAILABLE)
    router.table.rules.add(rule)  # type: ignore[attr-defined]  # a router
    return rule


def test_attached_on_a_connection_that_is_open_and_on_one_to_come(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    early = here.auto_links.add(OUT)
    assert early.state is AutoLinkState.INACTIVE
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    late = here.auto_links.add(IN)
    world.settle()
    assert early.state is late.state is AutoLinkState.ACTIVE
    assert early.link_id in here.links
    assert late.link_id in here.links
    assert here.table.get("Minside") is not None
    assert there.table.get("Mqueue") is not None


def test_messages_go_through_the_queue_under_two_names(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    here.auto_links.add(AutoLinkConfig(is_in=False, address="to", external_address="queue", container_id="B"))
    here.auto_links.add(AutoLinkConfig(is_in=True, address="from", external_address="queue", container_id="B"))
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    drain = world.client(here).receiver("from")
    source = world.client(here).sender("to")
    sent = source.send(message(body="through"))
    world.settle()
    assert len(drain.got) == 1
    drain.got[0].accept()
    world.settle()
    assert sent.state is not None


def test_no_credit_before_somebody_consumes(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    here.auto_links.add(IN)
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    source = world.client(there).sender("queue")
    world.settle()
    assert not there.table.addresses["Mqueue"].consumers[0].credit
    assert source.credit == 250, "for the router it is a consumer like others"
    world.client(here).receiver("inside")
    world.settle()
    assert there.table.addresses["Mqueue"].consumers[0].credit == 250


def test_without_an_address_each_message_says_where_it_goes(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    link = here.auto_links.add(AutoLinkConfig(is_in=True, address=None, external_address="queue", container_id="B"))
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    assert link.state is AutoLinkState.ACTIVE
    drain = world.client(here).receiver("elsewhere")
    world.client(there).sender("queue").send(message(to="elsewhere"))
    world.settle()
    assert len(drain.got) == 1


def test_a_refused_link_is_tried_again(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    rule = forbid(there, "queue")
    link = here.auto_links.add(OUT)
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    assert link.state is AutoLinkState.FAILED
    assert link.last_error == "Node not found"
    assert link.link_id is None
    assert here.table.get("Minside") is None
    refused = there.links_refused
    world.advance(FIRST_RETRY_S + 0.1)
    assert there.links_refused == refused + 1
    world.advance(RETRY_S - 0.5)
    assert there.links_refused == refused + 1, "the second time it waits longer"
    there.table.rules.remove(rule.pattern)
    world.advance(1.0)
    assert link.state is AutoLinkState.ACTIVE
    assert link.last_error is None


def test_a_container_that_detaches_is_attached_again(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    link = here.auto_links.add(OUT)
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    end = there.table.addresses["Mqueue"]
    (receiver,) = end.producers
    receiver.connection.detach(receiver)
    world.settle()
    assert link.state is AutoLinkState.FAILED
    world.advance(FIRST_RETRY_S + 0.1)
    assert link.state is AutoLinkState.ACTIVE


def test_a_lost_connection_takes_the_links_with_it(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    link = here.auto_links.add(IN)
    near, _far = world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    near.engine.drop(None)
    world.settle()
    assert link.state is AutoLinkState.INACTIVE
    assert link.link_id is None
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    assert link.state is AutoLinkState.ACTIVE


def test_deleted_while_attached_and_while_waiting(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    attached = here.auto_links.add(OUT)
    waiting = here.auto_links.add(AutoLinkConfig(is_in=True, address="x", container_id="B"))
    forbid(there, "x")
    world.link(here, there, role=Role.ROUTE_CONTAINER)
    world.settle()
    assert len(here.auto_links) == 2
    attached.cancel()
    waiting.cancel()
    world.advance(10.0)
    assert len(here.auto_links) == 0
    assert not here.links
    assert not there.links


@pytest.mark.parametrize("role", [Role.NORMAL, Role.EDGE])
def test_other_roles_have_none(world: World, role: Role) -> None:
    here, there = world.router("A"), world.router("B")
    link = here.auto_links.add(OUT)
    world.link(here, there, role=role)
    world.settle()
    assert link.state is AutoLinkState.INACTIVE


def test_chosen_by_the_name_of_the_connector(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    link = here.auto_links.add(AutoLinkConfig(is_in=False, address="inside", connection="broker"))
    near, _far = world.link(here, there, role=Role.ROUTE_CONTAINER)
    near.listener_name = "broker"
    world.settle()
    assert link.state is AutoLinkState.ACTIVE


def test_deliveries_of_containers_are_counted_apart(world: World) -> None:
    here, there = world.router("A"), world.router("B")
    here.auto_links.add(OUT)
    near, _far = world.link(here, there, role=Role.ROUTE_CONTAINER)
    drain = world.client(there).receiver("queue")
    world.settle()
    world.client(here).sender("inside").send(message())
    world.settle()
    drain.got[0].accept()
    world.settle()
    near.engine.drop(None)
    world.settle()
    assert here.totals["out route-container"] == 1
