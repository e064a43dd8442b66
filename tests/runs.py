"""Runs for tests, and what people see of the messages about them."""

from dataclasses import replace
from datetime import timedelta

from bot.domain.facts import Health, TaskInfo
from bot.domain.plan import Plan, Refusal
from bot.domain.run import Decision, Outcome, OutcomeKind, Run, RunState, StepProgress, StepState, TargetProgress
from bot.sandbox.slack.model import elements_of, texts
from bot.sandbox.slack.validator import BLOCKS_TOTAL, blocks_length, check_message
from bot.slack.message import Message
from tests.making import NOW, facts, plan, polling, thumbprint

DECIDED = Decision(user="U0ADA", user_name="ada", approved=True, at=NOW + timedelta(minutes=4))
HOSTILE = "x`<@U0EVIL> *b* _i_ ~s~ <!channel> <https://evil.example|ok> :boom: & \u202egnp\u202c.exe " + "A" * 300
NAMES = [HOSTILE, "Ω-сервер-01", "web 01 (Payments)", "*", "`", "<!here>", "&amp;", "a" * 200, "\u202e", "-"]
PENDING = StepState.PENDING


def run_of(of: Plan, state: RunState = RunState.PROPOSED, **changes) -> Run:
    """Return a run of a plan, nothing of it begun unless said otherwise."""
    targets = tuple(progress(of, name) for name, _ in of.subjects)
    plain = Run(
        id="r-7k2m9q4x",
        plan=of,
        state=state,
        created=NOW,
        expires=NOW + timedelta(minutes=30),
        nonce="n0nce",
        targets=targets,
    )
    return replace(plain, **changes)


def progress(of: Plan, name: str, done: int = -1, detail: str = "", outcome: Outcome | None = None) -> TargetProgress:
    """Return how far a target is: `done` steps complete and the next in progress; -1 where nothing was begun."""
    steps = []
    for number, step in enumerate(dict(of.subjects)[name]):
        state = StepState.COMPLETE if number < done else StepState.IN_PROGRESS if number == done else PENDING
        steps.append(StepProgress(step=step, state=state, detail=detail if number == done else ""))
    return TargetProgress(name=name, steps=tuple(steps), outcome=outcome)


def ended(of: Plan, name: str, kind: OutcomeKind = OutcomeKind.HEALTHY, **changes) -> Outcome:
    """Return what became of a target, as the runs say it."""
    old = of.server.old if of.server else of.target(name).old
    bad = {} if kind.changed else {"what": "it went wrong", "now": "the old one is in force", "advice": "mend it"}
    plain = Outcome(
        target=name,
        kind=kind,
        old=old,
        new=thumbprint(99) if kind.changed else None if kind is OutcomeKind.FAILED else old,
        health=Health.HEALTHY if kind is OutcomeKind.HEALTHY else None,
        seconds=42.0,
        **bad,
    )
    return replace(plain, **changes)


def over(of: Plan, *kinds: OutcomeKind, **changes) -> Run:
    """Return a finished run whose targets ended in these ways, over and over."""
    targets = tuple(
        progress(of, name, 99, outcome=ended(of, name, kinds[i % len(kinds)]))
        for i, (name, _) in enumerate(of.subjects)
    )
    changes = {"decision": DECIDED, "ended": NOW + timedelta(minutes=6), "targets": targets} | changes
    changes = {"keeps_copies": True} | changes
    return run_of(of, RunState.FINISHED, **changes)


def fleet(number: int, *, hostile: bool = False) -> Plan:
    """Return the plan of a fleet; hostile names, records and tasks if wanted."""
    every = []
    for i in range(number):
        name = f"{NAMES[i % len(NAMES)]}{i}" if hostile else f"web-{i:03}"
        one = polling(name, i + 1) if i % 5 == 4 else facts(name, i + 1)
        if hostile:
            more = tuple(
                replace(one.records[0], id=f"M-{i}-{k}", space=f"{HOSTILE}{k}", environments=(HOSTILE, f"E{k}"))
                for k in range(1 + i % 9)
            )
            task = TaskInfo(id="T", name="Deploy", description=HOSTILE, state="Executing")
            one = replace(one, records=more, tasks=(task,))
        every.append(one)
    made = plan(*every, reason=HOSTILE * 3 if hostile else "yearly rotation")
    assert len(made.targets) == number
    if hostile:
        refusals = tuple(Refusal(name=n, reason=HOSTILE, advice=HOSTILE) for n in NAMES * 3)
        made = replace(made, refused=refusals)
    return made


def shown(message: Message) -> str:
    """Return all that a reader of a message sees."""
    return "\n".join(piece for block in message.blocks for piece in texts(block))


def buttons(message: Message) -> list[str]:
    """Return the labels of a message's buttons."""
    return [e.label for e in elements_of(message.blocks)]


def mentioned(message: Message) -> set[str]:
    """Return the ids of everybody whom a message mentions in its blocks."""

    def walk(node):
        if isinstance(node, dict):
            if node.get("type") in {"user", "usergroup", "broadcast", "channel"}:
                yield str(node.get("user_id") or node.get("range") or node.get("channel_id"))
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list | tuple):
            for value in node:
                yield from walk(value)

    return set(walk(message.blocks))


def assert_valid(message: Message) -> None:
    """Assert that Slack takes a message, and that it does what it should with text from outside."""
    payload = {"text": message.text, "blocks": list(message.blocks)}
    assert check_message(payload) == []
    assert blocks_length(payload["blocks"]) <= BLOCKS_TOTAL
    assert message.text.strip()
    for harm in ("<!channel>", "<!here>", "<https://evil", "<@U0EVIL>"):
        assert harm not in message.text
    assert mentioned(message) <= {"U0RITA", "U0ADA", "U0BEN"}
    assert "\u202e" not in shown(message)
