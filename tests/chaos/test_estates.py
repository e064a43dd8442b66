"""Whatever the estate, the faults and the moment of a crash: nobody is without a matching trust, nothing stays stopped.

A few stories by default, the same each time; others by `OCTOCERT_STORIES=300 pytest tests/chaos/test_estates.py`.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from bot.domain.facts import Style
from bot.domain.plan import Order
from bot.domain.run import OutcomeKind, RunState
from tests.chaos.estates import AS_POLLER, BOTH, POLLS, STORIES, Machine, NodeFault, Place, Played, Story, watched
from tests.chaos.lives import AFTER, BEFORE, INSIDE

pytestmark = pytest.mark.timeout(3600)
STORIES_WANTED = int(os.environ.get("OCTOCERT_STORIES", "0"))
SOME = settings(
    max_examples=STORIES_WANTED or 2,
    derandomize=not STORIES_WANTED,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
"""Stories are not made smaller: that takes hours, and each is told as it is."""
WORST = Story(
    machines=(
        Machine(style=BOTH, is_in_two_spaces=True, cut_at="stopping"),
        Machine(style=POLLS, kill_shell_at="program"),
        Machine(is_worker=True, kill_shell_at="stopped"),
    ),
    nodes=3,
    fault=NodeFault(node=0, kill_shell_at="stopped"),
    lost_answers=1,
    deaths=((AFTER, 9), (INSIDE, 120), (BEFORE, 11)),
)
"""Everything at once, and it ends well all the same."""


@SOME
@example(WORST)
@example(replace(WORST, fault=NodeFault(node=2, refuses_new=True), deaths=((INSIDE, 250), (AFTER, 4))))
@given(STORIES)
def test_no_tentacle_is_ever_without_a_trust_that_matches_the_server(story: Story) -> None:
    """The Server's rotation, through deaths, faults, stops and denials."""
    with tempfile.TemporaryDirectory() as name:
        place = Place(story, Path(name))
        played = Played(place, Path(name))
        try:
            rotate_server(story, place, played)
        finally:
            played.close()
            place.close()


def rotate_server(story: Story, place: Place, played: Played) -> None:
    """Play a rotation of the Server and judge it by the world."""
    if not played.propose_server():
        assert place.losses() == []
        return
    assert played.plan
    assert played.plan.server
    with watched(place, [t.name for t in played.plan.targets]) as watch:
        place.go_wrong()
        played.play()
        assert place.losses() == []
    if story.order is Order.DEFAULT:
        assert watch.broken == []
    run = played.run()
    assert run.state is RunState.FINISHED
    assert played.locks() == 0
    imported = [e.detail for e in place.world.effects if (e.host, e.kind) == ("octopus", "import")]
    assert len(imported) == len(set(imported)), "each certificate is imported once"
    kinds = {o.target: o.kind for o in run.outcomes}
    assert set(kinds) == {name for name, _ in played.plan.subjects}
    presented = {n.served for n in place.octopus.nodes if n.is_running}
    if any(kinds[n.name] is OutcomeKind.FAILED for n in played.plan.server.nodes):
        return
    assert len(presented) == 1, "all nodes go by one certificate"
    (served,) = presented
    switched = any(kinds[n.name].changed for n in played.plan.server.nodes)
    assert (served != place.old) == switched
    for target in played.plan.targets:
        name = target.name.removesuffix(AS_POLLER)
        trusted = place.instances[name].trusted_by_process
        if kinds[target.name].changed:
            assert served in {t.thumbprint for t in trusted}
        is_polling = target.facts.style is Style.POLLING
        if is_polling and (kinds[target.name].changed or (not switched and place.is_visitable(name))):
            assert {t.thumbprint for t in trusted if t.style is Style.POLLING} == {served}, "those that followed return"


@SOME
@example(WORST)
@given(STORIES)
def test_a_tentacle_has_one_certificate_at_its_end_and_runs(story: Story) -> None:
    """The rotation of everything at once, through the same: all witnesses say old or new, and none is made twice."""
    with tempfile.TemporaryDirectory() as name:
        place = Place(story, Path(name))
        played = Played(place, Path(name))
        try:
            rotate_tentacles(place, played)
        finally:
            played.close()
            place.close()


def rotate_tentacles(place: Place, played: Played) -> None:
    """Play a rotation of all Tentacles and judge it by the world."""
    if not played.propose_tentacles():
        assert place.losses() == []
        return
    assert played.plan
    place.go_wrong()
    trusted = {name: i.trusted for name, i in place.instances.items()}
    played.play()
    assert place.losses() == []
    run = played.run()
    assert run.state is RunState.FINISHED
    assert played.locks() == 0
    assert {o.target for o in run.outcomes} == {t.name for t in played.plan.targets}
    assert {name: i.trusted for name, i in place.instances.items()} == trusted, "no rotation touches a list of trust"
    for outcome in run.outcomes:
        instance = place.instances[outcome.target]
        assert sum(e.host == instance.host.name and e.kind == "make" for e in place.world.effects) <= 1
        if outcome.kind is OutcomeKind.FAILED:
            continue
        assert instance.configured == outcome.new
        assert (outcome.new != outcome.old) == outcome.kind.changed
        assert place.sandbox.consistent(outcome.target) or outcome.kind in {OutcomeKind.SKIPPED, OutcomeKind.UNTOUCHED}
