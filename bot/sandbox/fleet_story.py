"""The story of a fleet: a canary, waves, some failures within the budget, and a retry of the failed ones."""

import time

from bot.domain.facts import ServiceState
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.slack.model import Message
from bot.sandbox.stories import ANSWER_SECONDS, Ending, Say, Thread, is_over, target_of

HOSTS = 40
"""Tentacles of the estate, unless somebody wants another number."""
SECONDS_EACH = 5.0
"""How long the story waits for a run, for each of its targets, on a busy machine."""
LEAST = 6
"""Targets that make a fleet: a canary, two that fail and some that do not."""
MOST_MESSAGES = 8
"""Messages that a run may cost in its thread, failures included."""


def fleet(sandbox: Sandbox, say: Say) -> Ending:
    """Rotate all web servers in waves; two fail within the budget, are mended and retried; all are well in the end."""
    names = [n for n in sandbox.estate.instances if n.startswith("web-")]
    if len(names) < LEAST:
        say(f"A fleet of {len(names)} web servers is too small for this story: use --hosts 20 or more.")
        return Ending(ok=False)
    before = {n: str(sandbox.estate.instances[n].configured) for n in names}
    full, gone = names[3], names[-2]
    sandbox.estate.instances[full].host.faults.import_fails = "There is not enough space on the disk."
    thread = Thread(sandbox, say)
    root = thread.command("rita", "rotate role:web --canary 1 --batch 10 --max-failures 2 --reason “yearly rotation”")
    sandbox.estate.instances[gone].host.faults.unreachable = True
    thread.press("ada", "Approve")
    patience = len(names) * SECONDS_EACH + ANSWER_SECONDS
    first = thread.follow(_ended, patience)
    listed = full in first.content and gone in first.content and "not enough space" in first.content
    others = all(sandbox.consistent(n) for n in names if n != gone)
    few = len(sandbox.slack.thread(root.ts)) <= MOST_MESSAGES or len(names) <= 20
    say(f"\n{full} gets space on its disk, and {gone} can be reached again.")
    sandbox.estate.instances[full].host.faults.import_fails = None
    sandbox.estate.instances[gone].host.faults.unreachable = False
    _retry(sandbox, thread)
    thread.follow(_ended, patience)
    targets = [target_of(sandbox, n, before[n]) for n in names]
    well = all(t["consistent"] and t["health"] == "Healthy" and t["new"] != t["old"] for t in targets) and all(
        sandbox.estate.instances[n].service.state is ServiceState.RUNNING for n in names
    )
    for wrong in [t for t in targets if not t["consistent"] or t["health"] != "Healthy" or t["new"] == t["old"]]:
        say(f"The world is not as promised: {wrong}")
    return Ending(ok=listed and others and few and well, targets=targets)


def _ended(root: Message) -> bool:
    return is_over(root) and "Finished" in root.content


def _retry(sandbox: Sandbox, thread: Thread) -> None:
    """Press the button and follow the run that it begins."""
    there = {m.ts for m in sandbox.slack.messages()}
    thread.press("rita", "Retry failed")
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        new = next((m for m in sandbox.slack.messages() if m.ts not in there and m.is_bot), None)
        if new:
            thread.adopt(new)
            return
        time.sleep(0.05)
    raise TimeoutError("nothing was retried")
