"""The Home tab."""

from typing import Any

from slack_bolt import App

from bot.runs.front import Front


def register(app: App, front: Front) -> None:
    """Listen to whoever opens it."""

    @app.event("app_home_opened")
    def opened(event: dict[str, Any]) -> None:
        if event.get("tab") == "home" and event.get("user"):
            front.opened(str(event["user"]))
