"""The tables [policy], [[policy.rules]] and [people] of the configuration: who may do what."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from bot.domain import policy as domain
from bot.settings_tables import Table
from bot.settings_values import ChannelId, UserId, problem

_WHO = re.compile(r"[UWS][A-Z0-9]{2,}")


def _who(value: str) -> str:
    if not _WHO.fullmatch(value):
        raise problem(
            f"holds “{value}”, which is not a Slack user id. Ids begin with U or W, those of user groups with S; "
            "Slack shows yours under Profile → ⋮ → Copy member ID."
        )
    return value


Who = Annotated[str, AfterValidator(_who)]
"""A Slack user id, or the id of a user group."""
Minutes = Annotated[int, Field(ge=1, le=10_080)]
"""A duration in minutes, at most a week."""
Approvals = Annotated[int, Field(ge=1, le=9)]
"""How many different people."""


_UNAPPROVED = {domain.Action.STEER, domain.Action.FREEZE, domain.Action.UNFREEZE}
_UNREASONED = {domain.Action.STEER, domain.Action.UNFREEZE, domain.Action.CLEAN_UP}


class Rule(Table):
    """What is different for some actions or environments; where several rules fit, all must be satisfied."""

    actions: tuple[domain.Action, ...] = Field(default=(), strict=False)
    """rotate, rotate-server, roll-back, clean-up, steer, freeze, unfreeze; empty means every action."""
    environments: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Globs over names of environments and worker pools; empty means everywhere."""
    requesters: tuple[Who, ...] = ()
    """Who may ask."""
    approvers: tuple[Who, ...] = ()
    """Who may approve."""
    approvals: Approvals | None = None
    """How many different people must approve."""
    reason_required: bool | None = None
    """Whether a request needs --reason."""

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        """Refuse what would look like a protection and be none."""
        unapproved, unreasoned = (sorted(set(self.actions) & kinds) for kinds in (_UNAPPROVED, _UNREASONED))
        if unapproved and (self.approvers or self.approvals or self.environments):
            raise problem(
                f"is about {' and '.join(unapproved)}, which needs no approval and happens in no environment. Give "
                "that a rule of its own that has only requesters: those who may."
            )
        if unreasoned and self.reason_required:
            raise problem(
                f"is about {' and '.join(unreasoned)}, to which nobody can give a --reason. Give that a rule of its "
                "own without reason_required."
            )
        return self


class Person(Table):
    """One person who has several Slack accounts; nobody approves with one what they asked for with another."""

    slack: tuple[UserId, ...] = Field(min_length=1)
    """Their Slack user ids."""


class Policy(Table):
    """Who may do what. Nobody ever approves what they asked for themselves: there is no setting for that."""

    requesters: tuple[Who, ...] = ()
    """Slack ids of users and user groups who may ask for a rotation; empty means everybody in the channels below."""
    approvers: tuple[Who, ...]
    """Slack user ids of those who may approve, or of user groups; without them nothing could ever be approved."""
    channels: tuple[ChannelId, ...] = ()
    """Ids of the channels in which the bot takes commands; empty means every channel it was invited to."""
    approval_minutes: Minutes = 30
    """How long a plan waits for its approval, and how long a failed target may be retried under it."""
    approvals: Approvals = 1
    """How many different people must approve."""
    reason_required: bool = False
    """Whether a request needs --reason."""
    remind_minutes: Minutes | None = None
    """After how long the thread reminds the approvers; without it, never."""
    escalate_to: tuple[Who, ...] = ()
    """Slack ids of users and user groups who may approve, too, once nobody has decided for escalate_minutes."""
    escalate_minutes: Minutes | None = None
    """After how long it is escalated."""
    rules: tuple[Rule, ...] = ()
    """What is different for some actions or environments."""

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> Self:
        if not self.approvers:
            raise problem(
                "approvers is empty, so that nothing could ever be approved. Name the Slack user ids of those who may "
                'approve, such as ["U02ABCDEF"].'
            )
        if bool(self.escalate_to) != (self.escalate_minutes is not None):
            raise problem("needs escalate_to and escalate_minutes together, or neither.")
        for key in ("remind_minutes", "escalate_minutes"):
            if (getattr(self, key) or 0) >= self.approval_minutes:
                raise problem(f"{key} must be less than approval_minutes, when the plan expires.")
        return self


def contradictions(policy: Policy, people: Mapping[str, Person]) -> list[str]:
    """Return a sentence for each part of the policy under which nobody could ever approve anything."""
    found, known = [], dict[str, str]()
    for name, person in people.items():
        for user in person.slack:
            if user in known:
                found.append(f"[people.{name}] slack: {user} is named under [people.{known[user]}], too.")
            known[user] = name
    parts = [("[policy]", policy.approvers, policy.approvals, policy.requesters)]
    for number, rule in enumerate(policy.rules, 1):
        approvers, approvals = rule.approvers or policy.approvers, rule.approvals or policy.approvals
        parts.append((f"[[policy.rules]] entry {number}", approvers, approvals, rule.requesters or policy.requesters))
    for where, approvers, approvals, requesters in parts:
        sentence = _cannot(_persons([*approvers, *policy.escalate_to], known), approvals, _persons(requesters, known))
        if sentence:
            found.append(f"{where} {sentence}")
    return found


def _persons(who: Iterable[str], known: Mapping[str, str]) -> set[str] | None:
    """Return the people behind some ids; None where a group is among them, whose members only Slack knows."""
    every = set(who)
    return None if any(domain.is_group(w) for w in every) else {known.get(w, w) for w in every}


def _cannot(approvers: set[str] | None, approvals: int, requesters: set[str] | None) -> str | None:
    if approvers is None:
        return None
    if len(approvers) < approvals:
        one = len(approvers) == 1
        return (
            f"wants {approvals} approvals of different people, but names only {len(approvers)} "
            f"{'person' if one else 'people'} as approver{'' if one else 's'}. Name more, or lower approvals."
        )
    if requesters and all(len(approvers - {r}) < approvals for r in requesters):
        if len(approvers) == 1:
            return (
                "names one and the same person as only requester and only approver, and nobody approves what they "
                "asked for themselves. Add a second approver."
            )
        return (
            f"lets only people ask without whom there are fewer than {approvals} approvers, and nobody approves what "
            "they asked for themselves. Add approvers, or lower approvals."
        )
    return None


def policy_of(policy: Policy, people: Mapping[str, Person], groups: domain.Groups) -> domain.Policy:
    """Return the policy that the bot goes by."""
    return domain.Policy(
        approvers=frozenset(policy.approvers),
        requesters=frozenset(policy.requesters),
        channels=frozenset(policy.channels),
        approval_minutes=policy.approval_minutes,
        approvals=policy.approvals,
        reason_required=policy.reason_required,
        remind_minutes=policy.remind_minutes,
        escalate_to=frozenset(policy.escalate_to),
        escalate_minutes=policy.escalate_minutes,
        rules=tuple(
            domain.Rule(
                actions=frozenset(r.actions),
                environments=r.environments,
                requesters=frozenset(r.requesters),
                approvers=frozenset(r.approvers),
                approvals=r.approvals,
                reason_required=r.reason_required,
            )
            for r in policy.rules
        ),
        people={user: name for name, person in people.items() for user in person.slack},
        groups=groups,
    )
