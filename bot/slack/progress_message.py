"""The root message once a run was decided: live while it is carried out, then how it ended."""

from datetime import datetime

from bot.domain.plan import TargetPlan
from bot.domain.run import Hold, Outcome, OutcomeKind, Run, RunState, StepProgress, StepState, TargetProgress, named
from bot.slack import fleet_message, guard_message
from bot.slack.blocks import (
    Json,
    Line,
    actions,
    bold,
    button,
    code,
    confirm,
    content_hash,
    context,
    emoji,
    first_fitting,
    header,
    line,
    name,
    rich,
    say,
    spoken,
    user,
    when,
    within,
)
from bot.slack.message import Message
from bot.slack.text import clean, cut, duration, escape, listed, moment, sentence
from bot.slack.words import (
    OUTCOME_ICONS,
    STEP_ICONS,
    change_of,
    counts_of,
    current_of,
    icon_of,
    is_under_way,
    old_to_new,
    people_of,
    title_of,
)

EACH = 8
"""Up to so many targets are shown one by one while they are worked on; of more only those in progress or failed."""
STEP_BY_STEP = 3
"""Up to so many targets show all of their steps."""


def under_way_or_over(run: Run, *, now: datetime, rich: bool) -> Message:
    """Return the root message of a run that was decided, expired or cancelled."""
    if not run.state.is_over:
        return _live(run, now, cards=rich)
    if run.state is RunState.FINISHED:
        return _finished(run, now)
    return _never_begun(run)


_LIVE = {
    RunState.PROPOSED: "Waiting for approval",
    RunState.RUNNING: "Running",
    RunState.PAUSED: "Paused",
    RunState.WAITING: "Waiting for its time",
    RunState.ASKING: "Waiting for the next approval",
    RunState.STOPPING: "Stopping at the next safe point",
}


# --- while it runs --------------------------------------------------------------------------------------------------


def _live(run: Run, now: datetime, *, cards: bool) -> Message:
    title = title_of(run.plan, retry_of=run.retry_of)
    state = _LIVE[run.state]
    text = f"{escape(title)}: {state.lower()}" + (f", {escape(run.stage)}" if run.stage else "")
    counts = _counts_so_far(run)
    text += f" ({counts})." if counts else "."
    head: list[Json | None] = [header(title), _rich(_status(run, state), _cold(run), _who(run))]
    tail: list[Json | None] = [_steering(run), _footer(run)]
    targets = list(run.targets)
    if fleet_message.is_fleet(run):
        head[1] = _rich(
            _status(run, state), _cold(run), *[line(*one) for one in fleet_message.progress_lines(run, now)], _who(run)
        )
        return first_fitting(text, [lambda: [*head, *fleet_message.body(run, as_table=cards), *tail]])

    def shown() -> list[Json | None]:
        body = [_plan_block(run, title)] if cards else [_steps(run, t) for t in targets]
        return [*head, *body, *tail]

    def aggregated() -> list[Json | None]:
        busy = [t for t in targets if is_under_way(t)]
        failed = [t for t in targets if t.outcome and not t.outcome.kind.changed]
        if cards and (busy or failed):
            return [*head, _plan_block(run, title), *tail]
        lines = within([_short(run, t) for t in [*busy, *failed]], 7_000, 40)
        body = _rich(*[line(*one) for one in lines]) if lines else None
        return [*head, body, *tail]

    return first_fitting(text, [shown, aggregated] if len(targets) <= EACH else [aggregated])


def _cold(run: Run) -> Json | None:
    return guard_message.frozen_line(run.frozen) if run.frozen else None


def _rich(*parts: Json | None) -> Json:
    """Return a block of rich text of the parts that are there."""
    return rich(*[p for p in parts if p is not None])


def _status(run: Run, state: str) -> Json:
    elements: Line = [emoji(icon_of(run)), say(" "), bold(state)]
    if run.state is RunState.STOPPING and run.stopped_by:
        elements += [say(", as "), user(run.stopped_by), say(" asked")]
    elif run.state is RunState.STOPPING and run.stopped_why:
        elements.append(say(f", by itself: {clean(run.stopped_why)}"))
    if run.hold:
        elements += _held(run.hold, is_told=run.state in {RunState.PAUSED, RunState.WAITING})
    if run.stage:
        elements.append(say(f" · {clean(run.stage, 100)}"))
    counts = "" if fleet_message.is_fleet(run) else _counts_so_far(run)
    if counts:
        elements.append(say(f" · {counts}"))
    return line(*elements)


