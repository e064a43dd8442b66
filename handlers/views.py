"""Modals that were submitted."""

from typing import Any

from slack_bolt import Ack, App

from bot.runs.desk import Desk
from bot.slack import views
from handlers.clicks import click_of


def register(app: App, desk: Desk) -> None:
    """Listen to the modal that asks why something is denied."""

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
