"""Tasks of the sandbox's Octopus Server: a queue with a cap, picked up by its node, seen through the REST API."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from bot.clock import Clock
from bot.sandbox.octopus.documents import Document, stamp
from bot.sandbox.octopus.errors import ApiError, missing
from bot.sandbox.octopus.faults import OctopusFaults
from bot.sandbox.octopus.permissions import User
from bot.sandbox.octopus.store import LogLine

TASK_CAP = 5
"""Tasks that a node executes at a time, by default."""
OPEN_STATES = ("Queued", "Executing", "Cancelling")
RUNNING_STATES = ("Executing", "Cancelling")
KILLED = "The step failed: the remote script failed with exit code -46."
"""Of a deployment whose Tentacle was restarted under it (ScriptExitCodes.UnknownResultExitCode)."""
_THREADS = 64
"""More than all nodes execute at a time."""
_TICK = 0.02
"""Seconds between two looks at running tasks."""


@dataclass(slots=True, kw_only=True)
class Activity:
    """One branch of a task's log."""

    id: str
    name: str
    status: str = "Running"
    """`Pending`, `Running`, `Success`, `Failed`, `Skipped`, `SuccessWithWarning`, `Canceled`."""
    lines: list[LogLine] = field(default_factory=list)
    children: list["Activity"] = field(default_factory=list)

    def to_document(self) -> Document:
        """Return OctopusClients' ActivityElement."""
        return {
            "Id": self.id,
            "Name": self.name,
            "Started": stamp(self.lines[0].at) if self.lines else None,
            "Ended": stamp(self.lines[-1].at) if self.lines else None,
            "Status": self.status,
            "Children": [c.to_document() for c in self.children],
            "ShowAtSummaryLevel": True,
            "LogElements": [line.to_document() for line in self.lines],
            "ProgressPercentage": 100 if self.status not in {"Pending", "Running"} else 0,
            "ProgressMessage": "",
        }


@dataclass(slots=True, kw_only=True)
class Task:
    """One server task, with what its document does not show: which machines it concerns."""

    id: str
    name: str
    """`Health`, `Deploy`, `RunbookRun`, `AdHocScript`, …"""
    description: str
    space: str
    arguments: Document
    queue_time: datetime
    user: User | None = None
    machines: tuple[str, ...] = ()
    """Records that it works on; the document of a deployment does not name them."""
    environments: tuple[str, ...] = ()
    seconds: float = 0
    """How long a deployment runs once it was picked up."""
    only_on: str = ""
    """Name of the node that may pick it up; empty: any may."""
    state: str = "Queued"
    node: str = ""
    """Name of the node that executes it, or did."""
    start_time: datetime | None = None
    completed_time: datetime | None = None
    ends: float | None = None
    error: str = ""
    warned: bool = False
    log: Activity = field(default_factory=lambda: Activity(id="", name="", status="Pending"))
    on_begin: Callable[["Task"], None] | None = None
    on_end: Callable[["Task"], None] | None = None
    is_alive: Callable[[], bool] | None = None
    """Whether the process that carries a deployment out still runs; the deployment fails when it is gone."""

    @property
    def is_completed(self) -> bool:
        """Whether it came to an end."""
        return self.state not in OPEN_STATES

    def is_visible(self, user: User) -> bool:
        """Tell whether a user may see it."""
        return user.may("TaskView", self.space, self.environments or None)

    def to_document(self) -> Document:
        """Return OctopusClients' TaskResource."""
        base = f"/api/{self.space}/tasks/{self.id}"
        began, ended = self.start_time, self.completed_time
        return {
            "Id": self.id,
            "SpaceId": self.space,
            "Name": self.name,
            "Description": self.description,
            "Arguments": dict(self.arguments),
            "State": self.state,
            "Completed": f"{ended:%A, %d %B %Y %I:%M %p +00:00}" if ended else _waiting(self),
            "QueueTime": stamp(self.queue_time),
            "QueueTimeExpiry": None,
            "StartTime": stamp(began),
            "LastUpdatedTime": stamp(ended or began or self.queue_time),
            "CompletedTime": stamp(ended),
            "ServerNode": self.node if began else None,
            "Duration": f"{max(1, round(((ended or began) - began).total_seconds()))} seconds" if began else "",
            "ErrorMessage": self.error,
            "HasBeenPickedUpByProcessor": began is not None,
            "IsCompleted": self.is_completed,
            "FinishedSuccessfully": self.state == "Success",
            "HasPendingInterruptions": False,
            "CanRerun": self.is_completed,
            "HasWarningsOrErrors": self.warned or bool(self.error),
            "EstimatedRemainingQueueDurationSeconds": 0,
            "Links": {
                "Self": base,
                "Web": f"/app#/{self.space}/tasks/{self.id}",
                "Raw": f"{base}/raw",
                "Rerun": f"/api/{self.space}/tasks/rerun/{self.id}",
                "Cancel": f"{base}/cancel",
                "QueuedBehind": f"{base}/queued-behind{{?skip,take}}",
                "Details": f"{base}/details{{?verbose,tail,ranges}}",
                "Artifacts": f"/api/{self.space}/artifacts?regarding={self.id}",
                "Interruptions": f"/api/{self.space}/interruptions?regarding={self.id}",
            },
        }


