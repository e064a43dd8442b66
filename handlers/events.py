"""Mentions of the bot: the way to give commands inside a thread, where Slack has no slash commands."""

from typing import Any

from slack_bolt import App, BoltContext

from bot.runs.asking import Asker
from bot.runs.desk import Desk


def register(app: App, desk: Desk) -> None:
    """Listen to mentions."""

    @app.event("app_mention")
    def mention(event: dict[str, Any], body: dict[str, Any], context: BoltContext) -> None:
        if event.get("bot_id") or not event.get("user"):
            return
        desk.command(
            addressed(str(event.get("text") or ""), context.bot_user_id),
            Asker(
                user=event["user"],
                user_name=event["user"],
                channel=event["channel"],
                thread=event.get("thread_ts"),
                # the message, not the delivery: Slack may send one event under several ids
                key=f"mention-{event['channel']}-{event.get('ts') or body.get('event_id')}",
            ),
        )


def addressed(text: str, bot: str | None) -> str:
    """Return what follows the mention of the bot, `please @octocert rotate web-01`; all of it where nothing does."""
    _, mention, rest = text.partition(f"<@{bot}")
    after = rest.partition(">")[2]
    return after if mention and after.strip() else text
