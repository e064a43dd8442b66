"""The messages of a fleet: its live table, troubles that are alike, and a thousand targets within Slack's limits."""

import csv
import io
from dataclasses import replace

import pytest

from bot.domain.run import OutcomeKind, RunState, StepState
from bot.slack import messages
from bot.slack.results import plan_csv, results_csv
from bot.slack.text import gist, sentence
from tests.making import NOW
from tests.runs import DECIDED, assert_valid, ended, fleet, over, progress, run_of, shown


def live(of, **places):
    """Return a run under way: by name how many steps are done, and what the next one tells."""
    targets = tuple(
        progress(of, t.name, *places[t.name.replace("-", "_")])
        if t.name.replace("-", "_") in places
        else progress(of, t.name)
        for t in of.targets
    )
    return run_of(of, RunState.RUNNING, decision=DECIDED, targets=targets, stage="wave 2 of 4")


def table_of(message):
    """Return the rows of a message's table as texts."""
    found = [b for b in message.blocks if b["type"] == "table"]
    return [[cell["text"] for cell in row] for row in found[0]["rows"]] if found else []


def test_the_live_table_says_how_many_are_at_which_step_and_who_is_waited_for():
    """All steps stand in it all the time, so that it keeps its height; one that waits tells for what."""
    of = fleet(30)
    places = {"web_000": (0, "waiting for `Deploy` 1.2"), "web_001": (3,), "web_002": (3,), "web_003": (3,)}
    message = messages.plan_posted(live(of, **places, web_005=(3,)), now=NOW, rich=True)
    assert_valid(message)
    rows = {r[0]: r[1:] for r in table_of(message)}
    assert rows["Step"] == ["Now", "Which"]
    assert rows["Wait until idle"] == ["1", "web-000: waiting for Deploy 1.2"]
    assert rows["Restart the service"] == ["4", "web-001, web-002, web-003 … (1 more)"]
    assert rows["Octopus health check"] == ["–", "–"]  # noqa: RUF001
    done = progress(of, "web-029", 99, outcome=ended(of, "web-029"))
    idle = replace(live(of), targets=(*live(of).targets[:-1], done))
    assert len(table_of(messages.plan_posted(idle, now=NOW, rich=True))) == len(rows) == 1 + len(of.targets[0].steps)
    assert table_of(messages.plan_posted(live(of), now=NOW, rich=True)) == [], "nothing was begun"


def test_who_is_between_two_steps_is_at_the_next_one():
    """A step that is complete is nobody's place: all but the health check done means that it is waited for."""
    of = fleet(30)
    begun = progress(of, "web-000", len(of.targets[0].steps) - 1)
    last = replace(begun.steps[-1], state=StepState.PENDING)
    targets = (replace(begun, steps=(*begun.steps[:-1], last)), *live(of).targets[1:])
    run = replace(live(of), targets=targets)
    assert ["Octopus health check", "1", "web-000"] in table_of(messages.plan_posted(run, now=NOW, rich=True))


def test_where_slack_takes_no_table_the_same_stands_in_a_list():
    """Only steps that somebody is at."""
    message = messages.plan_posted(live(fleet(30), web_001=(3,), web_002=(3,)), now=NOW, rich=False)
    assert_valid(message)
    assert table_of(message) == []
    assert "Restart the service  2: web-001 and web-002" in shown(message)
    assert "Wait until idle" not in shown(message)


def test_targets_that_met_the_same_trouble_stand_in_one_line():
    """Whatever their names, addresses and thumbprints are; others keep a line of their own."""
    of = fleet(30)
    run = over(of, OutcomeKind.HEALTHY)
    targets = list(run.targets)
    for place in range(10):
        name, address = targets[place].name, of.targets[place].facts.host.address
        what = f"The script on {address} failed for {name}, {place} s later: there is no space on the disk"
        targets[place] = replace(targets[place], outcome=ended(of, name, OutcomeKind.UNDONE, what=what))
    one = ended(of, targets[20].name, OutcomeKind.UNDONE, what="its port is taken")
    targets[20] = replace(targets[20], outcome=one)
    text = shown(messages.plan_posted(replace(run, targets=tuple(targets)), now=NOW))
    assert "Did not go well: 11 targets" in text
    assert "10 undone: web-000, web-001, web-002, web-003, web-004, web-005 … (4 more). web-000: The script on" in text
    assert text.count("no space on the disk") == 1
    assert "web-020 undone: Its port is taken." in text


@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
def test_a_thousand_targets_fit_into_slack_whatever_became_of_them(hostile):
    """Planned, under way, stopped and finished; what does not fit is counted, and stands in the files."""
    of = fleet(1_000, hostile=hostile)
    kinds = list(OutcomeKind)
    done = over(of, *kinds)
    busy = run_of(
        of,
        RunState.RUNNING,
        decision=DECIDED,
        stage="wave 12 of 21",
        targets=tuple(progress(of, t.name, i % 6, t.name) for i, t in enumerate(of.targets)),
    )
    stopping = replace(busy, state=RunState.STOPPING, stopped_why="too many have failed", targets=done.targets[:400])
    for run in (run_of(of), busy, stopping, done):
        for rich in (False, True):
            assert_valid(messages.plan_posted(run, now=NOW, rich=rich))
    for message in (messages.finished(done), messages.skipped(done), messages.result_attached(done)):
        assert_valid(message)
    assert len(list(csv.DictReader(io.StringIO(results_csv(done))))) == 1_000 + len(of.refused)
    assert len(list(csv.DictReader(io.StringIO(plan_csv(of))))) == 1_000 + len(of.refused)


def test_a_plan_that_is_only_looked_at_says_in_which_order_and_when_it_would_stop_itself():
    """The options of `rotate` show in `plan`; nothing can be pressed."""
    message = messages.plan_only(replace(fleet(30), max_failures=2))
    assert_valid(message)
    assert "Order: web-000 first and alone" in shown(message)
    assert "with more than 2 failures" in shown(message)
    assert "Asked for by" not in shown(message)


def test_a_gist_is_whole_sentences_or_whole_words():
    """It never ends in the middle of a word, and a short text stays as it is."""
    assert gist("Short.", 20) == "Short."
    assert gist("It failed. See that WinRM runs and listens there.", 30) == "It failed."
    assert gist("a reason without any end at all", 20) == "a reason without…"


def test_a_sentence_may_begin_with_a_name():
    """A name stays as Octopus has it."""
    assert sentence("web-34 runs") == "web-34 runs."
    assert sentence("its port is taken") == "Its port is taken."
