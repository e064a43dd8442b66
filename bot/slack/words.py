"""Words for the states of a run, a step and an outcome, the same in every message."""

from collections import Counter

from bot.domain.certificate import CertificateDetails
from bot.domain.facts import Record, TargetFacts
from bot.domain.plan import Plan, StepKind, TargetPlan
from bot.domain.run import Outcome, OutcomeKind, Run, RunState, StepProgress, StepState, TargetProgress
from bot.domain.windows import Schedule
from bot.slack.blocks import Inline, Line, code, joined, link, say, when
from bot.slack.text import LONGEST_NAME, clean, escape, listed, sentence

OUTCOME_ICONS = {
    OutcomeKind.HEALTHY: "white_check_mark",
    OutcomeKind.UNHEALTHY: "warning",
    OutcomeKind.NOT_PROVEN: "grey_question",
    OutcomeKind.UNDONE: "leftwards_arrow_with_hook",
    OutcomeKind.FAILED: "x",
    OutcomeKind.SKIPPED: "fast_forward",
    OutcomeKind.UNTOUCHED: "white_circle",
}
STEP_ICONS = {
    StepState.PENDING: "white_circle",
    StepState.IN_PROGRESS: "hourglass_flowing_sand",
    StepState.COMPLETE: "white_check_mark",
    StepState.ERROR: "x",
}
MADE_ON_HOST = "made on the host"
SERVER_TITLE = "Rotate the Octopus Server's certificate"
SIGNED_AFTERWARDS = "signed by the CA once this is approved"
_SPACES = 6
"""Spaces, and records of one space, that are named; of more only the number is."""


def icon_of(run: Run) -> str:
    """Return the one icon that says how a run stands."""
    if run.state is RunState.FINISHED:
        kinds = {o.kind for o in run.outcomes}
        if kinds == {OutcomeKind.HEALTHY}:
            return "white_check_mark"
        return "x" if OutcomeKind.FAILED in kinds else "warning"
    return {
        RunState.PROPOSED: "hourglass_flowing_sand",
        RunState.WAITING: "alarm_clock",
        RunState.RUNNING: "arrows_counterclockwise",
        RunState.PAUSED: "double_vertical_bar",
        RunState.ASKING: "hourglass_flowing_sand",
        RunState.STOPPING: "octagonal_sign",
        RunState.DENIED: "no_entry",
        RunState.EXPIRED: "alarm_clock",
        RunState.CANCELLED: "no_entry_sign",
    }[run.state]


def title_of(plan: Plan, *, retry_of: str | None = None) -> str:
    """Return what is done to which targets, clean, for a header."""
    if plan.server:
        return "Put the Octopus Server's old certificate back" if plan.source.backup else SERVER_TITLE
    verb = "Roll back" if plan.source.backup else "Retry" if retry_of else "Rotate"
    targets = [t.name for t in plan.targets]
    if len(targets) <= 3:
        return f"{verb} {listed(targets, limit=40)}" if targets else f"{verb}: nothing to do"
    return f"{verb} {len(targets)} Tentacles"


def titled(plan: Plan) -> str:
    """Return the same in the middle of a sentence, escaped for mrkdwn."""
    targets = [t.name for t in plan.targets]
    return escape(listed(targets, 3)) if targets else "nothing"


def counts_of(run: Run) -> str:
    """Return how many targets ended how: `4 healthy, 1 undone`; nothing while none has."""
    kinds = Counter(o.kind for o in run.outcomes)
    return ", ".join(f"{kinds[k]} {k.value}" for k in OutcomeKind if kinds[k])


def current_of(target: TargetProgress) -> StepProgress | None:
    """Return the step of a target that is in progress, else the one that failed, else None."""
    running = next((s for s in target.steps if s.state is StepState.IN_PROGRESS), None)
    return running or next((s for s in target.steps if s.state is StepState.ERROR), None)


def is_under_way(target: TargetProgress) -> bool:
    """Whether something was begun on a target and nothing has become of it yet."""
    return target.outcome is None and any(s.state is not StepState.PENDING for s in target.steps)


