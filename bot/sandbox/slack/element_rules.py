"""Rules of Block Kit's composition objects, interactive elements and rich text.

Sources: docs.slack.dev/reference/block-kit and the validators of slack-sdk 3.47. Limits count characters.
"""

import re
from collections.abc import Iterator
from typing import Any

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
    integer,
    one_of,
    pattern,
    string,
    typed,
    url,
)

ID = string(255)
DATE = pattern(lambda value: re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is not None, "a date as YYYY-MM-DD")
TIME = pattern(lambda value: re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value) is not None, "a time as HH:mm")


def plain_text(maximum: int = 3000, minimum: int = 1) -> Check:
    """Return a check for a `plain_text` object."""
    return typed("plain_text", {"text": string(maximum, minimum)}, {"emoji": boolean})


def mrkdwn(maximum: int = 3000) -> Check:
    """Return a check for a `mrkdwn` object; `emoji` belongs to plain text only."""
    return typed("mrkdwn", {"text": string(maximum)}, {"verbatim": boolean})


def text(maximum: int = 3000) -> Check:
    """Return a check for a text object of either kind."""
    return Variant({"plain_text": plain_text(maximum), "mrkdwn": mrkdwn(maximum)})


CONFIRM = Shape(
    {"title": plain_text(100), "text": text(300), "confirm": plain_text(30), "deny": plain_text(30)},
    {"style": one_of("primary", "danger")},
)
OPTION = Shape({"text": text(75), "value": string(150)}, {"description": text(75), "url": url()})
PLAIN_OPTION = Shape({"text": plain_text(75), "value": string(150)}, {"description": plain_text(75), "url": url()})
OPTION_GROUP = Shape({"label": plain_text(75), "options": array(PLAIN_OPTION, 100, 1)})
PLACEHOLDER = plain_text(150)
FOCUS = {"focus_on_load": boolean}
DISPATCH = Shape({"trigger_actions_on": array(one_of("on_enter_pressed", "on_character_entered"), 2, 1)})

IMAGE = typed(
    "image",
    {"alt_text": string(2000)},
    {"image_url": url(), "slack_file": anything},
    exactly_one("image_url", "slack_file"),
)

BUTTON = typed(
    "button",
    {"text": plain_text(75)},
    {
        "action_id": ID,
        "url": url(),
        "value": string(2000),
        "style": one_of("primary", "danger"),
        "confirm": CONFIRM,
        "accessibility_label": string(75),
    },
)


def _select(kind: str, extra: dict[str, Check], *together: Check, single: bool) -> Shape:
    """Return the shape of a select menu of one kind, single or multiple."""
    name = f"{kind}_select" if single else f"multi_{kind}_select"
    optional: dict[str, Check] = {"action_id": ID, "placeholder": PLACEHOLDER, "confirm": CONFIRM, **FOCUS, **extra}
    if not single:
        optional["max_selected_items"] = integer(1, 100)
    return typed(name, {}, optional, *together)


def _selects() -> Iterator[tuple[str, Shape]]:
    """Yield all select menus by their type."""
    choices: dict[str, Check] = {"options": array(PLAIN_OPTION, 100, 1), "option_groups": array(OPTION_GROUP, 100, 1)}
    for single in (True, False):
        initial: dict[str, Check] = (
            {"initial_option": PLAIN_OPTION} if single else {"initial_options": array(PLAIN_OPTION, 100, 1)}
        )
        prefix = "" if single else "multi_"
        yield (
            f"{prefix}static_select",
            _select("static", {**choices, **initial}, exactly_one("options", "option_groups"), single=single),
        )
        yield (
            f"{prefix}external_select",
            _select("external", {"min_query_length": integer(0, 3000), **initial}, single=single),
        )
        users: dict[str, Check] = {"initial_user": string()} if single else {"initial_users": array(string())}
        yield f"{prefix}users_select", _select("users", users, single=single)
        found: dict[str, Check] = (
            {"initial_conversation": string()} if single else {"initial_conversations": array(string())}
        )
        found |= {"default_to_current_conversation": boolean, "filter": anything}
        found |= {"response_url_enabled": boolean} if single else {}
        yield f"{prefix}conversations_select", _select("conversations", found, single=single)
        channels: dict[str, Check] = {"initial_channel": string()} if single else {"initial_channels": array(string())}
        channels |= {"response_url_enabled": boolean} if single else {}
        yield f"{prefix}channels_select", _select("channels", channels, single=single)


SELECTS: dict[str, Check] = dict(_selects())
CHECKBOXES = typed(
    "checkboxes",
    {"options": array(OPTION, 10, 1)},
    {"action_id": ID, "initial_options": array(OPTION, 10, 1), "confirm": CONFIRM, **FOCUS},
)
RADIO_BUTTONS = typed(
    "radio_buttons",
    {"options": array(OPTION, 10, 1)},
    {"action_id": ID, "initial_option": OPTION, "confirm": CONFIRM, **FOCUS},
)
OVERFLOW = typed("overflow", {"options": array(PLAIN_OPTION, 5, 1)}, {"action_id": ID, "confirm": CONFIRM})
PICKERS: dict[str, Check] = {
    "datepicker": typed(
        "datepicker",
        {},
        {"action_id": ID, "initial_date": DATE, "placeholder": PLACEHOLDER, "confirm": CONFIRM, **FOCUS},
    ),
    "timepicker": typed(
        "timepicker",
        {},
        {
            "action_id": ID,
            "initial_time": TIME,
            "placeholder": PLACEHOLDER,
            "confirm": CONFIRM,
            "timezone": string(),
            **FOCUS,
        },
    ),
    "datetimepicker": typed(
        "datetimepicker",
        {},
        {"action_id": ID, "initial_date_time": integer(10**9, 10**10 - 1), "confirm": CONFIRM, **FOCUS},
    ),
}


