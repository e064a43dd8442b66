"""Commands: one table, from which parser and help are made. Pure; bad input becomes a sentence with the usage."""

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape

from bot.domain import waves
from bot.domain.errors import UserError
from bot.domain.plan import Order

LONGEST = 4_000
"""Characters of a command; Slack's own messages end there too."""
MOST_TARGETS = 500
"""Words that name the targets of one command; a selector may stand for many more."""
NEAR = 0.6
"""How alike a word must be to a command for the question whether that was meant (difflib's ratio)."""
MOST_AT_ONCE = 1000
"""Targets of one wave."""
_QUOTES = str.maketrans("“”„‟«»‘’‚‛`", '"' * 6 + "'" * 5)  # noqa: RUF001  # what keyboards and Slack insert
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_SPACE = re.compile(r"\s")
_DASHES = re.compile("[-\u2010-\u2015\u2212]{1,3}(?=[A-Za-z])")
"""What keyboards make of the two hyphens before an option; a dash within a name or a sentence stays."""
_MENTION = re.compile(r"<([@#!])([^>|]*)(?:\|([^>]*))?>")
_LINK = re.compile(r"<(?:https?://|mailto:)[^>|]*\|([^>]*)>|<((?:https?://|mailto:)[^>]*)>")
_MARKED = re.compile("\ue000([^\ue001]*)\ue001")
"""Where a mention stood: among targets it means nothing, in a sentence it is somebody's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a command."""

    name: str
    placeholder: str
    """What stands for its value; empty for a flag, which takes none."""
    help: str
    repeated: bool = False
    least: int | None = None
    """For a whole number, the least that it may be; None for a text."""
    most: int = 5_000

    @property
    def usage(self) -> str:
        """The option as the usage shows it."""
        return f"[--{self.name} {self.placeholder}".rstrip() + "]" + ("…" if self.repeated else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """One row of the table of commands."""

    name: str
    arguments: str
    """As the usage shows them."""
    summary: str
    help: str
    examples: tuple[str, ...]
    options: tuple[Option, ...] = ()
    changes: bool = False
    """Whether it may lead to a change; `help` shows it only to those who may ask for one."""
    least: int = 0
    most: int = 0
    """How many arguments it takes."""

    @property
    def usage(self) -> str:
        """The usage as one line."""
        return " ".join(t for t in (self.name, self.arguments, *(o.usage for o in self.options)) if t)


SELECTORS = (
    "A TARGET is a name, a glob such as web-*, or env:, role:, space:, pool: or tenant: with a name, workers, targets, "
    "all, or what a look tells: expiring:30d, older:1y, sha1, weak, inconsistent. Terms of one kind add up, terms of "
    "different kinds narrow each other, and not:TERM takes away: env:Production role:web not:web-01."
)
"""How targets are told, in the help of every command that takes some."""

_ROTATE_OPTIONS = (
    Option(
        name="with",
        placeholder="SOURCE",
        help="new-certificate (the default: made on the host, its key never travels), pfx:NAME or ca:NAME, as set up",
    ),
    Option(name="order", placeholder="documented", help="stop, import, start, as Octopus's older guide has it"),
    Option(name="reason", placeholder="TEXT", help="shown to the approver and kept in the audit log"),
    Option(
        name="accept",
        placeholder="DANGER",
        help="a danger that a refusal named, such as other-server:8F3A1B2C, last-worker:POOL or outside-window",
        repeated=True,
    ),
    Option(name="canary", placeholder="N", help="so many go first and alone (1 of more than two; 0 for none)", least=0),
    Option(
        name="batch",
        placeholder="N",
        help=f"so many at a time after that ({waves.BATCH}); each wave's health is checked before the next",
        least=1,
        most=MOST_AT_ONCE,
    ),
    Option(
        name="max-failures",
        placeholder="N",
        help="with more failures than this the run stops itself (a tenth of the targets, at least 1)",
        least=0,
    ),
    Option(name="stop-on-failure", placeholder="", help="the first failure stops the run, as --max-failures 0"),
    Option(
        name="at",
        placeholder="TIME",
        help='not before 22:00, or "2026-12-01 22:00"; in the zone of the window that counts, else UTC',
    ),
    Option(name="window", placeholder="NAME", help="only in this maintenance window of the configuration"),
)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        name="help",
        arguments="[COMMAND]",
        summary="what I can do, or how one command works",
        help="Shows the commands that you may use.",
        examples=("help rotate",),
        most=1,
    ),
    CommandSpec(
        name="show-thumbprint",
        arguments="TARGET…",
        summary="the three witnesses of a target: configured, served, recorded",
        help="Looks at each target on its host, by a TLS handshake and in Octopus, and says whether all agree.",
        examples=("show-thumbprint web-01", 'show-thumbprint "Web Server 1" web-02', "show-thumbprint inconsistent"),
        least=1,
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="check-health",
        arguments="TARGET…",
        summary="has Octopus check its connection to a target",
        help="Starts an Octopus Health task, follows it and posts what it found, with the error lines.",
        examples=("check-health web-01 web-02",),
        least=1,
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="inventory",
        arguments="[TARGET…]",
        summary="the estate as a table: witnesses, expiry, algorithm, version, health",
        help="Looks at the targets, all of them where none is named, and posts what it found, longer lists as a file.",
        examples=("inventory", "inventory env:Production expiring:60d", "inventory workers not:pool:Linux"),
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="rotate",
        arguments="TARGET…",
        summary="replaces certificates: a plan, an approval by someone else, then the work",
        help="Looks at the targets, posts a plan with buttons, and carries it out once someone else approves it.",
        examples=(
            "rotate web-01",
            'rotate web-01 web-02 --reason "yearly rotation"',
            "rotate web-01 --with pfx:web",
            "rotate env:Staging --with ca:corp",
            "rotate env:Staging role:web not:web-01 --canary 2 --batch 20",
            "rotate expiring:30d targets --stop-on-failure",
        ),
        options=_ROTATE_OPTIONS,
        changes=True,
        least=1,
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="plan",
        arguments="TARGET…",
        summary="what rotate would do, with nothing to approve",
        help="Looks at the targets and shows the plan that rotate would propose.",
        examples=("plan web-01 --with pfx:web",),
        options=_ROTATE_OPTIONS,
        least=1,
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="status",
        arguments="[RUN]",
        summary="running and recent runs",
        help="Lists the recent runs, or shows where one of them stands.",
        examples=("status", "status r-7k2m9q4x"),
        most=1,
    ),
    CommandSpec(
        name="cancel",
        arguments="RUN",
        summary="takes a plan back, or stops a run at its next safe point",
        help="Targets that are being worked on are finished; those whose turn has not come are left as they are.",
        examples=("cancel r-7k2m9q4x",),
        changes=True,
        least=1,
        most=1,
    ),
    CommandSpec(
        name="pause",
        arguments="RUN",
        summary="has a run begin nothing more until it is resumed",
        help="Targets that are being worked on are finished; the others wait until somebody resumes or stops the run.",
        examples=("pause r-7k2m9q4x",),
        changes=True,
        least=1,
        most=1,
    ),
    CommandSpec(
        name="resume",
        arguments="RUN",
        summary="lets a paused run go on",
        help="It goes on where it was, under the same approval.",
        examples=("resume r-7k2m9q4x",),
        changes=True,
        least=1,
        most=1,
    ),
    CommandSpec(
        name="freeze",
        arguments="REASON…",
        summary="lets no step begin anywhere, in any run, until somebody says unfreeze",
        help="What runs on a host at this moment ends there. Runs wait before their next step, whatever it is.",
        examples=('freeze "deployment of the year, nobody touches anything"',),
        changes=True,
        least=1,
        most=MOST_TARGETS,
    ),
    CommandSpec(
        name="unfreeze",
        arguments="",
        summary="lets runs go on after a freeze",
        help="Runs go on where they were; what people paused or stopped stays so.",
        examples=("unfreeze",),
        changes=True,
    ),
    CommandSpec(
        name="policy",
        arguments="",
        summary="who may ask and who must approve, per action and environment",
        help="Shows the policy as the bot goes by it now.",
        examples=("policy",),
    ),
    CommandSpec(
        name="history",
        arguments="[TARGET]",
        summary="who did what when",
        help="Shows the newest entries of the audit log, of one target where it is named.",
        examples=("history web-01",),
        most=1,
    ),
)
"""All commands. The parser, `help`, the page of the sandbox and the documentation are made from this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What somebody asked for, understood."""

    name: str
    arguments: tuple[str, ...] = ()
    source: str = "new-certificate"
    order: Order = Order.DEFAULT
    reason: str = ""
    accept: tuple[str, ...] = field(default=())
    canary: int | None = None
    batch: int | None = None
    max_failures: int | None = None
    stop_on_failure: bool = False
    at: str = ""
    window: str = ""


