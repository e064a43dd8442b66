"""Replies in a run's thread: who decided, what became of each target, how it ended."""

from collections.abc import Sequence

from bot.domain.plan import Plan
from bot.domain.run import Decision, Hold, Outcome, OutcomeKind, Run, RunState, named
from bot.slack import fleet_message, guard_message
from bot.slack.blocks import (
    Json,
    Line,
    bold,
    bullets,
    code,
    context,
    emoji,
    joined,
    line,
    message,
    name,
    preformatted,
    rich,
    say,
    spoken,
    user,
    when,
    within,
)
from bot.slack.message import Message
from bot.slack.progress_message import again_buttons
from bot.slack.text import clean, count, duration, escape, sentence
from bot.slack.words import OUTCOME_ICONS, change_of, change_text, counts_of, icon_of, people_of, records_by_space


def approved(run: Run) -> Message:
    """Return who approved which plan, and what happens now."""
    who, digest = _deciders(run), run.plan.digest[:8].upper()
    again = " Every target is looked at again first; then the work begins."
    if run.state is RunState.WAITING and run.plan.schedule:
        again = f" It begins by itself {clean(run.plan.schedule.text, 600)}; every target is looked at again then."
    if run.retry_of:
        elements: Line = [emoji("repeat"), say(" "), code(run.id), say(" repeats what failed in "), code(run.retry_of)]
        elements += [say(", under the approval that "), *who, say(" gave"), *_at(run), say("." + again)]
        text = f"`{run.id}` repeats what failed in `{escape(run.retry_of)}`, approved by {_decider_text(run)}."
    else:
        elements = [emoji("white_check_mark"), say(" "), *who, say(" approved plan "), code(digest), *_at(run)]
        elements.append(say("." + again))
        text = f"Plan `{digest}` was approved by {_decider_text(run)}."
    return message(text, [rich(line(*elements))])


def denied(run: Run) -> Message:
    """Return who denied the plan."""
    elements: Line = [emoji("no_entry"), say(" "), *_deciders(run), say(" denied this plan"), *_at(run)]
    if run.decision and run.decision.reason:
        elements.append(say(f": “{clean(run.decision.reason, 500)}”"))
    elements.append(say(". Nothing was touched."))
    return message(f"The plan was denied by {_decider_text(run)}. Nothing was touched.", [rich(line(*elements))])


def expired(run: Run) -> Message:
    """Return that nobody decided in time."""
    request = run.plan.request
    elements: Line = [emoji("alarm_clock"), say(" Nobody decided before "), when(run.expires)]
    elements += [say(", so the plan has expired. Nothing was touched. "), user(request.user, request.user_name)]
    elements.append(say(", ask for a new plan when somebody is there to approve it."))
    return message("The plan has expired; nothing was touched.", [rich(line(*elements))])


def cancelled(run: Run) -> Message:
    """Return who took the plan back, or had the run stopped, and what that means."""
    who = user(run.stopped_by) if run.stopped_by else say("Somebody")
    if run.state is RunState.CANCELLED:
        text, rest = "The plan was taken back; nothing was touched.", " took this plan back. Nothing was touched."
    else:
        text = "The run stops at its next safe point."
        rest = (
            " asked to stop. Targets that are being worked on are finished; those whose turn has not come "
            "stay as they are."
        )
    return message(text, [rich(line(emoji("octagonal_sign"), say(" "), who, say(rest)))])


def paused(run: Run) -> Message:
    """Return who paused the run, and what that means."""
    who = user(run.hold.by) if run.hold and run.hold.by else say("Somebody")
    rest = (
        " paused the run. Targets that are being worked on are finished; nothing more is begun until somebody "
        "presses Resume."
    )
    text = "The run is paused: nothing more is begun until somebody presses Resume."
    return message(text, [rich(line(emoji("double_vertical_bar"), say(" "), who, say(rest)))])


def resumed(by: str) -> Message:
    """Return who lets the run go on."""
    head = [emoji("arrow_forward"), say(" "), user(by), say(" lets the run go on.")]
    return message("The run goes on.", [rich(line(*head))])


def closed(hold: Hold) -> Message:
    """Return that the run waits because its window has closed."""
    rest: Line = [say(" Its window has closed. What is being worked on is finished; the run goes on by itself")]
    rest += [say(" at "), when(hold.until, "{date_short_pretty} {time}")] if hold.until else []
    return message("The run waits: its window has closed.", [rich(line(emoji("double_vertical_bar"), *rest, say(".")))])


def opened(hold: Hold) -> Message:
    """Return that the run goes on, or begins, now that its time has come."""
    rest: Line = [say(" Its time has come, and it works. It had waited since ")]
    rest += [when(hold.since, "{date_short_pretty} {time}"), say(".")]
    return message("The run's time has come.", [rich(line(emoji("arrow_forward"), *rest))])


