"""The value that every message function returns and that the notifier posts."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `text` is what notifications and screen readers have, `blocks` what everybody else sees."""

    text: str
    """Slack's mrkdwn, at most 4000 characters; never empty."""
    blocks: tuple[dict[str, Any], ...] = ()
    """Block Kit, within Slack's limits (50 blocks, about 13 000 characters together)."""


@dataclass(frozen=True, slots=True)
class File:
    """A text file that is attached in a thread; the message beside it is its comment."""

    name: str
    """Unique: by it the file is found again after a crash."""
    title: str
    text: str
