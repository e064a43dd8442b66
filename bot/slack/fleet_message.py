"""The compact form of a run over many targets: how far it is, what is worked on, what went wrong."""

from datetime import datetime

from bot.domain.run import Outcome, OutcomeKind, Run, RunState, StepState, TargetProgress
from bot.slack.blocks import Json, Line, bold, bullets, emoji, line, name, rich, say, spoken, within
from bot.slack.text import clean, count, duration, sentence
from bot.slack.words import OUTCOME_ICONS, counts_of, current_of, is_under_way, people_of

FLEET = 20
"""Runs over more targets than this are shown in this form."""
BAR = 20
"""Characters of the bar that shows how far a fleet is."""
MOST_BUSY = 10
"""Targets that are shown while they are worked on."""
MOST_TROUBLES = 10
"""Troubles that are shown while the run goes on; its end shows as many as fit."""
_TOLD_EARLY = 0.05
"""From this share of a fleet on, its own pace tells better than the plan how long it will take."""


def is_fleet(run: Run) -> bool:
    """Whether a run is shown in the compact form."""
    return len(run.targets) > FLEET


def progress_lines(run: Run, now: datetime) -> list[Line]:
    """Return how far a fleet is: a bar, counts, failures of those that may be, and about how long it will take."""
    done, total = len(run.outcomes), len(run.targets)
    busy = sum(is_under_way(t) for t in run.targets)
    filled = round(BAR * done / total) if total else BAR
    pieces = [counts_of(run)] if done else []
    pieces += [f"{busy} in progress"] if busy else []
    pieces += [f"{total - done - busy} waiting"] if total > done + busy else []
    lines: list[Line] = [
        [say("█" * filled + "░" * (BAR - filled) + " "), bold(f"{done} of {total}"), say(f": {', '.join(pieces)}")]
    ]
    notes = []
    if run.plan.max_failures is not None:
        failures = sum(o.kind.is_failure for o in run.outcomes)
        most = run.plan.max_failures
        notes.append(f"{count(failures, 'failure')}; with more than {most} the run stops itself")
    if left := _left(run, now):
        notes.append(f"about {duration(left)} to go")
    if notes:
        lines.append([say(sentence(" · ".join(notes)))])
    return lines


def _left(run: Run, now: datetime) -> float:
    """Return about how many seconds a run will take from now on; nothing while nobody can tell."""
    if run.state is not RunState.RUNNING or run.hold or run.decision is None:
        return 0.0
    share = len(run.outcomes) / len(run.targets)
    if share < _TOLD_EARLY:
        return run.plan.seconds * (1 - share)
    begun = max(run.decision.at, run.created)
    return max(0.0, (now - begun).total_seconds()) / share * (1 - share)


def body(run: Run) -> list[Json | None]:
    """Return what is worked on and what went wrong so far."""
    busy = [t for t in run.targets if is_under_way(t)]
    working = None
    if busy:
        lines = [_busy(t) for t in busy[:MOST_BUSY]]
        lines += [[say(f"… ({len(busy) - MOST_BUSY} more)", italic=True)]] if len(busy) > MOST_BUSY else []
        working = rich(line(bold("In progress")), bullets(lines))
    return [working, troubles(run, 3_000, MOST_TROUBLES)]


def troubles(run: Run, budget: int, most: int) -> Json | None:
    """Return which targets did not end well and why, the worst first; those whose turn never came only as a number."""
    worst_first = list(reversed(OutcomeKind))
    bad = [o for o in run.outcomes if o.kind not in {OutcomeKind.HEALTHY, OutcomeKind.UNTOUCHED}]
    if not bad:
        return None
    bad.sort(key=lambda o: (not o.kind.is_failure, worst_first.index(o.kind)))
    people = people_of(run)
    lines = within([_trouble(o, people) for o in bad], budget, most)
    return rich(line(bold(f"Not healthy: {count(len(bad), 'target')}")), *[line(*one) for one in lines])


def _busy(target: TargetProgress) -> Line:
    current = current_of(target)
    shown: Line = [bold(clean(target.name, 40))]
    if current is None:
        done, total = sum(s.state is StepState.COMPLETE for s in target.steps), len(target.steps)
        rest = "waits for its health check" if done == total - 1 else f"{done}/{total} done"
        return [*shown, say(f"  {rest}")]
    place = next(i for i, s in enumerate(target.steps, 1) if s is current)
    shown.append(say(f"  {place}/{len(target.steps)} {current.step.value}"))
    if current.detail:
        shown += [say(": "), *spoken(current.detail, 80)]
    return shown


def _trouble(outcome: Outcome, people: set[str]) -> Line:
    shown: Line = [emoji(OUTCOME_ICONS[outcome.kind]), say(" "), name(outcome.target), say(f" {outcome.kind.value}")]
    if outcome.what:
        shown += [say(": "), *spoken(sentence(outcome.what), 160, people)]
    return shown