def _held(hold: Hold, *, is_told: bool) -> Line:
    """Return why a run does not go on, since when and until when."""
    found: Line = [] if is_told else [say(f", but {clean(hold.why, 200)}")]
    found += [say(" by "), user(hold.by)] if hold.by else []
    found += [say(" since "), when(hold.since, "{date_short_pretty} {time}")]
    found += [say(" until "), when(hold.until, "{date_short_pretty} {time}")] if hold.until else []
    return found


def _counts_so_far(run: Run) -> str:
    busy = sum(is_under_way(t) for t in run.targets)
    waiting = sum(t.outcome is None for t in run.targets) - busy
    pieces = [counts_of(run)] if run.outcomes else []
    if len(run.targets) > 1:
        pieces += [f"{busy} in progress"] if busy else []
        pieces += [f"{waiting} waiting"] if waiting else []
    return ", ".join(pieces)


def _who(run: Run) -> Json:
    request, decision = run.plan.request, run.decision
    elements: Line = [say("Asked for by "), user(request.user, request.user_name)]
    if request.reason:
        elements.append(say(f": “{clean(request.reason, 300)}”"))
    if decision:
        verb = "approved" if decision.approved else "denied"
        deciders = run.approvers if decision.approved else (decision,)
        elements += [say(f", {verb} by "), *guard_message.listed_people(deciders), say(" at "), when(decision.at)]
        if decision.reason:
            elements.append(say(f": “{clean(decision.reason, 300)}”"))
    return line(*elements, say("."))


def _steps(run: Run, target: TargetProgress) -> Json:
    plan = _plan_of(run, target.name)
    if target.outcome:
        return _rich(line(*_outcome_line(run, target.outcome, inline=False)))
    title = line(name(target.name), say("  "), *(old_to_new(plan) if plan else []))
    if len(run.targets) > STEP_BY_STEP:
        return _rich(title, line(*_where(target)))
    return _rich(title, *[line(*_step(s)) for s in target.steps])


def _step(step: StepProgress) -> Line:
    label = step.step.value[0].upper() + step.step.value[1:]
    shown: Line = [emoji(STEP_ICONS[step.state]), say(" ")]
    shown.append(bold(label) if step.state is StepState.IN_PROGRESS else say(label))
    if step.detail:
        shown += [say(": "), *spoken(step.detail, 300)]
    return shown


def _where(target: TargetProgress) -> Line:
    """Return where a target stands in one line: `step 4 of 7: restart the service`."""
    current = current_of(target)
    done = sum(s.state is StepState.COMPLETE for s in target.steps)
    total = len(target.steps)
    if current is None:
        if done == 0:
            return [emoji(STEP_ICONS[StepState.PENDING]), say(" waits for its turn")]
        return [emoji(STEP_ICONS[StepState.IN_PROGRESS]), say(f" {done} of {total} steps done")]
    place = next(i for i, s in enumerate(target.steps, 1) if s is current)
    shown: Line = [emoji(STEP_ICONS[current.state]), say(f" step {place} of {total}: "), bold(current.step.value)]
    if current.detail:
        shown += [say(": "), *spoken(current.detail, 300)]
    return shown


def _short(run: Run, target: TargetProgress) -> Line:
    if target.outcome:
        return _outcome_line(run, target.outcome)
    return [name(target.name), say("  "), *_where(target)]


def _plan_block(run: Run, title: str) -> Json:
    """Return Slack's plan block: a task for each step of one target, else for each target that matters now."""
    if len(run.targets) == 1:
        tasks = [_step_card(i, s) for i, s in enumerate(run.targets[0].steps)]
    else:
        shown = [t for t in run.targets if len(run.targets) <= EACH or _matters(t)]
        tasks = [_target_card(i, run, t) for i, t in enumerate(shown[:40])]
    state = run.stage or "running" if run.state is RunState.RUNNING else _LIVE[run.state].lower()
    whole = f"{title} ({clean(state, 80)})"
    version = content_hash(whole, tasks)
    return {"type": "plan", "block_id": f"plan-{version}", "title": cut(whole, 250), "tasks": tasks}


