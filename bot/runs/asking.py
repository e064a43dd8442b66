"""What comes in from Slack, free of Slack: who asked what, where, and which button was pressed."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A person in a channel, and the delivery by which their words reached us."""

    user: str
    user_name: str
    channel: str
    thread: str | None
    """Timestamp of the thread in which they wrote, None for the channel itself."""
    key: str
    """Unique for this delivery; Slack may deliver twice, the desk acts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """One press of one of our buttons."""

    asker: Asker
    run_id: str
    nonce: str
    action: str
    """`approve`, `deny`, `cancel`, `pause`, `resume`, `retry`, `roll_back`, `machines` or `plan_rotation`."""
    message_ts: str
    at: datetime
    reason: str = ""
    """Why, where a modal asked."""
