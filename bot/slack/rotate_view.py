"""The modal that asks what to rotate, as pure functions: what it shows, and what was filled in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bot.domain.commands import Command, parse
from bot.domain.errors import UserError
from bot.domain.plan import Order
from bot.domain.waves import BATCH
from bot.slack.blocks import Json, line, plain, rich, say
from bot.slack.text import clean, cut

ROTATE = "octocert_rotate"
"""Callback id of the modal."""
TARGETS = "octocert_targets"
"""Action id of its target picker."""
MOST_OPTIONS = 100
"""Options that Slack takes for one menu."""
MOST_TARGETS = 100
LONGEST_REASON = 500
LONGEST_WORDS = 1_000
_LABEL = 75
"""Characters of an option's text, and of its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One target in the picker."""

    record: str
    """Id of its first record in Octopus."""
    label: str
    """Its name and where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody filled in."""

    channel: str
    records: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Selectors, such as `env:Staging`."""
    source: str = "new-certificate"
    order: Order = Order.DEFAULT
    reason: str = ""
    canary: int | None = None
    batch: int | None = None


def form(*, sources: Sequence[str], channel: str, chosen: Sequence[Choice] = (), reason: str = "") -> Json:
    """Return the modal. `channel` is where the plan will be posted unless somebody chooses another; it may be empty."""
    picker: Json = {
        "type": "multi_external_select",
        "action_id": TARGETS,
        "placeholder": plain("Search by name", 150),
        "min_query_length": 0,
        "max_selected_items": MOST_TARGETS,
    }
    if chosen:
        picker["initial_options"] = options(chosen)
    place: Json = {
        "type": "conversations_select",
        "action_id": "channel",
        "placeholder": plain("Choose a channel", 150),
        "filter": {"include": ["public", "private"], "exclude_bot_users": True},
    }
    if channel:
        place["initial_conversation"] = channel
    orders = [
        _option(Order.DEFAULT.value, "Import, then restart (short)"),
        _option(Order.DOCUMENTED.value, "Stop, import, start (as Octopus's guide)"),
    ]
    known = [_option(s, s) for s in sources if len(s) <= _LABEL][:MOST_OPTIONS]
    return {
        "type": "modal",
        "callback_id": ROTATE,
        "private_metadata": json.dumps({"form": 1}),
        "title": plain("Rotate certificates", 24),
        "submit": plain("Look and plan", 24),
        "close": plain("Cancel", 24),
        "blocks": [
            rich(line(say("The bot looks at the targets and posts a plan. Nothing changes until others approve it."))),
            _input("targets", "Targets", picker, optional=True),
            _input(
                "words",
                "Or by what they have in common",
                {
                    "type": "plain_text_input",
                    "action_id": "words",
                    "max_length": LONGEST_WORDS,
                    "placeholder": plain("env:Staging role:web not:web-01", 150),
                },
                optional=True,
                hint="Names, globs, env:, role:, pool:, tenant:, expiring:30d, sha1, weak; “help rotate” tells more.",
            ),
            _input("source", "New certificate from", _select("source", known)),
            _input("channel", "Post the plan in", place),
            _input(
                "reason",
                "Reason",
                {
                    "type": "plain_text_input",
                    "action_id": "reason",
                    "max_length": LONGEST_REASON,
                    **({"initial_value": cut(reason, LONGEST_REASON)} if reason else {}),
                },
                optional=True,
                hint="The approver reads it, and it is kept in the audit log.",
            ),
            _input("order", "Order", _select("order", orders)),
            _input("canary", "Canary: so many go first and alone", _number("canary", 0, 5_000), optional=True),
            _input("batch", f"Then so many at a time ({BATCH})", _number("batch", 1, 200), optional=True),
        ],
    }


def options(choices: Sequence[Choice]) -> list[Json]:
    """Return targets as options of the picker, as many as Slack takes."""
    return [_option(c.record, c.label) for c in choices if len(c.record) <= _LABEL][:MOST_OPTIONS]


def read(view: Any) -> Asked | dict[str, str]:
    """Return what was filled in, or sentences by the blocks to which they belong."""
    try:
        values: dict[str, Any] = view["state"]["values"]
        text = {name: _entry(values, name) for name in ("words", "source", "channel", "reason", "order")}
        numbers = {name: _entry(values, name) for name in ("canary", "batch")}
        picked = values.get("targets", {}).get(TARGETS, {}).get("selected_options") or []
        records = tuple(str(o["value"]) for o in picked)
        order = Order(text["order"] or Order.DEFAULT.value)
    except (KeyError, TypeError, AttributeError, ValueError):
        return {"targets": "Slack sent this in a form that I do not understand. Type `rotate` as a command."}
    problems: dict[str, str] = {}
    words: tuple[str, ...] = ()
    if text["words"].strip():
        try:
            words = _words(text["words"])
        except UserError as error:
            problems["words"] = clean(str(error), 500)
    elif not records:
        problems["targets"] = "Choose at least one target, or say below what they have in common."
    if not text["channel"]:
        problems["channel"] = "Choose where the plan is posted."
    for name, value in numbers.items():
        if value and not (value.isdecimal() and len(value) < 6):
            problems[name] = "Write a whole number."
    if problems:
        return problems
    return Asked(
        channel=text["channel"],
        records=records,
        words=words,
        source=text["source"] or "new-certificate",
        order=order,
        reason=text["reason"].strip(),
        canary=int(numbers["canary"]) if numbers["canary"] else None,
        batch=int(numbers["batch"]) if numbers["batch"] else None,
    )


def _words(text: str) -> tuple[str, ...]:
    """Return selectors as the command would understand them; UserError for what is none."""
    asked = parse(f"plan {text}")
    if asked != Command(name="plan", arguments=asked.arguments):
        raise UserError("Options of the command have fields of their own here; write only which targets are meant.")
    return asked.arguments


def _entry(values: dict[str, Any], name: str) -> str:
    entry = values.get(name, {}).get(name, {})
    option = entry.get("selected_option")
    found = entry.get("value") or entry.get("selected_conversation") or (option["value"] if option else "")
    return str(found or "")


def _option(value: str, label: str) -> Json:
    return {"text": plain(clean(label, _LABEL), _LABEL), "value": value}


def _select(name: str, choices: list[Json]) -> Json:
    return {"type": "static_select", "action_id": name, "options": choices, "initial_option": choices[0]}


def _number(name: str, least: int, most: int) -> Json:
    return {
        "type": "number_input",
        "action_id": name,
        "is_decimal_allowed": False,
        "min_value": str(least),
        "max_value": str(most),
    }


def _input(name: str, label: str, element: Json, *, optional: bool = False, hint: str = "") -> Json:
    block: Json = {
        "type": "input",
        "block_id": name,
        "optional": optional,
        "label": plain(label, 2_000),
        "element": element,
    }
    if hint:
        block["hint"] = plain(hint, 2_000)
    return block
