"""Entity types of connection and vhost policy. Layer: 2, pure.

Source: management specification, sections 8 and 15.
"""

from __future__ import annotations

from vanrouter.mgmt.attributes import flag, mapping, measured, path, text, whole
from vanrouter.mgmt.schema import EntityType

POLICY = EntityType(
    short="policy",
    help="Limits for the whole router, and whether vhost rules apply.",
    base="configurationEntity",
    section=True,
    singleton=True,
    own=(
        whole(
            "maxConnections",
            "C",
            "Ceiling on AMQP connections accepted by all listeners together, always enforced. Must be >= 0.",
            default=65535,
            minimum=0,
        ),
        whole(
            "maxMessageSize",
            "C",
            "Largest message from clients; 0 = no limit. vhost and group values override. Takes effect only with "
            "vhost rules on.",
            default=0,
            minimum=0,
        ),
        flag("enableVhostPolicy", "C", "Turn the vhost rules on.", default=False),
        flag(
            "enableVhostNamePatterns",
            "C",
            "Treat vhost names as wildcard patterns (tokens split at `.` or `/`).",
            default=False,
        ),
        path("policyDir", "C", "Folder whose `*.json` files hold more vhosts.", default=""),
        text("defaultVhost", "C", "vhost used when none matches; empty = none.", default="$default"),
        measured("connectionsProcessed", "Connections judged."),
        measured("connectionsDenied", "Refused by maxConnections."),
        measured("connectionsCurrent", "Open now."),
        measured("linksDenied", "Links refused."),
        measured("maxMessageSizeDenied", "Messages refused for size."),
        measured("totalDenials", "All refusals."),
    ),
)

VHOST = EntityType(
    short="vhost",
    help="Rules for connections to one virtual host.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text("hostname", "C", "Name matched against the OPEN hostname (or policyVhost).", required=True),
        text("aliases", "CU", "Other names (comma list) for the same rules."),
        whole("maxConnections", "CU", "Limit for the vhost, 0..65535.", default=65535),
        whole("maxMessageSize", "F", "Message size limit of the vhost; files only."),
        whole("maxConnectionsPerUser", "CU", "Limit per user, 0..65535.", default=65535),
        whole("maxConnectionsPerHost", "CU", "Limit per client address, 0..65535.", default=65535),
        flag("allowUnknownUser", "CU", "Users in no group get the `$default` group; needs that group.", default=False),
        mapping("groups", "CU", "Map from group name to settings (vhostUserGroupSettings)."),
    ),
)

VHOST_USER_GROUP_SETTINGS = EntityType(
    short="vhostUserGroupSettings",
    help="The settings of one group inside vhost.groups.",
    base="configurationEntity",
    own=(
        text("users", "F", "Comma list of users, `*` = everyone. One group per user.", required=True),
        text(
            "remoteHosts",
            "F",
            "Comma list of IPs, host names, `low-high` ranges, or `*`. Empty = nobody.",
            required=True,
        ),
        whole("maxConnectionsPerUser", "F", "Overrides the vhost limit."),
        whole("maxConnectionsPerHost", "F", "Overrides the vhost limit."),
        whole("maxMessageSize", "F", "Overrides vhost and policy; 0 = unlimited."),
        whole("maxFrameSize", "C", "Overrides the listener when not 0."),
        whole(
            "maxSessionWindow", "C", "Incoming session window in octets; divided by the frame size, at least 2 frames."
        ),
        whole("maxSessions", "C", "Overrides the listener when not 0."),
        whole("maxSenders", "C", "Sending links allowed.", default=2147483647),
        whole("maxReceivers", "C", "Receiving links allowed.", default=2147483647),
        flag("allowDynamicSource", "C", "May attach dynamic receivers.", default=False),
        flag("allowAnonymousSender", "C", "May attach senders without target.", default=False),
        flag("allowUserIdProxy", "C", "May set a user-id other than its own.", default=False),
        flag("allowAdminStatusUpdate", "C", "May delete connections through management.", default=True),
        text(
            "sources",
            "C",
            "Addresses that may be received from: comma list, trailing `*` = prefix, `${user}` = user name.",
        ),
        text("targets", "C", "Same for sending."),
        text("sourcePattern", "C", "Wildcard patterns instead of sources."),
        text("targetPattern", "C", "Wildcard patterns instead of targets."),
    ),
)

VHOST_STATS = EntityType(
    short="vhostStats",
    help="Counters of one virtual host.",
    base="operationalEntity",
    observed=True,
    own=(
        text("hostname", "", "vhost."),
        measured("connectionsApproved", "Connections let in."),
        measured("connectionsDenied", "Connections refused."),
        measured("connectionsCurrent", "Open now."),
        mapping("perUserState", "", "Map user -> list of its connections (`ip:port`)."),
        mapping("perHostState", "", "Map client address -> list of its connections."),
        measured("sessionDenied", "AMQP sessions refused."),
        measured("senderDenied", "Senders refused."),
        measured("receiverDenied", "Receivers refused."),
        measured("maxMessageSizeDenied", "Messages refused for size."),
    ),
)
