"""Deployments of the sandbox's Octopus Server: tasks that occupy a Tentacle for a while."""

from datetime import datetime

from bot.sandbox.octopus.store import Record, Store
from bot.sandbox.octopus.tasks import Task, TaskQueue

_CHILD = "Calamari.exe"


def deploy(
    store: Store,
    tasks: TaskQueue,
    record_id: str,
    *,
    seconds: float,
    name: str = "Deploy",
    at: datetime | None = None,
    node: str = "",
) -> Task:
    """Queue a deployment (or a RunbookRun) to a record, perhaps for a later time, perhaps for one node only."""
    with store.lock:
        record = store.records[record_id]
        environment = next((store.environments[e]["Name"] for e in record.environments), "Production")
    run = store.new_id("Deployments" if name == "Deploy" else "RunbookRuns")
    arguments = {"DeploymentId": run} if name == "Deploy" else {"RunbookRunId": run}
    return tasks.add(
        name,
        f"Deploy Web shop release 1.4.{run.rpartition('-')[2]} to {environment}",
        record.space,
        arguments,
        machines=[record.id],
        environments=record.environments,
        at=at,
        seconds=seconds,
        only_on=node,
        on_begin=lambda task: _occupy(record, task),
    )


def _occupy(record: Record, task: Task) -> None:
    """Let the Tentacle's process have a child as long as a deployment lasts, and tell when it is killed."""
    instance = record.instance
    process = instance.service.process if instance else None
    if instance is None or process is None:
        return
    instance.host.begin_child(process.pid, _CHILD)
    task.is_alive = lambda: instance.service.process == process
    task.on_end = lambda _: instance.host.end_child(process.pid, _CHILD)
