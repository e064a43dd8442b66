"""Publishing Home tabs: what Slack refuses is logged, for nobody waits for an answer."""

from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

log = structlog.get_logger("octocert.slack")


def publisher(client: WebClient) -> Callable[[str, dict[str, Any]], None]:
    """Return what publishes a view as a person's Home tab."""

    def publish(user: str, view: dict[str, Any]) -> None:
        try:
            client.views_publish(user_id=user, view=view)
        except (SlackClientError, HTTPException, OSError) as error:
            log.warning("a Home tab could not be published", user=user, error=str(error)[:300])

    return publish
