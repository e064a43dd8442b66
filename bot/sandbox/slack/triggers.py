"""Trigger ids (3 s, one use) and response URLs (5 uses within 30 minutes); source: docs.slack.dev/interactivity."""

import secrets
import threading
from dataclasses import dataclass

from bot.clock import Clock
from bot.sandbox.slack.calls import SlackError

TRIGGER_SECONDS = 3.0
RESPONSE_SECONDS = 30 * 60.0
RESPONSE_USES = 5


@dataclass(slots=True, kw_only=True)
class Trigger:
    """One permission to open a modal for a person."""

    user: str
    issued: float
    view_id: str | None = None  # the modal in which the person acted, if any
    used: bool = False


@dataclass(slots=True, kw_only=True)
class ResponseUrl:
    """Where an interaction may be answered, and how often that was done."""

    user: str
    channel: str
    issued: float
    message_ts: str | None = None  # the message with the element that was pressed
    thread_ts: str | None = None
    ephemeral_source: bool = False
    uses: int = 0


class Triggers:
    """Issues and redeems trigger ids and response URLs; their time runs on the given clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._triggers: dict[str, Trigger] = {}
        self._responses: dict[str, ResponseUrl] = {}

    def issue(self, user: str, view_id: str | None = None) -> str:
        """Return a new trigger id for a person's interaction."""
        trigger_id = f"{secrets.randbelow(10**10):010d}.{secrets.randbelow(10**10):010d}.{secrets.token_hex(16)}"
        with self._lock:
            self._triggers[trigger_id] = Trigger(user=user, issued=self._clock.monotonic(), view_id=view_id)
        return trigger_id

    def redeem(self, trigger_id: str) -> Trigger:
        """Use a trigger id up; SlackError `invalid_trigger_id`, `exchanged_trigger_id` or `expired_trigger_id`."""
        with self._lock:
            trigger = self._triggers.get(trigger_id)
            if trigger is None:
                raise SlackError("invalid_trigger_id")
            if trigger.used:
                raise SlackError("exchanged_trigger_id")
            if self._clock.monotonic() - trigger.issued > TRIGGER_SECONDS:
                raise SlackError("expired_trigger_id")
            trigger.used = True
            return trigger

    def open_response(
        self,
        *,
        user: str,
        channel: str,
        message_ts: str | None = None,
        thread_ts: str | None = None,
        ephemeral_source: bool = False,
    ) -> str:
        """Return the secret part of a new response URL."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._responses[token] = ResponseUrl(
                user=user,
                channel=channel,
                issued=self._clock.monotonic(),
                message_ts=message_ts,
                thread_ts=thread_ts,
                ephemeral_source=ephemeral_source,
            )
        return token

    def use_response(self, token: str) -> ResponseUrl:
        """Count one use of a response URL; SlackError `invalid_url`, `expired_url` or `used_url`."""
        with self._lock:
            response = self._responses.get(token)
            if response is None:
                raise SlackError("invalid_url")
            if self._clock.monotonic() - response.issued > RESPONSE_SECONDS:
                raise SlackError("expired_url")
            if response.uses >= RESPONSE_USES:
                raise SlackError("used_url")
            response.uses += 1
            return response
