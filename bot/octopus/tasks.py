"""Octopus's health checks: queue them, follow them, and read what they found, which a task's success does not tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.domain.facts import Health, Record
from bot.octopus import programs
from bot.octopus.documents import Document, path_of, portal_url, to_time
from bot.octopus.errors import OctopusError, OctopusErrorKind
from bot.octopus.records import Records, vanished
from bot.octopus.wire import Wire

FIRST_SECONDS = 0.25
"""When a task is first asked for again: the check of one machine takes no longer. The pause then doubles."""
POLL_SECONDS = 2.0
"""How often a task is asked for its state; the official client does it every four."""
START_SECONDS = 120.0
"""How long queueing a Health task is tried while it stays open whether it was queued."""
HEALTH_MINUTES = 10
"""How long Octopus may take for a whole Health task."""
MACHINE_MINUTES = 5
"""How long Octopus may take for one machine of it."""
MOST_LINES = 5
"""Error lines that are shown to people; the rest stands in Octopus."""
_LONGEST = 500
_RECENT = 200
"""How many of the newest Health tasks of a space are looked through for one that we queued already."""
_OVER = {"Success", "Failed", "Canceled", "TimedOut"}
_BAD = {"Error", "Fatal"}
_PASSING = {
    OctopusErrorKind.UNREACHABLE,
    OctopusErrorKind.RATE_LIMITED,
    OctopusErrorKind.SERVER_ERROR,
    OctopusErrorKind.UNEXPECTED,
}
"""Troubles that pass: they are waited out while a task is queued or followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTask:
    """A Health task in one space."""

    id: str
    space_id: str
    records: tuple[Record, ...]
    url: str
    """Where a person sees it in Octopus's portal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """How far a task came within its deadline."""

    id: str
    state: str
    """Octopus's word: Queued, Executing, Cancelling, Success, Failed, Canceled, TimedOut; `?` where it was not seen."""
    url: str
    error: str = ""
    why: str = ""
    """Why it is still queued, as far as Octopus tells, as a sentence."""

    @property
    def completed(self) -> bool:
        """Whether it ended; otherwise nothing is proven."""
        return self.state in _OVER

    @property
    def succeeded(self) -> bool:
        """Whether it ended well, which does not mean that its machines are healthy."""
        return self.state == "Success"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The health of one record, with why where it is not good."""

    name: str
    record: Record
    health: Health
    summary: str
    """Octopus's own sentence."""
    errors: tuple[str, ...]
    """Error lines of the latest connection, at most five; none for a healthy machine."""
    task_url: str = ""
    task_state: str = ""
    """How the Health task ended, or in which state it was left; empty where none was started."""
    checked: datetime | None = None
    """When Octopus checked it last, by the Server's clock."""

    @property
    def mismatch(self) -> programs.Mismatch | None:
        """The thumbprints that should have been one, where the error lines tell them."""
        return next((found for line in self.errors if (found := programs.mismatch(line))), None)

    @property
    def speaks_against_trust(self) -> bool:
        """Whether the machine is unwell because of certificates or trust, not of scripts, disks or the network."""
        return not self.health.is_good and any(programs.speaks_against_trust(line) for line in self.errors)


