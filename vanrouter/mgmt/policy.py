"""vhost policies: who may connect from where, how much, and which links a connection may have. Layer: 2, pure.

Source: management specification, section 15. Nothing here knows connections: a `Policies` is asked and answers, the
server's seam asks it at the OPEN and keeps the `Permit` it gets. Names are looked up by the function handed in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vanrouter.errors import VanrouterError

Lookup = Callable[[str], Iterable[str] | None]
"""Addresses of a host by its name: none when there is no such host, None when they are not known yet."""

ANONYMOUS = "anonymous"
"""User name of a connection without one."""

DEFAULT_GROUP = "$default"
CONNECTOR_GROUP = "$connector"
USER = "${user}"
UNLIMITED = 2**31 - 1
MAX_CONNECTIONS = 65535

_SEPARATORS = re.compile(r"[./]")
_COUNTS = ("maxFrameSize", "maxMessageSize", "maxSessionWindow", "maxSessions", "maxSenders", "maxReceivers")
_CONNECTION_LIMITS = ("maxConnectionsPerUser", "maxConnectionsPerHost")


class PolicyError(VanrouterError):
    """Rules that contradict themselves or others; the text is for the operator."""


def entries(value: object) -> tuple[str, ...]:
    """Return a comma list or a list as its entries, without spaces around them.

    Raises:
        PolicyError: it is something else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        parts: Sequence[object] = value.split(",")
    elif isinstance(value, list | tuple):
        parts = value
    else:
        raise PolicyError(f"{str(value)[:80]!r} is neither text nor a list")
    found = (str(part).strip() for part in parts)
    return tuple(part for part in found if part)


# Patterns: tokens parted by `.` or `/`; `*` is one token, `#` any number.


def tokens_of(text: str) -> list[str]:
    """Return the tokens of an address or a name."""
    return _SEPARATORS.split(text)


def is_match(pattern: Sequence[str], tokens: Sequence[str]) -> bool:
    """Tell whether a pattern fits; the time goes with the product of both lengths, whatever they hold."""
    possible = {0}
    for token in tokens:
        possible = _closure(pattern, possible)
        following = set()
        for place in possible:
            if place < len(pattern):
                wanted = pattern[place]
                if wanted == "#":
                    following.add(place)
                elif wanted in ("*", token):
                    following.add(place + 1)
        possible = following
    return len(pattern) in _closure(pattern, possible)


def _closure(pattern: Sequence[str], places: set[int]) -> set[int]:
    """Add the places that a `#` standing for nothing leads to."""
    result = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] == "#":
            place += 1
            result.add(place)
    return result


def exactness(pattern: Sequence[str]) -> tuple[int, ...]:
    """Return what patterns that fit are ordered by, the best first: exact tokens, then `*`, then `#`."""
    return tuple(2 if token == "#" else 1 if token == "*" else 0 for token in pattern)  # noqa: S105  # no password


class Names:
    """Addresses that may be used: literal ones, beginnings, or patterns, with the user's name put in.

    Args:
        listed: a comma list; an entry that ends in `*` is a beginning.
        patterns: a comma list of patterns, in place of the other.
    """

    def __init__(self, listed: object = None, patterns: object = None) -> None:
        self._listed = entries(listed)
        self._patterns = entries(patterns)
        for entry in (*self._listed, *self._patterns):
            if entry.count(USER) > 1:
                raise PolicyError(f"{entry!r} has more than one {USER}")
        for pattern in self._patterns:
            tokens = tokens_of(pattern.replace(USER, "\0"))
            if "\0" in pattern.replace(USER, "\0") and "\0" not in (tokens[0], tokens[-1]):
                raise PolicyError(f"{USER} must be the first or the last token of the pattern {pattern!r}")

    def for_user(self, user: str) -> Callable[[str], bool]:
        """Return the check for one user, made once for each connection."""
        if self._patterns:
            patterns = [tokens_of(pattern.replace(USER, user)) for pattern in self._patterns]
            return lambda address: any(is_match(pattern, tokens_of(address)) for pattern in patterns)
        beginnings = tuple(entry[:-1].replace(USER, user) for entry in self._listed if entry.endswith("*"))
        exact = frozenset(entry.replace(USER, user) for entry in self._listed if not entry.endswith("*"))
        if "" in beginnings:
            return lambda address: True
        return lambda address: address in exact or address.startswith(beginnings)


