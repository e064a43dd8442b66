"""The slash command."""

from typing import Any

from slack_bolt import Ack, App

from bot.runs.asking import Asker
from bot.runs.desk import Desk


def register(app: App, desk: Desk, *, command: str) -> None:
    """Listen to the slash command."""

    @app.command(command)
    def slash_command(ack: Ack, body: dict[str, Any]) -> None:
        ack()
        desk.command(
            str(body.get("text") or ""),
            Asker(
                user=body["user_id"],
                user_name=str(body.get("user_name") or body["user_id"]),
                channel=body["channel_id"],
                thread=None,
                key=f"command-{body['trigger_id']}",
            ),
        )
