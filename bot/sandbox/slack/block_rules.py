"""Rules of Block Kit's blocks, and on which surface (message, modal, home) each may stand.

Sources: docs.slack.dev/reference/block-kit/blocks and the validators of slack-sdk 3.47. UNVERIFIED on a real
workspace: the newer blocks (`alert`, `card`, `container`, `plan`, `task_card`, `table`). Where sources differ the
narrower limit is taken: `alert`'s 200 characters and `plan`'s 50 tasks stand in the table of limits of the library
slackblocks (which lets `alert` stand in modals only), not on Slack's pages.
"""

from collections.abc import Iterator
from typing import Any

from bot.sandbox.slack.element_rules import (
    ACCESSORY,
    BUTTON,
    FEEDBACK_BUTTONS,
    ICON_BUTTON,
    ID,
    IMAGE,
    IN_ACTIONS,
    IN_INPUT,
    OVERFLOW,
    RICH_TEXT,
    TEXT_OR_FIELDS,
    mrkdwn,
    plain_text,
    text,
)
from bot.sandbox.slack.rules import (
    Check,
    Shape,
    Variant,
    any_of,
    anything,
    array,
    boolean,
    error,
    exactly_one,
    nullable,
    number,
    one_of,
    string,
    typed,
    url,
)

COMMON: dict[str, Check] = {"block_id": ID}

SECTION = typed(
    "section",
    {},
    {**COMMON, "text": text(3000), "fields": array(text(2000), 10, 1), "accessory": ACCESSORY, "expand": boolean},
    TEXT_OR_FIELDS,
)
HEADER = typed("header", {"text": plain_text(150)}, COMMON)
DIVIDER = typed("divider", {}, COMMON)
CONTEXT = typed(
    "context",
    {"elements": array(Variant({"image": IMAGE, "plain_text": plain_text(), "mrkdwn": mrkdwn()}), 10, 1)},
    COMMON,
)
ACTIONS = typed("actions", {"elements": array(IN_ACTIONS, 25, 1)}, COMMON)
CONTEXT_ACTIONS = typed(
    "context_actions",
    {"elements": array(Variant({"icon_button": ICON_BUTTON, "feedback_buttons": FEEDBACK_BUTTONS}), 5, 1)},
    COMMON,
)
IMAGE_BLOCK = typed(
    "image",
    {"alt_text": string(2000)},
    {**COMMON, "image_url": url(), "slack_file": anything, "title": plain_text(2000)},
    exactly_one("image_url", "slack_file"),
)
INPUT = typed(
    "input",
    {"label": plain_text(2000), "element": IN_INPUT},
    {**COMMON, "hint": plain_text(2000), "optional": boolean, "dispatch_action": boolean},
)
MARKDOWN = typed("markdown", {"text": string(12000)}, COMMON)

COLUMN = Shape({}, {"align": one_of("left", "center", "right"), "is_wrapped": boolean})
CELL = Variant(
    {
        "raw_text": typed("raw_text", {"text": string()}),
        "raw_number": typed("raw_number", {"value": number}, {"text": string()}),
        "rich_text": RICH_TEXT,
    }
)


def _even_rows(value: Any, pointer: str) -> Iterator[str]:
    """Check that a table's rows are equally wide, which Slack's page shows and our page draws."""
    rows = value.get("rows")
    if isinstance(rows, list | tuple):
        widths = {len(row) for row in rows if isinstance(row, list | tuple)}
        if len(widths) > 1:
            yield error("all rows must have the same number of cells", f"{pointer}/rows")


TABLE = typed(
    "table",
    {"rows": array(array(CELL, 20, 1), 100, 1)},
    {
        **COMMON,
        "column_settings": array(nullable(COLUMN), 20),
    },
    _even_rows,
)
SOURCE = typed("url", {"url": url(), "text": string()})
STATUS = one_of("pending", "in_progress", "complete", "error")


def _one_part(value: Any, pointer: str) -> Iterator[str]:
    """Check a task's details or output: one rich_text block, not a list and not a string."""
    if not isinstance(value, dict):
        yield error("must provide one rich_text object", pointer)
    else:
        yield from RICH_TEXT(value, pointer)


TASK_CARD = typed(
    "task_card",
    {"task_id": string(255), "title": string(3000), "status": STATUS},
    {**COMMON, "details": _one_part, "output": _one_part, "sources": array(SOURCE)},
)


def _own_tasks(value: Any, pointer: str) -> Iterator[str]:
    """Check that no two tasks of a plan share an id."""
    tasks = value.get("tasks")
    seen: set[str] = set()
    for index, task in enumerate(tasks if isinstance(tasks, list | tuple) else ()):
        task_id = task.get("task_id") if isinstance(task, dict) else None
        if isinstance(task_id, str) and task_id in seen:
            yield error(f"task_id already exists: {task_id}", f"{pointer}/tasks/{index}/task_id")
        elif isinstance(task_id, str):
            seen.add(task_id)


PLAN = typed("plan", {"title": string(3000)}, {**COMMON, "tasks": array(TASK_CARD, 50, 1)}, _own_tasks)
ALERT = typed(
    "alert", {"text": text(200)}, {**COMMON, "level": one_of("default", "info", "warning", "error", "success")}
)
CARD = typed(
    "card",
    {},
    {
        **COMMON,
        "icon": IMAGE,
        "hero_image": IMAGE,
        "title": text(150),
        "subtitle": text(150),
        "subtext": text(200),
        "body": text(200),
        "actions": array(BUTTON, 3, 1),
    },
    any_of("hero_image", "title", "actions", "body"),
)
CAROUSEL = typed("carousel", {"elements": array(CARD, 10, 1)}, COMMON)

SIMPLE: dict[str, Check] = {
    "section": SECTION,
    "header": HEADER,
    "divider": DIVIDER,
    "context": CONTEXT,
    "actions": ACTIONS,
    "image": IMAGE_BLOCK,
    "rich_text": RICH_TEXT,
}


def _no_divider_when_collapsible(value: Any, pointer: str) -> Iterator[str]:
    """Check that a container has no header divider when it can be collapsed."""
    if value.get("is_collapsible") and value.get("has_header_divider"):
        yield error("has_header_divider cannot be set when is_collapsible is true", pointer)


CONTAINER = typed(
    "container",
    {"child_blocks": array(Variant({**SIMPLE, "markdown": MARKDOWN, "table": TABLE}), 10, 1)},
    {
        **COMMON,
        "title": plain_text(150),
        "rich_text_title": RICH_TEXT,
        "subtitle": plain_text(150),
        "icon": IMAGE,
        "accessory": OVERFLOW,
        "is_collapsible": boolean,
        "default_collapsed": boolean,
        "has_header_divider": boolean,
        "width": one_of("narrow", "standard", "wide", "full"),
    },
    any_of("title", "rich_text_title"),
    _no_divider_when_collapsible,
)

MESSAGE = Variant(
    {
        **SIMPLE,
        "input": INPUT,
        "markdown": MARKDOWN,
        "table": TABLE,
        "plan": PLAN,
        "task_card": TASK_CARD,
        "alert": ALERT,
        "card": CARD,
        "carousel": CAROUSEL,
        "container": CONTAINER,
        "context_actions": CONTEXT_ACTIONS,
    }
)
MODAL = Variant({**SIMPLE, "input": INPUT, "alert": ALERT, "card": CARD})
HOME = Variant({**SIMPLE, "input": INPUT, "table": TABLE, "card": CARD, "carousel": CAROUSEL, "container": CONTAINER})
SURFACES: dict[str, Variant] = {"message": MESSAGE, "modal": MODAL, "home": HOME}
