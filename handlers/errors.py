"""What happens when a listener itself fails: the person is told, with a reference that stands in the log."""

import secrets as randomness
from http.client import HTTPException
from typing import Any

import structlog
from slack_bolt import App
from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError

from bot.slack import messages

log = structlog.get_logger("octocert.handlers")


def register(app: App) -> None:
    """Have every error of a listener told and logged."""

    @app.error
    def failed(error: Exception, body: dict[str, Any], client: WebClient) -> None:
        reference = randomness.token_hex(4)
        log.error("a listener failed", reference=reference, exc_info=error)
        user = body.get("user_id") or (body.get("user") or {}).get("id") or (body.get("event") or {}).get("user")
        channel = (
            body.get("channel_id") or (body.get("channel") or {}).get("id") or (body.get("event") or {}).get("channel")
        )
        if user:
            message = messages.unexpected(reference)
            thread = (body.get("event") or {}).get("thread_ts")
            try:
                if channel:
                    client.chat_postEphemeral(
                        channel=channel, user=user, text=message.text, blocks=list(message.blocks), thread_ts=thread
                    )
                else:  # from a modal or the Home tab: there is no channel to whisper in
                    client.chat_postMessage(channel=user, text=message.text, blocks=list(message.blocks))
            except (SlackClientError, HTTPException, OSError) as problem:
                log.warning("the person could not be told", reference=reference, error=type(problem).__name__)
