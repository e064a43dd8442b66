"""The compact form of a run over many targets: how far it is, what is worked on, what went wrong."""

import re
from datetime import datetime

from bot.domain.plan import StepKind
from bot.domain.run import Outcome, OutcomeKind, Run, RunState, StepProgress, StepState, TargetProgress
from bot.slack.blocks import Json, Line, bold, bullets, emoji, line, name, rich, say, spoken, table, within
from bot.slack.text import clean, count, duration, gist, listed, sentence
from bot.slack.words import OUTCOME_ICONS, counts_of, current_of, is_under_way, people_of

FLEET = 20
"""Runs over more targets than this are shown in this form."""
BAR = 20
"""Characters of the bar that shows how far a fleet is."""
MOST_NAMED = 3
"""Targets of one step that are named while they are worked on."""
MOST_ROWS = 9
"""Up to so many steps stand in the table all the time, so that it keeps its height; of more only those in use."""
MOST_ALIKE = 6
"""Targets with the same trouble that are named; the file with the full result names all."""
NOTHING = "–"  # noqa: RUF001  # a dash stands for nothing
MOST_TROUBLES = 10
"""Troubles that are shown while the run goes on; its end shows as many as fit."""
_DIGITS = re.compile(r"[0-9A-F]{40}|[0-9]+")
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


def body(run: Run, *, as_table: bool) -> list[Json | None]:
    """Return how many targets are at which step, as Slack's table or as a list, and what went wrong so far.

    The table stands there as soon as something was begun.
    """
    places = _places(run)
    busy = {step: at for step, at in places.items() if at}
    working: Json | None = None
    if as_table and (busy or any(o.seconds for o in run.outcomes)):
        rows = places if len(places) <= MOST_ROWS else busy
        cells = [(_label(step), str(len(at) or NOTHING), _which(at) or NOTHING) for step, at in rows.items()]
        working = table(("Step", "Now", "Which"), cells, numbers=(1,))
    elif busy:
        lines: list[Line] = [
            [bold(_label(step)), say(f"  {len(at)}: "), *spoken(_which(at), 400)] for step, at in busy.items()
        ]
        working = rich(line(bold("In progress")), bullets(lines))
    return [working, troubles(run, 3_000, MOST_TROUBLES)]


def _label(step: StepKind) -> str:
    return step.value[0].upper() + step.value[1:]


def _places(run: Run) -> dict[StepKind, list[tuple[TargetProgress, StepProgress]]]:
    """Return who is at which step, by all steps of the run in their order; who is between two is at the next one."""
    longest = max((t.steps for t in run.targets), key=len, default=())
    every = dict.fromkeys(s.step for steps in (longest, *(t.steps for t in run.targets)) for s in steps)
    places: dict[StepKind, list[tuple[TargetProgress, StepProgress]]] = {s: [] for s in every}
    for target in run.targets:
        at = _where(target)
        if at:
            places[at.step].append((target, at))
    return places


def _where(target: TargetProgress) -> StepProgress | None:
    if not is_under_way(target):
        return None
    left = (s for s in target.steps if s.state is not StepState.COMPLETE)
    return current_of(target) or next(left, target.steps[-1])


def _which(at: list[tuple[TargetProgress, StepProgress]]) -> str:
    """Return some names, and what the first one that has something to tell tells."""
    names = listed([t.name for t, _ in at], MOST_NAMED, 40)
    told = next((f"{clean(t.name, 40)}: {clean(s.detail.replace('`', ''), 80)}" for t, s in at if s.detail), "")
    return f"{names}. {told}" if told and len(at) > 1 else told or names


def troubles(run: Run, budget: int, most: int, title: str = "Did not go well") -> Json | None:
    """Return which targets did not end well and why, the worst first; those whose turn never came only as a number.

    Targets that met the same trouble stand in one line.
    """
    worst_first = list(reversed(OutcomeKind))
    bad = [o for o in run.outcomes if o.kind not in {OutcomeKind.HEALTHY, OutcomeKind.UNTOUCHED}]
    if not bad:
        return None
    bad.sort(key=lambda o: (not o.kind.is_failure, worst_first.index(o.kind)))
    people = people_of(run)
    lines = within([_trouble(alike, people) for alike in _alike(run, bad)], budget, most)
    return rich(line(bold(f"{title}: {count(len(bad), 'target')}")), *[line(*one) for one in lines])


def _alike(run: Run, bad: list[Outcome]) -> list[list[Outcome]]:
    """Return outcomes grouped by what happened, whatever their names, addresses and thumbprints are."""
    hosts = {t.name: t.facts.host.address for t in run.plan.targets if t.facts.host}
    groups: dict[tuple[OutcomeKind, str], list[Outcome]] = {}
    for one in bad:
        what = one.what.replace(hosts.get(one.target, one.target), "#").replace(one.target, "#")
        groups.setdefault((one.kind, _DIGITS.sub("#", what)), []).append(one)
    return list(groups.values())


def _trouble(alike: list[Outcome], people: set[str]) -> Line:
    first = alike[0]
    shown: Line = [emoji(OUTCOME_ICONS[first.kind]), say(" ")]
    if len(alike) == 1:
        shown += [name(first.target), say(f" {first.kind.value}")]
    else:
        shown += [
            bold(f"{len(alike)} {first.kind.value}"),
            say(f": {listed([o.target for o in alike], MOST_ALIKE, 40)}"),
        ]
    if first.what:
        why = gist(sentence(first.what), 160)
        shown += [say(": " if len(alike) == 1 else f". {clean(first.target, 40)}: "), *spoken(why, 200, people)]
    return shown
