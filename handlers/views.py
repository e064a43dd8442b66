"""Modals that were submitted."""

from typing import Any

from slack_bolt import Ack, App

from bot.runs.asking import Asker
from bot.runs.desk import Desk
from bot.slack import rotate_view, views
from handlers.clicks import click_of


def register(app: App, desk: Desk) -> None:
    """Listen to the modals that ask why something is denied, and what is to be rotated."""

    @app.view(views.DENY)
    def submitted(ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        ack()
        about, reason = views.denied(view)
        desk.click(
            click_of(
                body,
                "deny",
                f"{about.get('run', '')}:{about.get('nonce', '')}",
                key=str(view.get("id") or ""),
                channel=about.get("channel", ""),
                thread=about.get("thread"),
                reason=reason,
            )
        )

    @app.view(rotate_view.ROTATE)
    def asked(ack: Ack, body: dict[str, Any], view: dict[str, Any]) -> None:
        found = rotate_view.read(view)
        if isinstance(found, dict):
            ack(response_action="errors", errors=found)
            return
        ack()
        user = body["user"]
        identity = str(user["id"])
        asker = Asker(
            user=identity,
            user_name=str(user.get("username") or user.get("name") or identity),
            channel=found.channel,
            thread=None,
            key=f"rotate-{identity}-{view.get('id')}",
        )
        desk.ask(found, asker)
