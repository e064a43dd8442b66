"""The buttons. Their values are a run's id and its nonce; everything else is looked up."""

import re
from typing import Any

from slack_bolt import Ack, App
from slack_sdk import WebClient

from bot.runs.desk import Desk
from bot.runs.front import Front
from bot.slack import views
from handlers.clicks import click_of, place_of
from handlers.modals import opened

OURS = re.compile(r"^octocert_(approve|deny|cancel|pause|resume|retry|roll_back|machines|plan_rotation)$")


def register(app: App, desk: Desk, front: Front) -> None:
    """Listen to our buttons."""

    @app.action(OURS)
    def button(ack: Ack, body: dict[str, Any], action: dict[str, Any], client: WebClient) -> None:
        ack()
        channel, thread = place_of(body)
        what, value = str(action["action_id"]).removeprefix("octocert_"), str(action.get("value") or "")
        if what == "deny" and _asked_why(client, body, value, channel, thread):
            return
        key = str(action.get("action_ts") or body.get("trigger_id") or "")
        desk.click(click_of(body, what, value, key=key, channel=channel, thread=thread))

    @app.action("octocert_open_rotate")
    def rotate(ack: Ack, body: dict[str, Any], action: dict[str, Any], client: WebClient) -> None:
        ack()
        opened(client, body, front.form(found=str(action.get("value") or "")))

    @app.action(re.compile(r".*"))
    def link(ack: Ack) -> None:
        """Acknowledge buttons that only open a page."""
        ack()


def _asked_why(client: WebClient, body: dict[str, Any], value: str, channel: str, thread: str | None) -> bool:
    """Open the modal that asks for a reason; where Slack cannot, the press itself denies, which is the safe side."""
    run_id, _, nonce = value.partition(":")
    return opened(client, body, views.deny(run_id, nonce, channel, thread))