# Hosts.

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Hosts:
    """Client addresses that may connect: `*`, addresses, ranges `low-high`, names. Empty: nobody."""

    def __init__(self, value: object, lookup: Lookup) -> None:
        self._is_any = False
        self._ranges: list[tuple[_Ip, _Ip]] = []
        for entry in entries(value):
            if entry == "*":
                self._is_any = True
            else:
                self._ranges.extend(_ranges(entry, lookup))

    def __contains__(self, host: str) -> bool:
        if self._is_any:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(low.version == address.version and low <= address <= high for low, high in self._ranges)  # type: ignore[operator]  # of one family


def _ranges(entry: str, lookup: Lookup) -> list[tuple[_Ip, _Ip]]:
    low, dash, high = entry.partition("-")
    try:
        if dash:
            first, last = ipaddress.ip_address(low.strip()), ipaddress.ip_address(high.strip())
            if first.version != last.version:
                raise PolicyError(f"both ends of the range {entry!r} must be of one family")
            if first > last:  # type: ignore[operator]  # of one family
                raise PolicyError(f"the range {entry!r} ends before it begins")
            return [(first, last)]
        address = ipaddress.ip_address(entry)
        return [(address, address)]
    except ValueError:
        answer = lookup(entry)
        if answer is None:
            return []
        found = [ipaddress.ip_address(text) for text in answer]
        if not found:
            raise PolicyError(f"{entry!r} is neither an address, a range nor the name of a known host") from None
        return [(address, address) for address in found]


