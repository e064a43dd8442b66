"""The manifest of the Slack app: what a workspace must allow the bot, and nothing more.

A test compares both tables with the Web API methods that the code calls and the events that it listens to: whoever adds
a call adds its scope here.
"""

from typing import Any

_HISTORY = ("channels:history", "groups:history", "im:history")

METHODS: dict[str, tuple[str, ...]] = {
    "apps.connections.open": (),  # by the app-level token, whose scope connections:write no manifest grants
    "auth.test": (),
    "chat.getPermalink": (),
    "chat.postEphemeral": ("chat:write",),
    "chat.postMessage": ("chat:write",),
    "chat.update": ("chat:write",),
    "conversations.history": _HISTORY,
    "conversations.replies": _HISTORY,
    "files.completeUploadExternal": ("files:write",),
    "files.getUploadURLExternal": ("files:write",),
    "usergroups.list": ("usergroups:read",),
    "usergroups.users.list": ("usergroups:read",),
    "views.open": (),
    "views.publish": (),
}
"""Web API methods that the bot calls, each with the scopes that it needs (docs.slack.dev/reference/methods)."""

EVENTS: dict[str, tuple[str, ...]] = {
    "app_home_opened": (),
    "app_mention": ("app_mentions:read",),
}
"""Events that the bot listens to, each with the scopes without which Slack does not send it."""

COMMANDS_SCOPE = "commands"
HOME_EVENT = "app_home_opened"


def scopes() -> tuple[str, ...]:
    """Return the scopes of the bot token, sorted."""
    needed = {scope for table in (METHODS, EVENTS) for given in table.values() for scope in given}
    return tuple(sorted({COMMANDS_SCOPE, *needed}))


def manifest(command: str, *, request_url: str | None = None) -> dict[str, Any]:
    """Return the manifest: for Socket Mode, or for signed requests to `request_url`."""
    slash: dict[str, Any] = {
        "command": command,
        "description": "Rotate Octopus certificates, after an approval",
        "usage_hint": "help",
        "should_escape": False,
    }
    events: dict[str, Any] = {"bot_events": sorted(EVENTS)}
    interactivity: dict[str, Any] = {"is_enabled": True}
    if request_url:
        slash["url"] = request_url
        events["request_url"] = request_url
        interactivity |= {"request_url": request_url, "message_menu_options_url": request_url}
    return {
        "display_information": {
            "name": "octocert",
            "description": "Rotates Octopus certificates, after an approval.",
        },
        "features": {
            # Answers that cannot be whispered in a channel come as direct messages, which are not for replying.
            "app_home": {
                "home_tab_enabled": HOME_EVENT in EVENTS,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": True,
            },
            "bot_user": {"display_name": "octocert", "always_online": True},
            "slash_commands": [slash],
        },
        "oauth_config": {"scopes": {"bot": list(scopes())}},
        "settings": {
            "event_subscriptions": events,
            "interactivity": interactivity,
            "org_deploy_enabled": False,
            "socket_mode_enabled": request_url is None,
            "token_rotation_enabled": False,
        },
    }
