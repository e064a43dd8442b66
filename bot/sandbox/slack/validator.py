"""Checks every payload of the bot against Slack's documented limits and field rules.

Shapes of single blocks stand in `block_rules` and `element_rules`; here is what concerns a message or a view as a
whole. Each function returns the errors as Slack words them, without its "[ERROR] " in front; an empty list means valid.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from bot.sandbox.slack.block_rules import SURFACES
from bot.sandbox.slack.element_rules import ID, plain_text
from bot.sandbox.slack.model import Json, texts
from bot.sandbox.slack.rules import Shape, Variant, anything, array, boolean, error, string, typed

MESSAGE_BLOCKS = 50
VIEW_BLOCKS = 100
RECOMMENDED_TEXT = 4000  # what Slack recommends for a message, and the hard limit of chat.update
GREATEST_TEXT = 40_000
MARKDOWN_TOTAL = 12_000  # of all markdown blocks of one message together
BLOCKS_TOTAL = 13_200  # characters of all blocks; slackapi/bolt-js#2509 measured msg_blocks_too_long from about there
METADATA_BYTES = 16_000  # of event_payload as JSON
VIEW_BYTES = 250_000

METADATA = Shape({"event_type": string(255), "event_payload": anything}, {"entities": anything})
_VIEW = {
    "blocks": anything,
}
_VIEW_OPTIONS = {
    "callback_id": ID,
    "private_metadata": string(3000, 0),
    "external_id": string(255, 0),
    "clear_on_close": boolean,
    "notify_on_close": boolean,
}
VIEW = Variant(
    {
        "modal": typed(
            "modal",
            {**_VIEW, "title": plain_text(24)},
            {**_VIEW_OPTIONS, "submit": plain_text(24), "close": plain_text(24), "submit_disabled": boolean},
        ),
        "home": typed("home", _VIEW, _VIEW_OPTIONS),
    }
)


def check_blocks(
    blocks: Any, *, surface: str = "message", pointer: str = "/blocks", limit: int | None = None
) -> list[str]:
    """Check the blocks of one surface: "message", "modal" or "home"."""
    most = limit or (MESSAGE_BLOCKS if surface == "message" else VIEW_BLOCKS)
    errors = list(array(SURFACES[surface], most)(blocks, pointer))
    if isinstance(blocks, list | tuple):
        known = [block if isinstance(block, dict) else {} for block in blocks]
        errors += _unique_ids(known, pointer)
        errors += _totals(known, pointer)
    return errors


def _unique_ids(blocks: Sequence[Json], pointer: str) -> Iterator[str]:
    """Check that no block_id stands twice, and no action_id twice within one block."""
    seen: set[str] = set()
    for index, block in enumerate(blocks):
        block_id = block.get("block_id")
        if isinstance(block_id, str) and block_id in seen:
            yield error(f"block_id already exists: {block_id}", f"{pointer}/{index}/block_id")
        elif isinstance(block_id, str):
            seen.add(block_id)
        actions: set[str] = set()
        elements = block.get("elements") if block.get("type") == "actions" else None
        for place, element in enumerate(elements if isinstance(elements, list | tuple) else ()):
            action_id = element.get("action_id") if isinstance(element, dict) else None
            if isinstance(action_id, str) and action_id in actions:
                yield error(f"action_id already exists: {action_id}", f"{pointer}/{index}/elements/{place}/action_id")
            elif isinstance(action_id, str):
                actions.add(action_id)


def _totals(blocks: Sequence[Json], pointer: str) -> Iterator[str]:
    """Check what is limited per message: one table, and the text of all markdown blocks."""
    tables = [index for index, block in enumerate(blocks) if block.get("type") == "table"]
    if len(tables) > 1:
        yield error("only_one_table_allowed", f"{pointer}/{tables[1]}")
    markdown = sum(
        len(block["text"]) for block in blocks if block.get("type") == "markdown" and isinstance(block.get("text"), str)
    )
    if markdown > MARKDOWN_TOTAL:
        yield error(f"markdown blocks must be less than {MARKDOWN_TOTAL + 1} characters together", pointer)


def blocks_length(blocks: Sequence[Json]) -> int:
    """Return the characters of all blocks together, as far as they count towards `msg_blocks_too_long`."""
    return sum(len(piece) for block in blocks for piece in texts(block))


def check_message(payload: Json) -> list[str]:
    """Check a message's text, blocks, attachments and metadata, whichever are there."""
    errors: list[str] = []
    text = payload.get("text")
    if text is not None and not isinstance(text, str):
        errors.append(error("must provide a string", "/text"))
    elif isinstance(text, str) and len(text) > RECOMMENDED_TEXT:
        errors.append(error(f"must be less than {RECOMMENDED_TEXT + 1} characters", "/text"))
    if payload.get("blocks") is not None:
        errors += check_blocks(payload["blocks"])
        if payload["blocks"] and not text:
            errors.append(
                error("missing text beside blocks: notifications and screen readers have nothing to show", "/text")
            )
    for index, attachment in enumerate(payload.get("attachments") or ()):
        if isinstance(attachment, dict) and attachment.get("blocks") is not None:
            errors += check_blocks(attachment["blocks"], pointer=f"/attachments/{index}/blocks")
    if payload.get("metadata") is not None:
        errors += check_metadata(payload["metadata"])
    return errors


def check_metadata(metadata: Any) -> list[str]:
    """Check a message's metadata: its names, and that its payload is a flat-enough object that is not too large."""
    errors = list(METADATA(metadata, "/metadata"))
    payload = metadata.get("event_payload") if isinstance(metadata, dict) else None
    if not errors and not isinstance(payload, dict):
        errors.append(error("must provide an object", "/metadata/event_payload"))
    elif not errors and len(json.dumps(payload)) > METADATA_BYTES:
        errors.append(error(f"must be less than {METADATA_BYTES + 1} bytes", "/metadata/event_payload"))
    return errors


def check_view(view: Any) -> list[str]:
    """Check a modal or a Home tab."""
    errors = list(VIEW(view, "/view"))
    if not isinstance(view, dict):
        return errors
    surface = view.get("type") if view.get("type") in SURFACES else "modal"
    blocks = view.get("blocks")
    if blocks is not None:
        errors += check_blocks(blocks, surface=str(surface), pointer="/view/blocks")
        has_input = any(
            isinstance(block, dict) and block.get("type") == "input"
            for block in blocks
            if isinstance(blocks, list | tuple)
        )
        if view.get("type") == "modal" and has_input and "submit" not in view:
            errors.append(error("missing required field: submit (a view with input blocks needs it)", "/view"))
    if len(json.dumps(view)) > VIEW_BYTES:
        errors.append(error("view is too large", "/view"))
    return errors