# Groups and vhosts.


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The settings of one user group; None where the vhost, the listener or the policy decides."""

    name: str
    users: tuple[str, ...]
    hosts: Hosts
    sources: Names
    targets: Names
    max_per_user: int | None = None
    max_per_host: int | None = None
    max_message_bytes: int | None = None
    max_frame_bytes: int = 0
    max_session_window_bytes: int = 0
    max_sessions: int = 0
    max_senders: int = UNLIMITED
    max_receivers: int = UNLIMITED
    allows_dynamic_source: bool = False
    allows_anonymous_sender: bool = False
    allows_user_id_proxy: bool = False
    allows_admin_update: bool = True

    @classmethod
    def of(cls, name: str, settings: Mapping[str, object], lookup: Lookup) -> Group:
        """Read the settings of a group.

        Raises:
            PolicyError: they are not possible.
        """
        numbers = {key: _number(settings, key) for key in (*_COUNTS, *_CONNECTION_LIMITS)}
        for key in _CONNECTION_LIMITS:
            _check_connections(key, numbers[key])
        for one, other in (("sources", "sourcePattern"), ("targets", "targetPattern")):
            if entries(settings.get(one)) and entries(settings.get(other)):
                raise PolicyError(f"group {name!r}: give {one} or {other}, not both")

        def limit(key: str, default: int) -> int:
            value = numbers[key]
            return default if value is None else value

        return cls(
            name=name,
            users=entries(settings.get("users")),
            hosts=Hosts(settings.get("remoteHosts"), lookup),
            sources=Names(settings.get("sources"), settings.get("sourcePattern")),
            targets=Names(settings.get("targets"), settings.get("targetPattern")),
            max_per_user=numbers["maxConnectionsPerUser"],
            max_per_host=numbers["maxConnectionsPerHost"],
            max_message_bytes=numbers["maxMessageSize"],
            max_frame_bytes=limit("maxFrameSize", 0),
            max_session_window_bytes=limit("maxSessionWindow", 0),
            max_sessions=limit("maxSessions", 0),
            max_senders=limit("maxSenders", UNLIMITED),
            max_receivers=limit("maxReceivers", UNLIMITED),
            allows_dynamic_source=_is_on(settings, "allowDynamicSource", default=False),
            allows_anonymous_sender=_is_on(settings, "allowAnonymousSender", default=False),
            allows_user_id_proxy=_is_on(settings, "allowUserIdProxy", default=False),
            allows_admin_update=_is_on(settings, "allowAdminStatusUpdate", default=True),
        )


def _number(settings: Mapping[str, object], key: str) -> int | None:
    value = settings.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise PolicyError(f"{key} must be a number of 0 or more, not {str(value)[:40]!r}")
    return value


def _check_connections(key: str, value: int | None) -> None:
    if value is not None and value > MAX_CONNECTIONS:
        raise PolicyError(f"{key} {value} is out of range; 0 to {MAX_CONNECTIONS} is needed")


def _is_on(settings: Mapping[str, object], key: str, *, default: bool) -> bool:
    value = settings.get(key)
    if value is None:
        return default
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "on")
    return value is True


@dataclass(frozen=True, slots=True, kw_only=True)
class Vhost:
    """The rules of one vhost."""

    hostname: str
    aliases: tuple[str, ...]
    max_connections: int
    max_per_user: int
    max_per_host: int
    max_message_bytes: int | None
    allows_unknown_user: bool
    groups: Mapping[str, Group]
    group_of_user: Mapping[str, Group]

    @classmethod
    def of(cls, attributes: Mapping[str, object], lookup: Lookup) -> Vhost:
        """Read a vhost entity.

        Raises:
            PolicyError: its rules are not possible.
        """
        given = attributes.get("groups") or {}
        if not isinstance(given, Mapping):
            raise PolicyError("groups must be a map from name to settings")
        groups: dict[str, Group] = {}
        group_of_user: dict[str, Group] = {}
        for name, settings in given.items():
            if not isinstance(settings, Mapping):
                raise PolicyError(f"group {name!r} must be a map of settings")
            group = groups[str(name)] = Group.of(str(name), settings, lookup)
            for user in group.users:
                other = group_of_user.setdefault(user, group)
                if other is not group:
                    raise PolicyError(f"user {user!r} is in groups {other.name!r} and {group.name!r}")
        allows_unknown = _is_on(attributes, "allowUnknownUser", default=False)
        if allows_unknown and DEFAULT_GROUP not in groups:
            raise PolicyError(f"allowUnknownUser needs a group named {DEFAULT_GROUP}")

        def limit(key: str) -> int:
            value = _number(attributes, key)
            _check_connections(key, value)
            return MAX_CONNECTIONS if value is None else value

        return cls(
            hostname=str(attributes.get("hostname") or ""),
            aliases=entries(attributes.get("aliases")),
            max_connections=limit("maxConnections"),
            max_per_user=limit("maxConnectionsPerUser"),
            max_per_host=limit("maxConnectionsPerHost"),
            max_message_bytes=_number(attributes, "maxMessageSize"),
            allows_unknown_user=allows_unknown,
            groups=groups,
            group_of_user=group_of_user,
        )

    def group_for(self, user: str) -> Group | None:
        """Return the group of a user: that which names it, else everybody's, else the default one if allowed."""
        group = self.group_of_user.get(user) or self.group_of_user.get("*")
        if group is None and self.allows_unknown_user:
            group = self.groups.get(DEFAULT_GROUP)
        return group