def _matters(target: TargetProgress) -> bool:
    return is_under_way(target) or (target.outcome is not None and not target.outcome.kind.changed)


def _step_card(number: int, step: StepProgress) -> Json:
    label = step.step.value[0].upper() + step.step.value[1:]
    card: Json = {"type": "task_card", "task_id": f"step-{number}", "title": label, "status": step.state.value}
    if step.detail:
        card["details"] = rich(line(*spoken(step.detail, 300)))
    return card


def _target_card(number: int, run: Run, target: TargetProgress) -> Json:
    if target.outcome:
        status = "complete" if target.outcome.kind.changed else "error"
        details = [say(f"{target.outcome.kind.value}: "), *_short_change(target.outcome)]
    else:
        status = "error" if any(s.state is StepState.ERROR for s in target.steps) else "pending"
        status = "in_progress" if is_under_way(target) and status != "error" else status
        details = _where(target)
    return {
        "type": "task_card",
        "task_id": f"target-{number}",
        "title": clean(target.name),
        "status": status,
        "details": rich(line(*details)),
    }


def _steering(run: Run) -> Json | None:
    """Return *Pause* or *Resume*, and *Stop*, where they make sense."""
    value = f"{run.id}:{run.nonce}"
    ask = confirm(
        "Stop this run?",
        "Targets that are being worked on are finished; those whose turn has not come are left as they are.",
        "Stop",
        danger=True,
    )
    stop = button("Stop", "cancel", value, style="danger", ask=ask)
    if run.state is RunState.PAUSED:
        return actions(button("Resume", "resume", value, style="primary"), stop)
    if run.state in {RunState.ASKING, RunState.WAITING}:
        return actions(stop)
    if run.state is RunState.RUNNING:
        return actions(*([button("Pause", "pause", value)] if len(run.targets) > 1 else []), stop)
    return None


def _footer(run: Run) -> Json:
    pieces = [f"Run `{run.id}`", f"plan `{run.plan.digest[:8].upper()}`"]
    if run.retry_of:
        pieces.append(f"repeats what failed in `{escape(run.retry_of)}`")
    if run.ended:
        pieces.append(f"ended {moment(run.ended)}")
    return context(" · ".join(pieces))


# --- when it is over ------------------------------------------------------------------------------------------------


def _finished(run: Run, now: datetime) -> Message:
    title = title_of(run.plan, retry_of=run.retry_of)
    counts = counts_of(run) or "nothing was done"
    status = line(emoji(icon_of(run)), say(" "), bold("Finished"), say(f": {counts}."), *_took(run))
    stopped = (
        line(emoji("octagonal_sign"), say(" Stopped by "), user(run.stopped_by), say(".")) if run.stopped_by else None
    )
    if run.stopped_why:
        stopped = line(emoji("octagonal_sign"), say(f" Stopped by itself: {clean(run.stopped_why)}."))
    outcomes = sorted(run.outcomes, key=lambda o: o.kind.changed)

    def body(budget: int, *, brief: bool) -> list[Json | None]:
        inline = len(outcomes) > EACH
        shown = within([_outcome_line(run, o, inline=inline, brief=brief) for o in outcomes], budget, 250)
        lines = [line(*one) for one in shown]
        listing = [_rich(*lines)] if inline else [_rich(one) for one in lines]
        buttons = again_buttons(run)
        return [header(title), _rich(status, stopped, _who(run)), *listing, buttons, _footer(run)]

    def compact() -> list[Json | None]:
        note = context("The full result is attached in the thread.")
        listing = fleet_message.troubles(run, 8_500, 100)
        return [
            header(title),
            _rich(status, stopped, _who(run)),
            listing,
            note,
            again_buttons(run),
            _footer(run),
        ]

    text = f"{escape(title)}: finished, {counts}."
    if fleet_message.is_fleet(run):
        return first_fitting(text, [compact])
    return first_fitting(text, [lambda: body(9_500, brief=False), lambda: body(9_500, brief=True)])


def _took(run: Run) -> Line:
    if run.ended is None or run.decision is None:
        return []
    begun = max(run.decision.at, run.created)  # a retry goes by an older decision
    return [say(f" It took {duration((run.ended - begun).total_seconds())}.")]


