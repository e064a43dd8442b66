"""The timetable: the configured windows, and whether a plan may be worked on now."""

from collections.abc import Mapping, Sequence

from bot.clock import Clock
from bot.domain.plan import Caution, Request, Severity
from bot.domain.windows import ALWAYS, Opening, Schedule, Window, Zones, opening, schedule_for, uncovered

OUTSIDE = "outside-window"
"""How the danger is acknowledged that targets are worked on outside the windows of their environments."""


class Timetable:
    """Answers by the clock; the windows of a plan are those that its approver saw, not those configured by now."""

    def __init__(self, windows: Mapping[str, Window], zones: Zones, clock: Clock) -> None:
        self._windows = windows
        self._zones = zones
        self._clock = clock

    def schedule(self, request: Request, environments: Sequence[str]) -> tuple[Schedule | None, list[Caution]]:
        """Return when a plan may be carried out, and what its approver must be told of that."""
        accepted = OUTSIDE in {a.casefold() for a in request.accept}
        found = schedule_for(
            environments,
            self._windows,
            window=request.window,
            at=request.at,
            accepted=accepted,
            now=self._clock.now(),
            zones=self._zones,
        )
        outside = uncovered(environments, self._windows, found)
        if not outside:
            return found, []
        text = f"acknowledged: it is worked on outside the maintenance windows of {', '.join(outside)}"
        return found, [Caution(severity=Severity.WARNING, text=text)]

    def opening(self, schedule: Schedule | None) -> Opening:
        """Return whether a plan with this schedule may be worked on now, and until when that stays so."""
        return opening(schedule, self._clock.now(), self._zones) if schedule else ALWAYS
