"""Journals of hosts against the ledger: what a database from a backup does not know is told, with what to do next."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.domain.facts import HostJournal, ServiceState, TargetFacts
from bot.domain.journals import Difference, compare, run_of
from bot.domain.run import Outcome, OutcomeKind, Run, RunState, TargetProgress
from tests.making import NOW, SERVER, facts, instance, plan, thumbprint

OLD, NEW = thumbprint(1), thumbprint(2)


def visited(*, configured: int = 2, recorded: int = 2, run: str = "r-7k2m9q4x", **changes: Any) -> TargetFacts:
    """Return a Tentacle on whose host a run has left its journal."""
    seen = facts("web-01", recorded)
    journal = HostJournal(run=run, phase="started", old=OLD, new=NEW, at=NOW)
    one = instance(configured, journal=journal, backup=run, **changes)
    assert seen.host
    return replace(seen, instance=None, host=replace(seen.host, instances=(one,)))


def known(state: RunState, in_force: int | None = None) -> Run:
    """Return what the ledger has of the run: with an outcome where it is over."""
    made = plan(facts("web-01", 1))
    outcome = None
    if in_force:
        kind = OutcomeKind.HEALTHY if in_force == 2 else OutcomeKind.UNDONE
        outcome = Outcome(target="web-01", kind=kind, old=OLD, new=thumbprint(in_force), health=None, seconds=1)
    progress = TargetProgress(name="web-01", steps=(), outcome=outcome)
    return Run(
        id="r-7k2m9q4x", plan=made, state=state, created=NOW, expires=NOW + timedelta(minutes=30), nonce="n",
        targets=(progress,),
    )  # fmt: skip


def difference(seen: TargetFacts, run: Run | None) -> Difference | None:
    """Return the one difference that is found, None for none."""
    found = compare([seen], [], lambda run_id: run if run and run.id == run_id else None, SERVER)
    assert found.journals == 1
    assert found.unseen == ()
    return found.differences[0] if found.differences else None


def test_a_run_that_the_ledger_knows_is_told_only_if_it_ended_otherwise() -> None:
    """The same thumbprint in force: nothing to say. Undone by the ledger, and the new one on the host: told."""
    assert difference(visited(), known(RunState.FINISHED, in_force=2)) is None
    told = difference(visited(), known(RunState.FINISHED, in_force=1))
    assert told
    assert str(OLD) in told.ledger_says
    assert str(NEW) in told.host_says


def test_a_run_that_the_ledger_does_not_know_is_told_with_what_is_left_of_it() -> None:
    """All is well, but for the copy with the old key, which nobody removes any more."""
    told = difference(visited(), None)
    assert told
    assert told.where.startswith("web-01 (")
    assert "no such run" in told.ledger_says
    assert "nothing is to be mended" in told.advice
    assert "old key" in told.advice


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (visited(recorded=1), "does not go by"),
        (visited(recorded=1, state=ServiceState.STOPPED), "does not run: start it"),
        (visited(state=ServiceState.STOPPED), "does not run: start it"),
    ],
)
def test_the_advice_goes_by_what_is_seen_now(seen: TargetFacts, words: str) -> None:
    """A record that was never corrected, a service that was left stopped."""
    told = difference(seen, None)
    assert told
    assert words in told.advice


@pytest.mark.parametrize("state", [RunState.PROPOSED, RunState.WAITING])
def test_a_plan_that_was_carried_out_after_the_backup_must_not_be_approved_again(state: RunState) -> None:
    """The ledger takes it for one that has touched nothing."""
    told = difference(visited(), known(state))
    assert told
    assert "octocert cancel r-7k2m9q4x" in told.advice


def test_a_run_that_is_under_way_goes_on_from_the_journal() -> None:
    """That is told, with the way to end it instead."""
    told = difference(visited(), known(RunState.RUNNING))
    assert told
    assert "goes on" in told.advice


def test_hosts_that_do_not_answer_are_named() -> None:
    """Nobody takes silence for agreement."""
    lost = replace(facts("lost-01"), host=None, host_error="it does not answer")
    found = compare([lost], [], lambda _: None, SERVER, ["the Server's nodes: not allowed"])
    assert found.unseen == ("lost-01: it does not answer", "the Server's nodes: not allowed")


def test_a_run_of_the_server_has_a_journal_for_each_phase() -> None:
    """They are one run."""
    assert {run_of(f"r-7k2m9q4x{p}") for p in ("", "-trust", "-follow", "-back", "-clean")} == {"r-7k2m9q4x"}
    assert run_of("r-7k2m9q4x-2") == "r-7k2m9q4x-2"
