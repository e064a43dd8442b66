"""The table [radar] of the configuration: a look at the whole estate that comes again by the clock."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from croniter import croniter
from pydantic import AfterValidator, Field

from bot.settings_tables import Table
from bot.settings_values import ChannelId, problem
from bot.settings_windows import Zone, zone_of


def _schedule(value: str) -> str:
    # five fields: croniter takes seconds and years, too, which nobody means here
    if len(value.split()) != 5 or not croniter.is_valid(value):  # type: ignore[no-untyped-call]
        raise problem('must be a cron expression of five fields, such as "0 7 * * mon-fri".')
    return value


class Radar(Table):
    """A look at the whole estate that comes again by the clock, and tells what deserves care."""

    channel: ChannelId | None = None
    """The id of the Slack channel in which it tells; without one, it does not look."""
    schedule: Annotated[str, AfterValidator(_schedule)] = "0 7 * * *"
    """When it looks, as a cron expression: minute, hour, day of the month, month, day of the week."""
    time_zone: Zone = "UTC"
    """The zone of that schedule, such as Europe/Berlin."""
    days: tuple[Annotated[int, Field(ge=1, le=3_650)], ...] = Field(default=(30, 14, 7, 1), min_length=1)
    """A certificate expires soon when fewer days are left than the largest of these; each other one is told again."""
    lifetime_share: float = Field(default=0.34, gt=0, le=1)
    """And when less than this share of its lifetime is left: those made for a month are not told of for ever."""
    in_flight: int = Field(default=8, ge=1, le=512)
    """How many targets it looks at at the same time, so that people who rotate something do not wait for it."""


def last_due(radar: Radar, now: datetime) -> datetime:
    """Return when it last had to look, in UTC, up to and with now."""
    # a second on: what is due now is due
    local = (now + timedelta(seconds=1)).astimezone(zone_of(radar.time_zone))
    due: datetime = croniter(radar.schedule, local).get_prev(datetime)  # type: ignore[no-untyped-call]
    return due.astimezone(UTC)
