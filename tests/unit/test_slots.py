"""Slots: no more targets are worked on at once than there are places, wherever the work comes from."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bot.runs.slots import Slots

SOON = 0.01


def test_who_reserved_a_place_begins_even_where_no_other_is_free() -> None:
    """The place was kept for exactly this work."""
    slots = Slots(1)
    assert slots.reserve("web-01", SOON)
    with slots.place("web-02", SOON) as has_place:
        assert not has_place
    with slots.place("web-01", SOON) as has_place:
        assert has_place
    assert slots.reserve("web-02", SOON)


def test_a_place_that_nobody_came_for_is_given_back_once() -> None:
    """Work that had begun before, or could not begin, must not narrow the way for ever, nor widen it."""
    slots = Slots(1)
    assert slots.reserve("web-01", SOON)
    slots.cancel("web-01")
    slots.cancel("web-01")
    assert slots.reserve("web-02", SOON)
    assert not slots.reserve("web-03", SOON)


def test_work_that_was_resumed_waits_for_a_place_like_all_others() -> None:
    """After a crash all that was begun comes at once."""
    slots, inside, most = Slots(3), list[str](), list[int]()

    def work(name: str) -> None:
        with slots.place(name, 10) as has_place:
            assert has_place
            inside.append(name)
            most.append(len(inside))
            inside.remove(name)

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, (f"web-{n}" for n in range(200))))
    assert len(most) == 200
    assert max(most) <= 3


def test_a_place_is_free_again_after_an_error() -> None:
    """An error ends the work on one target, not on all."""
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.place("web-01", SOON):
        _ = 1 / 0
    assert slots.reserve("web-02", SOON)
