"""Step notes: where the steps of targets stand, for people to see; written a few times a second, all together.

A fleet notes hundreds of steps a second. What work depends on is written at once: that a target was begun, and what
failed. Notes that a crash takes away are made again by the step that is repeated after it.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa
import structlog

from bot.clock import Clock
from bot.domain import codec
from bot.domain.plan import StepKind
from bot.domain.run import StepProgress, StepState
from bot.runs import tables
from bot.runs.database import is_away

log = structlog.get_logger("octocert.ledger")

BUNDLE_SECONDS = 0.3
"""How long a note may wait for others."""
_AT_ONCE = 500
"""Names in one query; older SQLite takes 999 parameters."""

Key = tuple[str, str]
"""A run's id and a target's name."""


class StepNotes:
    """Notes of this process. Whoever reads them from the database calls `flush` before."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[Key, dict[StepKind, StepProgress]] = {}
        self._begun: set[Key] = set()
        """Targets of which the database knows that they were begun, and which have not ended."""
        self._timer: threading.Timer | None = None
        self._is_closed = False
        self._on_written: Callable[[str], None] | None = None

    def told_to(self, on_written: Callable[[str], None]) -> None:
        """Have this called with the id of each run whose notes were written."""
        self._on_written = on_written

    def note(self, run_id: str, target: str, states: Mapping[StepKind, StepState], detail: str) -> None:
        """Note where some steps of one target stand."""
        key = (run_id, target)
        told = {step: StepProgress(step=step, state=state, detail=detail) for step, state in states.items()}
        with self._lock:
            self._pending.setdefault(key, {}).update(told)
            is_urgent = key not in self._begun or StepState.ERROR in states.values()
            if not is_urgent:
                self._wait()
        if is_urgent:
            self._flush()
            with self._lock:
                self._begun.add(key)

    def ended(self, run_id: str, target: str) -> None:
        """Forget what is known of a target that has its outcome."""
        with self._lock:
            self._begun.discard((run_id, target))

    def flush(self) -> None:
        """Write what was noted until now. It is kept where the database is away, which is raised as everywhere.

        What the database refuses is lost: nobody shall be kept from reading by what is there to be looked at only.
        """
        try:
            self._flush()
        except sa.exc.SQLAlchemyError as error:
            if is_away(error):
                raise
            log.exception("where steps stand could not be written, and is not shown")

    def _flush(self) -> None:
        with self._writing:
            with self._lock:
                pending, self._pending = self._pending, {}
            if not pending:
                return
            try:
                runs = self._write(pending)
            except sa.exc.SQLAlchemyError as error:
                if is_away(error):
                    with self._lock:
                        every = (*pending, *self._pending)
                        self._pending = {key: pending.get(key, {}) | self._pending.get(key, {}) for key in every}
                raise
        if self._on_written:
            for run_id in runs:
                self._on_written(run_id)

    def close(self) -> None:
        """Write what is left, if it can be written now."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
            self._is_closed = True
        try:
            self.flush()
        except sa.exc.SQLAlchemyError as error:
            log.warning("where steps stand could not be written", error=type(error).__name__)

    def _wait(self) -> None:
        """Have it flushed soon; to be called under the lock."""
        if self._timer is None and not self._is_closed:
            self._timer = threading.Timer(BUNDLE_SECONDS, self._timed)
            self._timer.name, self._timer.daemon = "step-notes", True
            self._timer.start()

    def _timed(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except sa.exc.SQLAlchemyError as error:
            log.warning("where steps stand could not be written; it is tried again", error=type(error).__name__)
            with self._lock:
                self._wait()

    def _write(self, pending: Mapping[Key, Mapping[StepKind, StepProgress]]) -> Sequence[str]:
        """Write notes in one transaction; return the runs of which something is another now."""
        columns, now = tables.progress.c, self._clock.now().isoformat()
        changed: list[dict[str, str]] = []
        runs = sorted({run_id for run_id, _ in pending})
        with self._engine.begin() as connection:
            for run_id in runs:
                names = [target for run, target in pending if run == run_id]
                for begin in range(0, len(names), _AT_ONCE):
                    some = columns.target.in_(names[begin : begin + _AT_ONCE])
                    query = sa.select(columns.target, columns.steps, columns.began).where(
                        columns.run_id == run_id, some
                    )
                    # another bot may note the health of a target whose visit was ours
                    for row in connection.execute(query.with_for_update()):
                        before = load_steps(row.steps)
                        told = pending[run_id, row.target]
                        steps = tuple(told.get(s.step, s) for s in before)
                        if steps != before or not row.began:
                            about = {"of_run": run_id, "of_target": row.target, "began": row.began or now}
                            changed.append(about | {"steps": dump_steps(steps)})
            if changed:
                where = (columns.run_id == sa.bindparam("of_run"), columns.target == sa.bindparam("of_target"))
                connection.execute(tables.progress.update().where(*where), changed)
        return list(dict.fromkeys(c["of_run"] for c in changed))


def dump_steps(steps: Sequence[StepProgress]) -> str:
    """Return steps as they are stored."""
    return json.dumps([codec.dump(s) for s in steps])


# Most targets of a fleet are at the same place: read once, used often.


@lru_cache(maxsize=20_000)
def load_steps(text: str) -> tuple[StepProgress, ...]:
    """Return stored steps; equal ones are one object, for a fleet has thousands of them."""
    return tuple(_one(codec.load(StepProgress, s)) for s in json.loads(text))


@lru_cache(maxsize=20_000)
def _one(step: StepProgress) -> StepProgress:
    return step
