"""Modals, as pure functions."""

import json
from typing import Any

from bot.slack.blocks import Json, plain

DENY = "octocert_deny_with_reason"
"""Callback id of the modal."""
LONGEST_REASON = 500


def deny(run_id: str, nonce: str, channel: str, thread: str | None) -> Json:
    """Return the modal that asks why something is denied; what it is about goes with it and comes back."""
    about = {"run": run_id, "nonce": nonce, "channel": channel, "thread": thread}
    return {
        "type": "modal",
        "callback_id": DENY,
        "private_metadata": json.dumps(about),
        "title": plain("Deny", 24),
        "submit": plain("Deny", 24),
        "close": plain("Go back", 24),
        "blocks": [
            {
                "type": "input",
                "block_id": "reason",
                "optional": True,
                "label": plain("Why?", 2_000),
                "hint": plain("Nothing is changed by it. Everybody in the thread sees the reason.", 150),
                "element": {
                    "type": "plain_text_input",
                    "action_id": "reason",
                    "multiline": True,
                    "max_length": LONGEST_REASON,
                },
            }
        ],
    }


def denied(view: Any) -> tuple[dict[str, str], str]:
    """Return what a submitted modal was about, and the reason; empty where it is none of ours."""
    if not isinstance(view, dict):
        return {}, ""
    try:
        about = json.loads(str(view.get("private_metadata") or "{}"))
        values = view["state"]["values"]
        reason = values["reason"]["reason"]["value"]
    except (ValueError, KeyError, TypeError):
        return {}, ""
    if not isinstance(about, dict):
        return {}, ""
    return {k: v for k, v in about.items() if isinstance(v, str)}, str(reason or "")[:LONGEST_REASON]
