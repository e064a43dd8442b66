"""Text from outside, made harmless: it can neither mention, link, format nor disguise itself, and it is never too long.

Names from Octopus, output of remote programs, reasons that people typed: all of it goes through `clean` and then into
plain elements of rich text, which Slack does not interpret. Only the short `text` beside the blocks is mrkdwn; what
stands there is also escaped.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

LONGEST_NAME = 80
"""Characters of a name that are shown."""
LONGEST_LINE = 300
"""Characters of a sentence from outside that are shown."""
LONGEST_TEXT = 3_900
"""Characters of the text beside the blocks: Slack recommends at most 4000."""
JOINER = "\u2060"
"""A word joiner: invisible, and taken out again when somebody copies a name into a command.

UNVERIFIED that every Slack client takes a mark beside it literally; hence it is used only where there are no blocks.
"""

# Format characters (category Cf) turn text around or hide it: a name must not look like another one to an approver.
_KEPT = {"\u200c", "\u200d"}
_MARKS = re.compile(r"(?<![A-Za-z0-9])([*_~`])|([*_~`])(?![A-Za-z0-9])|(`)|(?m:^)(&gt;)")
_EMOJI = re.compile(r":(?=[A-Za-z0-9_+'\-]+:)")


def _visible(character: str) -> str:
    if character in "\t\r\n\v\f\x85\u2028\u2029":
        return " "
    if character in _KEPT:
        return character
    return "" if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn"} else character


def clean(text: str, limit: int = LONGEST_LINE) -> str:
    """Return text from outside as one line without anything invisible, cut to `limit` characters; a dash for none."""
    line = " ".join("".join(map(_visible, text[: limit * 8])).split())
    more = max(0, len(text) - limit * 8)
    return cut(line, limit, more) or "–"  # noqa: RUF001  # a dash stands for nothing


def clean_lines(text: str, limit: int = 1_500, most: int = 12) -> str:
    """Return text from outside with its line ends kept, at most `most` lines; the last ones, where errors stand."""
    lines = [clean(line, limit) for line in text.strip().splitlines() if line.strip()]
    shown = lines[-most:]
    head = f"… ({len(lines) - most} more lines before)\n" if len(lines) > most else ""
    return cut(head + "\n".join(shown), limit) or "–"  # noqa: RUF001


def cut(text: str, limit: int, more: int = 0) -> str:
    """Return a text of at most `limit` characters that says how many were left out."""
    if len(text) <= limit and not more:
        return text
    whole = len(text) + more
    kept = min(len(text), limit - len(f"… ({whole} more)"))
    return text[:kept].rstrip() + f"… ({whole - kept} more)" if kept > 0 else text[: max(0, limit - 1)] + "…"


def escape(text: str, limit: int = LONGEST_LINE) -> str:
    """Return text from outside so that mrkdwn shows it as it is: no mention, no link, no emphasis, no emoji."""
    entities = clean(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = _MARKS.sub(lambda m: f"{JOINER}{m.group(0)}{JOINER}", entities)
    return literal(marked)


def literal(text: str) -> str:
    """Return a text for Slack's plain text objects, in which some clients would still make emoji of colons."""
    return _EMOJI.sub(f":{JOINER}", text)


def moment(at: datetime, form: str = "{date_short_pretty} {time}") -> str:
    """Return Slack's date token, which each reader sees in their own time zone."""
    return f"<!date^{int(at.timestamp())}^{form}|{utc(at)}>"


def utc(at: datetime) -> str:
    """Return a time for readers whose Slack cannot show dates."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(at: datetime) -> str:
    """Return a date."""
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def duration(seconds: float) -> str:
    """Return a time span as people say it: `20 s`, `3 min`, `1 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest and hours < 48 else f"{hours} h"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return `1 record`, `2 records`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 5, limit: int = LONGEST_NAME) -> str:
    """Return some names, cleaned, and how many more there are: `a, b and 3 more`."""
    shown = [clean(n, limit) for n in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} … ({len(names) - most} more)"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def gist(text: str, limit: int) -> str:
    """Return the first sentences of a text, as many as fit, else its first words; the whole is elsewhere."""
    if len(text) <= limit:
        return text
    end = max(text.rfind(f"{mark} ", 0, limit) for mark in ".!?")
    return text[: end + 1] if end > 0 else text[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"


def sentence(text: str) -> str:
    """Return a phrase as a sentence: first letter large, unless it looks like a target's name, and a full stop."""
    stripped = text.strip()
    if not stripped:
        return ""
    ends = stripped[-1] in ".!?…" or stripped.endswith((".”", "?”", "!”", ".)"))
    is_name = any(c.isdigit() for c in stripped.split(maxsplit=1)[0])
    return (stripped if is_name else stripped[0].upper() + stripped[1:]) + ("" if ends else ".")
