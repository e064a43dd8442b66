"""Legs: a target's steps grouped by who does them, so that one visit to the host does as much as the order allows."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

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
    """Where a leg is done."""

    VISIT = "visit"
    """On the host."""
    OUTSIDE = "outside"
    """From the bot: a look at what is served, and the records in Octopus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One stretch of a rotation: a visit to the host, or what is done from outside."""

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
    mine = [s for s in steps if s in ON_HOST or s in (StepKind.SERVED, StepKind.RECORD)]
    return tuple(
        Leg(kind=LegKind.VISIT if on_host else LegKind.OUTSIDE, steps=tuple(group))
        for on_host, group in groupby(mine, ON_HOST.__contains__)
    )
