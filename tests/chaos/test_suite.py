"""The chaos suite at a small size; larger by `python -m tests.chaos --kills N`."""

import json

import pytest

from tests.chaos.suite import run


@pytest.mark.timeout(400)
def test_a_little_chaos_loses_nothing() -> None:
    """One kill on SQLite and one on Postgres, with a freeze between them where the dice say so."""
    figures = run(2, seed=3)
    assert figures.losses == []
    told = json.loads(figures.line())
    assert told["kills"] >= 1
    assert told["runs"] >= told["recoveries"] > 0  # a run may do all of its work in the disaster
