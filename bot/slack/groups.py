"""Slack's user groups: who is in them, asked again often, never guessed."""

import threading
from http.client import HTTPException

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from bot.clock import Clock

log = structlog.get_logger("octocert.groups")

FRESH_SECONDS = 30.0
"""How long an answer is used before Slack is asked again: so long a removed approver may still approve."""
STALE_SECONDS = 300.0
"""How long the last answer counts while Slack cannot be asked; afterwards nobody is a member."""


class UserGroups:
    """Members of user groups (usergroups.users.list); fails closed."""

    def __init__(self, client: WebClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def members(self, group: str) -> frozenset[str] | None:
        """Return the user ids of a group's members; None where they cannot be read now."""
        with self._lock:
            now = self._clock.monotonic()
            at, members = self._known.get(group, (float("-inf"), frozenset[str]()))
            if now - at < FRESH_SECONDS:
                return members
            try:
                listed = self._client.usergroups_users_list(usergroup=group).get("users")
            except (SlackClientError, HTTPException, OSError) as error:
                log.warning("a user group cannot be read", group=group, error=type(error).__name__)
                listed = None
            if not isinstance(listed, list):
                return members if now - at < STALE_SECONDS else None
            members = frozenset(u for u in listed if isinstance(u, str))
            self._known[group] = (now, members)
            return members
