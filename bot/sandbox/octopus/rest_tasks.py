"""Tasks in the REST API."""

import re
from dataclasses import dataclass
from typing import Any

from bot.domain.facts import RecordKind
from bot.sandbox.octopus import documents
from bot.sandbox.octopus.documents import Document
from bot.sandbox.octopus.errors import invalid, missing
from bot.sandbox.octopus.permissions import forbidden
from bot.sandbox.octopus.rest import Answer, Binding, Body, Call
from bot.sandbox.octopus.store import Store
from bot.sandbox.octopus.tasks import OPEN_STATES, RUNNING_STATES, Task, TaskQueue

_TIMESPAN = re.compile(r"(\d+\.)?\d{2}:\d{2}:\d{2}(\.\d+)?")
_BY_USERS = {"Health", "AdHocScript", "Upgrade", "UpdateCalamari"}
"""Kinds of task that users may queue here (OctopusClients, BuiltInTasks.TasksThatCanBeQueuedByUsers, in part)."""
_KINDS = {"Deployment": "Deploy", "RunbookRun": "RunbookRun"}


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The resources of tasks."""

    store: Store
    queue: TaskQueue

    @property
    def bindings(self) -> list[Binding]:
        """Where the resources stand. There is no `/workers/{id}/tasks` (OctopusDeploy/Issues #9943)."""
        return [
            Binding(method="GET", path="/tasks", resource=self.paged),
            Binding(method="POST", path="/tasks", resource=self.create),
            Binding(method="GET", path="/tasks/{id}", resource=self.one),
            Binding(method="GET", path="/tasks/{id}/details", resource=self.details),
            Binding(method="POST", path="/tasks/{id}/cancel", resource=self.cancel),
            Binding(method="GET", path="/machines/{id}/tasks", resource=self.of_machine),
        ]

    def paged(self, call: Call) -> Body:
        """List a page, the newest first. Without a space in the path tasks of every space are listed."""
        spaces = [call.space] if call.parts.get("space") else call.listed("spaces")
        found = [t for t in self.queue.listed(call.user) if spaces is None or t.space in spaces]
        found = [t for t in found if _matches(t, call)]
        page = documents.collection("Task", [t.to_document() for t in found], call.path, call.query)
        counts = {s: sum(t.state == s for t in found) for s in ("Queued", "Executing", "Success", "Failed")}
        return page | {"TotalCounts": counts}

    def one(self, call: Call) -> Body:
        """Return one task."""
        return self._task(call).to_document()

    def details(self, call: Call) -> Body:
        """Return a task with its log."""
        task = self._task(call)
        if not call.user.may("TaskViewLog", task.space) and not call.user.may("TaskView", task.space):
            raise forbidden("TaskViewLog")
        return {
            "Id": task.id,
            "Task": task.to_document(),
            "ActivityLogs": [task.log.to_document()],
            "PhysicalLogSize": 0,
            "Progress": {"ProgressPercentage": 100 if task.is_completed else 0, "EstimatedTimeRemaining": ""},
            "Links": {"Self": f"/api/{task.space}/tasks/{task.id}/details"},
        }

    def cancel(self, call: Call) -> Body:
        """Cancel a task."""
        task = self._task(call)
        call.user.demand("TaskCancel", task.space)
        return self.queue.cancel(task.id).to_document()

    def of_machine(self, call: Call) -> Body:
        """List deployments and runbook runs of a target: nothing of health checks, upgrades or scripts."""
        record = self.store.record(call.parts["id"], call.user, kind=RecordKind.TARGET)
        if record.space != call.space:
            raise missing(record.id)
        kinds = [_KINDS[k] for k in call.listed("type") or _KINDS if k in _KINDS]
        found = [t for t in self.queue.listed(call.user) if record.id in t.machines and t.name in kinds]
        return documents.collection("Task", [t.to_document() for t in found], call.path, call.query)

    def create(self, call: Call) -> Answer:
        """Queue a task: 201. `Name` and `Description` are required, durations are TimeSpan strings."""
        body = call.body if isinstance(call.body, dict) else {}
        call.user.demand("TaskCreate", call.space)
        lacking = [k for k in ("Name", "Description") if not body.get(k)]
        if lacking:
            raise invalid(*(f"The field {k} is required." for k in lacking))
        if body["Name"] not in _BY_USERS:
            raise invalid(f"Tasks of the type {body['Name']} cannot be queued by users.")
        if body.get("SpaceId") not in {None, call.space}:
            raise invalid("The SpaceId of the task does not match the space of the request.")
        arguments: Document = body.get("Arguments") or {}
        task = self.queue.add(
            body["Name"],
            body["Description"],
            call.space,
            arguments,
            user=call.user,
            machines=self._machines(arguments, call),
        )
        return Answer(body=task.to_document(), status=201)

    def _machines(self, arguments: Document, call: Call) -> list[str]:
        for name in ("Timeout", "MachineTimeout"):
            value: Any = arguments.get(name)
            if value is not None and not (isinstance(value, str) and _TIMESPAN.fullmatch(value)):
                raise invalid(f"The argument {name} is not a time span such as 00:05:00.")
        named = arguments.get("MachineIds") or []
        if not isinstance(named, list):
            raise invalid("The argument MachineIds is not a list.")
        for id_ in named:
            with self.store.lock:
                record = self.store.records.get(id_)
            if record is None or record.space != call.space:
                raise invalid(f"The machine {id_} could not be found.")
        return list(named)

    def _task(self, call: Call) -> Task:
        task = self.queue.get(call.parts["id"], call.user)
        if call.parts.get("space") and task.space != call.space:
            raise missing(task.id)
        return task


def _matches(task: Task, call: Call) -> bool:
    names, states, ids = call.listed("name"), call.listed("states"), call.listed("ids")
    if names is not None and task.name not in names:
        return False
    if states is not None and task.state not in states:
        return False
    if ids is not None and task.id not in ids:
        return False
    if call.flag("active") and task.state not in OPEN_STATES:
        return False
    if call.flag("running") and task.state not in RUNNING_STATES:
        return False
    if call.asked("environment") and call.asked("environment") not in task.environments:
        return False
    if call.asked("node") and (call.asked("node") != task.node or task.start_time is None):
        return False
    return not call.flag("hasPendingInterruptions")
