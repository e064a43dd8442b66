"""What Slack takes and what it refuses, block by block: examples that must pass and many that must fail."""

from typing import Any

import pytest

from bot.sandbox.slack.validator import check_blocks, check_message, check_metadata, check_view

Json = dict[str, Any]


def mrkdwn(text: str) -> Json:
    """Return a mrkdwn text object."""
    return {"type": "mrkdwn", "text": text}


def plain(text: str) -> Json:
    """Return a plain text object."""
    return {"type": "plain_text", "text": text}


def button(**fields: Any) -> Json:
    """Return a button, with some fields changed."""
    return {"type": "button", "text": plain("Approve"), "action_id": "approve", "value": "run-1", **fields}


def actions(*elements: Json, **fields: Any) -> Json:
    """Return an actions block."""
    return {"type": "actions", "elements": list(elements), **fields}


def rich(*elements: Json) -> Json:
    """Return a rich text block of one section."""
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


def cell(text: str = "x") -> Json:
    """Return a table cell."""
    return {"type": "raw_text", "text": text}


def task(**fields: Any) -> Json:
    """Return a task card, with some fields changed."""
    return {"type": "task_card", "task_id": "stop", "title": "Stop the service", "status": "pending", **fields}


def option(value: str = "a") -> Json:
    """Return an option of a menu."""
    return {"text": plain(value), "value": value}


def modal(*blocks: Json, **fields: Any) -> Json:
    """Return a modal."""
    return {"type": "modal", "title": plain("Reason"), "submit": plain("Save"), "blocks": list(blocks), **fields}


CONFIRM = {"title": plain("Sure?"), "text": mrkdwn("It *stops*."), "confirm": plain("Yes"), "deny": plain("No")}
INPUT = {
    "type": "input",
    "block_id": "why",
    "label": plain("Reason"),
    "element": {"type": "plain_text_input", "action_id": "reason"},
}

GOOD: dict[str, list[Json]] = {
    "section of 3000 characters": [{"type": "section", "text": mrkdwn("x" * 3000)}],
    "section with fields": [{"type": "section", "fields": [mrkdwn("x" * 2000)] * 10}],
    "section with a button": [{"type": "section", "text": plain("x"), "accessory": button()}],
    "section with an overflow": [
        {
            "type": "section",
            "text": plain("x"),
            "accessory": {"type": "overflow", "action_id": "o", "options": [option()] * 5},
        }
    ],
    "header": [{"type": "header", "text": plain("x" * 150)}],
    "divider": [{"type": "divider"}],
    "context": [
        {
            "type": "context",
            "elements": [mrkdwn("a")] * 9 + [{"type": "image", "image_url": "https://a.b/c.png", "alt_text": "c"}],
        }
    ],
    "actions": [
        actions(
            button(style="danger", confirm={**CONFIRM, "style": "danger"}), button(action_id="deny", style="primary")
        )
    ],
    "static select": [
        actions({"type": "static_select", "action_id": "s", "placeholder": plain("Pick"), "options": [option()]})
    ],
    "link button": [
        actions(
            {"type": "button", "text": plain("Task"), "url": "https://octopus.example/tasks/1", "action_id": "open"}
        )
    ],
    "rich text": [
        rich(
            {"type": "text", "text": "a", "style": {"code": True}},
            {"type": "user", "user_id": "U1"},
            {"type": "emoji", "name": "x"},
        )
    ],
    "rich text list": [
        {
            "type": "rich_text",
            "elements": [
                {
                    "type": "rich_text_list",
                    "style": "bullet",
                    "elements": [{"type": "rich_text_section", "elements": []}],
                    "indent": 1,
                },
                {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "a"}]},
                {"type": "rich_text_quote", "elements": [{"type": "text", "text": "a"}]},
            ],
        }
    ],
    "table": [
        {
            "type": "table",
            "rows": [[cell(), {"type": "raw_number", "value": 3}], [rich({"type": "text", "text": "a"}), cell()]],
        }
    ],
    "table with settings": [
        {
            "type": "table",
            "rows": [[cell()] * 20] * 100,
            "column_settings": [None, {"align": "right", "is_wrapped": True}],
        }
    ],
    "plan": [
        {
            "type": "plan",
            "block_id": "run_42_v7",
            "title": "Rotate web-01",
            "tasks": [
                task(
                    status="complete",
                    details=rich({"type": "text", "text": "by Ada"}),
                    sources=[{"type": "url", "url": "https://a.b", "text": "log"}],
                ),
                task(task_id="import", status="in_progress", output=rich({"type": "text", "text": "ok"})),
            ],
        }
    ],
    "task card": [task(status="error")],
    "alert": [{"type": "alert", "text": mrkdwn("*Careful*"), "level": "warning"}],
    "markdown": [{"type": "markdown", "text": "**x**" * 2400}],
    "container": [
        {
            "type": "container",
            "title": plain("Log"),
            "child_blocks": [{"type": "divider"}],
            "is_collapsible": True,
            "width": "wide",
        }
    ],
    "image": [{"type": "image", "image_url": "https://a.b/c.png", "alt_text": "c", "title": plain("A picture")}],
    "fifty blocks": [{"type": "divider"}] * 50,
}

