"""A recorder that keeps everything it is told."""

from __future__ import annotations

from collections.abc import Sequence

from vanrouter.core.flows import Counted, CounterpartRecord, FlowRecord, NoRecorder, RequestRecord, ServiceRecord


class Recorder(NoRecorder):
    """Hears of everything, and sends nothing. Once told, it asks to be told again of the next octets."""

    is_wanted = True

    def __init__(self) -> None:
        super().__init__()
        self.services: list[ServiceRecord] = []
        self.flows: list[FlowRecord] = []
        self.counterparts: list[CounterpartRecord] = []
        self.requests: list[RequestRecord] = []
        self.ended: list[FlowRecord | CounterpartRecord | RequestRecord] = []
        self.octets: list[tuple[str, bool]] = []
        """Who moved octets (`flow`, `counterpart`), and whether towards the server."""
        self.news: list[int] = []

    def begin_service(self, record: ServiceRecord) -> None:
        self.services.append(record)

    def end_service(self, record: ServiceRecord) -> None:
        if record in self.services:
            self.services.remove(record)

    def begin_flow(self, identity: str, service: ServiceRecord, owner: Counted, host: str, port: str) -> FlowRecord:
        record = FlowRecord(identity, service, owner, host, port)
        self.flows.append(record)
        return record

    def begin_counterpart(
        self, identity: str | None, service: ServiceRecord, owner: Counted, trace: Sequence[str]
    ) -> CounterpartRecord:
        record = CounterpartRecord(identity or "", service, owner, "|".join(trace))
        self.counterparts.append(record)
        return record

    def begin_request(
        self, flow: FlowRecord | None, protocol: str, method: str, stream_id: int | None = None
    ) -> RequestRecord | None:
        if flow is None:
            return None
        record = RequestRecord(self.next_identity(), flow, protocol, method, stream_id)
        self.requests.append(record)
        return record

    def on_octets(self, record: FlowRecord | CounterpartRecord, *, is_towards_server: bool) -> None:
        self.octets.append(("flow" if isinstance(record, FlowRecord) else "counterpart", is_towards_server))

    def changed(self, record: FlowRecord | CounterpartRecord, part: int) -> None:
        self.news.append(part)

    def end(self, record: FlowRecord | CounterpartRecord | RequestRecord) -> None:
        self.ended.append(record)
