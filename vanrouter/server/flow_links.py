"""LINK and ROUTER_ACCESS records: what links this router to others, looked at once a second while somebody listens.

Layer: 5. Source: vanflow, section 7. There are few of them, and the counts of each change with every hello:
looking is as cheap as being told.
"""

from __future__ import annotations

from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.core.peer import Role
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType, Value
from vanrouter.mgmt.vanflow_source import Rate, Record
from vanrouter.server.flow_recorder import Recorder

LINKING = frozenset((Role.INTER_ROUTER, Role.EDGE, Role.INTER_EDGE, Role.INTER_NETWORK))
"""Roles of listeners and connectors that have a record."""

ACCESS_ID = "qd.access-id"
"""Open property by which the accepting router tells the identity of its ROUTER_ACCESS record."""


class _Link:
    __slots__ = ("connector", "record", "sent", "taken")

    def __init__(self, connector: AmqpConnector, record: Record) -> None:
        self.connector = connector
        self.record = record
        self.sent = Rate()
        self.taken = Rate()


class LinkRecords:
    """The records of AMQP listeners and connectors whose role links routers."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._links: dict[AmqpConnector, _Link] = {}
        self._accesses: dict[AmqpListener, Record] = {}

    def add(self, live: AmqpListener | AmqpConnector) -> None:
        """A listener or a connector was configured."""
        settings = live.settings
        if settings.role not in LINKING:
            return
        common: dict[int, Value | None] = {
            Attribute.PARENT: self._recorder.identity,
            Attribute.NAME: settings.name,
            Attribute.ROLE: settings.role.value,
        }
        if isinstance(live, AmqpListener):
            record = self._recorder.add(RecordType.ROUTER_ACCESS, {**common, Attribute.LINK_COUNT: 0})
            self._accesses[live] = record
            live.access_id = record.identity
        else:
            attributes: dict[int, Value | None] = {
                **common,
                Attribute.PROTOCOL: "amqp" if settings.tls is None else "amqps",
                Attribute.DEST_HOST: settings.host,
                Attribute.DEST_PORT: settings.port,
                Attribute.LINK_COST: settings.cost,
                Attribute.HTTP_PROXY: "no" if settings.proxy is None else "yes",
                **_state_of(live),
            }
            self._links[live] = _Link(live, self._recorder.add(RecordType.LINK, attributes))

    def remove(self, live: AmqpListener | AmqpConnector) -> None:
        """It was deleted."""
        record: Record | None
        if isinstance(live, AmqpListener):
            record = self._accesses.pop(live, None)
        else:
            link = self._links.pop(live, None)
            record = None if link is None else link.record
        if record is not None:
            self._recorder.end_record(record)

    def write(self, now_s: float) -> None:
        """Bring the records up to date."""
        for listener, record in self._accesses.items():
            self._recorder.update(record, {Attribute.LINK_COUNT: len(listener.linked)})
        for connector, link in self._links.items():
            attributes = _state_of(connector)
            octets, octets_reverse = connector.octets()
            attributes[Attribute.OCTETS] = octets
            attributes[Attribute.OCTETS_REVERSE] = octets_reverse
            attributes[Attribute.OCTET_RATE] = link.sent.at(now_s, octets)
            attributes[Attribute.OCTET_RATE_REVERSE] = link.taken.at(now_s, octets_reverse)
            self._recorder.update(link.record, attributes)


def _state_of(connector: AmqpConnector) -> Attributes:
    attributes: Attributes = {
        Attribute.OPER_STATUS: "up" if connector.is_up else "down",
        Attribute.LINK_COST: connector.settings.cost,
        Attribute.DOWN_COUNT: connector.down_count,
    }
    if connector.up_at_s:
        attributes[Attribute.UP_TIMESTAMP] = int(connector.up_at_s * 1e6)
    if connector.down_at_s:
        attributes[Attribute.DOWN_TIMESTAMP] = int(connector.down_at_s * 1e6)
        attributes[Attribute.RESULT], attributes[Attribute.REASON] = connector.down_condition
    connection = connector.connection
    if connection is not None and connection.is_opened:
        access = connection.peer.properties.get(ACCESS_ID)
        if isinstance(access, str):
            attributes[Attribute.PEER] = str(access)
        tls = connector.settings.tls
        if tls is not None:
            attributes[Attribute.ACTIVE_TLS_ORDINAL] = tls.ordinal
    return attributes
