"""Legs: what one visit does, and what is done between visits."""

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.facts import Style
from bot.domain.plan import Order, Source, StepKind
from bot.domain.planner import steps_for
from bot.runs.legs import LegKind, legs_of
from tests.making import NEW_CERTIFICATE, pfx_source


def test_a_listening_tentacle_is_done_in_one_visit() -> None:
    """Copy, import and restart at once; then the look from outside, then the records."""
    legs = legs_of(steps_for(Style.LISTENING, pfx_source(), Order.DEFAULT))
    assert [leg.kind for leg in legs] == [LegKind.VISIT, LegKind.OUTSIDE]
    assert legs[0].steps == (StepKind.BACKUP, StepKind.IMPORT, StepKind.RESTART)
    assert legs[1].steps == (StepKind.SERVED, StepKind.RECORD)


def test_a_polling_tentacle_is_recorded_between_its_two_visits() -> None:
    """The restart waits for the records."""
    legs = legs_of(steps_for(Style.POLLING, NEW_CERTIFICATE, Order.DEFAULT))
    assert [leg.kind for leg in legs] == [LegKind.VISIT, LegKind.OUTSIDE, LegKind.VISIT]
    assert legs[0].replaces
    assert not legs[0].restarts
    assert legs[2].restarts


@given(st.sampled_from(list(Style)), st.sampled_from(list(Order)), st.sampled_from(["new-certificate", "backup:r-1"]))
def test_no_step_is_lost_and_none_is_moved(style: Style, order: Order, source: str) -> None:
    """Whatever the order, the legs hold the plan's steps as they stand there; waiting and health are the run's."""
    steps = steps_for(style, Source(text=source), order)
    inside = tuple(s for leg in legs_of(steps) for s in leg.steps)
    assert inside == tuple(s for s in steps if s not in {StepKind.IDLE, StepKind.HEALTH})


@given(st.sampled_from(list(Style)), st.sampled_from(list(Order)))
def test_no_visit_ends_with_the_service_stopped(style: Style, order: Order) -> None:
    """What one visit stops it starts."""
    for leg in legs_of(steps_for(style, NEW_CERTIFICATE, order)):
        if StepKind.STOP in leg.steps:
            assert StepKind.START in leg.steps[leg.steps.index(StepKind.STOP) :]
