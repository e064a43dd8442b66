"""Maintenance windows: when a run may work. Pure; time zones are handed in.

Times are of the window's own zone, so that 22:00 stays 22:00 when the clocks are changed. A window whose end is not
later than its beginning ends on the next day; `days` are those on which it begins.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from bot.domain.errors import UserError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As the configuration writes them, in the order of datetime.weekday."""
LATEST_DAYS = 60
"""How far ahead `--at` may lie: a plan that old tells nobody anything."""
_AHEAD_DAYS = 9
"""So many days are looked at for the next opening: every window opens at least once a week."""
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time that comes again every week."""

    name: str
    days: tuple[int, ...]
    """Weekdays on which it begins, 0 for Monday."""
    opens: time
    closes: time
    zone: str
    """The zone's name, such as Europe/Berlin."""
    environments: tuple[str, ...] = ()
    """Names of the environments to which it belongs; none: it counts only where it is asked for."""

    @property
    def text(self) -> str:
        """The window as people say it: `nights (mon, tue 22:00 to 04:00 Europe/Berlin)`."""
        days = "every day" if len(self.days) == len(DAYS) else ", ".join(DAYS[d] for d in self.days)
        return f"{self.name} ({days} {self.opens:%H:%M} to {self.closes:%H:%M} {self.zone})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When one plan may be carried out: not before a time, and only while the windows let it."""

    windows: tuple[tuple[Window, ...], ...] = ()
    """Of each group one must be open: an environment may have several windows, a plan several environments."""
    not_before: datetime | None = None
    begins: datetime | None = None
    """When it was expected to begin, as the plan was made; None for at once."""

    @property
    def text(self) -> str:
        """The schedule as a phrase: `in the window …, not before …`."""
        groups = [" or ".join(w.text for w in group) for group in self.windows]
        pieces = [f"in the window {' and in '.join(groups)}"] if groups else []
        if self.not_before:
            pieces.append(f"not before {self.not_before.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
        return ", ".join(pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a schedule says at a moment."""

    is_open: bool
    until: datetime | None
    """Until when that stays so; None where nothing will change it."""


ALWAYS = Opening(is_open=True, until=None)
Zones = Callable[[str], tzinfo]


def spans(window: Window, now: datetime, zones: Zones) -> list[tuple[datetime, datetime]]:
    """Return when a window is open around and after a moment, in UTC."""
    zone = zones(window.zone)
    today = now.astimezone(zone).date()
    found = []
    for number in range(-1, _AHEAD_DAYS):
        day = today + timedelta(days=number)
        if day.weekday() in window.days:
            last = day if window.closes > window.opens else day + timedelta(days=1)
            found.append((_moment(day, window.opens, zone), _moment(last, window.closes, zone)))
    return found


def _moment(day: date, clock: time, zone: tzinfo) -> datetime:
    """Return a local time in UTC; one that the change of clocks leaves out is taken an hour later."""
    local = datetime.combine(day, clock, tzinfo=zone)
    return local.astimezone(UTC)


def opening(schedule: Schedule, now: datetime, zones: Zones) -> Opening:
    """Return whether a run with this schedule may work now, and until when that stays so."""
    start = max(now, schedule.not_before) if schedule.not_before else now
    if not schedule.windows:
        return ALWAYS if start <= now else Opening(is_open=False, until=start)
    common = _common([_joined([s for w in group for s in spans(w, start, zones)]) for group in schedule.windows])
    following = [(begin, end) for begin, end in common if end > start]
    if not following:
        return Opening(is_open=False, until=None)
    begin, end = following[0]
    if start <= now and begin <= now:
        return Opening(is_open=True, until=end)
    return Opening(is_open=False, until=max(begin, start))


def _joined(found: list[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Return spans in order, those that touch as one."""
    joined: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(found):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _common(every: Sequence[list[tuple[datetime, datetime]]]) -> list[tuple[datetime, datetime]]:
    """Return when all windows are open at once."""
    common = every[0]
    for other in every[1:]:
        both = [(max(a, c), min(b, d)) for a, b in common for c, d in other]
        common = sorted((begin, end) for begin, end in both if begin < end)
    return common


def schedule_for(
    environments: Iterable[str],
    windows: Mapping[str, Window],
    *,
    window: str,
    at: str,
    accepted: bool,
    now: datetime,
    zones: Zones,
) -> Schedule | None:
    """Return when a plan for targets in these environments may be carried out, None where at any time.

    The windows of the environments always count, unless `accepted` (the acknowledgement `outside-window`); a window
    that is named chooses among them. UserError for what makes no sense.
    """
    own = windows_of(environments, windows)
    groups = tuple(dict.fromkeys(own.values()))
    if window:
        named = _named(window, windows)
        foreign = [e for e, theirs in own.items() if named not in theirs]
        if foreign and not accepted:
            raise UserError(
                f"The window {named.name} is none of {', '.join(foreign)}, which has windows of its own. "
                "If it may be worked on outside of them, add `--accept outside-window`. Nothing was done."
            )
        groups = ((named,),)
    elif accepted:
        groups = ()
    not_before = None
    if at:
        zone = groups[0][0].zone if groups else ""
        not_before = _at(at, now, zones(zone) if zone else UTC)
    if not groups and not_before is None:
        return None
    schedule = Schedule(windows=groups, not_before=not_before)
    first = opening(schedule, now, zones)
    if not first.is_open and first.until is None:
        raise UserError(
            f"The run could never begin: {schedule.text} are never open together. Ask for the environments "
            "one by one, or name the one that counts and accept the rest: `--window NAME --accept outside-window`."
        )
    return replace(schedule, begins=None if first.is_open else first.until)


def windows_of(environments: Iterable[str], windows: Mapping[str, Window]) -> dict[str, tuple[Window, ...]]:
    """Return the windows of those environments that have some."""
    found = {}
    for environment in dict.fromkeys(environments):
        folded = environment.casefold()
        theirs = tuple(w for w in windows.values() if folded in {e.casefold() for e in w.environments})
        if theirs:
            found[environment] = theirs
    return found


def uncovered(environments: Iterable[str], windows: Mapping[str, Window], schedule: Schedule | None) -> list[str]:
    """Return the environments that have windows of their own which a schedule does not keep."""
    kept = schedule.windows if schedule else ()
    own = windows_of(environments, windows)
    return [e for e, theirs in own.items() if not any(set(group) <= set(theirs) for group in kept)]


def _named(name: str, windows: Mapping[str, Window]) -> Window:
    found = next((w for n, w in windows.items() if n.casefold() == name.casefold()), None)
    if found is None:
        known = f"There is: {', '.join(sorted(windows))}." if windows else "It names none: add a table [windows.NAME]."
        raise UserError(f"The configuration names no window “{name[:40]}”. {known}")
    return found


def _at(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the time that somebody typed, in UTC: a time of day is the next one, all others say their date."""
    clock = _CLOCK.fullmatch(text.strip())
    if clock:
        local = now.astimezone(zone)
        wanted = local.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (wanted if wanted > local else wanted + timedelta(days=1)).astimezone(UTC)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UserError(
            f"--at does not understand “{text[:40]}”. Write a time of day such as 22:00, or a date and a time such as "
            "2026-12-01 22:00 or 2026-12-01T22:00+01:00."
        ) from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    if moment <= now:
        raise UserError(f"--at {text[:40]} is {moment:%Y-%m-%d %H:%M} UTC, which has passed. Nothing was done.")
    if moment > now + timedelta(days=LATEST_DAYS):
        raise UserError(f"--at {text[:40]} is more than {LATEST_DAYS} days ahead. Ask again nearer to it.")
    return moment
