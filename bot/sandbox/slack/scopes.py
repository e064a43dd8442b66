"""OAuth scopes: what a token must have been granted for each method of the Web API.

Source: the pages of the methods on docs.slack.dev/reference/methods, section “Required scopes”.
"""

from bot.sandbox.slack.model import Channel

_WRITE = "chat:write"
NEEDED: dict[str, str] = {
    "apps.connections.open": "connections:write",
    "chat.delete": _WRITE,
    "chat.postEphemeral": _WRITE,
    "chat.postMessage": _WRITE,
    "chat.scheduleMessage": _WRITE,
    "chat.update": _WRITE,
    "conversations.open": "im:write",
    "files.completeUploadExternal": "files:write",
    "files.getUploadURLExternal": "files:write",
    "files.info": "files:read",
    "pins.add": "pins:write",
    "pins.remove": "pins:write",
    "reactions.add": "reactions:write",
    "reactions.remove": "reactions:write",
    "usergroups.list": "usergroups:read",
    "usergroups.users.list": "usergroups:read",
    "users.info": "users:read",
    "users.list": "users:read",
    "users.lookupByEmail": "users:read.email",
}
"""Methods that are not here need no scope."""
BY_CONVERSATION = {
    "conversations.history": "history",
    "conversations.replies": "history",
    "conversations.info": "read",
    "conversations.members": "read",
}
"""Methods whose scope depends on the kind of conversation: `channels:history`, `groups:history`, `im:history`."""
ALL = frozenset(
    {
        *(scope for method, scope in NEEDED.items() if method != "apps.connections.open"),
        *(f"{kind}:{what}" for kind in ("channels", "groups", "im") for what in ("history", "read")),
        "app_mentions:read",
        "commands",
    }
)
"""Everything that an app may ask for here; a workspace grants less."""
APP_SCOPES = frozenset({"connections:write"})


def needed(method: str, channel: Channel | None) -> frozenset[str]:
    """Return the scopes without which a call is refused with `missing_scope`."""
    if method in BY_CONVERSATION:
        direct = channel is not None and channel.partner is not None
        kind = "im" if direct else "groups" if channel is not None and channel.private else "channels"
        return frozenset({f"{kind}:{BY_CONVERSATION[method]}"})
    return frozenset({NEEDED[method]}) if method in NEEDED else frozenset()