def _waiting(task: Task) -> str:
    return "Executing..." if task.state == "Executing" else "Queued..."


class TaskQueue:
    """All tasks of the Server, and the nodes that execute them, each so many at a time and none while it is drained.

    Tasks of a kind with a handler (`Health`) run on threads; the others (deployments) last their seconds of the
    world's clock and occupy their machines meanwhile.
    """

    def __init__(
        self, clock: Clock, faults: OctopusFaults, new_id: Callable[[str], str], room: Callable[[str], int]
    ) -> None:
        """Take `room`, which tells for the name of a node how many tasks it may execute at this moment."""
        self.tasks: dict[str, Task] = {}
        self.handlers: dict[str, Callable[[Task], None]] = {}
        self.stopped_spaces: set[str] = set()
        """Ids of spaces whose task queue is stopped: their tasks stay queued."""
        self._clock = clock
        self._faults = faults
        self._new_id = new_id
        self._changed = threading.Condition(threading.RLock())
        self._room = room
        self._nodes: list[str] = []
        self._closed = True
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self, node: str) -> None:
        """Have a node pick up tasks."""
        with self._changed:
            self._nodes.append(node)
            self._changed.notify_all()
            if not self._closed:
                return
            self._closed = False
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="octopus-task")
            self._thread = threading.Thread(target=self._work, name="octopus-tasks", daemon=True)
            self._thread.start()

    def stop(self, node: str) -> None:
        """Stop a node: what it executes fails, what is queued stays queued. The wording is UNVERIFIED."""
        with self._changed:
            if node not in self._nodes:
                return
            self._nodes.remove(node)
            for task in self.tasks.values():
                if task.state in RUNNING_STATES and task.node == node:
                    self.finish(task, "Failed", "The task was interrupted because the Octopus Server was stopped.")
            if self._nodes:
                return
            self._closed = True
            self._changed.notify_all()
            thread, pool = self._thread, self._pool
        if thread is not None and pool is not None:
            thread.join()
            pool.shutdown()

    def add(
        self,
        name: str,
        description: str,
        space: str,
        arguments: Document,
        *,
        user: User | None = None,
        machines: Iterable[str] = (),
        environments: Iterable[str] = (),
        at: datetime | None = None,
        seconds: float = 0,
        only_on: str = "",
        on_begin: Callable[[Task], None] | None = None,
    ) -> Task:
        """Queue a task, perhaps for a later time."""
        task = Task(
            id=self._new_id("ServerTasks"),
            name=name,
            description=description,
            space=space,
            arguments=arguments,
            queue_time=at or self._clock.now(),
            user=user,
            machines=tuple(machines),
            environments=tuple(environments),
            seconds=seconds,
            only_on=only_on,
            on_begin=on_begin,
        )
        task.log = Activity(id=task.id, name=description, status="Pending")
        with self._changed:
            self.tasks[task.id] = task
            self._settle()
            self._changed.notify_all()
        return task

    def get(self, id_: str, user: User | None = None) -> Task:
        """Return a task; Octopus's 404 when there is none or the user may not see it."""
        with self._changed:
            self._settle()
            task = self.tasks.get(id_)
        if task is None or (user is not None and not task.is_visible(user)):
            raise missing(id_)
        return task

    def listed(self, user: User | None = None) -> list[Task]:
        """Return all tasks that a user may see, the newest first."""
        with self._changed:
            self._settle()
            tasks = list(self.tasks.values())
        return [t for t in reversed(tasks) if user is None or t.is_visible(user)]

    def busy(self, record: str) -> list[Task]:
        """Return the tasks that execute on a record at this moment."""
        return [t for t in self.listed() if record in t.machines and t.state in RUNNING_STATES]

    @property
    def running(self) -> int:
        """How many tasks execute at this moment."""
        with self._changed:
            self._settle()
            return sum(t.state in RUNNING_STATES for t in self.tasks.values())

    def running_on(self, node: str) -> int:
        """Return how many tasks a node executes at this moment."""
        with self._changed:
            self._settle()
            return self._busy(node)

    def _busy(self, node: str) -> int:
        return sum(t.state in RUNNING_STATES and t.node == node for t in self.tasks.values())

    def cancel(self, id_: str, user: User | None = None) -> Task:
        """Cancel a task: at once while it is queued, soon while it executes; 400 when it has ended."""
        task = self.get(id_, user)
        with self._changed:
            if task.is_completed:
                raise ApiError(400, "This task has already completed.")
            if task.state == "Queued" or task.name not in self.handlers:
                self.finish(task, "Canceled", "")
            else:
                task.state = "Cancelling"
        return task

    def finish(self, task: Task, state: str, error: str = "") -> None:
        """End a task; nothing happens if it has ended."""
        with self._changed:
            if task.is_completed:
                return
            task.state = "Canceled" if task.state == "Cancelling" and state != "Failed" else state
            task.error = error
            task.completed_time = self._clock.now()
            task.log.status = {"Success": "Success", "Canceled": "Canceled"}.get(task.state, "Failed")
            self._changed.notify_all()
        if task.on_end is not None:
            task.on_end(task)

    def wait(self, id_: str, seconds: float = 10.0) -> Task:
        """Wait, in real time, until a task has ended; TimeoutError when it does not."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_over(id_), seconds):
                raise TimeoutError(f"{id_} is still {self.tasks[id_].state} after {seconds} s")
            return self.tasks[id_]

    def wake(self) -> None:
        """Look at the queue now: a fault was taken away, or the clock was moved."""
        with self._changed:
            self._settle()
            self._changed.notify_all()

    def _is_over(self, id_: str) -> bool:
        self._settle()
        return self.tasks[id_].is_completed

    def _work(self) -> None:
        with self._changed:
            while not self._closed:
                self._settle()
                waiting = any(not t.is_completed for t in self.tasks.values())
                self._changed.wait(_TICK if waiting else None)

    def _settle(self) -> None:
        """Bring every task to the state that the clock gives it. Called with the lock held."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for task in list(self.tasks.values()):
            if task.state != "Executing" or task.ends is None:
                continue
            if task.is_alive is not None and not task.is_alive():
                self.finish(task, "Failed", KILLED)
            elif monotonic >= task.ends:
                self.finish(task, "Success")
        if self._closed or self._faults.queued_forever or self._faults.drained:
            return
        free = {node: self._room(node) - self._busy(node) for node in self._nodes}
        for task in list(self.tasks.values()):
            if max(free.values()) <= 0:
                return
            if task.state != "Queued" or task.queue_time > now or task.space in self.stopped_spaces:
                continue
            node = task.only_on or max(free, key=lambda n: free[n])
            if free.get(node, 0) <= 0:
                continue
            free[node] -= 1
            self._begin(task, node, monotonic)

    def _begin(self, task: Task, node: str, monotonic: float) -> None:
        task.state = "Executing"
        task.node = node
        task.log.status = "Running"
        task.start_time = self._clock.now()
        handler = self.handlers.get(task.name)
        if handler is None:
            task.ends = monotonic + task.seconds
            if task.on_begin is not None:
                task.on_begin(task)
        elif self._pool is not None:
            self._pool.submit(self._handle, handler, task)

    def _handle(self, handler: Callable[[Task], None], task: Task) -> None:
        try:
            handler(task)
        except Exception as error:  # noqa: BLE001  # a task that dies must end, as on the real Server
            self.finish(task, "Failed", f"{type(error).__name__}: {error}")
