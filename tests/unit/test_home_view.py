"""The Home tab and the modal: within Slack's limits, and harmless whatever names and reasons hold."""

import json
from datetime import timedelta
from typing import Any

import pytest

from bot.domain.plan import Order
from bot.domain.run import Freeze, RunState
from bot.sandbox.slack.model import texts
from bot.sandbox.slack.validator import check_view
from bot.slack import home_view, rotate_view
from bot.slack.home_view import Waiting
from bot.slack.rotate_view import TARGETS, Asked, Choice
from tests.making import NOW
from tests.runs import HOSTILE, fleet, run_of
from tests.unit.test_radar import dark, swept

FREEZE = Freeze(by="U0ADA", reason=HOSTILE, at=NOW)


def tab(**changes: Any) -> dict[str, Any]:
    """Return a tab with nothing on it unless said otherwise."""
    plain: dict[str, Any] = {
        "now": NOW,
        "waiting": (),
        "runs": (),
        "links": {},
        "freeze": None,
        "sweep": None,
        "is_radar_on": True,
    }
    return home_view.home(**(plain | changes))


def form(**changes: Any) -> dict[str, Any]:
    """Return the modal."""
    plain: dict[str, Any] = {"sources": ["new-certificate", "pfx:web"], "channel": "C0DEPLOY"}
    return rotate_view.form(**(plain | changes))


@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
@pytest.mark.parametrize("number", [0, 1, 12, 60])
def test_the_tab_is_valid_whatever_is_on_it(number, hostile):
    """Many runs, many approvals, many findings, long names, a freeze."""
    runs = [run_of(fleet(3, hostile=hostile), state, stage=HOSTILE) for state in RunState for _ in range(number)]
    address = "https://x.slack.com/archives/C0/p1"
    waiting = [
        Waiting(run=r, what=HOSTILE if hostile else "plan", expires=NOW + timedelta(hours=1), link=address)
        for r in runs
    ]
    sweep = swept(*(dark(f"{HOSTILE if hostile else 'web'}-{i}") for i in range(number)))
    for is_frozen in (False, True):
        view = tab(
            runs=runs,
            links={r.id: address for r in runs},
            waiting=waiting,
            sweep=sweep,
            freeze=FREEZE if is_frozen else None,
        )
        assert check_view(view) == []
        assert len(view["blocks"]) <= home_view.MOST_BLOCKS
    shown = json.dumps(view)
    assert '"user_id": "U0EVIL"' not in shown


def test_an_empty_tab_says_what_there_is():
    """Nothing waits, nothing runs, and why nothing is known of the estate."""
    assert check_view(tab()) == []
    assert "has not looked at the estate yet" in "\n".join(texts(tab()["blocks"]))
    off = "\n".join(texts(tab(is_radar_on=False)["blocks"]))
    for words in ("Nothing waits for your approval", "No run is under way", "The radar is off"):
        assert words in off


@pytest.mark.parametrize("number", [0, 1, 100, 400])
def test_the_modal_is_valid_however_much_it_offers(number):
    """At most a hundred options, of at most 75 characters each."""
    choices = [Choice(record=f"Machines-{i}", label=f"{HOSTILE}{i}") for i in range(number)]
    sources = ["new-certificate", *(f"pfx:{'x' * (i % 90)}{i}" for i in range(number))]
    view = form(sources=sources, chosen=choices, reason=HOSTILE * 4, channel="")
    assert check_view(view) == []
    assert len(view["private_metadata"]) <= 3_000
    assert len(rotate_view.options(choices)) == min(number, 100)


def filled(**changes: Any) -> dict[str, Any]:
    """Return what Slack sends of a modal in which two targets were chosen."""
    values: dict[str, Any] = {
        "targets": {TARGETS: {"selected_options": [{"value": "Machines-1"}, {"value": "Machines-2"}]}},
        "words": {"words": {"value": None}},
        "source": {"source": {"selected_option": {"value": "ca:corp"}}},
        "channel": {"channel": {"selected_conversation": "C0DEPLOY"}},
        "reason": {"reason": {"value": " yearly "}},
        "order": {"order": {"selected_option": {"value": "default"}}},
        "canary": {"canary": {"value": "0"}},
        "batch": {"batch": {"value": None}},
    }
    return {"state": {"values": values | changes}}


def test_what_was_filled_in_is_read():
    """Every field, and those that were left empty."""
    assert rotate_view.read(filled()) == Asked(
        channel="C0DEPLOY",
        records=("Machines-1", "Machines-2"),
        source="ca:corp",
        order=Order.DEFAULT,
        reason="yearly",
        canary=0,
    )
    words = rotate_view.read(filled(targets={}, words={"words": {"value": "env:Staging “Web Server 1”"}}))
    assert isinstance(words, Asked)
    assert words.words == ("env:Staging", "Web Server 1")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"targets": {}}, "targets"),
        ({"targets": {TARGETS: {"selected_options": []}}}, "targets"),
        ({"channel": {"channel": {"selected_conversation": None}}}, "channel"),
        ({"canary": {"canary": {"value": "-1"}}}, "canary"),
        ({"batch": {"batch": {"value": "many"}}}, "batch"),
        ({"words": {"words": {"value": "--reason x"}}}, "words"),
        ({"words": {"words": {"value": "web-01 --with pfx:x"}}}, "words"),
        ({"order": {"order": {"selected_option": {"value": "sideways"}}}}, "targets"),
        ({"targets": "nonsense"}, "targets"),
    ],
)
def test_what_makes_no_sense_is_told_beside_its_field(changes, field):
    """Whatever Slack, or somebody in its name, sends."""
    found = rotate_view.read(filled(**changes))
    assert isinstance(found, dict)
    assert list(found) == [field]


@pytest.mark.parametrize("view", [None, {}, {"state": None}, {"state": {"values": []}}, "text"])
def test_a_submission_in_another_form_is_no_error_of_ours(view):
    """A sentence, and no exception."""
    assert list(rotate_view.read(view)) == ["targets"]