class Tasks:
    """The Health tasks of one Octopus Server, and the health that they leave."""

    def __init__(self, wire: Wire, records: Records) -> None:
        self._wire = wire
        self._records = records

    def start_health(self, records: Sequence[Record], description: str) -> dict[str, HealthTask]:
        """Queue one Health task per space for these records and return the tasks by the ids of their spaces.

        Once per description, however often this is called: a task that an earlier call queued is found by it and
        returned. OctopusError if a task could not be queued, or if it stays open whether it was.
        """
        by_space: dict[str, list[Record]] = {}
        for record in records:
            by_space.setdefault(record.space_id, []).append(record)
        return {space_id: self._start(space_id, tuple(mine), description) for space_id, mine in by_space.items()}

    def follow(self, task: HealthTask, deadline: float, on_state: Callable[[str], None] | None = None) -> TaskResult:
        """Wait until a task ends, at most `deadline` seconds, and return how far it came.

        `on_state` is told each new state. A Server that is away for a while is waited for; only a key that is refused
        or a task that is gone raises.
        """
        give_up = self._wire.clock.monotonic() + deadline
        result = TaskResult(id=task.id, state="?", url=task.url)
        pause = FIRST_SECONDS
        while True:
            left = give_up - self._wire.clock.monotonic()
            try:
                seen = self._result(task, self._wire.with_patience(max(0.0, left)))
            except OctopusError as error:
                if error.kind not in _PASSING:
                    raise
                seen = result
            if seen.state != result.state and on_state:
                on_state(seen.state)
            result = seen
            if result.completed:
                return result
            if self._wire.clock.monotonic() + pause > give_up:
                return self._not_over(result, task)
            self._wire.clock.sleep(pause)
            pause = min(POLL_SECONDS, pause * 2)

    def health(self, record: Record, result: TaskResult | None = None, *, fresh: Record | None = None) -> HealthReport:
        """Return the health of a record as Octopus knows it now, beside the task that checked it.

        `fresh` is the record as it was just read, where it was. RecordVanished if it is gone.
        """
        fresh = fresh or self._records.record(record)
        try:
            connection = self._wire.get_document(path_of(record) + "/connection")
        except OctopusError as error:
            if error.kind is not OctopusErrorKind.NOT_FOUND:
                raise
            raise vanished(record) from None
        return HealthReport(
            name=fresh.name,
            record=fresh,
            health=fresh.health,
            summary=fresh.status_summary,
            errors=() if fresh.health.is_good else _error_lines(connection),
            task_url=result.url if result else "",
            task_state=result.state if result else "",
            checked=to_time(connection.get("LastChecked")),
        )

    def _start(self, space_id: str, records: tuple[Record, ...], description: str) -> HealthTask:
        give_up = self._wire.clock.monotonic() + START_SECONDS
        while True:
            found = self._queued_before(space_id, description)
            if found is None:
                try:
                    found = self._queue(space_id, records, description)
                except OctopusError as error:
                    if error.kind not in _PASSING or self._wire.clock.monotonic() + POLL_SECONDS > give_up:
                        raise
                    # It may be queued although the answer was lost: look before it is queued again.
                    self._wire.clock.sleep(POLL_SECONDS)
                    continue
            return HealthTask(
                id=found, space_id=space_id, records=records, url=portal_url(self._wire.url, space_id, f"tasks/{found}")
            )

    def _queued_before(self, space_id: str, description: str) -> str | None:
        tasks = self._wire.get_all(f"/api/{space_id}/tasks", {"name": "Health"}, at_most=_RECENT)
        return next((t["Id"] for t in tasks if t.get("Description") == description), None)

    def _queue(self, space_id: str, records: tuple[Record, ...], description: str) -> str:
        answer = self._wire.post(
            f"/api/{space_id}/tasks",
            {
                "Name": "Health",
                "Description": description,
                "SpaceId": space_id,
                "Arguments": {
                    "Timeout": f"00:{HEALTH_MINUTES:02}:00",
                    "MachineTimeout": f"00:{MACHINE_MINUTES:02}:00",
                    "EnvironmentId": None,
                    "WorkerpoolId": None,
                    "RestrictedTo": None,
                    "MachineIds": [record.id for record in records],
                },
            },
        )
        if not isinstance(answer, dict) or not isinstance(answer.get("Id"), str):
            raise self._wire.unexpected(f"/api/{space_id}/tasks", "the new task was expected")
        return str(answer["Id"])

    def _result(self, task: HealthTask, wire: Wire) -> TaskResult:
        document = wire.get_document(f"/api/{task.space_id}/tasks/{task.id}")
        return TaskResult(
            id=task.id,
            state=str(document.get("State") or "?"),
            url=task.url,
            error=str(document.get("ErrorMessage") or ""),
        )

    def _not_over(self, result: TaskResult, task: HealthTask) -> TaskResult:
        why = self._why_queued(task.space_id) if result.state == "Queued" else ""
        return TaskResult(id=result.id, state=result.state or "?", url=result.url, error=result.error, why=why)

    def _why_queued(self, space_id: str) -> str:
        """Return why nothing is picked up, as a sentence, as far as the key may see."""
        reasons = []
        space = self._peek(f"/api/spaces/{space_id}")
        if space.get("TaskQueueStopped") is True:
            reasons.append("the task queue of the space is stopped")
        if self._peek("/api/maintenanceconfiguration").get("IsInMaintenanceMode") is True:
            reasons.append("the Server is in maintenance mode")
        nodes = [n for n in self._peek("/api/octopusservernodes/summary").get("Nodes") or () if isinstance(n, dict)]
        awake = [n for n in nodes if not n.get("IsOffline")]
        if awake and all(n.get("IsInMaintenanceMode") for n in awake):
            reasons.append("all nodes of the Server are drained")
        elif awake and all(_is_full(n) for n in awake if not n.get("IsInMaintenanceMode")):
            reasons.append("the task cap is used up by other tasks")
        return f"Octopus has not begun it: {' and '.join(reasons)}." if reasons else ""

    def _peek(self, path: str) -> Document:
        try:
            answer = self._wire.get(path, repeat=False)
        except OctopusError:
            return {}
        return answer if isinstance(answer, dict) else {}


def _is_full(node: Document) -> bool:
    running, cap = node.get("RunningTaskCount"), node.get("MaxConcurrentTasks")
    return isinstance(running, int) and isinstance(cap, int) and 0 < cap <= running


def _error_lines(connection: Document) -> tuple[str, ...]:
    """Return the distinct error lines of the connection log, on one line each, the latest last."""
    entries = [e for e in connection.get("Logs") or () if isinstance(e, dict) and e.get("Category") in _BAD]
    lines = [" ".join(str(e.get("MessageText") or "").split())[:_LONGEST] for e in entries]
    return tuple(list(dict.fromkeys(line for line in lines if line))[-MOST_LINES:])