def _plain_text_lengths(value: Any, pointer: str) -> Iterator[str]:
    """Check that the least length of an input is not above its greatest."""
    low, high = value.get("min_length"), value.get("max_length")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        yield error("min_length must not be greater than max_length", pointer)


TYPED: dict[str, Check] = {"action_id": ID, "placeholder": PLACEHOLDER, "dispatch_action_config": DISPATCH, **FOCUS}
INPUTS: dict[str, Check] = {
    "plain_text_input": typed(
        "plain_text_input",
        {},
        {
            **TYPED,
            "initial_value": string(3000, 0),
            "multiline": boolean,
            "min_length": integer(0, 3000),
            "max_length": integer(1, 3000),
        },
        _plain_text_lengths,
    ),
    "email_text_input": typed("email_text_input", {}, {**TYPED, "initial_value": string()}),
    "url_text_input": typed("url_text_input", {}, {**TYPED, "initial_value": url()}),
    "number_input": typed(
        "number_input",
        {"is_decimal_allowed": boolean},
        {**TYPED, "initial_value": string(), "min_value": string(), "max_value": string()},
    ),
}

ICON_BUTTON = typed(
    "icon_button",
    {"icon": string(), "text": plain_text(75)},
    {
        "action_id": ID,
        "value": string(2000),
        "confirm": CONFIRM,
        "accessibility_label": string(75),
        "visible_to_user_ids": array(string(), 10),
    },
)
FEEDBACK = Shape({"text": plain_text(75), "value": string(2000)}, {"accessibility_label": string(75)})
FEEDBACK_BUTTONS = typed(
    "feedback_buttons", {"positive_button": FEEDBACK, "negative_button": FEEDBACK}, {"action_id": ID}
)

IN_ACTIONS = Variant(
    {
        "button": BUTTON,
        "checkboxes": CHECKBOXES,
        "radio_buttons": RADIO_BUTTONS,
        "overflow": OVERFLOW,
        **PICKERS,
        **{name: shape for name, shape in SELECTS.items() if not name.startswith("multi_")},
    }
)
ACCESSORY = Variant(
    {
        "button": BUTTON,
        "image": IMAGE,
        "checkboxes": CHECKBOXES,
        "radio_buttons": RADIO_BUTTONS,
        "overflow": OVERFLOW,
        "datepicker": PICKERS["datepicker"],
        "timepicker": PICKERS["timepicker"],
        **SELECTS,
    }
)
IN_INPUT = Variant({"checkboxes": CHECKBOXES, "radio_buttons": RADIO_BUTTONS, **PICKERS, **SELECTS, **INPUTS})

# --- rich text ------------------------------------------------------------------------------------------------------

STYLE = Shape({}, {"bold": boolean, "italic": boolean, "strike": boolean, "code": boolean, "underline": boolean})
PLAIN_STYLE = Shape(
    {},
    {
        "bold": boolean,
        "italic": boolean,
        "strike": boolean,
        "highlight": boolean,
        "client_highlight": boolean,
        "unlink": boolean,
    },
)
INLINE = Variant(
    {
        "text": typed("text", {"text": string()}, {"style": STYLE}),
        "link": typed("link", {"url": url()}, {"text": string(), "unsafe": boolean, "style": STYLE}),
        "emoji": typed("emoji", {"name": string()}, {"unicode": string(), "skin_tone": integer(2, 6), "style": STYLE}),
        "user": typed("user", {"user_id": string()}, {"style": PLAIN_STYLE}),
        "usergroup": typed("usergroup", {"usergroup_id": string()}, {"style": PLAIN_STYLE}),
        "channel": typed("channel", {"channel_id": string()}, {"style": PLAIN_STYLE}),
        "broadcast": typed("broadcast", {"range": one_of("here", "channel", "everyone")}, {"style": PLAIN_STYLE}),
        "date": typed(
            "date",
            {"timestamp": integer(0, 10**11), "format": string()},
            {"url": url(), "fallback": string(), "style": STYLE},
        ),
        "color": typed("color", {"value": string()}, {"style": STYLE}),
    }
)
LINE = typed("rich_text_section", {"elements": array(INLINE)})
VERBATIM = Variant(
    {
        "text": typed("text", {"text": string()}, {"style": STYLE}),
        "link": typed("link", {"url": url()}, {"text": string(), "unsafe": boolean, "style": STYLE}),
    }
)
BORDER = integer(0, 1)
RICH_TEXT_PARTS = Variant(
    {
        "rich_text_section": LINE,
        "rich_text_list": typed(
            "rich_text_list",
            {"style": one_of("bullet", "ordered"), "elements": array(LINE, None, 1)},
            {"indent": integer(0, 8), "offset": integer(0, 10**6), "border": BORDER},
        ),
        "rich_text_preformatted": typed(
            "rich_text_preformatted", {"elements": array(VERBATIM)}, {"border": BORDER, "language": string()}
        ),
        "rich_text_quote": typed("rich_text_quote", {"elements": array(INLINE)}, {"border": BORDER}),
    }
)
RICH_TEXT = typed("rich_text", {"elements": array(RICH_TEXT_PARTS, None, 1)}, {"block_id": ID})
TEXT_OR_FIELDS = any_of("text", "fields")
