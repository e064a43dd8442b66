"""The stories that `demo --play` tells: people in Slack, the bot's answers as they come, and the world's judgement."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.sandbox import Sandbox
from bot.sandbox.slack.model import Message

Say = Callable[[str], None]

ANSWER_SECONDS = 60.0
"""How long a story waits for one answer of the bot."""
_MENTION = re.compile(r"<@(\w+)>")
_DATE = re.compile(r"<!date\^[^|>]*\|([^>]*)>")
_EMOJI = re.compile(r":([a-z_]+):")
_SIGNS = {"white_check_mark": "✔", "warning": "⚠", "hourglass_flowing_sand": "…", "leftwards_arrow_with_hook": "↩"}
RUN_SECONDS = 240.0
"""How long a story waits for a run to end."""


@dataclass(slots=True)
class Ending:
    """How a story ended, judged by the world and not by what the bot said of it."""

    ok: bool
    targets: list[dict[str, Any]] = field(default_factory=list)


class Thread:
    """A conversation with the bot, printed as it grows."""

    def __init__(self, sandbox: Sandbox, say: Say) -> None:
        self._slack = sandbox.slack
        self._say = say
        self._shown: set[str] = set()
        self.root: Message | None = None

    def command(self, person: str, text: str) -> Message:
        """Have a person send the command and wait until the bot's message stands in the channel."""
        before = {m.ts for m in self._slack.messages()}
        self._say(f"\n{person.capitalize()}: /octocert {text}")
        self._slack.command(person, "deployments", text)
        self.root = self._slack.wait_for(
            lambda: next((m for m in self._slack.messages() if m.ts not in before and m.is_bot), None), ANSWER_SECONDS
        )
        assert self.root is not None
        self._print("octocert", self.root.content)
        return self.root

    def press(self, person: str, label: str, message: Message | None = None) -> None:
        """Have a person press a button of a message; by default of the root message."""
        message = message or self.root
        assert message is not None
        self._say(f"\n{person.capitalize()} presses {label}")
        self._slack.click(person, message.ts, label)

    def question(self, label: str) -> Message | None:
        """Return the newest reply that has this button; None while there is none."""
        assert self.root is not None
        return next((m for m in reversed(self._slack.thread(self.root.ts)[1:]) if label in m.buttons), None)

    def whisper(self, person: str, words: str) -> str:
        """Wait for something with these words that only this person sees, print and return it."""
        message = self._slack.wait_for(
            lambda: next((m for m in self._slack.ephemerals(person) if words in m.content), None), ANSWER_SECONDS
        )
        assert message is not None
        self._shown.add(message.ts)
        self._print(f"octocert (only {person.capitalize()} sees this)", message.content)
        return message.content

    def adopt(self, root: Message) -> None:
        """Go on with another message, which a button has brought."""
        self.root = root
        self._print("octocert", root.content)

    def follow(self, done: Callable[[Message], bool], seconds: float = RUN_SECONDS) -> Message:
        """Print replies as they come until the root message is as `done` wants it; TimeoutError otherwise."""
        assert self.root is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for reply in self._slack.thread(self.root.ts)[1:]:
                if reply.ts not in self._shown:
                    self._shown.add(reply.ts)
                    self._print("  ↳ octocert", reply.content)
            root = self._slack.message(self.root.ts)
            if done(root) and all(r.ts in self._shown for r in self._slack.thread(root.ts)[1:]):
                self._print("octocert (the first message, edited)", root.content)
                return root
            time.sleep(0.05)
        raise TimeoutError(f"the run did not end within {seconds:.0f} s; its message: {self.root.content}")

    def _print(self, who: str, text: str) -> None:
        self._say(f"{who}:\n    " + self._readable(text).replace("\n", "\n    "))

    def _readable(self, text: str) -> str:
        """Return a text as a terminal can show it: names for ids, plain dates, no emoji codes."""
        people = {p.id: p.real_name for p in self._slack.people.values()}
        text = _MENTION.sub(lambda m: "@" + people.get(m.group(1), m.group(1)), text)
        return _EMOJI.sub(lambda m: _SIGNS.get(m.group(1), "·"), _DATE.sub(lambda m: m.group(1), text))


def is_over(root: Message) -> bool:
    """Whether a run's root message says that nothing will happen any more."""
    return "Cancel" not in root.buttons and "Approve" not in root.buttons and "Stop" not in root.buttons


def target_of(sandbox: Sandbox, name: str, old: str) -> dict[str, Any]:
    """Return what the world says of one Tentacle, as the outcome's JSON has it."""
    row = next(r for r in sandbox.rows() if r["name"] == name)
    new = row["served"] or row["configured"]
    return {"name": name, "old": old, "new": new, "health": row["health"], "consistent": row["consistent"]}


def tentacle(sandbox: Sandbox, say: Say) -> Ending:
    """Rotate → refused self-approval → approval → thread; the world has a new, consistent, healthy certificate."""
    name = "web-01"
    instance = sandbox.estate.instances[name]
    old, process = str(instance.configured), instance.service.process
    thread = Thread(sandbox, say)
    thread.command("rita", f"rotate {name} --reason “yearly rotation”")
    thread.press("rita", "Approve")
    refused = thread.whisper("rita", "yourself")
    untouched = instance.configured == old and instance.service.process == process
    thread.press("ada", "Approve")
    thread.follow(is_over)
    target = target_of(sandbox, name, old)
    replies = " ".join(m.content for m in sandbox.slack.thread(thread.root.ts if thread.root else ""))
    ok = (
        untouched
        and "yourself" in refused
        and target["new"] != old
        and target["health"] == "Healthy"
        and bool(target["consistent"])
        and old in replies
        and str(target["new"]) in replies
    )
    return Ending(ok, [target])


def failure(sandbox: Sandbox, say: Say) -> Ending:
    """Let the import fail: the service runs, the old certificate is served, and the message says so."""
    name = "web-02"
    instance = sandbox.estate.instances[name]
    old = str(instance.configured)
    instance.host.faults.import_fails = "The certificate data cannot be read with the provided password."
    thread = Thread(sandbox, say)
    thread.command("rita", f"rotate {name} --with pfx:demo")
    thread.press("ada", "Approve")
    thread.follow(is_over)
    target = target_of(sandbox, name, old)
    replies = " ".join(m.content for m in sandbox.slack.thread(thread.root.ts if thread.root else ""))
    ok = (
        target["new"] == old
        and bool(target["consistent"])
        and instance.service.state.value == "Running"
        and "cannot be read with the provided password" in replies
    )
    return Ending(ok, [target])
