"""Mentions of the bot: the way to give commands inside a thread, where Slack has no slash commands."""

from typing import Any

from slack_bolt import App

from bot.runs.asking import Asker
from bot.runs.desk import Desk


def register(app: App, desk: Desk) -> None:
    """Listen to mentions."""

    @app.event("app_mention")
    def mention(event: dict[str, Any], body: dict[str, Any]) -> None:
        if event.get("bot_id") or not event.get("user"):
            return
        desk.command(
            str(event.get("text") or ""),
            Asker(
                user=event["user"],
                user_name=event["user"],
                channel=event["channel"],
                thread=event.get("thread_ts"),
                # the message, not the delivery: Slack may send one event under several ids
                key=f"mention-{event['channel']}-{event.get('ts') or body.get('event_id')}",
            ),
        )
