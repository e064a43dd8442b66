"""Waves: the canary first, batches after it, and a constraint that no wave breaks."""

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.facts import Pool, RecordKind
from bot.domain.waves import budget, in_waves
from tests.making import facts, plan, record


def names(number: int) -> list[str]:
    """Return so many names."""
    return [f"t{n}" for n in range(number)]


def sizes(number: int, **options: int | None) -> list[int]:
    """Return how large the waves of so many targets are."""
    return [len(w) for w in in_waves(names(number), **options)]


def test_by_default_one_goes_first_and_ten_at_a_time_after_it() -> None:
    """Two need no canary: nothing would be learnt that the second would not tell."""
    assert sizes(1) == [1]
    assert sizes(2) == [2]
    assert sizes(3) == [1, 2]
    assert sizes(24) == [1, 10, 10, 3]


def test_canary_and_batch_are_what_was_asked_for() -> None:
    """No canary at all is a canary of none."""
    assert sizes(10, canary=3, batch=4) == [3, 4, 3]
    assert sizes(10, canary=0, batch=5) == [5, 5]


@given(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 5)), st.one_of(st.none(), st.integers(1, 12)))
def test_every_target_is_in_one_wave_and_no_wave_breaks_the_constraint(
    number: int, canary: int | None, batch: int | None
) -> None:
    """Here no two of the same last digit may go together."""
    waves = in_waves(
        names(number), canary=canary, batch=batch, together=lambda wave: len({n[-1] for n in wave}) == len(wave)
    )
    assert sorted(n for w in waves for n in w) == sorted(names(number))
    assert all(len({n[-1] for n in w}) == len(w) <= max(batch or 10, canary or 1) for w in waves)


def test_a_pool_keeps_a_worker_however_large_the_waves() -> None:
    """Three workers of one pool, all healthy: never all three in one wave, whatever batch was asked for."""
    pool = Pool(name="windows", workers=3, healthy=3)
    workers = [
        facts(f"w{n}", n, records=(record(f"w{n}", n, kind=RecordKind.WORKER, pools=("windows",)),), pools=(pool,))
        for n in (1, 2, 3)
    ]
    assert [len(w) for w in plan(*workers, canary=0, batch=50).waves] == [2, 1]


def test_a_tenth_of_a_fleet_may_fail_unless_the_request_says_otherwise() -> None:
    """Always at least one: a fleet of three does not end at its first failure."""
    assert [budget(n, None) for n in (1, 3, 10, 11, 200)] == [1, 1, 1, 2, 20]
    assert budget(200, 3) == 3
    assert budget(200, 3, stop_on_failure=True) == 0
    assert plan(*[facts(f"t{n}", n) for n in range(1, 31)]).max_failures == 3
