"""Block Kit, as few shapes as we need. Sentences are rich text: its plain elements are never interpreted by Slack.

Sources: docs.slack.dev/reference/block-kit (rich_text, header, actions, context, plan, task_card) and its limits.
"""

import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from bot.domain.run import TERMINAL
from bot.slack.message import Message
from bot.slack.text import LONGEST_NAME, LONGEST_TEXT, clean, clean_lines, cut, literal, utc

Json = dict[str, Any]
Inline = Json
"""One inline element of rich text."""
Line = list[Inline]

MOST_BLOCKS = 50
BUDGET = 12_000
"""Characters of all blocks together; Slack answers msg_blocks_too_long from about 13 200 (slackapi/bolt-js#2509)."""
_USER = re.compile(r"[UW][A-Z0-9]{2,20}")
# What our own sentences may hold besides plain text: code, people and channels. Everything else is taken literally.
# The ids are well-formed ones only, so that a mention is never of a group or of everybody in a channel.
_OURS = re.compile(r"`([^`\n]{1,200})`|<@([UW][A-Z0-9]{2,20})>|<#([CG][A-Z0-9]{2,20})>")


# --- inline ---------------------------------------------------------------------------------------------------------


def say(text: str, **style: bool) -> Inline:
    """Return a piece of text, shown literally; `bold`, `italic`, `code`."""
    element: Inline = {"type": "text", "text": text or " "}
    if style:
        element["style"] = style
    return element


def bold(text: str) -> Inline:
    """Return bold text."""
    return say(text, bold=True)


def code(text: str) -> Inline:
    """Return text in a fixed-width font."""
    return say(text, code=True)


def name(text: str) -> Inline:
    """Return a target's name, cleaned and bold."""
    return bold(clean(text, LONGEST_NAME))


def user(user_id: str, shown: str = "") -> Inline:
    """Return a mention of a person by Slack's id; plain text if it is none."""
    if _USER.fullmatch(user_id):
        return {"type": "user", "user_id": user_id}
    if user_id.startswith(TERMINAL):
        return say(f"{clean(user_id.removeprefix(TERMINAL), LONGEST_NAME)} (in a terminal)")
    return say(clean(shown or user_id or "somebody", LONGEST_NAME))


def emoji(short_name: str) -> Inline:
    """Return an emoji by Slack's short name."""
    return {"type": "emoji", "name": short_name}


