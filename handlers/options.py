"""The picker of targets: Slack asks for its options while somebody types."""

from typing import Any

from slack_bolt import Ack, App

from bot.runs.front import Front
from bot.slack import rotate_view


def register(app: App, front: Front) -> None:
    """Listen to what is typed into the picker."""

    @app.options(rotate_view.TARGETS)
    def suggested(ack: Ack, payload: dict[str, Any]) -> None:
        ack(options=front.choices(str(payload.get("value") or "")))