def _outcome_line(run: Run, outcome: Outcome, *, inline: bool = True, brief: bool = False) -> Line:
    """Return what became of a target; `inline` keeps it on one line, `brief` shows only the first digits."""
    took = f", {duration(outcome.seconds)}" if outcome.seconds else ""
    head: Line = [
        emoji(OUTCOME_ICONS[outcome.kind]),
        say(" "),
        name(outcome.target),
        say(f" {outcome.kind.value}{took}"),
    ]
    if brief:
        return [*head, say(": "), *_short_change(outcome)]
    found = [*head, say(": " if inline else "\n"), *change_of(outcome, inline=inline)]
    if outcome.kind is not OutcomeKind.HEALTHY and outcome.what:
        found += [say(". " if inline else "\n"), *spoken(sentence(outcome.what), 200, people_of(run))]
    return found


def _short_change(outcome: Outcome) -> Line:
    if outcome.new is None:
        return [code(outcome.old.short), say("… → not known")]
    if outcome.new == outcome.old:
        return [code(outcome.old.short), say("… stays in force")]
    return [code(outcome.old.short), say("… → "), code(outcome.new.short), say("…")]


def again_buttons(run: Run) -> Json | None:
    """Return *Retry* and *Roll back*, each where it makes sense; None where neither does."""
    value = f"{run.id}:{run.nonce}"
    buttons: list[Json] = []
    failed = [o.target for o in run.outcomes if not o.kind.changed]
    changed = [o.target for o in run.outcomes if o.kind.changed]
    approved = run.decision is not None and run.decision.approved
    several = len(run.targets) > 1 and run.plan.server is None
    if failed and approved and run.plan.server is None:  # of the Server a new plan finds what is done already
        ask = confirm(
            "Retry what failed?",
            f"{listed(failed, 3, 40)}: the same plan again, under the same approval as long as that lasts; "
            "afterwards a new plan is proposed.",
            "Retry",
        )
        buttons.append(button("Retry failed" if several else "Retry", "retry", value, ask=ask))
    if changed and approved and run.keeps_copies:
        ask = confirm(
            "Propose to roll back?",
            f"A new plan puts the former certificate of {listed(changed, 3, 40)} back. It needs its own approval.",
            "Propose",
        )
        buttons.append(button("Roll back all" if several else "Roll back", "roll_back", value, ask=ask))
    return actions(*buttons) if buttons else None


def _never_begun(run: Run) -> Message:
    title = title_of(run.plan, retry_of=run.retry_of)
    head: Line = [emoji(icon_of(run)), say(" "), bold(run.state.value.capitalize())]
    decision = run.decision
    text = f"{escape(title)}: {run.state.value}"
    if run.state is RunState.DENIED and decision:
        head += [say(" by "), user(decision.user, decision.user_name), say(" at "), when(decision.at)]
        text += f" by <@{decision.user}>"
    elif run.state is RunState.CANCELLED and run.stopped_by:
        head += [say(": taken back by "), user(run.stopped_by)]
        text += f" by {named(run.stopped_by)}"
        if run.ended:
            head += [say(" at "), when(run.ended)]
    elif run.state is RunState.EXPIRED:
        head += [say(": nobody decided before "), when(run.expires)]
    again = "Nothing was touched. Ask for a new plan to try again."
    keeps = " keeps\n" if len(run.plan.targets) <= EACH else " keeps "
    lines = within([[name(t.name), say(keeps), code(t.old)] for t in run.plan.targets], 8_000, 30)
    blocks: list[Json | None] = [
        header(title),
        _rich(line(*head, say(". " + again)), _who_asked(run)),
        _rich(*[line(*one) for one in lines]) if lines else None,
        _footer(run),
    ]
    return first_fitting(f"{text}. Nothing was touched.", [lambda: blocks])


def _who_asked(run: Run) -> Json:
    request = run.plan.request
    elements: Line = [say("Asked for by "), user(request.user, request.user_name)]
    if request.reason:
        elements.append(say(f": “{clean(request.reason, 300)}”"))
    if run.decision and run.decision.reason:
        elements.append(say(f". The reason for the decision: “{clean(run.decision.reason, 300)}”"))
    return line(*elements, say("."))


def _plan_of(run: Run, target: str) -> TargetPlan | None:
    return next((t for t in run.plan.targets if t.name == target), None)