@dataclass(slots=True, eq=False)
class VhostCounts:
    """What happened to the connections of one vhost; it outlives the vhost."""

    hostname: str
    approved: int = 0
    denied: int = 0
    current: int = 0
    per_user: dict[str, list[str]] = field(default_factory=dict)
    per_host: dict[str, list[str]] = field(default_factory=dict)
    sessions_denied: int = 0
    senders_denied: int = 0
    receivers_denied: int = 0
    oversize_denied: int = 0

    @property
    def links_denied(self) -> int:
        """Links of both directions."""
        return self.senders_denied + self.receivers_denied


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Permit:
    """What one connection may do; given back with `Policies.end`."""

    vhost: str
    user: str
    host: str
    peer: str
    group: Group
    counts: VhostCounts
    max_message_bytes: int
    is_counted: bool = True


class Denial(str):
    """Why a connection is refused: the words of the log."""

    __slots__ = ()


NO_POLICY = Denial("No policy defined for vhost")
NO_GROUP = Denial("User is not in a user group and unknown users are denied")
WRONG_HOST = Denial("User is not allowed to connect from this network host")
TOO_MANY = Denial("Connection denied by application connection limit")
TOO_MANY_OF_USER = Denial("Connection denied by application per user limit")
TOO_MANY_OF_HOST = Denial("Connection denied by application per host limit")


