"""Legs: a target's steps grouped by who does them, so that one visit to the host does as much as the order allows."""

from dataclasses import dataclass
from enum import StrEnum

from bot.domain.plan import StepKind
from bot.windows.hands import Action

ON_HOST = {
    StepKind.BACKUP: Action.BACKUP,
    StepKind.STOP: Action.STOP,
    StepKind.IMPORT: Action.IMPORT,
    StepKind.MAKE: Action.MAKE,
    StepKind.RESTORE: Action.RESTORE,
    StepKind.START: Action.START,
    StepKind.RESTART: Action.RESTART,
}
"""Which steps are done on the host, and by which action of the remote script."""
STARTS = {StepKind.START, StepKind.RESTART}
REPLACES = {StepKind.IMPORT, StepKind.MAKE, StepKind.RESTORE}


class LegKind(StrEnum):
    """Who does a leg."""

    VISIT = "visit"
    SERVED = "served"
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One stretch of a rotation: a visit to the host, a look from outside, or the records."""

    kind: LegKind
    steps: tuple[StepKind, ...]

    @property
    def restarts(self) -> bool:
        """Whether the service is another process afterwards."""
        return any(s in STARTS for s in self.steps)

    @property
    def replaces(self) -> bool:
        """Whether the configured certificate is another one afterwards."""
        return any(s in REPLACES for s in self.steps)


def legs_of(steps: tuple[StepKind, ...]) -> tuple[Leg, ...]:
    """Return the legs of a target's steps; waiting and the health check are the run's, not a leg's."""
    legs: list[Leg] = []
    visit: list[StepKind] = []
    for step in (*steps, StepKind.HEALTH):
        if step in ON_HOST:
            visit.append(step)
            continue
        if visit:
            legs.append(Leg(kind=LegKind.VISIT, steps=tuple(visit)))
            visit = []
        if step is StepKind.SERVED:
            legs.append(Leg(kind=LegKind.SERVED, steps=(step,)))
        elif step is StepKind.RECORD:
            legs.append(Leg(kind=LegKind.RECORD, steps=(step,)))
    return tuple(legs)