def spec(name: str) -> CommandSpec:
    """Return the row of a command; hyphens and case do not matter. UserError with the nearest one if there is none."""
    folded = _folded(name)
    found = next((c for c in COMMANDS if _folded(c.name) == folded), None)
    if found:
        return found
    near = difflib.get_close_matches(folded, [_folded(c.name) for c in COMMANDS], 1, NEAR)
    meant = next((c.name for c in COMMANDS if near and _folded(c.name) == near[0]), None)
    hint = f"Did you mean `{meant}`?" if meant else "`help` lists what I can do."
    raise UserError(f"I do not know the command “{_short(name)}”. {hint}")


def _folded(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def parse(text: str) -> Command:
    """Understand the words after the slash command or the mention; nothing at all means `help`.

    Curly quotes, long dashes, non-breaking spaces, Slack's mentions and links are what keyboards and Slack make of
    plain text; they are taken back. UserError, with the usage, for everything that cannot be understood.
    """
    if len(text) > LONGEST:
        raise UserError(
            f"That is too long for a command: {len(text)} characters, {LONGEST} at most. Name fewer targets."
        )
    words = _words(text)
    if words and words[0].startswith("/"):
        del words[0]  # the slash command itself, typed after a mention
    if not words:
        return Command(name="help")
    row = spec(words[0])
    if words[1:] and _DASHES.sub("--", words[1], count=1).casefold() in {"--help", "--h"}:
        return Command(name="help", arguments=(row.name,))
    arguments, options = _sorted(row, words[1:])
    if not row.least <= len(arguments) <= row.most:
        lacking = "needs something more" if len(arguments) < row.least else f"takes {row.most} at most"
        raise UserError(f"`{row.name}` {lacking}. Usage: `{row.usage}`")
    order = options.get("order", [Order.DEFAULT.value])[-1].casefold()
    if order not in {o.value for o in Order}:
        raise UserError(f"There is no order “{_short(order)}”; there is `--order documented`. Usage: `{row.usage}`")
    return Command(
        name=row.name,
        arguments=tuple(arguments),
        source=_source(options.get("with", ["new-certificate"])[-1]),
        order=Order(order),
        reason=" ".join(options.get("reason", [])),
        accept=tuple(options.get("accept", [])),
        canary=_number(row, options, "canary"),
        batch=_number(row, options, "batch"),
        max_failures=_number(row, options, "max-failures"),
        stop_on_failure="stop-on-failure" in options,
        at=options.get("at", [""])[-1],
        window=options.get("window", [""])[-1],
    )


def _number(row: CommandSpec, options: Mapping[str, list[str]], name: str) -> int | None:
    """Return the whole number that an option gives, None where it was not given."""
    if name not in options:
        return None
    option, typed = next(o for o in row.options if o.name == name), options[name][-1]
    assert option.least is not None, "an option that takes a number says which"
    if not re.fullmatch(r"[0-9]{1,6}", typed) or not option.least <= int(typed) <= option.most:
        raise UserError(
            f"--{name} takes a whole number from {option.least} to {option.most}, not “{_short(typed)}”. "
            f"Usage: `{row.usage}`"
        )
    return int(typed)


def _source(text: str) -> str:
    kind, colon, name = text.partition(":")
    if text.casefold() == "new-certificate":
        return "new-certificate"
    if kind.casefold() not in {"pfx", "ca"} or not name.strip():
        raise UserError(f"“{_short(text)}” is no source of certificates: use new-certificate, pfx:NAME or ca:NAME.")
    return f"{kind.casefold()}{colon}{name}"


def plain(text: str) -> str:
    """Return a text without what keyboards and Slack put into it: one kind of spaces and quotes, nothing invisible."""
    return _SPACE.sub(" ", _INVISIBLE.sub("", text)).translate(_QUOTES)


def _words(text: str) -> list[str]:
    text = _MENTION.sub(_marked, text.replace("\ue000", "").replace("\ue001", ""))
    text = unescape(_LINK.sub(lambda m: m.group(1) or m.group(2) or "", text))
    whole = _MARKED.sub("", text).strip()
    inner = whole.strip("`")
    if whole.startswith("`") and whole.endswith("`") and "`" not in inner:
        text = inner  # the whole command was copied as code
    try:
        lexer = shlex.shlex(plain(text), posix=True, punctuation_chars=False)  # of spaces, shlex knows only plain ones
        lexer.whitespace_split = True
        lexer.commenters = ""
        lexer.escape = ""
        words = [word.strip() for word in lexer]
    except ValueError:
        raise UserError(
            "There is a quote without its other half in that. Write names with spaces in double quotes."
        ) from None
    first = next((i for i, word in enumerate(words) if _MARKED.sub("", word).strip()), len(words))
    return [_MARKED.sub("", word).strip() if i == 0 else word for i, word in enumerate(words[first:]) if word]


def _marked(found: re.Match[str]) -> str:
    """Return a mark with somebody's name instead of Slack's mention: `<@U1|rita>`, `<#C1|ops>`, `<!here>`."""
    kind, identity, label = found.groups()
    shown = re.sub(r"[^\w.-]", "", label or identity.partition("^")[0])
    return f"\ue000{'#' if kind == '#' else '@'}{shown}\ue001" if shown else " "


def _sorted(row: CommandSpec, words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    known = {o.name: o for o in row.options}
    arguments: list[str] = []
    options: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        name, given, value = _option(word, known)
        if name is None:
            argument = _MARKED.sub("", word).strip()
            if argument:
                arguments.append(argument)
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean --{near[0]}?" if near else ""
            raise UserError(f"`{row.name}` has no option --{_short(name)}.{hint} Usage: `{row.usage}`")
        if not known[name].placeholder:
            if given:
                raise UserError(f"--{name} takes no value: {known[name].help}. Usage: `{row.usage}`")
            options[name] = [""]
            continue
        if not given:
            value = next(rest, "")
        value = _MARKED.sub(r"\1", value).strip()
        if not value or (not given and _option(value, known)[0] is not None):
            raise UserError(f"--{name} needs a value: {known[name].help}. Usage: `{row.usage}`")
        if name in options and not known[name].repeated:
            raise UserError(f"--{name} stands there twice. Usage: `{row.usage}`")
        options.setdefault(name, []).append(value)
    if row.arguments.strip("[]") == "RUN":
        arguments = [a.casefold() for a in arguments]
    return arguments, options


def _option(word: str, known: Mapping[str, Option]) -> tuple[str | None, bool, str]:
    """Return the name of the option that a word is, whether a value stands in it, and that; None for no option.

    One hyphen is enough where the name is known; what begins with two is meant as an option in any case.
    """
    dashes = _DASHES.match(word)
    if not dashes:
        return ("", False, "") if word.startswith("--") else (None, False, "")
    name, equals, value = word[dashes.end() :].partition("=")
    name = name.casefold()
    if dashes.group() == "-" and name not in known:
        return None, False, ""  # a target's name may begin with a hyphen
    return name, bool(equals), value


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
