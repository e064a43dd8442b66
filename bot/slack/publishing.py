"""Home tabs: publishing them, and links to the threads that they name. What Slack refuses is logged: nobody waits."""

from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

log = structlog.get_logger("octocert.slack")


def publisher(client: WebClient) -> Callable[[str, dict[str, Any]], None]:
    """Return what publishes a view as a person's Home tab."""

    def publish(user: str, view: dict[str, Any]) -> None:
        try:
            client.views_publish(user_id=user, view=view)
        except (SlackClientError, HTTPException, OSError) as error:
            log.warning("a Home tab could not be published", user=user, error=str(error)[:300])

    return publish


MOST_LINKS = 1_000
"""Links that are kept; more are asked for anew."""


class Permalinks:
    """Addresses at which a browser shows the root message of a run, asked for once each."""

    def __init__(self, client: WebClient, place: Callable[[str], tuple[str, str] | None]) -> None:
        """Take what tells where a run's message is: its channel and its time stamp, None while it is not posted."""
        self._client = client
        self._place = place
        self._known: dict[tuple[str, str], str] = {}

    def of(self, run_id: str) -> str:
        """Return the address; empty where there is no message yet, or Slack tells none."""
        place = self._place(run_id)
        if place is None:
            return ""
        if place not in self._known:
            channel, ts = place
            try:
                link = str(self._client.chat_getPermalink(channel=channel, message_ts=ts)["permalink"])
            except SlackApiError as error:  # the message is gone: that does not change
                log.info("Slack knows no address of a run's message", run=run_id, error=str(error)[:300])
                link = ""
            except (SlackClientError, HTTPException, OSError, KeyError) as error:
                log.warning("the address of a run's message could not be asked for", run=run_id, error=str(error)[:300])
                return ""
            if len(self._known) >= MOST_LINKS:
                self._known.clear()
            self._known[place] = link
        return self._known[place]