def stopped_itself(run: Run) -> Message:
    """Return why the run begins nothing more, and where everything is."""
    total, over = len(run.targets), len(run.outcomes)
    text = f"The run stops itself: {escape(run.stopped_why)}."
    rest = (
        f"{over} of {total} have ended ({counts_of(run) or 'none'}). What is being worked on is finished; "
        "those whose turn has not come stay as they are. The end of this thread lists them all."
    )
    head = line(emoji("octagonal_sign"), say(" "), bold("The run stops itself: "), say(f"{clean(run.stopped_why)}."))
    return message(text, [rich(head, line(say(rest)))])


def skipped(run: Run) -> Message:
    """Return which targets of a fleet are left out after the second look, and why."""
    number = sum(o.kind is OutcomeKind.SKIPPED for o in run.outcomes)
    text = f"{number} of {count(len(run.targets), 'target')} are skipped after the second look, and stay as they are."
    return message(text, [fleet_message.troubles(run, 6_000, 20, "Skipped after the second look")])


def more_trouble(told: int) -> Message:
    """Return that further failures are only listed at the end."""
    text = f"More than {told} targets have failed. Further ones stand in the message above and in the final list."
    return message(text, [rich(line(emoji("warning"), say(f" {text}")))])


def plan_attached(plan: Plan, run_id: str = "") -> Message:
    """Return the comment of the file with the whole plan, of a run or of one that is only looked at."""
    return Message(f"The whole plan{f' of `{run_id}`' if run_id else ''}: {len(plan.targets)} targets, wave by wave.")


def result_attached(run: Run) -> Message:
    """Return the comment of the file with the full result."""
    return Message(f"The full result of `{run.id}`: {len(run.outcomes)} targets, failures first.")


def stale(run: Run, target: str, changes: Sequence[str]) -> Message:
    """Return what changed about a target since it was approved."""
    text = f"{escape(target)} has changed since it was approved and is not touched. Ask for a new plan of it."
    head = line(
        emoji("fast_forward"),
        say(" "),
        name(target),
        say(" has changed since it was approved, so it is not touched. What is different:"),
    )
    lines = within([spoken(c, 900) for c in changes], 6_000, 30)
    after = line(say("The other targets go on. Ask for a new plan of this one if the change is right."))
    if len(run.targets) == 1:
        after = line(say("Ask for a new plan if the change is right."))
    return message(text, [rich(head, *([bullets(lines)] if lines else [])), rich(after)])


def outcome(run: Run, outcome: Outcome) -> Message:
    """Return what became of one target."""
    facts = next((t.facts for t in run.plan.targets if t.name == outcome.target), None)
    title: Line = [emoji(OUTCOME_ICONS[outcome.kind]), say(" "), name(outcome.target), say(f" {_ended(outcome)}")]
    lines = [line(*title), line(*change_of(outcome))]
    if outcome.kind.changed and facts and facts.records:
        lines.append(line(bold("Records "), *joined(records_by_space(facts), "; ")))
    blocks: list[Json | None] = [rich(*lines)]
    blocks += _story(outcome, people_of(run))
    blocks.append(again_buttons(run) if len(run.targets) == 1 else None)
    text = f"{escape(outcome.target)} {_ended(outcome)} {change_text(outcome)}"
    if outcome.what and outcome.kind is not OutcomeKind.HEALTHY:
        text += f" {escape(outcome.what)}"
    return message(text, blocks)


def _ended(outcome: Outcome) -> str:
    took = f" after {duration(outcome.seconds)}" if outcome.seconds else ""
    health = f", Octopus says {outcome.health.value}" if outcome.health else ""
    match outcome.kind:
        case OutcomeKind.HEALTHY:
            return f"is rotated and healthy{took}{health}."
        case OutcomeKind.UNHEALTHY:
            return f"is rotated but unhealthy{took}{health}."
        case OutcomeKind.NOT_PROVEN:
            return f"is rotated, but its health is not proven{took}."
        case OutcomeKind.UNDONE:
            step = f" at “{outcome.failed_step.value}”" if outcome.failed_step else ""
            return f"failed{step} and was undone{took}."
        case OutcomeKind.FAILED:
            step = f" at “{outcome.failed_step.value}”" if outcome.failed_step else ""
            return f"failed{step}{took} and needs a person."
        case OutcomeKind.SKIPPED:
            return "was skipped."
        case OutcomeKind.UNTOUCHED:
            return "was not reached."


