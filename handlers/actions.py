"""The buttons. Their values are a run's id and its nonce; everything else is looked up."""

import re
from datetime import UTC, datetime
from typing import Any

from slack_bolt import Ack, App

from bot.runs.asking import Asker, Click
from bot.runs.desk import Desk

OURS = re.compile(r"^octocert_(approve|deny|cancel|pause|resume|retry|roll_back)$")


def register(app: App, desk: Desk) -> None:
    """Listen to our buttons."""

    @app.action(OURS)
    def button(ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        ack()
        user, container = body["user"], body.get("container") or {}
        message = body.get("message") or {}
        thread = message.get("thread_ts")
        run_id, _, nonce = str(action.get("value") or "").partition(":")
        desk.click(
            Click(
                asker=Asker(
                    user=user["id"],
                    user_name=str(user.get("username") or user.get("name") or user["id"]),
                    channel=str((body.get("channel") or {}).get("id") or container.get("channel_id") or ""),
                    # a root message with replies names itself: who pressed there is not in the thread
                    thread=thread if thread != message.get("ts") else None,
                    key=f"click-{user['id']}-{action['action_id']}-{action.get('action_ts') or body.get('trigger_id')}",
                ),
                run_id=run_id,
                nonce=nonce,
                action=action["action_id"].removeprefix("octocert_"),
                message_ts=str(container.get("message_ts") or ""),
                at=datetime.now(UTC),
            )
        )

    @app.action(re.compile(r".*"))
    def link(ack: Ack) -> None:
        """Acknowledge buttons that only open a page."""
        ack()