TOO_MANY_CELLS = {"type": "table", "rows": [[cell()] * 21]}
BAD: dict[str, tuple[list[Any], str]] = {
    "unknown block": ([{"type": "sektion"}], "unsupported type: sektion [json-pointer:/blocks/0/type]"),
    "no type": ([{"text": mrkdwn("a")}], "missing required field: type [json-pointer:/blocks/0]"),
    "block is a string": (["hello"], "must provide an object [json-pointer:/blocks/0]"),
    "51 blocks": ([{"type": "divider"}] * 51, "no more than 50 items allowed [json-pointer:/blocks]"),
    "long section": (
        [{"type": "section", "text": mrkdwn("x" * 3001)}],
        "must be less than 3001 characters [json-pointer:/blocks/0/text/text]",
    ),
    "empty section text": (
        [{"type": "section", "text": mrkdwn("")}],
        "must be more than 0 characters [json-pointer:/blocks/0/text/text]",
    ),
    "section of nothing": ([{"type": "section"}], "missing required field: text or fields [json-pointer:/blocks/0]"),
    "eleven fields": (
        [{"type": "section", "fields": [mrkdwn("x")] * 11}],
        "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
    ),
    "long field": ([{"type": "section", "fields": [mrkdwn("x" * 2001)]}], "/blocks/0/fields/0/text"),
    "emoji flag on mrkdwn": (
        [{"type": "section", "text": {**mrkdwn("a"), "emoji": True}}],
        "invalid additional property: emoji",
    ),
    "text as a bare string": (
        [{"type": "section", "text": "hello"}],
        "must provide an object [json-pointer:/blocks/0/text]",
    ),
    "input beside a section": (
        [{"type": "section", "text": mrkdwn("a"), "accessory": INPUT["element"]}],
        "unsupported type: plain_text_input",
    ),
    "mrkdwn header": ([{"type": "header", "text": mrkdwn("a")}], "[json-pointer:/blocks/0/text/type]"),
    "long header": ([{"type": "header", "text": plain("x" * 151)}], "must be less than 151 characters"),
    "divider with text": ([{"type": "divider", "text": plain("a")}], "invalid additional property: text"),
    "eleven in a context": ([{"type": "context", "elements": [mrkdwn("a")] * 11}], "no more than 10 items"),
    "empty context": ([{"type": "context", "elements": []}], "must contain at least 1 items"),
    "button in a context": ([{"type": "context", "elements": [button()]}], "unsupported type: button"),
    "26 actions": ([actions(*[button(action_id=f"a{n}") for n in range(26)])], "no more than 25 items"),
    "no action": ([actions()], "must contain at least 1 items"),
    "same action twice": ([actions(button(), button())], "action_id already exists: approve"),
    "same block id twice": (
        [{"type": "divider", "block_id": "a"}] * 2,
        "block_id already exists: a [json-pointer:/blocks/1/block_id]",
    ),
    "long block id": ([{"type": "divider", "block_id": "x" * 256}], "must be less than 256 characters"),
    "mrkdwn on a button": ([actions(button(text=mrkdwn("a")))], "/blocks/0/elements/0/text/type"),
    "long button": ([actions(button(text=plain("x" * 76)))], "must be less than 76 characters"),
    "data on a button": ([actions(button(value="x" * 2001))], "must be less than 2001 characters"),
    "button value is no string": (
        [actions(button(value=7))],
        "must provide a string [json-pointer:/blocks/0/elements/0/value]",
    ),
    "unknown style": ([actions(button(style="success"))], "must be a valid enum value"),
    "javascript link": ([actions(button(url="javascript:alert(1)"))], "must be a valid URL"),
    "unknown field on a button": ([actions(button(disabled=True))], "invalid additional property: disabled"),
    "confirm without a no": (
        [actions(button(confirm={k: v for k, v in CONFIRM.items() if k != "deny"}))],
        "missing required field: deny",
    ),
    "long confirm": (
        [actions(button(confirm={**CONFIRM, "text": mrkdwn("x" * 301)}))],
        "must be less than 301 characters",
    ),
    "long confirm button": (
        [actions(button(confirm={**CONFIRM, "confirm": plain("x" * 31)}))],
        "must be less than 31 characters",
    ),
    "mrkdwn confirm title": ([actions(button(confirm={**CONFIRM, "title": mrkdwn("a")}))], "confirm/title/type"),
    "select without options": (
        [actions({"type": "static_select", "action_id": "s"})],
        "must have exactly one of options, option_groups",
    ),
    "101 options": (
        [actions({"type": "static_select", "action_id": "s", "options": [option()] * 101})],
        "no more than 100 items",
    ),
    "six in an overflow": (
        [actions({"type": "overflow", "action_id": "o", "options": [option()] * 6})],
        "no more than 5 items",
    ),
    "wrong date": (
        [actions({"type": "datepicker", "action_id": "d", "initial_date": "5.1.2026"})],
        "a date as YYYY-MM-DD",
    ),
    "multi select in actions": (
        [actions({"type": "multi_users_select", "action_id": "u"})],
        "unsupported type: multi_users_select",
    ),
    "empty rich text": ([{"type": "rich_text", "elements": []}], "must contain at least 1 items"),
    "bare text in rich text": (
        [{"type": "rich_text", "elements": [{"type": "text", "text": "a"}]}],
        "unsupported type: text",
    ),
    "empty text in rich text": ([rich({"type": "text", "text": ""})], "must be more than 0 characters"),
    "unknown style in rich text": (
        [rich({"type": "text", "text": "a", "style": {"big": True}})],
        "invalid additional property: big",
    ),
    "emoji in preformatted": (
        [
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "emoji", "name": "x"}]}],
            }
        ],
        "unsupported type: emoji",
    ),
    "table without rows": (
        [{"type": "table", "rows": []}],
        "must contain at least 1 items [json-pointer:/blocks/0/rows]",
    ),
    "101 rows": ([{"type": "table", "rows": [[cell()]] * 101}], "no more than 100 items"),
    "21 cells": ([TOO_MANY_CELLS], "no more than 20 items allowed [json-pointer:/blocks/0/rows/0]"),
    "empty cell": (
        [{"type": "table", "rows": [[cell("")]]}],
        "must be more than 0 characters [json-pointer:/blocks/0/rows/0/0/text]",
    ),
    "mrkdwn cell": ([{"type": "table", "rows": [[mrkdwn("a")]]}], "unsupported type: mrkdwn"),
    "ragged rows": ([{"type": "table", "rows": [[cell()], [cell(), cell()]]}], "same number of cells"),
    "two tables": ([{"type": "table", "rows": [[cell()]]}] * 2, "only_one_table_allowed"),
    "bad alignment": (
        [{"type": "table", "rows": [[cell()]], "column_settings": [{"align": "middle"}]}],
        "must be a valid enum value",
    ),
    "plan without a title": ([{"type": "plan", "tasks": [task()]}], "missing required field: title"),
    "plan title as an object": ([{"type": "plan", "title": plain("a"), "tasks": [task()]}], "must provide a string"),
    "button in a plan": (
        [{"type": "plan", "title": "a", "tasks": [button()]}],
        "must be a valid enum value, one of task_card",
    ),
    "same task twice": ([{"type": "plan", "title": "a", "tasks": [task(), task()]}], "task_id already exists: stop"),
    "skipped task": (
        [task(status="skipped")],
        "must be a valid enum value, one of pending, in_progress, complete, error",
    ),
    "task without status": ([{k: v for k, v in task().items() if k != "status"}], "missing required field: status"),
    "details as text": ([task(details="approved by Ada")], "must provide one rich_text object"),
    "output as a list": ([task(output=[rich({"type": "text", "text": "a"})])], "must provide one rich_text object"),
    "alert level": ([{"type": "alert", "text": mrkdwn("a"), "level": "critical"}], "must be a valid enum value"),
    "alert style": ([{"type": "alert", "text": mrkdwn("a"), "style": "warning"}], "invalid additional property: style"),
    "long alert": ([{"type": "alert", "text": mrkdwn("x" * 201)}], "must be less than 201 characters"),
    "long markdown": ([{"type": "markdown", "text": "x" * 12001}], "must be less than 12001 characters"),
    "much markdown": (
        [{"type": "markdown", "text": "x" * 7000}] * 2,
        "markdown blocks must be less than 12001 characters together",
    ),
    "container in a container": (
        [
            {
                "type": "container",
                "title": plain("a"),
                "child_blocks": [{"type": "container", "title": plain("a"), "child_blocks": []}],
            }
        ],
        "unsupported type: container",
    ),
    "image without a text": ([{"type": "image", "image_url": "https://a.b/c.png"}], "missing required field: alt_text"),
    "image with two sources": (
        [{"type": "image", "image_url": "https://a.b/c", "slack_file": {}, "alt_text": "a"}],
        "exactly one of image_url",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_slack_takes(name: str) -> None:
    """A payload within the rules has no errors."""
    assert check_blocks(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_slack_refuses(name: str) -> None:
    """A payload that breaks a rule has an error that names the rule and the place."""
    blocks, wanted = BAD[name]
    errors = check_blocks(blocks)
    assert any(wanted in error for error in errors), errors


def test_blocks_must_be_an_array() -> None:
    """Blocks that are no array are one error."""
    assert check_blocks({"type": "divider"}) == ["must be an array [json-pointer:/blocks]"]


def test_a_message_wants_a_text_beside_its_blocks() -> None:
    """A message of blocks alone has nothing for notifications and screen readers."""
    assert check_message({"text": "Rotate web-01", "blocks": [{"type": "divider"}]}) == []
    assert "missing text beside blocks" in check_message({"blocks": [{"type": "divider"}]})[0]


def test_a_long_text_is_reported() -> None:
    """More than the recommended 4000 characters is an error, up to there is none."""
    assert check_message({"text": "x" * 4000}) == []
    assert check_message({"text": "x" * 4001}) == ["must be less than 4001 characters [json-pointer:/text]"]


def test_metadata_has_a_name_and_an_object() -> None:
    """Message metadata needs event_type and an object as event_payload, and is not for large things."""
    assert check_metadata({"event_type": "octocert", "event_payload": {"key": "run-1"}}) == []
    assert check_metadata({"event_type": "octocert"}) == [
        "missing required field: event_payload [json-pointer:/metadata]"
    ]
    assert check_metadata({"event_type": "octocert", "event_payload": "run-1"}) == [
        "must provide an object [json-pointer:/metadata/event_payload]"
    ]
    assert check_metadata({"event_type": "octocert", "event_payload": {"log": "x" * 20_000}})


def test_a_modal_with_a_field_passes() -> None:
    """A modal with an input and a submit button is valid."""
    assert check_view(modal(INPUT, private_metadata="x" * 3000, callback_id="reason")) == []


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (modal(title=plain("x" * 25)), "must be less than 25 characters [json-pointer:/view/title/text]"),
        (modal(title=mrkdwn("a")), "/view/title/type"),
        (modal(submit=plain("x" * 25)), "/view/submit/text"),
        (modal(private_metadata="x" * 3001), "must be less than 3001 characters [json-pointer:/view/private_metadata]"),
        (modal(*[{"type": "divider"}] * 101), "no more than 100 items allowed [json-pointer:/view/blocks]"),
        ({k: v for k, v in modal(INPUT).items() if k != "submit"}, "missing required field: submit"),
        ({k: v for k, v in modal().items() if k != "title"}, "missing required field: title"),
        (modal({"type": "plan", "title": "a", "tasks": [task()]}), "unsupported type: plan"),
        (modal({"type": "table", "rows": [[cell()]]}), "unsupported type: table"),
        (modal({**INPUT, "label": mrkdwn("a")}), "/view/blocks/0/label/type"),
        (modal({**INPUT, "element": button()}), "unsupported type: button"),
        ({"type": "home", "blocks": [], "title": plain("a")}, "invalid additional property: title"),
        ({"type": "dialog", "blocks": []}, "unsupported type: dialog"),
        ("view", "must provide an object"),
    ],
)
def test_a_view_is_refused(view: Any, wanted: str) -> None:
    """A view that breaks a rule has an error that names it."""
    assert any(wanted in error for error in check_view(view)), check_view(view)
