"""Runs: one plan being carried out, from proposal to its end, and what became of each target."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.domain.facts import Health
from bot.domain.plan import Plan, StepKind
from bot.domain.thumbprint import Thumbprint


class RunState(StrEnum):
    """Where a run stands. PROPOSED and ASKING can be decided; the last four are ends."""

    PROPOSED = "waiting for approval"
    WAITING = "waiting for its time"
    """Approved, and not begun: its window is closed, or its time has not come."""
    RUNNING = "running"
    PAUSED = "paused"
    """What is being worked on is finished, nothing more is begun until somebody resumes it."""
    ASKING = "waiting for the next approval"
    """Carried out in part; the next part needs an approval of its own."""
    STOPPING = "stopping at the next safe point"
    FINISHED = "finished"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self in {RunState.FINISHED, RunState.DENIED, RunState.EXPIRED, RunState.CANCELLED}


class StepState(StrEnum):
    """Where one step of one target stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETE = "complete"
    ERROR = "error"


class OutcomeKind(StrEnum):
    """What became of one target."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """Rotated, consistent, but Octopus says it is not well for a reason that the certificate does not explain."""
    NOT_PROVEN = "not proven"
    """Rotated; whether Octopus reaches it could not be found out."""
    UNDONE = "undone"
    """Failed, and put back as it was."""
    FAILED = "failed"
    """Failed in a state that needs a person."""
    SKIPPED = "skipped"
    """Not touched, because it was no longer what had been approved, or was busy, locked or out of reach."""
    UNTOUCHED = "untouched"
    """Its turn never came: the run was stopped before."""

    @property
    def changed(self) -> bool:
        """Whether the target has a new certificate now."""
        return self in {OutcomeKind.HEALTHY, OutcomeKind.UNHEALTHY, OutcomeKind.NOT_PROVEN}

    @property
    def is_failure(self) -> bool:
        """Whether something was tried and did not end well: what a run's error budget counts."""
        return self in {OutcomeKind.UNHEALTHY, OutcomeKind.NOT_PROVEN, OutcomeKind.UNDONE, OutcomeKind.FAILED}


TERMINAL = "terminal:"
"""How those are named who did something without Slack; their account's name follows."""


def named(who: str) -> str:
    """Return who did something, for a sentence: a mention by Slack's id, or an account's name in a terminal."""
    return f"{who.removeprefix(TERMINAL)} (in a terminal)" if who.startswith(TERMINAL) else f"<@{who}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one target."""

    target: str
    kind: OutcomeKind
    old: Thumbprint
    new: Thumbprint | None
    """The thumbprint that is in force now, where it is known: the old one again after an undo."""
    health: Health | None
    seconds: float
    what: str = ""
    """One sentence: what happened, with the decisive line of remote output if something failed."""
    undone: str = ""
    """What was put back, as a sentence; empty where nothing was."""
    now: str = ""
    """In which state the target is now, as a sentence."""
    advice: str = ""
    """What to do next, as a sentence."""
    failed_step: StepKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """One step of one target, for people to watch."""

    step: StepKind
    state: StepState
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetProgress:
    """One target of a run, for people to watch."""

    name: str
    steps: tuple[StepProgress, ...]
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided what about a run, when."""

    user: str
    user_name: str
    approved: bool
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why an approved run does not go on at the moment."""

    why: str
    """A phrase: `paused`, `the window nights is closed`."""
    since: datetime
    until: datetime | None = None
    """When it goes on by itself; None where somebody has to resume it."""
    by: str = ""
    """Slack user id of who paused it; empty where the bot waits by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a run stands, without its plan and its targets: what is asked at every safe point."""

    state: RunState
    stopped_by: str | None
    stopped_why: str
    hold: Hold | None
    counts: Mapping[OutcomeKind, int]
    """How many targets ended how, so far."""

    @property
    def failures(self) -> int:
        """How many targets failed so far."""
        return sum(number for kind, number in self.counts.items() if kind.is_failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Why no step begins anywhere."""

    by: str
    """Slack user id; `terminal:NAME` for who has no Slack, empty where the bot froze itself."""
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A snapshot of one run: all that a message needs."""

    id: str
    """Short, speakable, unique: `r-7k2m9q`."""
    plan: Plan
    state: RunState
    created: datetime
    expires: datetime
    """Until when it may be approved, and retried."""
    nonce: str
    """Carried by its buttons, so that a forged or foreign click is recognised."""
    targets: tuple[TargetProgress, ...]
    decision: Decision | None = None
    ended: datetime | None = None
    stopped_by: str | None = None
    """Slack user id of who cancelled it."""
    stopped_why: str = ""
    """Why the run stopped itself, as a phrase; empty where it did not."""
    hold: Hold | None = None
    """Why it does not go on at the moment; None where it does."""
    retry_of: str | None = None
    stage: str = ""
    """What the run as a whole is doing now, as a phrase: `wave 1 of 2`."""
    needed: int = 1
    """How many different people must approve its plan."""
    decisions: tuple[Decision, ...] = ()
    """What was decided about its plan so far, oldest first."""
    frozen: Freeze | None = None
    """Why nothing begins anywhere at the moment; None where nothing is frozen, or the run is over."""
    keeps_copies: bool = False
    """Whether hosts keep copies from which it can be rolled back, none of which is about to go."""

    @property
    def approvers(self) -> tuple[Decision, ...]:
        """The approvals of its plan so far, oldest first; a retry has that of the run which it repeats."""
        given = tuple(d for d in self.decisions if d.approved)
        return given or ((self.decision,) if self.decision and self.decision.approved else ())

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes so far."""
        return tuple(t.outcome for t in self.targets if t.outcome)
