from vanrouter.core.flows import NoRecorder, ServiceKind, ServiceRecord


class Owner:
    sent = 0
    written = 0

    def tell_next(self) -> None:
        raise AssertionError("nobody records")


def test_without_a_recorder_flows_have_identities_all_the_same() -> None:
    recorder = NoRecorder()
    first, second = recorder.next_identity(), recorder.next_identity()
    source, _, number = first.partition(":")
    assert len(source) == 5
    assert second == f"{source}:{int(number) + 1}"


def test_without_a_recorder_connections_are_counted() -> None:
    recorder = NoRecorder()
    service = ServiceRecord(ServiceKind.LISTENER, "l", "tcp", "", "80", "svc")
    recorder.begin_service(service)
    assert recorder.begin_flow("a:1", service, Owner(), "127.0.0.1", "1") is None
    assert recorder.begin_counterpart("a:1", service, Owner(), []) is None
    assert recorder.begin_request(None, "HTTP/1.1", "GET") is None
    recorder.end_service(service)
    assert service.flows == 2
    assert not recorder.is_wanted
