"""The Server gets another certificate: trust first, switch second, clean up last. Nobody is lost unasked."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.facts import ServiceState, Style, Trust
from bot.sandbox import server_story
from bot.sandbox.octopus.server import OctopusServer
from tests.scenarios.serving import LOST, SHA1, ServerTown, Watch
from tests.scenarios.test_windows import windows
from tests.scenarios.town import terminal

pytestmark = pytest.mark.timeout(180)

IN_A_WHILE = timedelta(minutes=20)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[ServerTown]:
    """Return a town with one node."""
    with ServerTown(tmp_path) as built:
        yield built


def test_from_plan_to_clean_up_nobody_is_without_a_trust(town: ServerTown) -> None:
    """Rita asks, Ada approves, everything is proven, Ada approves the clean-up: only then the old trust goes."""
    new = town.pfx()
    with Watch(town) as watch:
        root = town.ask_server()
        assert str(town.old) in root.content
        assert str(new) in root.content
        assert "not the one of the portal's HTTPS" in root.content
        town.press("rita", root, "Approve")
        assert "somebody else must approve" in town.whisper("rita", "yourself")
        town.press("ada", root, "Approve")
        switched = town.reply(root, "The Server has switched")
        assert f"--trust={new}" in switched.content, "people get the exact command for what could not be reached"
        assert "The import said" in switched.content
        assert "Portal and API are away" in town.says(root, "Portal and API are away")
        question = town.question(root, "Clean up?")
        town.assert_switched(new)
        assert town.trusted("web-01") == {str(town.old), str(new)}
        assert town.trusted("edge-01") == {str(new)}
        town.press("rita", question, "Remove the old trust")
        assert "somebody else must approve" in town.whisper("rita", "yourself")
        town.press("ada", question, "Remove the old trust")
        root = town.end(root, 90)
    assert watch.broken == []
    town.assert_switched(new)
    proven = [n for n in town.reachable if n != SHA1]
    town.assert_all(lambda one: {t.text for t in one.trusted} == {str(new)}, proven)
    assert {t.text for t in town.tentacle(SHA1).trusted} == {str(town.old), str(new)}, "never proven, never cleaned"
    assert {t.text for t in town.tentacle("lost-01").trusted} == {str(town.old)}
    assert town.says(root, "no longer trust the old certificate")
    assert not any("Roll back" in m.buttons for m in town.slack.thread(root.ts)), "nobody trusts the old one any more"
    assert "kept on the hosts" not in town.thread(root)
    kept = town.nodes[0].host.program_data / "octocert"
    town.wait(lambda: not list(kept.rglob("*.pfx")))  # no key stays on the node


def test_a_certificate_that_the_server_makes_needs_a_second_approval(town: ServerTown) -> None:
    """Its thumbprint is posted and approved before any Tentacle is told of it."""
    root = town.ask_server(LOST)
    assert "second approval" in root.content
    town.press("ada", root, "Approve")
    question = town.question(root, "made a new certificate")
    assert town.octopus.thumbprint == town.old
    town.assert_all(lambda one: {t.text for t in one.trusted} == {str(town.old)})
    town.press("otto", question, "Approve")
    assert "not an approver" in town.whisper("otto", "approver")
    town.press("ben", question, "Approve")
    town.question(root, "Clean up?")
    assert town.octopus.thumbprint != town.old
    assert str(town.octopus.thumbprint) in question.content
    town.assert_switched(town.octopus.thumbprint)
    town.assert_announced()


def test_a_certificate_that_is_denied_ends_the_run(town: ServerTown) -> None:
    """Nothing else has happened."""
    root = town.ask_server(LOST)
    town.press("ada", root, "Approve")
    question = town.question(root, "made a new certificate")
    town.deny("ben", question, "no maintenance window today")
    town.end(root)
    assert "was not approved" in town.says(root, "was not approved")
    town.assert_as_before()
    town.assert_all(lambda one: {t.text for t in one.trusted} == {str(town.old)})


def test_a_terminal_ends_a_run_that_waits_for_an_approval(town: ServerTown) -> None:
    """Carla has no Slack: what she cancels ends as if it had been denied there, and the thread says so."""
    root = town.ask_server(LOST)
    town.press("ada", root, "Approve")
    question = town.question(root, "made a new certificate")
    assert town.bot
    run = town.bot.ledger.recent(1)[0].id
    assert "the run ends there" in terminal(town, "cancel", run)
    town.says(root, "(in a terminal) denied the certificate")
    town.end(root)
    town.press("ben", question, "Approve")
    assert "Your click changed nothing" in town.whisper("ben", "already denied this certificate")
    town.assert_as_before()
    denied = next(e.entry for e in town.bot.audit.entries(limit=100) if e.entry.kind == "denied")
    assert denied.who.startswith("terminal:")
    assert denied.digest.startswith(town.bot.ledger.plan(run).digest)


def test_a_server_that_does_not_come_up_gets_its_old_certificate_back(town: ServerTown) -> None:
    """The Tentacles still trust it: all is as it was, and the thread says so."""
    town.nodes[0].refuses.add(town.pfx())
    root = town.ask_server()
    town.press("ada", root, "Approve")
    root = town.end(root, 120)
    town.wait(lambda: town.nodes[0].is_running)
    town.assert_as_before()
    assert "old certificate was put back" in town.says(root, "put back")
    town.assert_announced()


def test_machines_that_would_be_lost_must_be_accepted(town: ServerTown) -> None:
    """Without that there is nothing to approve; the answer names them and what to add."""
    answer = town.ask("rita", "rotate server --with pfx:server")
    assert "Approve" not in answer.buttons
    assert "lost-01" in answer.content
    assert "--accept lost:2" in answer.content


def test_lists_come_on_demand(town: ServerTown) -> None:
    """The plan has numbers; who is in which wave, and the commands for people, are shown to who asks."""
    town.octopus.schedule_deployment(town.sandbox.estate.records["web-01"][0], town.world.clock.now() + IN_A_WHILE)
    town.tentacle("web-02").trust(Trust(text="AB" * 20, style=Style.LISTENING))
    root = town.ask_server()
    assert "scheduled to begin within the hour" in root.content.casefold()
    assert "of the Tentacles trust, too: " + "AB" * 20 in root.content
    assert f"--trust={town.pfx()}" not in root.content
    town.press("ada", root, "Show machines")
    shown = town.whisper("ada", "Machines of this plan")
    assert f"--trust={town.pfx()}" in shown
    assert "web-01" in shown


def test_a_tentacle_that_cannot_be_made_to_trust_stops_the_run_before_the_switch(town: ServerTown) -> None:
    """It would be lost, and nobody accepted that; the trust that was added elsewhere does no harm."""
    root = town.ask_server()
    town.tentacle("web-02").host.faults.unreachable = True
    town.press("ada", root, "Approve")
    root = town.end(root, 90)
    assert "would be lost by the switch" in town.says(root, "would be lost")
    assert town.octopus.thumbprint == town.old
    town.tentacle("web-02").host.faults.unreachable = False
    town.assert_as_before()


def test_a_polling_one_that_goes_out_of_reach_is_noticed_before_the_switch(town: ServerTown) -> None:
    """It could not be made to follow: whoever polls is looked at once more when the trust phase is over."""
    root = town.ask_server()
    town.press("ada", root, "Approve")
    town.wait(lambda: any(e.kind == "trust" for e in town.world.effects), 60)
    town.tentacle("edge-02").host.faults.unreachable = True
    root = town.end(root, 90)
    assert "edge-02" in town.says(root, "would be lost")
    assert town.octopus.thumbprint == town.old
    town.tentacle("edge-02").host.faults.unreachable = False
    town.assert_as_before()


def test_one_that_registers_meanwhile_is_noticed_before_the_switch(town: ServerTown) -> None:
    """It was never asked about, so it is not touched, and would be lost."""
    root = town.ask_server()
    made = town.world.add_host("late-01").add_tentacle()
    town.octopus.add_record("late-01", made, environments=["Production"])
    town.press("ada", root, "Approve")
    root = town.end(root, 90)
    assert "late-01" in town.says(root, "would be lost")
    assert town.octopus.thumbprint == town.old


def test_tasks_that_do_not_end_pause_the_run_and_none_is_cancelled(town: ServerTown) -> None:
    """The node is drained, its deployment goes on; people resume when it is over."""
    deployment = town.octopus.start_deployment(town.sandbox.estate.records["lost-01"][0], 3_600)
    root = town.ask_server()
    town.press("ada", root, "Approve")
    town.reply(root, "The run pauses")
    town.wait(lambda: "Resume" in town.slack.message(root.ts).buttons)
    assert town.octopus.tasks.get(deployment).state == "Executing"
    assert town.octopus.thumbprint == town.old
    town.octopus.tasks.cancel(deployment)
    town.press("ada", town.slack.message(root.ts), "Resume")
    town.question(root, "Clean up?")
    town.assert_switched(town.pfx())


def test_stopped_while_it_asks_it_lets_the_node_work_again(town: ServerTown) -> None:
    """Nothing was imported: the Server is as it was, and takes tasks."""
    town.octopus.start_deployment(town.sandbox.estate.records["lost-01"][0], 3_600)
    root = town.ask_server()
    town.press("ada", root, "Approve")
    town.reply(root, "The run pauses")
    town.press("ada", town.slack.message(root.ts), "Stop")
    town.end(root, 60)
    assert not town.nodes[0].is_drained
    assert town.octopus.thumbprint == town.old


def test_the_documented_order_switches_first(town: ServerTown) -> None:
    """Stop, import, start; then on every Tentacle stop, trust, start. The plan says what that costs."""
    root = town.ask_server(f"--with pfx:server --order documented {LOST}")
    assert "documented order" in root.content.casefold()
    town.press("ada", root, "Approve")
    town.question(root, "Clean up?")
    town.assert_switched(town.pfx())
    kinds = [(e.host, e.kind) for e in town.world.effects]
    assert kinds.index(("octo-1", "adopt")) < kinds.index(("web-01", "trust"))
    assert kinds.index(("octo-1", "stop")) < kinds.index(("octo-1", "adopt"))


def test_the_clean_up_may_be_denied(town: ServerTown) -> None:
    """The Tentacles go on trusting both, and the run is over."""
    root = town.ask_server()
    town.press("ada", root, "Approve")
    question = town.question(root, "Clean up?")
    town.deny("ada", question, "not before the audit", "Keep it")
    town.end(root)
    town.assert_all(lambda one: len(one.trusted) == 2)


def test_what_went_well_can_be_rolled_back(tmp_path: Path) -> None:
    """A new plan with an approval of its own puts the old certificate back, and those that had followed return.

    Outside of a maintenance window, too: whoever needs the way back needs it now.
    """
    with ServerTown(tmp_path, extra=windows(4, 3)) as town:
        root = town.ask_server(f"--with pfx:server {LOST} --accept outside-window")
        assert "outside the maintenance windows of Production" in root.content
        town.press("ada", root, "Approve")
        question = town.question(root, "Clean up?")
        town.deny("ada", question, "not before the audit", "Keep it")
        root = town.end(root)
        before = {m.ts for m in town.slack.messages()}
        town.press("rita", root, "Roll back")
        back = town.wait(lambda: next((m for m in town.slack.messages() if m.ts not in before and m.is_bot), None))
        assert "old certificate back" in back.content
        assert "outside the maintenance windows of Production" in back.content
        town.press("ada", back, "Approve")
        town.question(back, "Clean up?", 90)
        town.assert_as_before()


def test_a_day_later_it_looks_again(town: ServerTown) -> None:
    """A tool put an old thumbprint back: the thread says where."""
    root = town.ask_server()
    town.press("ada", root, "Approve")
    town.question(root, "Clean up?")
    edge = town.tentacle("edge-01")
    configuration = edge.configuration
    entries = configuration.trusted
    configuration.set_trusted([type(e)(**{**_fields(e), "thumbprint": str(town.old)}) for e in entries])
    town.clock.shift = timedelta(hours=25)
    assert "edge-01" in town.reply(root, "A day after the switch").content


def _fields(entry: object) -> dict[str, object]:
    from dataclasses import fields

    return {f.name: getattr(entry, f.name) for f in fields(entry)}  # type: ignore[arg-type]


def test_the_server_tells_its_thumbprint_and_health(town: ServerTown) -> None:
    """From the API, the database and a handshake; how many Tentacles trust what."""
    answer = town.ask("otto", "show-thumbprint server")
    assert str(town.old) in answer.content
    assert "All witnesses agree" in answer.content
    health = town.ask("otto", "check-health server")
    assert "trust it" in health.content
    assert "OCTO-1" in health.content


def test_a_database_that_refuses_the_remote_log_on_refuses_the_plan(town: ServerTown) -> None:
    """Integrated security and a second hop: said before anything is touched."""
    town.nodes[0].host.faults.database_refused = True
    before = {m.ts for m in town.slack.ephemerals("rita")}
    town.slack.command("rita", "deployments", f"rotate server --with pfx:server {LOST}")
    assert "integrated security" in town.whisper("rita", "integrated security", after=before)


def test_a_second_rotation_waits_for_the_first(town: ServerTown) -> None:
    """Both would change the same lists."""
    town.ask_server()
    before = {m.ts for m in town.slack.ephemerals("rita")}
    town.slack.command("rita", "deployments", f"rotate server --with pfx:server {LOST}")
    assert "rotates the Server already" in town.whisper("rita", "already", after=before)


@pytest.mark.parametrize("number", [2, 3])
def test_nodes_switch_one_after_the_other(tmp_path: Path, number: int) -> None:
    """Imported once, each node restarted and seen; the API is never away, and all take tasks again."""
    with ServerTown(tmp_path, nodes=[f"OCTO-{i + 1}" for i in range(number)]) as town:
        with Watch(town) as watch:
            root = town.ask_server()
            town.press("ada", root, "Approve")
            town.question(root, "Clean up?", 120)
        town.assert_switched(town.pfx())
        assert watch.broken == []
        assert sum(e.kind == "adopt" for e in town.world.effects) == 1
        assert all(sum(e.host == n.host.name and e.kind == "stop" for e in town.world.effects) == 1 for n in town.nodes)


def test_a_second_node_that_does_not_come_up_takes_the_first_one_back(tmp_path: Path) -> None:
    """All nodes serve the old certificate again, and nobody was lost."""
    with ServerTown(tmp_path, nodes=("OCTO-1", "OCTO-2")) as town:
        town.nodes[1].refuses.add(town.pfx())
        root = town.ask_server()
        town.press("ada", root, "Approve")
        root = town.end(root, 150)
        town.wait(lambda: all(n.service.service.state is ServiceState.RUNNING for n in town.nodes))
        town.assert_as_before()
        assert "undone" in town.says(root, "undone")


def test_a_node_that_sleeps_and_a_copy_keep_the_old_trust_alive(tmp_path: Path) -> None:
    """Either may need it: the clean-up is refused until the node has started and the copy serves it no more."""
    with ServerTown(tmp_path, nodes=("OCTO-1", "OCTO-2")) as town, copy_of(town) as copy:
        town.tentacle("web-01").trust(Trust(text=town.old, style=Style.POLLING, address=copy.comms_url))
        town.nodes[1].halt()
        root = town.ask_server()
        assert "OCTO-2" in root.content
        assert copy.comms_url in root.content
        town.press("ada", root, "Approve")
        question = town.question(root, "Clean up?")
        town.press("ada", question, "Remove the old trust")
        town.reply(root, "The node OCTO-2 has not started")
        town.assert_all(lambda one: str(town.old) in {t.text for t in one.trusted})
        town.nodes[1].boot()
        second = town.wait(lambda: (q := town.question(root, "Clean up?")).ts != question.ts and q)
        town.press("ada", second, "Remove the old trust")
        town.reply(root, "a copy of this one perhaps")
        copy.stop()
        third = town.wait(lambda: (q := town.question(root, "Clean up?")).ts != second.ts and q)
        town.press("ada", third, "Remove the old trust")
        town.end(root, 90)
        town.assert_switched(town.pfx())
        assert town.trusted("web-02") == {str(town.pfx())}
        assert str(town.old) in town.trusted("web-01"), "its registration with the copy goes by it"


@contextmanager
def copy_of(town: ServerTown) -> Iterator[OctopusServer]:
    """Return a Server that was restored from a backup of the town's: it has the same certificate."""
    copy = OctopusServer(town.world, nodes=("COPY-1",), identity=town.octopus.identity)
    copy.start()
    try:
        yield copy
    finally:
        copy.close()


def test_the_story_of_the_server_ends_as_promised(town: ServerTown) -> None:
    """What `octocert demo --play server` plays, judged by the world."""
    told: list[str] = []
    ending = server_story.server(town.sandbox, told.append)
    assert ending.ok, "\n".join(told)
    assert {t["name"] for t in ending.targets} == {"OCTO-1", *town.sandbox.estate.instances}


def test_a_story_of_a_server_that_keeps_its_certificate_says_so(town: ServerTown) -> None:
    """The new one does not come up, so there is nothing to clean up: that is no success."""
    town.nodes[0].host.faults.server_import_lies = True
    told: list[str] = []
    assert not server_story.server(town.sandbox, told.append).ok