class Policies:
    """All vhosts, and the connections they have let in.

    Args:
        default_vhost: used when no other fits; empty for none.
        has_patterns: vhost names and aliases are patterns.
        max_message_bytes: where neither group nor vhost says; 0 = no limit.
        lookup: finds the addresses of host names in `remoteHosts`.
    """

    def __init__(
        self,
        *,
        default_vhost: str = "",
        has_patterns: bool = False,
        max_message_bytes: int = 0,
        lookup: Lookup = lambda name: (),
    ) -> None:
        self._default = default_vhost
        self._has_patterns = has_patterns
        self._max_message_bytes = max_message_bytes
        self._lookup = lookup
        self._vhosts: dict[str, Vhost] = {}
        self._names: dict[str, str] = {}
        """Names and aliases, each to the vhost it leads to."""
        self.counts: dict[str, VhostCounts] = {}
        self.unknown_denied = 0
        """Connections refused because no vhost fits."""

    def put(self, attributes: Mapping[str, object]) -> None:
        """Add a vhost, or replace its rules.

        Raises:
            PolicyError: the rules are not possible, or a name is taken; nothing has changed then.
        """
        hostname = str(attributes.get("hostname") or "")
        try:
            vhost = Vhost.of(attributes, self._lookup)
        except PolicyError as error:
            # The words up to the reason are what programs written for the C router search for.
            raise PolicyError(f"Policy '{hostname}' is invalid: {error}") from None
        others = {name: owner for name, owner in self._names.items() if owner != vhost.hostname}
        own: set[str] = set()
        for name in (vhost.hostname, *vhost.aliases):
            clash = self._clash(name, others)
            if clash is not None or name in own:
                what = "pattern" if self._has_patterns else "name"
                raise PolicyError(f"vhost {hostname!r}: {what} conflicts: {name!r} is that of vhost {clash or name!r}")
            own.add(name)
        self._names = others | dict.fromkeys(own, vhost.hostname)
        self._vhosts[vhost.hostname] = vhost
        self.counts.setdefault(vhost.hostname, VhostCounts(vhost.hostname))

    def _clash(self, name: str, others: Mapping[str, str]) -> str | None:
        if not self._has_patterns:
            return others.get(name)
        tokens = _normal(tokens_of(name))
        return next((owner for other, owner in others.items() if _normal(tokens_of(other)) == tokens), None)

    def remove(self, hostname: str) -> None:
        """Take a vhost away; connections that are open keep what they got."""
        self._vhosts.pop(hostname, None)
        self._names = {name: owner for name, owner in self._names.items() if owner != hostname}

    def find(self, name: str) -> Vhost | None:
        """Return the vhost for a name, the default one when none fits."""
        owner = self._names.get(name)
        if owner is None and self._has_patterns:
            tokens = tokens_of(name)
            fitting = [found for found in self._names if is_match(tokens_of(found), tokens)]
            if fitting:
                owner = self._names[min(fitting, key=lambda found: exactness(tokens_of(found)))]
        if owner is None and self._default:
            owner = self._default
        return self._vhosts.get(owner) if owner is not None else None

    def begin(self, name: str, user: str | None, host: str, peer: str) -> Permit | Denial:
        """Judge a connection at its OPEN.

        Args:
            name: the listener's policyVhost, else the hostname field of OPEN.
            user: as authenticated; None without.
            host: the client's address.
            peer: the same with its port, for the statistics.
        """
        vhost = self.find(name)
        if vhost is None:
            self.unknown_denied += 1
            return NO_POLICY
        user = user or ANONYMOUS
        counts = self.counts[vhost.hostname]
        group = vhost.group_for(user)
        if group is None:
            denial = NO_GROUP
        elif host not in group.hosts:
            denial = WRONG_HOST
        else:
            found = self._over_limit(vhost, group, counts, user, host)
            if found is None:
                counts.approved += 1
                counts.current += 1
                counts.per_user.setdefault(user, []).append(peer)
                counts.per_host.setdefault(host, []).append(peer)
                return self._permit(vhost, group, user, host, peer)
            denial = found
        counts.denied += 1
        return denial

    @staticmethod
    def _over_limit(vhost: Vhost, group: Group, counts: VhostCounts, user: str, host: str) -> Denial | None:
        if counts.current >= vhost.max_connections:
            return TOO_MANY
        per_user = vhost.max_per_user if group.max_per_user is None else group.max_per_user
        if len(counts.per_user.get(user, ())) >= per_user:
            return TOO_MANY_OF_USER
        per_host = vhost.max_per_host if group.max_per_host is None else group.max_per_host
        if len(counts.per_host.get(host, ())) >= per_host:
            return TOO_MANY_OF_HOST
        return None

    def _permit(self, vhost: Vhost, group: Group, user: str, host: str, peer: str, *, counted: bool = True) -> Permit:
        size = group.max_message_bytes
        if size is None:
            size = vhost.max_message_bytes
        return Permit(
            vhost=vhost.hostname,
            user=user,
            host=host,
            peer=peer,
            group=group,
            counts=self.counts[vhost.hostname],
            max_message_bytes=self._max_message_bytes if size is None else size,
            is_counted=counted,
        )

    def connector(self, name: str, user: str | None, host: str, peer: str) -> Permit | None:
        """Return what holds on the outgoing connection of a connector with `policyVhost`; None: there are no rules."""
        vhost = self._vhosts.get(self._names.get(name, name))
        group = None if vhost is None else vhost.groups.get(CONNECTOR_GROUP)
        if vhost is None or group is None:
            return None
        return self._permit(vhost, group, user or ANONYMOUS, host, peer, counted=False)

    def end(self, permit: Permit) -> None:
        """A connection that was let in is over."""
        if not permit.is_counted:
            return
        counts = permit.counts
        counts.current -= 1
        for kept, key in ((counts.per_user, permit.user), (counts.per_host, permit.host)):
            peers = kept.get(key, [])
            if permit.peer in peers:
                peers.remove(permit.peer)
            if not peers:
                kept.pop(key, None)


def _normal(tokens: Sequence[str]) -> list[str]:
    """Return a pattern in the form that equivalent ones share: `#` after the `*` beside it, once."""
    result: list[str] = []
    at = 0
    while at < len(tokens):
        if tokens[at] not in ("*", "#"):
            result.append(tokens[at])
            at += 1
            continue
        end = at
        while end < len(tokens) and tokens[end] in ("*", "#"):
            end += 1
        run = tokens[at:end]
        result.extend(["*"] * run.count("*"))
        if "#" in run:
            result.append("#")
        at = end
    return result
