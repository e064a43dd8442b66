"""From Slack's payload of a button or a modal to a click, whatever is missing in it."""

from datetime import UTC, datetime
from typing import Any

from bot.runs.asking import Asker, Click


def click_of(
    body: dict[str, Any], action: str, value: str, *, key: str, channel: str, thread: str | None, reason: str = ""
) -> Click:
    """Return a click; `value` is the run's id and a nonce, `key` tells this press from every other."""
    user = _table(body.get("user"))
    run_id, _, nonce = value.partition(":")
    identity = str(user.get("id") or "")
    return Click(
        asker=Asker(
            user=identity,
            user_name=str(user.get("username") or user.get("name") or identity),
            channel=channel,
            thread=thread,
            key=f"click-{identity}-{action}-{key}",
        ),
        run_id=run_id,
        nonce=nonce,
        action=action,
        message_ts=str(_table(body.get("container")).get("message_ts") or ""),
        at=datetime.now(UTC),
        reason=reason,
    )


def place_of(body: dict[str, Any]) -> tuple[str, str | None]:
    """Return channel and thread in which a button was pressed; a root message with replies is not in its thread."""
    message, container = _table(body.get("message")), _table(body.get("container"))
    channel = _table(body.get("channel")).get("id") or container.get("channel_id") or ""
    thread = message.get("thread_ts")
    return str(channel), str(thread) if thread and thread != message.get("ts") else None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
