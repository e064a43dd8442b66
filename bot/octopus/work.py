"""Who works on a target now, and who will soon: what must end before its service is stopped."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from bot.domain.facts import Record, RecordKind, TaskInfo
from bot.octopus.documents import Document, path_of, portal_url, to_time
from bot.octopus.wire import Wire

SCHEDULED_SECONDS = 60
"""A queued task that begins later than this is scheduled work; an earlier one may be a matter of two clocks."""
SHARED_SECONDS = 1.0
"""How old an answer may be that several ask for: a fleet asks the same for each of its targets."""
_NEWEST = 200
"""How many of a target's newest deployments and runbook runs are looked at; a running one is among them."""
_OVER = {"Success", "Failed", "Canceled", "TimedOut"}
_FOR_MACHINES = {"Health", "Upgrade", "UpdateCalamari", "AdHocScript"}
"""Kinds of tasks whose arguments name the machines, or nothing for all."""


class Work:
    """The tasks that concern single records."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lock = threading.Lock()
        self._asked: dict[tuple[Any, ...], tuple[float, Future[list[Document]]]] = {}

    def on(self, record: Record, lookahead: timedelta | None) -> tuple[TaskInfo, ...]:
        """Return the tasks that work on a record now, and those scheduled to begin within `lookahead` (with `start`).

        Workers have no list of tasks of their own: deployments and runbook runs in their space may or may not use them
        (`certain=False`). So may a task that names no machines. Of scheduled work only what Octopus shows is found: a
        deployment not yet assigned to machines by its environment (`certain=False`), what a trigger will create not.
        """
        latest = self._wire.clock.now() + (lookahead or timedelta())
        found = self._concerning(record)
        if lookahead:
            for environment in self._environment_ids(record):
                for task in self._active(record.space_id, {"environment": environment}):
                    info = self._info(task, certain=False)
                    if info.start:
                        found.setdefault(info.id, info)
        return tuple(t for t in found.values() if t.start is None or t.start <= latest)

    def scheduled(self, space_id: str, lookahead: timedelta) -> tuple[TaskInfo, ...]:
        """Return what is to begin in a space within `lookahead`; what a trigger will create, nobody tells before."""
        latest = self._wire.clock.now() + lookahead
        found = [self._info(task, certain=True) for task in self._active(space_id, {})]
        return tuple(t for t in found if t.start and t.start <= latest)

    def _concerning(self, record: Record) -> dict[str, TaskInfo]:
        found: dict[str, TaskInfo] = {}
        if record.kind is RecordKind.TARGET:
            # Health checks, upgrades and scripts are not in this list; deployments stand nowhere else.
            for task in self._wire.get_all(path_of(record) + "/tasks", at_most=_NEWEST):
                if not _is_over(task):
                    found[task["Id"]] = self._info(task, certain=True)
        for task in self._active(record.space_id, {}):
            certain = _concerns(task, record)
            if certain is not None:
                found.setdefault(task["Id"], self._info(task, certain=certain))
        return found

    def _active(self, space_id: str, parameters: dict[str, str]) -> list[Document]:
        """Return the tasks of a space that are not over."""
        path = f"/api/{space_id}/tasks"
        tasks = self._shared(
            (path, *sorted(parameters.items())), self._wire.get_all, path, {"active": True, **parameters}
        )
        return [task for task in tasks if isinstance(task, dict) and isinstance(task.get("Id"), str)]

    def _shared(self, key: tuple[Any, ...], ask: Callable[..., list[Document]], *arguments: Any) -> list[Document]:
        """Return an answer; who asks within a second of another one gets what that one was told."""
        now = self._wire.clock.monotonic()
        with self._lock:
            known = self._asked.get(key)
            is_mine = known is None or now - known[0] > SHARED_SECONDS
            if known is None or is_mine:
                known = self._asked[key] = (now, Future())
        answer = known[1]
        if is_mine:
            try:
                answer.set_result(ask(*arguments))
            except BaseException as error:
                with self._lock:
                    self._asked.pop(key, None)
                answer.set_exception(error)
                raise
        return answer.result()  # it comes within the time that requests are repeated for

    def _environment_ids(self, record: Record) -> list[str]:
        if record.kind is not RecordKind.TARGET or not record.environments:
            return []
        path = f"/api/{record.space_id}/environments/all"
        ids = {e.get("Name"): e["Id"] for e in self._shared((path,), self._wire.get_list, path) if "Id" in e}
        if not ids.keys() >= set(record.environments):  # one was renamed since the record was read
            document = self._wire.get_document(path_of(record))
            return [e for e in document.get("EnvironmentIds") or () if isinstance(e, str)]
        return [ids[name] for name in record.environments]

    def _info(self, task: Document, *, certain: bool) -> TaskInfo:
        start = to_time(task.get("QueueTime")) if task.get("State") == "Queued" else None
        soon = self._wire.clock.now() + timedelta(seconds=SCHEDULED_SECONDS)
        state = str(task.get("State") or "?")
        if task.get("HasPendingInterruptions") is True:
            state += ", waiting for a person"
        return TaskInfo(
            id=task["Id"],
            name=str(task.get("Name") or "?"),
            description=str(task.get("Description") or ""),
            state=state,
            start=start if start and start > soon else None,
            url=portal_url(self._wire.url, str(task.get("SpaceId") or ""), f"tasks/{task['Id']}"),
            certain=certain,
        )


def _is_over(task: Document) -> bool:
    return task.get("IsCompleted") is True or task.get("State") in _OVER


def _concerns(task: Document, record: Record) -> bool | None:
    """Return True if a task names the record, False if it may concern it, None if it does not."""
    arguments: Any = task.get("Arguments")
    machines = arguments.get("MachineIds") if isinstance(arguments, dict) else None
    if isinstance(machines, list) and machines:
        return True if record.id in machines else None
    if task.get("Name") in _FOR_MACHINES:
        return False
    if task.get("Name") in {"Deploy", "RunbookRun"}:
        # A target's deployments are in its own list; of a worker nobody tells.
        return False if record.kind is RecordKind.WORKER else None
    return None
