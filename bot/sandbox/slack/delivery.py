"""How Slack reaches the bot: one attempt within three seconds, redelivery of events. The wires are subclasses."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from bot.sandbox.slack.model import Call, Json
from bot.sandbox.slack.workspace import Workspace

ACK_SECONDS = 3.0
REDELIVERY = (0.0, 60.0, 300.0)  # seconds after the attempt before
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a delivery brought: the acknowledgement's payload, or an error.

    `error` is `operation_timeout` (no acknowledgement in time) or `dispatch_failed` (nobody to deliver to).
    """

    payload: Json
    error: str | None = None
    final: bool = False  # the app said that it wants no redelivery


class Delivery:
    """Deliveries over some wire; the coroutines belong to the server's loop.

    `kind` is the type of an envelope of Socket Mode, whatever the wire: slash_commands, interactive or events_api.
    """

    retry_reason = "timeout"

    def __init__(self, workspace: Workspace, ack_seconds: float = ACK_SECONDS) -> None:
        self.workspace = workspace
        self.ack_seconds = ack_seconds
        self._tasks: set[asyncio.Task[Any]] = set()

    def background(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside everything else, until it ends or the server stops."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End all background work."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds of the workspace's clock."""
        end = self.workspace.clock.monotonic() + seconds
        while (left := end - self.workspace.clock.monotonic()) > 0:  # noqa: ASYNC110 - the clock may be one that tests move
            await asyncio.sleep(min(left, POLL_SECONDS))

    async def deliver(self, kind: str, payload: Json, *, attempt: int = 0, reason: str = "") -> Answer:
        """Make one delivery, wait for its acknowledgement as long as Slack does, and keep it in the traffic."""
        started = self.workspace.clock.monotonic()
        answer = await self._deliver(kind, payload, attempt, reason)
        self.workspace.record(
            Call(
                at=self.workspace.clock.now(),
                direction="slack",
                method=kind,
                payload=payload | ({"retry_attempt": attempt, "retry_reason": reason} if attempt else {}),
                response={"error": answer.error} if answer.error else {"acknowledged": True, **answer.payload},
                status=0 if answer.error else 200,
                seconds=self.workspace.clock.monotonic() - started,
            )
        )
        return answer

    async def _deliver(self, kind: str, payload: Json, attempt: int, reason: str) -> Answer:
        """Make one attempt; without any wire there is nobody to dispatch to."""
        del kind, payload, attempt, reason
        return Answer(payload={}, error="dispatch_failed")

    async def event(self, payload: Json) -> Answer:
        """Deliver an event; without an acknowledgement it is delivered again, up to three times, in the background."""
        answer = await self.deliver("events_api", payload)
        if answer.error and not answer.final:
            self.background(self._again(payload))
        return answer

    async def _again(self, payload: Json) -> None:
        """Deliver an event again after the times of the Events API until it is acknowledged."""
        for attempt, seconds in enumerate(REDELIVERY, start=1):
            await self.pause(seconds)
            answer = await self.deliver("events_api", payload, attempt=attempt, reason=self.retry_reason)
            if answer.error is None or answer.final:
                return
