"""The slash command."""

from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot.runs.asking import Asker
from bot.runs.desk import Desk
from bot.runs.front import Front
from handlers.modals import opened


def register(app: App, desk: Desk, front: Front, *, command: str) -> None:
    """Listen to the slash command."""

    @app.command(command)
    def slash_command(ack: Ack, body: dict[str, Any], client: WebClient) -> None:
        ack()
        if not str(body.get("text") or "").strip() and opened(client, body, front.form(str(body["channel_id"]))):
            return  # typed alone it asks what to rotate; where that cannot be, it helps
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
