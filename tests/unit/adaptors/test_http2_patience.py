import pytest

from vanrouter.adaptors.http2_frames import GoAwayError
from vanrouter.adaptors.http2_patience import Patience


def test_patience_is_renewed_by_time_and_by_progress() -> None:
    now = 0.0
    patience = Patience(10, 5.0, lambda: now)
    patience.spend(10)
    with pytest.raises(GoAwayError):
        patience.spend(1)
    patience.earn(100)
    patience.spend(9)
    now = 6.0
    patience.spend(5)
    patience.spend(4)
