"""Policy: who may ask and who may approve. Every refusal is a sentence for the person refused."""

from dataclasses import dataclass

from bot.domain.plan import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may do what, by Slack user id, and for how long a plan may be approved."""

    approvers: frozenset[str]
    requesters: frozenset[str] = frozenset()
    """Empty: everybody who can write where the bot is."""
    channels: frozenset[str] = frozenset()
    """Empty: every channel."""
    approval_minutes: int = 30

    def refuses_request(self, user: str, channel: str) -> str | None:
        """Return why this person may not ask for changes here, None if they may."""
        if self.channels and channel not in self.channels:
            places = ", ".join(f"<#{c}>" for c in sorted(self.channels))
            return f"Changes cannot be asked for in this channel. Ask in {places}."
        if self.requesters and user not in self.requesters | self.approvers:
            return (
                "You may look (`show-thumbprint`, `check-health`, `plan`), but not ask for changes. "
                "Who may is written in the bot's configuration under [policy] requesters."
            )
        return None

    def refuses_approval(self, user: str, request: Request) -> str | None:
        """Return why this person may not decide this plan, None if they may."""
        if user == request.user:
            return (
                "You asked for this yourself, so somebody else must approve it. "
                f"Approvers are {self._approvers_but(user)}. To take it back, use `cancel`."
            )
        if user not in self.approvers:
            return f"You are not an approver. Approvers are {self._approvers_but(user)}."
        return None

    def refuses_cancel(self, user: str, request: Request) -> str | None:
        """Return why this person may not stop this run, None if they may."""
        if user == request.user or user in self.approvers:
            return None
        return f"Only who asked for it (<@{request.user}>) or an approver can stop this run."

    def _approvers_but(self, user: str) -> str:
        others = sorted(self.approvers - {user})
        return ", ".join(f"<@{a}>" for a in others) if others else "not configured besides you"
