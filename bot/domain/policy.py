"""Policy: who may ask, who may approve and how many must, per action and environment. Refusals are sentences."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Protocol

from bot.domain.plan import Plan, Request


class Action(StrEnum):
    """What a rule of the policy may be about."""

    ROTATE = "rotate"
    ROTATE_SERVER = "rotate-server"
    ROLL_BACK = "roll-back"
    CLEAN_UP = "clean-up"
    """Removing the old trust after a rotation of the Server."""
    STEER = "steer"
    """Cancelling, pausing, resuming and retrying what somebody else asked for."""
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"


NOWHERE = ("",)
"""The environments of something that has none."""


class Groups(Protocol):
    """Who is in a Slack user group."""

    def members(self, group: str) -> frozenset[str] | None:
        """Return the user ids of a group's members; None where they cannot be read."""
        ...


class NoGroups:
    """No group can be read: nobody is a member."""

    def members(self, group: str) -> frozenset[str] | None:
        """Return None."""
        del group
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One [[policy.rules]] entry: what is different for some actions or environments."""

    actions: frozenset[Action] = frozenset()
    """Empty: every action."""
    environments: tuple[str, ...] = ()
    """Globs over names of environments and worker pools; empty: everywhere."""
    requesters: frozenset[str] = frozenset()
    approvers: frozenset[str] = frozenset()
    approvals: int | None = None
    reason_required: bool | None = None

    def covers(self, action: Action, environment: str) -> bool:
        """Whether the rule is about this action in this environment."""
        if self.actions and action not in self.actions:
            return False
        folded = environment.casefold()
        return not self.environments or any(fnmatchcase(folded, e.casefold()) for e in self.environments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may do what, by Slack ids of users (U…, W…) and user groups (S…).

    For each environment that something touches, the rules that cover it take the place of what the policy says in
    general; several rules must all be satisfied, and the highest number of approvals counts.
    """

    approvers: frozenset[str]
    requesters: frozenset[str] = frozenset()
    """Empty: everybody who can write where the bot is."""
    channels: frozenset[str] = frozenset()
    """Empty: every channel."""
    approval_minutes: int = 30
    approvals: int = 1
    """How many different people must approve."""
    reason_required: bool = False
    remind_minutes: int | None = None
    escalate_to: frozenset[str] = frozenset()
    """Who may approve, too, once nobody has decided for a while."""
    escalate_minutes: int | None = None
    rules: tuple[Rule, ...] = ()
    people: Mapping[str, str] = field(default_factory=dict)
    """Names of people by their Slack user ids, where somebody has several."""
    groups: Groups = field(default_factory=NoGroups)

    # ---- Who somebody is

    def person(self, user: str) -> str:
        """Return who is behind a Slack account: the name that the configuration gives, else the account itself."""
        return self.people.get(user, user)

    def _in(self, user: str, who: Iterable[str]) -> bool | None:
        """Whether somebody is named or in a named group; None where a group could not be read and decides it."""
        named = frozenset(who)
        if user in named:
            return True
        unknown = False
        for group in sorted(g for g in named if is_group(g)):
            members = self.groups.members(group)
            if members is None:
                unknown = True
            elif user in members:
                return True
        return None if unknown else False

    # ---- Asking

    def refuses_request(
        self,
        user: str,
        channel: str,
        action: Action = Action.ROTATE,
        environments: Iterable[str] = NOWHERE,
        reason: str | None = None,
    ) -> str | None:
        """Return why this person may not ask for that here, None if they may; `reason` None: it is asked later."""
        if self.channels and channel not in self.channels:
            places = ", ".join(f"<#{c}>" for c in sorted(self.channels))
            return f"Changes cannot be asked for in this channel. Ask in {places}."
        for environment in environments:
            rules = self._rules(action, environment)
            asking = [r.requesters for r in rules if r.requesters] or [self._default_requesters(action)]
            for who in asking:
                allowed = self._in(user, who) if who else True
                if allowed is None:
                    return _unreadable(who)
                if not allowed:
                    where = f" in {environment}" if environment else ""
                    return (
                        f"You may look (`show-thumbprint`, `check-health`, `plan`), but not ask for changes{where}. "
                        "`policy` shows who may."
                    )
            wanted = [r.reason_required for r in rules if r.reason_required is not None] or [self.reason_required]
            if reason is not None and not reason.strip() and any(wanted):
                return f'The policy asks for a reason: add `--reason "…"` to `{action.value.replace("-", " ")}`.'
        return None

    def refuses_anywhere(self, user: str, channel: str, action: Action = Action.ROTATE) -> str | None:
        """Return why this person may ask for that nowhere; None if there may be an environment where they may.

        What is asked before anybody has looked which environments it touches; `refuses_request` decides afterwards.
        """
        refusal = self.refuses_request(user, channel, action)
        if refusal is None or (self.channels and channel not in self.channels):
            return refusal
        rules = (r for r in self.rules if r.requesters and (not r.actions or action in r.actions))
        return None if any(self._in(user, r.requesters) for r in rules) else refusal

    def _default_requesters(self, action: Action) -> frozenset[str]:
        if action is Action.UNFREEZE:
            return self.approvers
        return self.requesters | self.approvers if self.requesters else frozenset()

    def _rules(self, action: Action, environment: str) -> list[Rule]:
        return [r for r in self.rules if r.covers(action, environment)]

    # ---- Approving

    def approvals_for(self, action: Action, environments: Iterable[str]) -> int:
        """Return how many different people must approve this."""
        return max(self._approvals(action, e) for e in environments)

    def _approvals(self, action: Action, environment: str) -> int:
        given = [r.approvals for r in self._rules(action, environment) if r.approvals is not None]
        return max(given, default=self.approvals)

    def approvers_for(self, action: Action, environments: Iterable[str]) -> tuple[frozenset[str], ...]:
        """Return sets of approvers; who approves must be in each of them."""
        found: dict[frozenset[str], None] = {}
        for environment in environments:
            rules = self._rules(action, environment)
            found.update(dict.fromkeys([r.approvers for r in rules if r.approvers] or [self.approvers]))
        return tuple(found)

    def reminds(self, asked: datetime, now: datetime) -> bool:
        """Whether approvers are to be reminded by now of what nobody has decided."""
        return self.remind_minutes is not None and now - asked >= timedelta(minutes=self.remind_minutes)

    def escalated(self, asked: datetime, now: datetime) -> bool:
        """Whether those to whom it is escalated may decide by now."""
        return self.escalate_minutes is not None and now - asked >= timedelta(minutes=self.escalate_minutes)

    def refuses_approval(
        self,
        user: str,
        request: Request,
        action: Action = Action.ROTATE,
        environments: Iterable[str] = NOWHERE,
        *,
        escalated: bool = False,
    ) -> str | None:
        """Return why this person may not decide this, None if they may."""
        environments = tuple(environments)
        sets = self.approvers_for(action, environments)
        if self.person(user) == self.person(request.user):
            own = "" if user == request.user else f" (<@{request.user}> is you, too)"
            return (
                f"You asked for this yourself{own}, so somebody else must approve it. "
                f"Approvers are {self._named(sets, user)}. To take it back, use `cancel`."
            )
        for who in sets:
            allowed = self._in(user, who | self.escalate_to if escalated else who)
            if allowed is None:
                return _unreadable(who)
            if not allowed:
                return f"You are not an approver of this. Approvers are {self._named(sets, user)}."
        return None

    def nobody_could(self, request: Request, action: Action, environments: Iterable[str]) -> str | None:
        """Return why nobody could ever approve this, None where somebody may."""
        environments = tuple(environments)
        sets = [self._everybody(s | self.escalate_to) for s in self.approvers_for(action, environments)]
        known = [s for s in sets if s is not None]
        if len(known) < len(sets) or not known:
            return None  # a group cannot be read now; whether somebody may is seen at the click
        people = {self.person(u) for u in frozenset.intersection(*known)} - {self.person(request.user)}
        needed = self.approvals_for(action, environments)
        if len(people) >= needed:
            return None
        able = f"only {len(people)} besides you may give one" if people else "nobody besides you may give one"
        return (
            f"The policy wants {needed} approval{'s' if needed > 1 else ''} for this, and {able}. "
            "Ask for fewer environments at once, or have [policy] changed; `policy` shows it."
        )

    def _everybody(self, who: Iterable[str]) -> frozenset[str] | None:
        found: set[str] = set()
        for one in who:
            members = self.groups.members(one) if is_group(one) else frozenset({one})
            if members is None:
                return None
            found |= members
        return frozenset(found)

    def _named(self, sets: Iterable[frozenset[str]], user: str) -> str:
        pieces = []
        for who in sets:
            others = sorted(who - {user})
            if others:
                pieces.append(", ".join(f"the user group `{w}`" if is_group(w) else f"<@{w}>" for w in others))
        return " and, as well, ".join(pieces) if pieces else "not configured besides you"

    # ---- Steering

    def refuses_cancel(self, user: str, request: Request) -> str | None:
        """Return why this person may not stop, pause, resume or retry this run, None if they may."""
        if self.person(user) == self.person(request.user):
            return None
        more = [r.requesters for r in self._rules(Action.STEER, "") if r.requesters]
        who = self.approvers.union(*(r.approvers for r in self.rules), *more)
        allowed = self._in(user, who)
        if allowed:
            return None
        if allowed is None:
            return _unreadable(who)
        return f"Only who asked for it (<@{request.user}>) or an approver can stop this run."


def is_group(identity: str) -> bool:
    """Whether an id of Slack's is that of a user group."""
    return identity.startswith("S")


def action_of(plan: Plan) -> Action:
    """Return what a plan is to the policy."""
    if plan.source.backup:
        return Action.ROLL_BACK
    return Action.ROTATE_SERVER if plan.server else Action.ROTATE


def environments_of(plan: Plan) -> tuple[str, ...]:
    """Return the environments and worker pools that a plan touches; "" stands for a target that has none."""
    found: dict[str, None] = {}
    for target in plan.targets:
        places = [*target.facts.environments, *(p for r in target.facts.records for p in r.pools)]
        found.update(dict.fromkeys(places or NOWHERE))
    if plan.server:
        found.update(dict.fromkeys(NOWHERE))
    return tuple(found) or NOWHERE


def _unreadable(who: Iterable[str]) -> str:
    groups = ", ".join(f"`{g}`" for g in sorted(who) if is_group(g))
    return (
        f"Slack does not say now who is in the user group {groups}, so nobody counts as a member of it. "
        "Nothing was done. Try again in a moment; if it stays so, the bot lacks the scope usergroups:read."
    )
