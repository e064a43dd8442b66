"""Messages about the Server: within Slack's limits, numbers first, the exact commands for people, and no harm done."""

from dataclasses import replace

import pytest

from bot.domain.plan import Order
from bot.domain.run import OutcomeKind, RunState
from bot.slack import messages
from tests.making import NEW_CERTIFICATE, NOW, SERVER, facts, polling, record, thumbprint
from tests.runs import DECIDED, HOSTILE, NAMES, assert_valid, buttons, over, progress, run_of, shown
from tests.servers import node, other, server_facts, server_instance, server_plan, unreachable

NEW = thumbprint(7)


def estate(number: int, *, hostile: bool = False, **changes):
    """Return the plan of a Server with so many Tentacles, every third polling, every fifth out of reach."""
    tentacles, others = [], []
    for i in range(number):
        name = f"{NAMES[i % len(NAMES)]}{i}" if hostile else f"web-{i:03}"
        space = HOSTILE if hostile else "Default"
        records = (record(name, i + 10, space=space),)
        if i % 5 == 4:
            tentacles.append(unreachable(name, i + 10, records=records))
        elif i % 3 == 2:
            tentacles.append(polling(name, i + 10))
        else:
            tentacles.append(facts(name, i + 10, records=records))
        if i % 7 == 6:
            others.append(other(name + "-k8s"))
    reason = HOSTILE * 3 if hostile else "yearly rotation"
    return server_plan(*tentacles, others=tuple(others), reason=reason, **changes)


@pytest.mark.parametrize("hostile", [False, True], ids=["plain", "hostile"])
@pytest.mark.parametrize("number", [1, 3, 12, 60, 400])
@pytest.mark.parametrize("order", Order)
def test_every_message_about_the_server_is_valid_whatever_the_estate(number, hostile, order):
    """Each state, each end, plain and rich."""
    of = estate(number, hostile=hostile, order=order)
    assert of.server is not None
    live = tuple(progress(of, name, i % 5 - 1, HOSTILE if hostile else "") for i, (name, _) in enumerate(of.subjects))
    runs = [run_of(of, state) for state in RunState]
    runs += [run_of(of, state, decision=DECIDED, targets=live, stage="trust, wave 1 of 9") for state in RunState]
    runs += [over(of, kind) for kind in OutcomeKind] + [over(of, *OutcomeKind)]
    for run in runs:
        for rich in (False, True):
            assert_valid(messages.plan_posted(run, now=NOW, rich=rich))
        assert_valid(messages.status_one(run, now=NOW))
        assert_valid(messages.server_clean_up(run, number, "n0nce"))
    run = runs[0]
    assert_valid(messages.plan_only(of, NOW))
    assert_valid(messages.server_refused(of, HOSTILE if hostile else "because"))
    assert_valid(messages.server_machines(run, NEW))
    assert_valid(messages.server_machines(run, None))
    assert_valid(messages.server_made(run, NEW, "n0nce"))
    assert_valid(messages.server_switched(run, NEW))
    assert_valid(messages.server_switched(run, NEW, (of.server.old, NEW)))
    assert_valid(messages.server_away(HOSTILE if hostile else "OCTO-1"))
    assert_valid(messages.server_not_yet(HOSTILE * 9))
    assert_valid(messages.server_note(HOSTILE * 9))
    names = [t.name for t in of.targets]
    assert_valid(messages.server_cleaned(run, names, names))
    assert_valid(messages.server_looked_again(run, [HOSTILE * 3] * 200))
    assert_valid(messages.server_looked_again(run, []))


def test_an_approver_reads_the_numbers_first():
    """Thumbprints, classes, outage, the way back, and that this is not the portal's certificate."""
    text = shown(messages.plan_posted(run_of(estate(30)), now=NOW))
    assert SERVER in text
    assert NEW in text
    assert "not the one of the portal's HTTPS" in text
    assert "16 listening" in text
    assert "8 polling" in text
    assert "need hands" in text
    assert "Way back" in text
    assert buttons(messages.plan_posted(run_of(estate(30)), now=NOW)) == ["Approve", "Deny", "Show machines"]


def test_a_certificate_to_be_made_is_announced_as_such():
    """Nobody can approve a thumbprint that nobody has seen."""
    text = shown(messages.plan_posted(run_of(estate(3, source=NEW_CERTIFICATE)), now=NOW))
    assert "second approval" in text
    made = messages.server_made(run_of(estate(3, source=NEW_CERTIFICATE)), NEW, "n0nce")
    assert NEW in shown(made)
    assert buttons(made) == ["Approve", "Deny"]


def test_people_get_the_exact_commands_after_the_switch():
    """With both thumbprints, one for each kind of machine."""
    text = shown(messages.server_switched(run_of(estate(12)), NEW))
    assert f"--trust={NEW}" in text
    assert f"--newThumbprint={NEW}" in text
    assert "web-004" in text


@pytest.mark.parametrize("number", [0, 3, 300])
def test_the_servers_state_is_told_within_limits(number):
    """Thumbprint and health, whatever the cluster looks like."""
    tentacles = (unreachable(HOSTILE), *(facts(f"web-{i}", i + 10) for i in range(number)))
    nodes = (
        node("OCTO-1"),
        node("OCTO-2", is_offline=True),
        node(HOSTILE, instance=server_instance(stored=None, stored_error=HOSTILE * 9)),
        replace(node("OCTO-4"), sightings=(), host=None, host_error=HOSTILE, instance=None),
    )
    seen = server_facts(*tentacles, nodes=nodes)
    assert_valid(messages.server_thumbprint(SERVER, nodes, now=NOW))
    assert_valid(messages.server_health(seen))
    assert "does not run" in shown(messages.server_health(seen))


def test_witnesses_of_the_server_that_agree_say_so():
    """API, database and every handshake."""
    good = (node("OCTO-1"), node("OCTO-2"))
    assert "All witnesses agree" in shown(messages.server_thumbprint(SERVER, good, now=NOW))
    assert "differ" in shown(messages.server_thumbprint(NEW, good, now=NOW))
