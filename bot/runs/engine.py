"""The durable engine: the only module that knows DBOS. Workflows are kept in the database and resumed after a crash.

A step whose result is recorded never runs again; the step in flight at a crash runs again. Steps therefore look first
whether their work is done, and return expected failures as values: a replayed exception would be another class.
"""

import math
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID, WorkflowStatus
from dbos._core import WorkflowHandleFuture
from dbos._dbos import _get_dbos_instance
from structlog.contextvars import bound_contextvars

from bot import telemetry
from bot.runs.carrying import Carrier, Replaced
from bot.runs.database import Database, is_away
from bot.runs.recorded import StrictJson, Unexpected, class_of
from bot.runs.slots import Slots

log = structlog.get_logger("octocert.engine")

VERSION = "octocert-1"
"""A constant, for work of another application version is stuck without a word. The rule for whoever changes a workflow:

What a workflow does between its steps (which ones, in which order, with which names) may only change under
`DBOS.patch("name")`, so that runs of the release before go on their old way. Steps themselves may change at any time.
This text changes only if that is impossible; then the release notes must say: finish or stop all runs before.
"""
DRAIN_SECONDS = 20.0
"""How long running steps may go on when the bot is asked to stop; the rest is resumed at the next start."""
BEGIN_SECONDS = 0.01
"""Between two beginnings: a hundred at once keep whoever types a command waiting for the interpreter (measured)."""
CHILD_SECONDS = 0.1
"""How often a run looks whether the work on its targets has ended."""
ELSEWHERE_SECONDS = 1.0
"""The same, where another bot does that work."""
SLOT_SECONDS = 0.25
"""How often who waits for a free slot looks whether the bot stops."""
UNDER_WAY = ("PENDING", "ENQUEUED", "DELAYED")
"""DBOS's words for workflows that will go on."""
BROKEN_OFF = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
"""DBOS's words for workflows that ended otherwise than by returning."""
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between two tries of a step whose database is away; the last one is repeated."""
MAX_RECOVERIES = 50
"""How often a workflow is resumed after crashes before it is given up."""
AT_ONCE = 500
"""Workflows that one query reads, or one transaction deletes."""
FROZEN_SECONDS = 1.0
"""How often a step that may not begin looks whether it may."""

T = TypeVar("T")
Call = tuple[Callable[..., Any], str, Sequence[Any]]
"""A workflow of ours, the id under which it is begun, and what it gets."""


class Leaving(BaseException):
    """Ends a workflow between two steps when the bot stops, as a kill would: nothing of it is recorded."""


class _Current:
    """The carrier of this process; workflows are module functions, because DBOS finds them by name after a crash."""

    carrier: Carrier | None = None
    leaving = threading.Event()
    """Set when no step may be begun any more."""
    guard: Callable[[], None] = staticmethod(lambda: None)
    """Called before each step: ends the process where others may be at work on the same run."""
    frozen: Callable[[], bool] = staticmethod(lambda: False)
    """Whether no step may begin now."""
    at_work: ClassVar[Counter[str]] = Counter()
    """Ids of the workflows on which this process is at work."""
    slots = Slots(1)
    """Places for the work on single targets."""


@contextmanager
def _at_work(**words: str) -> Iterator[Carrier]:
    """Note which workflow is at work, and give its log lines these words."""
    assert _Current.carrier is not None, "the engine is not running"
    workflow = DBOS.workflow_id or ""
    _Current.at_work[workflow] += 1
    try:
        with bound_contextvars(**words):
            yield _Current.carrier
    finally:
        _Current.at_work[workflow] -= 1
        if not _Current.at_work[workflow]:
            del _Current.at_work[workflow]


@contextmanager
def _on_target(run_id: str, target: str) -> Iterator[Carrier]:
    """Note that this workflow is at work on a target, as soon as there is a slot for it."""
    with _at_work(run=run_id, target=target) as carrier:
        while not _Current.leaving.is_set():
            with _Current.slots.place(DBOS.workflow_id or "", SLOT_SECONDS) as has_slot:
                if has_slot:
                    yield carrier
                    return
        raise Leaving


@DBOS.workflow(name="carry_out", max_recovery_attempts=MAX_RECOVERIES)
def _carry_out(run_id: str) -> None:
    with _at_work(run=run_id) as carrier:
        carrier.carry_out(run_id)


@DBOS.workflow(name="replace", max_recovery_attempts=MAX_RECOVERIES)
def _replace(run_id: str, target: str) -> dict[str, Any]:
    with _on_target(run_id, target) as carrier:
        return carrier.replace(run_id, target)


@DBOS.workflow(name="prove", max_recovery_attempts=MAX_RECOVERIES)
def _prove(run_id: str, group: str, ids: dict[str, str]) -> dict[str, Any]:
    """Prove the health of a group of targets as soon as those workflows have ended; they were begun before."""
    with _at_work(run=run_id) as carrier:
        _wait_for(list(ids.values()))
        return carrier.prove(run_id, group, _results_of(ids))


@DBOS.workflow(name="put_back", max_recovery_attempts=MAX_RECOVERIES)
def _put_back(run_id: str, target: str, why: str) -> None:
    with _on_target(run_id, target) as carrier:
        carrier.put_back(run_id, target, why)


@DBOS.workflow(name="settle", max_recovery_attempts=MAX_RECOVERIES)
def _settle(run_id: str, target: str, why: str) -> None:
    with _on_target(run_id, target) as carrier:
        carrier.settle(run_id, target, why)


@DBOS.workflow(name="carry", max_recovery_attempts=MAX_RECOVERIES)
def _carry(run_id: str, part: str) -> None:
    with _at_work(run=run_id) as carrier:
        carrier.carry(run_id, part)


@DBOS.workflow(name="tend", max_recovery_attempts=MAX_RECOVERIES)
def _tend(run_id: str, target: str, task: str) -> dict[str, Any]:
    with _on_target(run_id, target) as carrier:
        return carrier.tend(run_id, target, task)


class DurableEngine:
    """Starts and resumes the workflows of runs."""

    def __init__(
        self,
        database: Database,
        carrier: Carrier,
        *,
        in_flight: int,
        drain: float = DRAIN_SECONDS,
        frozen: Callable[[], bool] | None = None,
    ) -> None:
        self._database = database
        self._drain = drain
        self._is_launched = False
        self.executor = "embedded" if database.is_sqlite else f"{socket.gethostname()[:80]}-{uuid.uuid4().hex[:8]}"
        """This process's id: another one at each start where several share a database, or they would steal work."""
        self._idle: set[str] = set()
        """Workflows on which nobody was at work when it was looked last."""
        _Current.guard = lambda: None
        _Current.carrier = carrier
        _Current.at_work.clear()
        _Current.slots = Slots(in_flight)
        _Current.leaving = threading.Event()
        _Current.frozen = staticmethod(frozen or (lambda: False))

    @property
    def is_running(self) -> bool:
        """Whether it takes up work."""
        return self._is_launched and not _Current.leaving.is_set()

    def launch(self) -> None:
        """Start working; what a crash interrupted is resumed about a second later."""
        config: DBOSConfig = {
            "name": "octocert",
            "application_version": VERSION,
            "executor_id": self.executor,
            "system_database_engine": self._database.engine,
            "serializer": cast("Serializer", StrictJson()),
            "enable_otlp": False,
            "log_level": "WARNING",
            # no limit of threads: slots bound the work on targets, and no run may wait for a thread for its parts
        }
        DBOS(config=config)
        DBOS.launch()
        self._is_launched = True

    def guard_by(self, guard: Callable[[], None]) -> None:
        """Have this called before each step."""
        _Current.guard = guard

    def owners(self) -> set[str]:
        """Return the ids of the processes that have work under way."""
        if not self.is_running:
            return set()
        found = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        return {status.executor_id for status in found if status.executor_id}

    def take_over(self, executors: Iterable[str]) -> int:
        """Have others go on with the work of dead processes; return how many pieces that are.

        By a function that DBOS keeps for itself since 3.0, held to its promise by a test: its public one would revive
        what was cancelled meanwhile. Repeats are harmless.
        """
        return len(DBOS._recover_pending_workflows(list(executors)))  # noqa: SLF001

    def revive(self) -> int:
        """Go on with work that is ours by the database, but on which nobody is; return how many pieces that are.

        Its thread ended, and that could not be written down. Two looks must agree: between them work begins and ends.
        """
        if not self.is_running:
            return 0
        mine = DBOS.list_workflows(status="PENDING", executor_id=self.executor, load_input=False, load_output=False)
        idle = [w.workflow_id for w in mine if not _Current.at_work[w.workflow_id]]
        again = [i for i in idle if i in self._idle]
        self._idle = set(idle)
        for workflow in again:
            log.error("work on which nobody is was found; it is gone on with", workflow=workflow)
            DBOS.resume_workflow(workflow)
        return len(again)

    def stuck(self) -> dict[str, int]:
        """Return how much work waits for another application version than ours: nobody does it."""
        found: Counter[str] = Counter()
        for state in ("PENDING", "ENQUEUED"):
            for status in DBOS.list_workflows(status=state, load_input=False, load_output=False):
                if status.app_version and status.app_version != VERSION:
                    found[status.app_version] += 1
        return dict(found)

    def forget(self, run_id: str) -> None:
        """Delete what is kept of a run that is over, with all its parts."""
        found = DBOS.list_workflows(workflow_id_prefix=run_id, load_input=False, load_output=False)
        mine = [w.workflow_id for w in found if w.workflow_id.partition(":")[0] == run_id]
        for begin in range(0, len(mine), AT_ONCE):
            DBOS.delete_workflows(mine[begin : begin + AT_ONCE])

    def leave(self) -> None:
        """Begin no step any more; those that run go on to their end."""
        _Current.leaving.set()

    def stop(self) -> None:
        """Begin no step any more, give those that run a while to end, and leave the rest resumable."""
        self.leave()
        DBOS.destroy(workflow_completion_timeout_sec=math.ceil(self._drain) if self._has_work() else 0)

    def _has_work(self) -> bool:
        """Whether a workflow runs in this process. DBOS asks itself the same, but only after a whole second."""
        active = getattr(_get_dbos_instance(), "_active_workflows_set", None)
        return not self._is_launched or active is None or bool(active.activeList())

    def start(self, run_id: str) -> None:
        """Have an approved run carried out by this process; once, however often this is called."""
        with SetWorkflowID(run_id):
            DBOS.start_workflow(_carry_out, run_id)

    def start_part(self, run_id: str, part: str, key: str) -> None:
        """Have one part of a run of the Server carried out; once for each key, however often this is called."""
        with SetWorkflowID(f"{run_id}:{part}:{key}"):
            DBOS.start_workflow(_carry, run_id, part)

    def broken_parts(self, run_id: str) -> set[str]:
        """Return the parts of a run that ended by an error or were given up; none while any work of it is under way.

        The run itself is the part without a name.
        """
        # first what has ended: what begins between the two questions must not look broken
        ended = DBOS.list_workflows(
            workflow_id_prefix=run_id,
            name=["carry_out", "carry"],
            status=list(BROKEN_OFF),
            load_input=False,
            load_output=False,
        )
        parts = [w.workflow_id.split(":") for w in ended]
        broken = {(part or [""])[0] for run, *part in parts if run == run_id}
        if broken and DBOS.list_workflows(
            workflow_id_prefix=run_id, status=list(UNDER_WAY), limit=1, load_input=False, load_output=False
        ):
            return set()
        return broken

    @staticmethod
    def read(function: Callable[..., T], *arguments: Any) -> T:
        """Read something that never changes between two steps of a workflow, however long the database is away."""
        return _patiently(function.__name__, function, *arguments)

    @staticmethod
    def step(name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run one durable step inside a workflow, as soon as nothing is frozen; its arguments and result are JSON.

        Unexpected for whatever it raises: expected failures are results.
        """
        if _Current.leaving.is_set():
            raise Leaving
        _Current.guard()
        while _patiently("frozen", _Current.frozen):
            if _Current.leaving.wait(FROZEN_SECONDS):
                raise Leaving

        def measured(*given: Any) -> T:
            with bound_contextvars(step=name), telemetry.timed(telemetry.STEP_SECONDS, step=name) as timing:
                timing.labels = {"result": "error"}
                try:
                    result = _patiently(name, function, *given)
                except Exception:
                    telemetry.FAILURES.labels(part="step", kind=name).inc()
                    log.exception("a step met an error that nobody expected")
                    raise
                has_failed = isinstance(result, dict) and result.get("ok") is False
                timing.labels = {"result": "failed" if has_failed else "done"}
                return result

        try:
            return DBOS.run_step({"name": name}, measured, *arguments)
        except Exception as error:  # never BaseException: by such DBOS itself ends a workflow
            raise Unexpected(name, class_of(error)) from error

    @staticmethod
    def replace_all(run_id: str, groups: Mapping[str, Sequence[str]], turn: int = 1) -> Replaced:
        """Replace several certificates, as many at once as there are slots; called inside `carry_out`.

        The health of a group is proven while the next groups are worked on. A target whose turn was put off comes
        again with the next number.
        """
        again = f":{turn}" if turn > 1 else ""
        ids: dict[str, str] = {}
        proofs: dict[str, str] = {}
        calls: list[Call] = []
        for group, targets in groups.items():
            mine = {t: f"{run_id}:replace:{t}{again}" for t in targets}
            proofs[group] = f"{run_id}:prove:{group}"
            calls += [(_replace, workflow_id, (run_id, target)) for target, workflow_id in mine.items()]
            calls.append((_prove, proofs[group], (run_id, group, mine)))
            ids |= mine
        _begin_all(calls)
        _wait_for([*ids.values(), *proofs.values()])
        return Replaced(targets=_results_of(ids), proofs=_results_of(proofs))

    @staticmethod
    def tend_all(run_id: str, targets: Sequence[str], task: str) -> dict[str, dict[str, Any]]:
        """Do one phase's work on several Tentacles, as many at once as there are slots; called inside `carry`."""
        return _all(_tend, {t: (f"{run_id}:{task}:{t}", run_id, t, task) for t in targets})

    @staticmethod
    def put_back_all(run_id: str, targets: Sequence[tuple[str, str]]) -> None:
        """Undo several targets (name and why); called inside `carry_out`."""
        _all(_put_back, {t: (f"{run_id}:put_back:{t}", run_id, t, why) for t, why in targets})

    @staticmethod
    def settle_all(run_id: str, targets: Sequence[tuple[str, str]]) -> None:
        """End several targets whose work broke off (name and why), by what is seen of them."""
        _all(_settle, {t: (f"{run_id}:settle:{t}", run_id, t, why) for t, why in targets})


def _all(workflow: Callable[..., T], calls: Mapping[str, tuple[str, ...]]) -> dict[str, T | dict[str, Any]]:
    """Have workflows of our own do something to several targets; each call is an id and what the workflow gets.

    One that ended by an error has `{"ok": False, "ready": False}` as its result: what became of the target is not told.
    """
    _begin_all([(workflow, workflow_id, arguments) for workflow_id, *arguments in calls.values()])
    ids = {target: workflow_id for target, (workflow_id, *_) in calls.items()}
    _wait_for(list(ids.values()))
    return _results_of(ids)


def _begin_all(calls: Sequence[Call]) -> None:
    """Begin workflows in this order, each as soon as there is a slot for it; those that were begun before go on.

    They are no children of the workflow that asks: each child is recorded there, which costs as much again as to
    begin it (measured).
    """
    if _Current.leaving.is_set():
        raise Leaving
    if DBOS.patch("beside"):
        _elsewhere(_begin_new, calls)
        return
    for call in calls:  # the way of the release before
        _begin(*call)


def _begin_new(calls: Sequence[Call]) -> None:
    ids = [workflow_id for _, workflow_id, _ in calls]
    begun = _patiently("begin", lambda: {status.workflow_id for status in _listed(ids, load_output=False)})
    for workflow, workflow_id, arguments in calls:
        if workflow_id not in begun:
            _Current.guard()
            _begin(workflow, workflow_id, arguments)
            _Current.leaving.wait(BEGIN_SECONDS)


def _begin(workflow: Callable[..., Any], workflow_id: str, arguments: Sequence[Any]) -> None:
    """Start a workflow as soon as there is a slot for it; a proof needs none.

    A queue of DBOS's would do the same, asking the database several times a second, all day.
    """
    has_slot = workflow is _prove
    while not has_slot:
        if _Current.leaving.is_set():
            raise Leaving
        has_slot = _Current.slots.reserve(workflow_id, SLOT_SECONDS)
    handle = None
    try:
        with SetWorkflowID(workflow_id):
            handle = DBOS.start_workflow(workflow, *arguments)
    finally:
        if not isinstance(handle, WorkflowHandleFuture):
            _Current.slots.cancel(workflow_id)


def _results_of(ids: Mapping[str, str]) -> dict[str, Any]:
    """Return what workflows that have ended returned, in one step: asked one by one, each would be recorded as one."""
    results: dict[str, Any] = DBOS.run_step({"name": "results"}, _patiently, "results", _results, dict(ids))
    return results


def _results(ids: Mapping[str, str]) -> dict[str, Any]:
    """Return what workflows that have ended returned, by target; see `_all` for one that ended by an error."""
    found = _elsewhere(_ended, list(ids.values()))
    return {target: found[workflow_id] for target, workflow_id in ids.items()}


def _ended(ids: Sequence[str]) -> dict[str, Any]:
    found = {}
    for status in _listed(ids):
        found[status.workflow_id] = status.output
        if status.status in BROKEN_OFF:
            error = class_of(status.error) if status.error else status.status
            what = Unexpected("the work on it", error).sentence
            found[status.workflow_id] = {"ok": False, "ready": False, "what": what}
    return found


def _patiently(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Do a step, and again for as long as the database is away or its disk full: every step may be repeated.

    What the durable engine writes itself it tries again, too.
    """
    tries = 0
    while True:
        try:
            return function(*arguments)
        except sa.exc.SQLAlchemyError as error:
            if not is_away(error):
                raise
            pause = PAUSES[min(tries, len(PAUSES) - 1)]
            log.warning("the database is away; the step is tried again", name=name, error=type(error).__name__)
        tries += 1
        if _Current.leaving.wait(pause):
            raise Leaving
        _Current.guard()


def _wait_for(workflows: Sequence[str]) -> None:
    """Wait until workflows that were begun have ended; Leaving as soon as the bot stops: nobody waits for us."""
    pause = CHILD_SECONDS
    while not _Current.leaving.wait(pause):
        # the database is asked only when this process is not at work on any of them, and less often while others are
        if any(w in _Current.at_work for w in workflows):
            pause = CHILD_SECONDS
        elif _elsewhere(_under_way, workflows):
            pause = min(pause * 2, ELSEWHERE_SECONDS)
        else:
            return
    raise Leaving


def _elsewhere(ask: Callable[..., T], *arguments: Any) -> T:
    """Ask DBOS something on another thread: asked inside a workflow it would be recorded as a step."""
    with ThreadPoolExecutor(1, thread_name_prefix="children") as thread:
        return thread.submit(ask, *arguments).result()


def _under_way(workflows: Sequence[str]) -> bool:
    return next(_listed(workflows, status=list(UNDER_WAY), limit=1, load_output=False), None) is not None


def _listed(workflows: Sequence[str], **options: Any) -> Iterator[WorkflowStatus]:
    """Yield what DBOS knows of those of these workflows that were begun."""
    for begin in range(0, len(workflows), AT_ONCE):
        some = list(workflows[begin : begin + AT_ONCE])
        yield from DBOS.list_workflows(workflow_ids=some, load_input=False, **options)
