"""vhost policies: names, patterns, hosts, groups, limits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.mgmt.policy import (
    NO_GROUP,
    NO_POLICY,
    TOO_MANY,
    TOO_MANY_OF_HOST,
    TOO_MANY_OF_USER,
    WRONG_HOST,
    Group,
    Hosts,
    Names,
    Permit,
    Policies,
    PolicyError,
    Vhost,
    entries,
    exactness,
    is_match,
    tokens_of,
)


def none(_name: str) -> tuple[str, ...]:
    return ()


def vhost(name: str = "host", **more: Any) -> dict[str, Any]:
    group = more.pop("group", {"remoteHosts": "*"})
    return {"hostname": name, "allowUnknownUser": True, "groups": {"$default": group}, **more}


def policies(*vhosts: dict[str, Any], **options: Any) -> Policies:
    made = Policies(**options)
    for attributes in vhosts:
        made.put(attributes)
    return made


# Lists and names.


def test_entries_of_text_and_of_lists() -> None:
    assert entries(" a, b ,,c ") == ("a", "b", "c")
    assert entries(["a ", 1]) == ("a", "1")
    assert entries(None) == ()
    with pytest.raises(PolicyError):
        entries(7)


@pytest.mark.parametrize(
    ("listed", "address", "allowed"),
    [
        ("a, b", "a", True),
        ("a, b", "ab", False),
        ("a*", "abc", True),
        ("a*", "ba", False),
        ("*", "anything", True),
        ("", "a", False),
        (None, "", False),
        ("tmp_${user}", "tmp_joe", True),
        ("tmp_${user}", "tmp_ann", False),
        ("${user}_x, y", "joe_x", True),
        ("a.${user}.b*", "a.joe.bcd", True),
        (["a", "b*"], "bb", True),
    ],
)
def test_listed_addresses(listed: object, address: str, allowed: bool) -> None:
    assert Names(listed).for_user("joe")(address) is allowed


@pytest.mark.parametrize(
    ("pattern", "address", "allowed"),
    [
        ("a.*.c", "a/b/c", True),
        ("a.*.c", "a.c", False),
        ("a.#", "a", True),
        ("#", "x.y.z", True),
        ("${user}.#", "joe.x", True),
        ("#.${user}", "x.joe", True),
        ("${user}.#", "ann.x", False),
    ],
)
def test_patterns(pattern: str, address: str, allowed: bool) -> None:
    assert Names(None, pattern).for_user("joe")(address) is allowed


@pytest.mark.parametrize("listed", ["${user}${user}", "a-${user}-${user}"])
def test_the_user_stands_in_a_name_once(listed: str) -> None:
    with pytest.raises(PolicyError):
        Names(listed)


@pytest.mark.parametrize("pattern", ["a.${user}.b", "x${user}.a", "a.b${user}"])
def test_the_user_is_a_token_at_either_end_of_a_pattern(pattern: str) -> None:
    with pytest.raises(PolicyError):
        Names(None, pattern)


TOKENS = st.lists(st.sampled_from(["a", "b"]), max_size=5)


@given(st.lists(st.sampled_from(["a", "b", "*", "#"]), max_size=5), TOKENS)
def test_patterns_fit_as_a_regular_expression_does(pattern: list[str], tokens: list[str]) -> None:
    words = {"*": "[ab],", "#": "(?:[ab],)*"}
    expected = re.fullmatch(
        "".join(words.get(token, token + ",") for token in pattern), "".join(f"{t}," for t in tokens)
    )
    assert is_match(pattern, tokens) is (expected is not None)


def test_exact_beats_one_beats_any() -> None:
    patterns = ["#.com", "*.com", "a.com"]
    assert min(patterns, key=lambda found: exactness(tokens_of(found))) == "a.com"
    assert min(patterns[:2], key=lambda found: exactness(tokens_of(found))) == "*.com"


# Hosts.


@pytest.mark.parametrize(
    ("value", "host", "allowed"),
    [
        ("*", "anything", True),
        ("", "127.0.0.1", False),
        (None, "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.1-10.0.0.9", "10.0.0.5", True),
        ("10.0.0.1 - 10.0.0.9", "10.0.0.10", False),
        ("10.0.0.1-10.0.0.9", "::1", False),
        ("::1, fe80::1", "fe80::1", True),
        ("here", "10.9.9.9", True),
        ("127.0.0.1", "no address", False),
    ],
)
def test_hosts(value: object, host: str, allowed: bool) -> None:
    assert (host in Hosts(value, {"here": ["10.9.9.9"]}.__getitem__)) is allowed


@pytest.mark.parametrize("value", ["10.0.0.9-10.0.0.1", "10.0.0.1-::1", "nowhere"])
def test_impossible_hosts(value: str) -> None:
    with pytest.raises(PolicyError):
        Hosts(value, none)


# Groups and vhosts.


@pytest.mark.parametrize(
    "settings",
    [
        {"maxSessions": -1},
        {"maxSenders": "many"},
        {"maxReceivers": True},
        {"maxConnectionsPerUser": 65536},
        {"sources": "a", "sourcePattern": "b"},
        {"targets": "a", "targetPattern": "b"},
    ],
)
def test_impossible_groups(settings: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        Group.of("g", settings, none)


def test_what_a_group_says_as_text_counts_too() -> None:
    group = Group.of("g", {"maxSenders": "3", "allowDynamicSource": "yes", "allowAdminStatusUpdate": False}, none)
    assert (group.max_senders, group.allows_dynamic_source, group.allows_admin_update) == (3, True, False)


@pytest.mark.parametrize(
    "attributes",
    [
        {"groups": "none"},
        {"groups": {"g": "none"}},
        {"groups": {"a": {"users": "joe"}, "b": {"users": "ann, joe"}}},
        {"allowUnknownUser": True},
        {"maxConnections": 70000},
    ],
)
def test_impossible_vhosts(attributes: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        Vhost.of({"hostname": "h", **attributes}, none)


def test_the_group_that_names_a_user_comes_first() -> None:
    groups = {"named": {"users": "joe"}, "all": {"users": "*"}, "$default": {}}
    made = Vhost.of({"hostname": "h", "groups": groups, "allowUnknownUser": True}, none)
    assert made.group_for("joe") is made.groups["named"]
    assert made.group_for("ann") is made.groups["all"]


# Connections.


def test_let_in_and_counted() -> None:
    made = policies(vhost())
    permit = made.begin("host", None, "10.0.0.1", "10.0.0.1:5")
    assert isinstance(permit, Permit)
    counts = made.counts["host"]
    assert (counts.approved, counts.current, permit.user) == (1, 1, "anonymous")
    assert counts.per_host == {"10.0.0.1": ["10.0.0.1:5"]}
    made.end(permit)
    assert (counts.current, counts.per_user, counts.per_host) == (0, {}, {})


def test_refusals() -> None:
    made = policies(
        vhost("closed", group={"remoteHosts": ""}),
        {"hostname": "strict", "groups": {"g": {"users": "joe", "remoteHosts": "*"}}},
        vhost("few", maxConnections=1),
        vhost("users", maxConnectionsPerUser=1),
        vhost("hosts", group={"remoteHosts": "*", "maxConnectionsPerHost": 1}),
    )
    assert made.begin("other", "joe", "10.0.0.1", "") == NO_POLICY
    assert made.begin("closed", "joe", "10.0.0.1", "") == WRONG_HOST
    assert made.begin("strict", "ann", "10.0.0.1", "") == NO_GROUP
    for name, denial in (("few", TOO_MANY), ("users", TOO_MANY_OF_USER), ("hosts", TOO_MANY_OF_HOST)):
        assert isinstance(made.begin(name, "joe", "10.0.0.1", ""), Permit)
        assert made.begin(name, "joe", "10.0.0.1", "") == denial
        assert made.counts[name].denied == 1


def test_the_default_vhost() -> None:
    made = policies(vhost("$default"), default_vhost="$default")
    assert made.find("anything") is not None
    assert policies(default_vhost="$default").find("anything") is None


def test_aliases_and_patterns() -> None:
    made = policies(vhost("#.com", aliases="short, other"), vhost("*.org"), has_patterns=True)
    for name, owner in (("a.b.com", "#.com"), ("short", "#.com"), ("x.org", "*.org"), ("x.y.org", None)):
        found = made.find(name)
        assert (None if found is None else found.hostname) == owner


@pytest.mark.parametrize(
    ("has_patterns", "second"),
    [(False, vhost("second", aliases="first")), (True, vhost("#.*.a")), (False, vhost("second", aliases="x, x"))],
)
def test_names_are_taken_once(has_patterns: bool, second: dict[str, Any]) -> None:
    made = policies(vhost("first"), vhost("*.#.a"), has_patterns=has_patterns)
    with pytest.raises(PolicyError, match="conflicts"):
        made.put(second)
    assert made.find("second") is None


def test_replaced_and_removed() -> None:
    made = policies(vhost(aliases="old"))
    made.put(vhost(aliases="new"))
    assert made.find("old") is None
    assert made.find("new") is not None
    made.remove("host")
    assert made.find("new") is None
    assert "host" in made.counts, "the counts stay"


@pytest.mark.parametrize(
    ("group", "of_vhost", "of_policy", "limit"), [(None, None, 7, 7), (None, 5, 7, 5), (3, 5, 7, 3), (0, 5, 7, 0)]
)
def test_the_nearest_limit_of_size_holds(group: int | None, of_vhost: int | None, of_policy: int, limit: int) -> None:
    settings = {"remoteHosts": "*", "maxMessageSize": group}
    made = policies(vhost(group=settings, maxMessageSize=of_vhost), max_message_bytes=of_policy)
    permit = made.begin("host", "joe", "::1", "")
    assert isinstance(permit, Permit)
    assert permit.max_message_bytes == limit


def test_connectors_have_a_group_of_their_own() -> None:
    made = policies({"hostname": "h", "aliases": "x", "groups": {"$connector": {"targets": "a"}}}, vhost("other"))
    permit = made.connector("x", None, "::1", "")
    assert permit is not None
    assert permit.group.targets.for_user("u")("a")
    made.end(permit)
    assert made.counts["h"].current == 0
    assert made.connector("other", None, "::1", "") is None
    assert made.connector("missing", None, "::1", "") is None
