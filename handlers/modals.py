"""Opening modals: Slack lets that happen for three seconds after a click or a command."""

from http.client import HTTPException
from typing import Any

import structlog
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

log = structlog.get_logger("octocert.handlers")


def opened(client: WebClient, body: dict[str, Any], view: dict[str, Any]) -> bool:
    """Open a modal before whoever clicked; return whether it stands there."""
    try:
        client.views_open(trigger_id=str(body.get("trigger_id") or ""), view=view)
    except (SlackClientError, HTTPException, OSError) as error:
        log.warning("a modal could not be opened", modal=view.get("callback_id"), error=type(error).__name__)
        return False
    return True
