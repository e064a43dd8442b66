"""Maintenance windows: in their own zone, over midnight, over the change of clocks; several together; never a guess."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.errors import UserError
from bot.domain.windows import Opening, Schedule, Window, opening, schedule_for, uncovered
from bot.settings_windows import zone_of

MONDAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def window(name: str = "nights", opens: str = "22:00", closes: str = "04:00", **changes) -> Window:
    """Return a window of every night, in UTC unless said otherwise."""
    plain = {"days": tuple(range(7)), "zone": "UTC", "environments": ("Production",)} | changes
    return Window(name=name, opens=time.fromisoformat(opens), closes=time.fromisoformat(closes), **plain)


NIGHTS, NOON = window(), window("noon", "12:00", "13:00", environments=("Staging",))
ALL = {w.name: w for w in (NIGHTS, NOON)}


def at(schedule: Schedule, moment: datetime) -> Opening:
    """Return what a schedule says at a moment."""
    return opening(schedule, moment, zone_of)


def wanted(*environments: str, **asked) -> Schedule | None:
    """Return the schedule of a plan for these environments, asked for on a Monday at nine."""
    plain = {"window": "", "at": "", "accepted": False} | asked
    return schedule_for(environments, ALL, now=MONDAY, zones=zone_of, **plain)


def test_a_night_ends_on_the_next_day():
    """And what began on Sunday is still open on Monday morning, though Monday itself is no day of it."""
    sundays = Schedule(windows=((window(days=(6,)),),))
    assert at(sundays, datetime(2026, 1, 5, 3, 59, tzinfo=UTC)).is_open
    closed = at(sundays, datetime(2026, 1, 5, 4, 0, tzinfo=UTC))
    assert closed == Opening(is_open=False, until=datetime(2026, 1, 11, 22, 0, tzinfo=UTC))


def test_its_times_are_those_of_its_zone_also_when_the_clocks_change():
    """22:00 in Berlin is 21:00 UTC in winter and 20:00 UTC in summer."""
    berlin = Schedule(windows=((window(zone="Europe/Berlin"),),))
    assert at(berlin, datetime(2026, 1, 5, 12, tzinfo=UTC)).until == datetime(2026, 1, 5, 21, 0, tzinfo=UTC)
    assert at(berlin, datetime(2026, 7, 6, 12, tzinfo=UTC)).until == datetime(2026, 7, 6, 20, 0, tzinfo=UTC)
    changing = at(berlin, datetime(2026, 3, 28, 21, 30, tzinfo=UTC))
    assert changing == Opening(is_open=True, until=datetime(2026, 3, 29, 2, 0, tzinfo=UTC)), "an hour shorter"


@given(st.integers(0, 60 * 24 * 400), st.sets(st.integers(0, 6), min_size=1), st.sampled_from(["UTC", "Europe/Berlin"]))
def test_what_it_says_of_the_future_comes_true(minutes: int, days: set[int], zone: str):
    """At the time until which it is closed it is open, and a minute before it was not."""
    schedule = Schedule(windows=((window(days=tuple(sorted(days)), zone=zone),),))
    now = MONDAY + timedelta(minutes=minutes)
    told = at(schedule, now)
    assert told.until is not None
    assert now < told.until <= now + timedelta(days=8)
    assert at(schedule, told.until).is_open is not told.is_open
    assert at(schedule, told.until - timedelta(minutes=1)).is_open is told.is_open or told.until - now < timedelta(
        minutes=1
    )


def test_environments_with_windows_wait_for_them_by_default():
    """Others do not wait at all."""
    assert wanted("Test") is None
    found = wanted("Production", "Test")
    assert found is not None
    assert found.begins == datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
    assert "nights (every day 22:00 to 04:00 UTC)" in found.text


def test_windows_that_are_never_open_together_are_refused():
    """Better than to wait for ever."""
    with pytest.raises(UserError, match="never open together"):
        wanted("Production", "Staging")


def test_an_environment_may_have_several_windows():
    """Each of them will do; those that touch are one."""
    later = window("early", "04:00", "06:00")
    both = Schedule(windows=((NIGHTS, later),))
    assert at(both, datetime(2026, 1, 6, 3, 0, tzinfo=UTC)).until == datetime(2026, 1, 6, 6, 0, tzinfo=UTC)


def test_a_named_window_must_be_one_of_the_environments_own():
    """Unless somebody acknowledges what that means; the approver is told which windows are left aside."""
    assert wanted("Test", window="NOON") == Schedule(windows=((NOON,),), begins=datetime(2026, 1, 5, 12, 0, tzinfo=UTC))
    with pytest.raises(UserError, match="--accept outside-window"):
        wanted("Production", window="noon")
    accepted = wanted("Production", window="noon", accepted=True)
    assert uncovered(["Production"], ALL, accepted) == ["Production"]
    assert wanted("Production", accepted=True) is None
    assert uncovered(["Production"], ALL, wanted("Production")) == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("22:00", "2026-01-05T22:00+00:00"),
        ("8:30", "2026-01-06T08:30+00:00"),
        ("2026-02-01 22:00", "2026-02-01T22:00+00:00"),
        ("2026-02-01T22:00+01:00", "2026-02-01T21:00+00:00"),
    ],
)
def test_a_time_is_a_time_of_day_or_a_date(typed: str, meant: str):
    """A time of day is the next one; without a zone it is UTC where no window has another."""
    found = wanted("Test", at=typed)
    assert found is not None
    assert found.not_before == datetime.fromisoformat(meant) == found.begins
    assert found.text.startswith("not before 2026-0")


def test_a_time_counts_within_the_window():
    """Not before it, and then as soon as the window is open."""
    found = wanted("Production", at="2026-01-06 05:00")
    assert found is not None
    assert found.begins == datetime(2026, 1, 6, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"at": "tomorrow"}, "does not understand “tomorrow”"),
        ({"at": "2026-01-01 22:00"}, "has passed"),
        ({"at": "2027-01-01 22:00"}, "more than 60 days ahead"),
        ({"window": "night"}, "names no window “night”. There is: nights, noon."),
    ],
)
def test_what_makes_no_sense_is_explained(asked: dict[str, str], problem: str):
    """With what may be written instead."""
    with pytest.raises(UserError, match=problem):
        wanted("Test", **asked)
