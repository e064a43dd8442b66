"""Showing: where the steps of a run stand, noted for people to see as it happens."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bot.audit import Entry
from bot.domain.plan import StepKind
from bot.domain.run import StepState
from bot.runs.gear import Gear
from bot.runs.legs import ON_HOST
from bot.windows.hands import Action, Progress

CHANGING = frozenset({StepKind.RECORD, StepKind.DRAIN, StepKind.UNDRAIN})
"""Steps outside of a visit that change something; a visit's own are written by who visits."""


def note(gear: Gear, run_id: str, name: str, step: StepKind, state: StepState, detail: str = "") -> None:
    """Show where a step stands."""
    gear.ledger.step(run_id, name, step, state, detail)
    gear.announcer.noted(run_id)


@contextmanager
def shown(gear: Gear, run_id: str, name: str, step: StepKind) -> "Iterator[Shown]":
    """Show a step as in progress, and as complete or failed when the block ends."""
    one = Shown(gear, run_id, name, step)
    one.begin()
    yield one
    one.end()


class Shown:
    """One step as people see it."""

    def __init__(self, gear: Gear, run_id: str, name: str, step: StepKind) -> None:
        self._gear, self._run_id, self._name, self._step = gear, run_id, name, step
        self._text = ""
        self._failed = False

    def _note(self, state: StepState) -> None:
        note(self._gear, self._run_id, self._name, self._step, state, self._text)

    def begin(self) -> None:
        """Show that it has begun; what changes something stands in the audit log before it does."""
        if self._step in CHANGING:
            digest = self._gear.ledger.plan(self._run_id).digest
            self._gear.audit.append(
                f"{self._run_id}:{self._name}:began:{self._step.name.lower()}",
                Entry(kind="began", run=self._run_id, target=self._name, digest=digest, what=self._step.value),
            )
        self._note(StepState.IN_PROGRESS)

    def detail(self, text: str) -> None:
        """Show more about where it stands."""
        if text != self._text:
            self._text = text
            self._note(StepState.IN_PROGRESS)

    def failed(self, text: str) -> None:
        """Have it end as failed."""
        self._text, self._failed = text, True

    def end(self) -> None:
        """Show that it has ended."""
        self._note(StepState.ERROR if self._failed else StepState.COMPLETE)


class Watcher:
    """Turns the script's progress into steps that people see; `steps` says which action is which step."""

    def __init__(self, gear: Gear, run_id: str, name: str, steps: Mapping[Action, StepKind] | None = None) -> None:
        self._gear, self._run_id, self._name = gear, run_id, name
        self._steps = steps if steps is not None else {action: step for step, action in ON_HOST.items()}
        self.current: StepKind | None = None
        self.begun = False

    def progress(self, progress: Progress) -> None:
        """Take a line of progress."""
        step = self._steps.get(progress.action)
        if step is None:
            return
        self.begun = True
        if progress.state == "begin":
            self.current = step
            note(self._gear, self._run_id, self._name, step, StepState.IN_PROGRESS)
        elif progress.state == "end":
            note(self._gear, self._run_id, self._name, step, StepState.COMPLETE)

    def failed(self, what: str) -> None:
        """Show that the step at which it stands has failed."""
        if self.current:
            note(self._gear, self._run_id, self._name, self.current, StepState.ERROR, what)
