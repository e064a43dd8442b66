"""The tables [windows.NAME] of the configuration: when which environments may be worked on."""

from datetime import time, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from bot.domain import windows
from bot.settings_tables import Table
from bot.settings_values import problem

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _clock(value: str) -> str:
    try:
        time.fromisoformat(value)
    except ValueError:
        value = ""
    if len(value) != 5:
        raise problem("must be a time of day such as 22:00.")
    return value


def _zone(value: str) -> str:
    try:
        zone_of(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise problem(
            f"names the time zone {value!r}, which is not known. Write one such as Europe/Berlin or UTC."
        ) from None
    return value


Clock = Annotated[str, AfterValidator(_clock)]
Zone = Annotated[str, AfterValidator(_zone)]


class Window(Table):
    """A maintenance window, which comes again every week."""

    opens: Clock
    """When it opens, such as 22:00, in its time zone."""
    closes: Clock
    """When it closes; a time that is not later than the opening means the next day."""
    days: tuple[Day, ...] = Field(default=("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1)
    """The days on which it opens."""
    time_zone: Zone = "UTC"
    """The zone of its times, such as Europe/Berlin."""
    environments: tuple[str, ...] = ()
    """Names of the environments that are only worked on in this window; empty: it counts where it is asked for."""

    def window(self, name: str) -> windows.Window:
        """Return it under its name, as plans know it."""
        return windows.Window(
            name=name,
            days=tuple(sorted({windows.DAYS.index(d) for d in self.days})),
            opens=time.fromisoformat(self.opens),
            closes=time.fromisoformat(self.closes),
            zone=self.time_zone,
            environments=self.environments,
        )


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name; ZoneInfoNotFoundError if there is none."""
    return ZoneInfo(name)
