import pytest

from vanrouter.adaptors.http_exchange import Failure, RequestHead


def test_failures_are_distinct() -> None:
    assert len(list(Failure)) == 9
    assert Failure.UNANSWERED is not Failure.BROKEN
    assert (Failure.NO_SERVICE.status, Failure.NO_SERVICE.error_code) == (503, 7)
    assert (Failure.TIMED_OUT.status, Failure.TIMED_OUT.error_code) == (504, 8)


@pytest.mark.parametrize(
    ("method", "upgrade", "is_safe"),
    [
        (b"GET", None, True),
        (b"DELETE", None, True),
        (b"POST", None, False),
        (b"get", None, False),
        (b"GET", b"x", False),
    ],
)
def test_what_may_be_sent_twice(method: bytes, upgrade: bytes | None, is_safe: bool) -> None:
    assert RequestHead(method, b"/", [], upgrade=upgrade).is_safe is is_safe
