"""Own and remote address sets: what is published, what is applied, what is stale."""

from __future__ import annotations

from vanrouter.routing.messages import Descriptor, MobileUpdate
from vanrouter.routing.mobile import OwnAddresses, RemoteAddresses

FOO = Descriptor("Mfoo", 3, None, None)
BAR = Descriptor("Mbar", 3, None, None)


def absolute(seq: int, *entries: Descriptor) -> MobileUpdate:
    exist = {entry.key: entry for entry in entries}
    return MobileUpdate(id="B", mobile_seq=seq, exist=exist, added={}, removed=frozenset())


def differential(seq: int, added: tuple[Descriptor, ...] = (), removed: tuple[str, ...] = ()) -> MobileUpdate:
    by_key = {entry.key: entry for entry in added}
    return MobileUpdate(id="B", mobile_seq=seq, exist=None, added=by_key, removed=frozenset(removed))


def test_own_set_is_published_by_number() -> None:
    own = OwnAddresses()
    assert not own.has_changes
    own.add(FOO)
    own.add(BAR)
    assert own.has_changes
    assert own.published == {}
    assert own.publish() == (1, [FOO, BAR], [])
    own.remove("Mfoo")
    assert list(own.published) == ["Mfoo", "Mbar"]  # what waits is not yet part of an absolute MAU
    assert own.publish() == (2, [], ["Mfoo"])
    changed = FOO._replace(mesh_id="m")
    own.add(changed)
    assert own.publish() == (3, [changed], [])
    assert own.mobile_seq == 3


def test_what_came_and_went_is_not_mentioned() -> None:
    own = OwnAddresses()
    own.add(FOO)
    own.remove("Mfoo")
    assert not own.has_changes
    own.add(FOO)
    own.publish()
    own.remove("Mfoo")
    own.add(FOO)
    own.remove("Munknown")
    assert not own.has_changes


def test_remote_set() -> None:
    remote = RemoteAddresses()
    assert list(remote.apply(absolute(4, FOO, BAR))) == [("Mfoo", FOO), ("Mbar", BAR)]
    changed = FOO._replace(hint=1)
    assert list(remote.apply(differential(5, (changed, BAR), ("Mgone",)))) == [("Mfoo", changed)]
    assert list(remote.apply(differential(6, (), ("Mbar",)))) == [("Mbar", None)]
    assert remote.mobile_seq == 6
    assert list(remote.apply(absolute(6, BAR))) == [("Mfoo", None), ("Mbar", BAR)]
    remote.clear()
    assert (remote.mobile_seq, remote.by_key) == (0, {})


def test_order_of_numbers() -> None:
    remote = RemoteAddresses()
    list(remote.apply(absolute(4, FOO)))
    assert remote.is_stale(absolute(3))
    assert not remote.is_stale(absolute(4))
    assert remote.is_stale(differential(4))
    assert not remote.is_stale(differential(5))
    assert not remote.is_gap(differential(5))
    assert remote.is_gap(differential(6))
    assert not remote.is_gap(absolute(9))


def test_size_after() -> None:
    remote = RemoteAddresses()
    list(remote.apply(absolute(1, FOO)))
    assert remote.size_after(absolute(2, FOO, BAR)) == 2
    assert remote.size_after(differential(2, (BAR,))) == 2