def _story(outcome: Outcome, people: set[str]) -> list[Json | None]:
    """Return what happened, what was undone, how it is now and what to do, each on a line of its own."""
    blocks: list[Json | None] = []
    parts = [("Undone", outcome.undone), ("Now", outcome.now), ("Next", outcome.advice)]
    if outcome.what and outcome.kind in {OutcomeKind.UNDONE, OutcomeKind.FAILED}:
        blocks.append(rich(line(bold("What happened")), preformatted(outcome.what)))
    else:
        parts.insert(0, ("Why", outcome.what))
    lines = [line(bold(f"{label}  "), *spoken(sentence(text), 1_200, people)) for label, text in parts if text]
    return [*blocks, rich(*lines) if lines else None]


def gate_decided(gate: str, decision: Decision) -> Message:
    """Return who decided an approval in the middle of a run."""
    verb = "approved" if decision.approved else "denied"
    icon = "white_check_mark" if decision.approved else "no_entry"
    if not decision.user:
        text = f"Nobody decided about the {gate} in time, so it is not approved."
        return message(text, [rich(line(emoji("hourglass"), say(f" {text}")))])
    elements: Line = [emoji(icon), say(" "), user(decision.user, decision.user_name), say(f" {verb} the {gate}")]
    if decision.reason:
        elements.append(say(f": “{clean(decision.reason, 300)}”"))
    return message(f"{named(decision.user)} {verb} the {gate}.", [rich(line(*elements, say(".")))])


def finished(run: Run) -> Message:
    """Return how the run ended, with *Retry* and *Roll back* where they make sense."""
    counts = counts_of(run) or "nothing was done"
    text = f"Run `{run.id}` is over: {counts}."
    head: Line = [emoji(icon_of(run)), say(" "), bold("The run is over"), say(f": {counts}.")]
    bad = [o for o in run.outcomes if o.kind is OutcomeKind.FAILED]
    parts = [line(*head)]
    if run.stopped_why:
        parts.append(line(say(f"It stopped itself: {clean(run.stopped_why)}.")))
    if bad:
        parts.append(line(say("These need a person now:")))
        parts.append(
            bullets(
                within([[name(o.target), say(": "), *spoken(sentence(o.now or o.what), 400)] for o in bad], 4_000, 40)
            )
        )
    blocks: list[Json | None] = [rich(*parts)]
    if fleet_message.is_fleet(run):
        blocks.append(fleet_message.troubles(run, 6_000, 60))
    if run.keeps_copies and any(o.kind.changed for o in run.outcomes):
        blocks.append(
            context("The old keys are kept on the hosts for a day, so that a roll back is possible, and then removed.")
        )
    blocks.append(again_buttons(run) if len(run.targets) > 1 else None)
    return message(text, blocks)


def wordless(about: str, error: str) -> Message:
    """Return that there is something to say which an error keeps from being said, and where it can be read."""
    text = (
        f"What there is to say about {escape(about)} could not be put into a message ({escape(error)}); the work "
        "itself goes on. Run octocert status in a terminal, or look with show-thumbprint, and at the bot's log."
    )
    return message(text, [rich(line(emoji("warning"), say(f" {text}")))])


def broke_off(run_id: str) -> Message:
    """Return that a run was ended by an error, and its end by another one, so that nobody knows what it left."""
    text = (
        f"The run {run_id} broke off: an error that nobody expected ended it, and not even its end could be carried "
        "out. Services that it stopped are started by a task on their hosts. What it did not tell above is not known: "
        "look with show-thumbprint at its targets, and at the bot's log. Nothing more will happen in this run."
    )
    return message(text, [rich(line(emoji("rotating_light"), say(" "), bold("The run broke off. "), say(text)))])


def swept_all() -> Message:
    """Return that the old keys of a whole fleet are gone."""
    text = "The copies with the old keys were removed from all hosts of this run; rolling back is no longer possible."
    return message(text, [rich(line(emoji("closed_lock_with_key"), say(f" {text}")))])


def swept(target: str) -> Message:
    """Return that the old key is gone from a host."""
    text = (
        f"The copy with the old key of {escape(target)} was removed from its host; rolling back is no longer possible."
    )
    elements: Line = [emoji("closed_lock_with_key"), say(" The copy with the old key of "), name(target)]
    elements.append(say(" was removed from its host. Rolling it back from that copy is no longer possible."))
    return message(text, [rich(line(*elements))])


def _deciders(run: Run) -> Line:
    if run.decision and run.decision.approved:
        return guard_message.listed_people(run.approvers)
    return [user(run.decision.user, run.decision.user_name)] if run.decision else [say("Somebody")]


def _decider_text(run: Run) -> str:
    if run.decision and run.decision.approved:
        return " and ".join(f"<@{d.user}>" for d in run.approvers)
    return f"<@{run.decision.user}>" if run.decision else "somebody"


def _at(run: Run) -> Line:
    return [say(" at "), when(run.decision.at)] if run.decision else []