def comes_from(target: TargetPlan) -> str:
    """Return, where a thumbprint cannot be known yet, what stands in its place."""
    return SIGNED_AFTERWARDS if StepKind.IMPORT in target.steps else MADE_ON_HOST


def old_to_new(target: TargetPlan) -> Line:
    """Return `old → new`, whole, with what is not known yet in words."""
    new: Inline = code(target.new) if target.new else say(comes_from(target), italic=True)
    return [code(target.old), say(" → "), new]


def change_of(outcome: Outcome, *, inline: bool = False) -> Line:
    """Return which thumbprint became which, whole; honest where nothing changed or the end is not known."""
    arrow = say(" → " if inline else "\n→ ")  # on a phone a thumbprint fills a line
    if outcome.new is None:
        return [code(outcome.old), arrow, say("not known", italic=True)]
    if outcome.new == outcome.old:
        return [code(outcome.old), say(" stays in force")]
    return [code(outcome.old), arrow, code(outcome.new)]


def change_text(outcome: Outcome) -> str:
    """Return the same as mrkdwn."""
    if outcome.new is None:
        return f"`{outcome.old}` → not known"
    if outcome.new == outcome.old:
        return f"`{outcome.old}` stays in force"
    return f"`{outcome.old}` → `{outcome.new}`"


def what_it_is(facts: TargetFacts) -> str:
    """Return what a target is in Octopus: `listening deployment target · Production`, clean."""
    kinds = " and ".join(dict.fromkeys(r.kind.value for r in facts.records)) or "Tentacle"
    where = list(facts.environments) + [p for r in facts.records for p in r.pools]
    return f"{facts.style.value} {kinds}" + (f" · {listed(list(dict.fromkeys(where)), 4)}" if where else "")


def key_of(certificate: CertificateDetails) -> str:
    """Return key and signature of a certificate: `RSA 2048 bits, signed with sha256`."""
    key = f"{clean(certificate.key_algorithm, 20)} {certificate.key_bits} bits"
    return f"{key}, signed with {clean(certificate.signature_hash, 20)}"


def records_by_space(facts: TargetFacts) -> list[Line]:
    """Return a line per space: its name and links to the records there."""
    spaces: dict[str, list[Record]] = {}
    for record in facts.records:
        spaces.setdefault(record.space, []).append(record)
    lines: list[Line] = []
    for space, records in list(spaces.items())[:_SPACES]:
        links = [link_to(r) for r in records[:_SPACES]]
        links += [[say(f"… ({len(records) - _SPACES} more)")]] if len(records) > _SPACES else []
        lines.append([say(f"in {clean(space, 60)}: "), *joined(links, ", ")])
    if len(spaces) > _SPACES:
        lines.append([say(f"… ({len(spaces) - _SPACES} more spaces)")])
    return lines


def link_to(record: Record) -> Line:
    """Return a record's name, which leads to it in Octopus's portal, and whether it is disabled."""
    shown = link(record.url, clean(record.name, LONGEST_NAME))
    return [shown, say(" (disabled)")] if record.is_disabled else [shown]


def people_of(run: Run) -> set[str]:
    """Return the ids of the people who have to do with a run: only they are mentioned in its messages."""
    decided = [d.user for d in run.decisions] + ([run.decision.user] if run.decision else [])
    return {p for p in (run.plan.request.user, *decided, run.stopped_by) if p}


def restarts_of(target: TargetPlan) -> str:
    """Return what stops on a target, as a phrase."""
    if StepKind.STOP in target.steps:
        return "is stopped, changed and started"
    return "restarts once"


def scheduled(schedule: Schedule) -> Line:
    """Return in which window or after which time a run works, and when it would begin."""
    found: Line = [say(sentence(clean(schedule.text, 800)))]
    if schedule.begins:
        found += [say(" Approved before, it begins by itself at "), when(schedule.begins, "{date_short_pretty} {time}")]
        return [*found, say(".")]
    return [*found, say(" That is now.")]