def link(url: str, text: str) -> Inline:
    """Return a link with a text from outside; only the text if the address is none for a browser."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return say(text)
    is_plain = len(url) <= 1_000 and " " not in url and url == clean(url, 1_000)
    if is_plain and parts.scheme in {"http", "https"} and parts.netloc:
        return {"type": "link", "url": url, "text": text or url}
    return say(text)


def when(at: datetime, form: str = "{time}") -> Inline:
    """Return a time that each reader sees in their own time zone."""
    return {"type": "date", "timestamp": int(at.timestamp()), "format": form, "fallback": utc(at)}


def spoken(text: str, limit: int = 1_500, people: Container[str] = ()) -> Line:
    """Return a sentence of ours, which may quote things from outside, as inline elements.

    `code` is understood everywhere. Mentions are of `people` only, the ids that may be named here: a name in Octopus
    or a program's output cannot call anybody. Nothing else is understood, whoever wrote it.
    """
    line: Line = []
    rest = cut(" ".join(text.split()), limit)
    place = 0
    for found in _OURS.finditer(rest):
        quoted, person, channel = found.groups()
        if quoted is None and (person or channel) not in people:
            continue
        if found.start() > place:
            line.append(say(clean_keep(rest[place : found.start()])))
        if quoted is not None:
            line.append(code(clean(quoted, 200)))
        elif person is not None:
            line.append({"type": "user", "user_id": person})
        else:
            line.append({"type": "channel", "channel_id": channel})
        place = found.end()
    if place < len(rest):
        line.append(say(clean_keep(rest[place:])))
    return line or [say("–")]  # noqa: RUF001  # a dash stands for nothing


class Anybody:
    """The people of a message that only one person sees: whoever is named in it, nobody is called."""

    def __contains__(self, who: object) -> bool:
        return True


ANYBODY = Anybody()


def clean_keep(text: str) -> str:
    """Clean a piece of a sentence, but keep the spaces at its ends."""
    if not text.strip():
        return " "
    return (" " if text[0].isspace() else "") + clean(text, 3_000) + (" " if text[-1].isspace() else "")


def joined(lines: Iterable[Line], separator: str = " · ") -> Line:
    """Return several lines as one."""
    whole: Line = []
    for line in lines:
        if line:
            whole += [say(separator), *line] if whole else line
    return whole


# --- parts of rich text ---------------------------------------------------------------------------------------------


def line(*elements: Inline) -> Json:
    """Return one paragraph."""
    return {"type": "rich_text_section", "elements": list(elements)}


def bullets(lines: Sequence[Line], indent: int = 0) -> Json:
    """Return a list."""
    part: Json = {"type": "rich_text_list", "style": "bullet", "elements": [line(*one) for one in lines]}
    if indent:
        part["indent"] = indent
    return part


def preformatted(text: str) -> Json:
    """Return text from outside as it was printed, shortened."""
    return {"type": "rich_text_preformatted", "elements": [say(clean_lines(text))]}


# --- blocks ---------------------------------------------------------------------------------------------------------


def rich(*parts: Json) -> Json:
    """Return a block of rich text."""
    return {"type": "rich_text", "elements": list(parts)}


def header(text: str) -> Json:
    """Return a large title; text from outside in it must be clean."""
    return {"type": "header", "text": plain(text, 150)}


def plain(text: str, limit: int) -> Json:
    """Return a plain text object, in which colons make no emoji."""
    return {"type": "plain_text", "text": cut(literal(text), limit), "emoji": False}


def context(*texts: str) -> Json:
    """Return small grey lines of mrkdwn; what comes from outside must be escaped."""
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(t, 2_000), "verbatim": True} for t in texts]}


def actions(*buttons: Json) -> Json:
    """Return a row of buttons."""
    return {"type": "actions", "elements": list(buttons)}


def button(label: str, action: str, value: str, *, style: str = "", ask: Json | None = None) -> Json:
    """Return one of our buttons; `action` is what `octocert_` stands before."""
    element: Json = {
        "type": "button",
        "action_id": f"octocert_{action}",
        "text": plain(label, 75),
        "value": value[:2_000],
    }
    if style:
        element["style"] = style
    if ask:
        element["confirm"] = ask
    return element


def confirm(title: str, text: str, yes: str, no: str = "Go back", *, danger: bool = False) -> Json:
    """Return a question that is asked before a press counts."""
    question: Json = {
        "title": plain(title, 100),
        "text": plain(text, 300),
        "confirm": plain(yes, 30),
        "deny": plain(no, 30),
    }
    if danger:
        question["style"] = "danger"
    return question


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Container[int] = ()) -> Json:
    """Return a table of plain text, wrapped but for columns of `numbers`; Slack takes one table a message."""
    cells = [[{"type": "raw_text", "text": literal(cell) or "–"} for cell in row] for row in (head, *rows)]  # noqa: RUF001
    columns = [{"align": "right"} if place in numbers else {"is_wrapped": True} for place in range(len(head))]
    return {"type": "table", "column_settings": columns, "rows": cells}


# --- whole messages -------------------------------------------------------------------------------------------------


def characters(node: Any) -> int:
    """Return how many characters a block, or any part of one, shows."""
    if isinstance(node, list | tuple):
        return sum(characters(n) for n in node)
    if not isinstance(node, dict):
        return 0
    own = sum(
        len(node[k]) for k in ("text", "title", "fallback", "user_id", "channel_id") if isinstance(node.get(k), str)
    )
    around = 0 if node.get("type") == "text" else 4
    return own + around + sum(characters(v) for v in node.values() if isinstance(v, dict | list))


def room(blocks: Iterable[Json | None]) -> int:
    """Return how many characters are left beside these blocks, with something to spare."""
    return max(0, BUDGET - 300 - sum(characters(b) for b in blocks if b is not None))


def content_hash(*parts: Any) -> str:
    """Return 12 digits that are others as soon as the content is another: Slack wants new block ids for new content."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def within(lines: Iterable[Line], budget: int, most: int = 100) -> list[Line]:
    """Return as many lines as fit into a number of characters, and a last one that counts the others."""
    every = list(lines)
    shown: list[Line] = []
    used = 0
    for one in every[:most]:
        used += characters(one) + 4  # what its paragraph counts
        if used > budget and shown:
            break
        shown.append(one)
    if len(shown) < len(every):
        shown.append([say(f"… ({len(every) - len(shown)} more)", italic=True)])
    return shown


def message(text: str, blocks: Sequence[Json | None]) -> Message:
    """Return a message, with what is too much taken out of its middle: its beginning and its buttons always stay."""
    whole = [b for b in blocks if b is not None]
    if len(whole) > MOST_BLOCKS or characters(whole) > BUDGET:
        whole = _shortened(whole)
    return Message(cut(text, LONGEST_TEXT) or "octocert", tuple(whole))


def _shortened(blocks: list[Json]) -> list[Json]:
    """Leave out blocks before the buttons, from behind, until the rest fits."""
    tail_at = next((i for i, b in enumerate(blocks) if b["type"] == "actions"), len(blocks))
    head, tail = blocks[:tail_at], blocks[tail_at:]
    dropped = 0
    while head and (len(head) + len(tail) >= MOST_BLOCKS or characters(head) + characters(tail) > BUDGET - 40):
        head.pop()
        dropped += 1
    note = rich(line(say(f"… ({dropped} more parts do not fit into one message of Slack)", italic=True)))
    return [*head, note, *tail]


def first_fitting(text: str, versions: Sequence[Callable[[], Sequence[Json | None]]]) -> Message:
    """Return the message of the first version, from the most detailed to the shortest, that fits whole."""
    for version in versions[:-1]:
        blocks = [b for b in version() if b is not None]
        if len(blocks) <= MOST_BLOCKS and characters(blocks) <= BUDGET:
            return message(text, blocks)
    return message(text, versions[-1]())
