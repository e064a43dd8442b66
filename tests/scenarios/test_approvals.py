"""Who may decide, when, and about what exactly."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from bot.domain.facts import ServiceState
from bot.domain.run import RunState
from tests.scenarios.town import Town


def test_denied_means_that_nothing_happens(town: Town) -> None:
    """A modal asks why; the thread says who denied it and why, and the plan has no buttons any more."""
    old = town.tentacle("web-01").configured
    root = town.ask("rita", "rotate web-01")
    town.deny("ben", root, "not on a Friday")
    assert "not on a Friday" in town.says(root, "denied")
    assert town.tentacle("web-01").configured == old
    town.wait(lambda: "Approve" not in town.slack.message(root.ts).buttons)


def test_a_double_click_and_two_approvers_do_it_once(town: Town) -> None:
    """Ada twice, Ben once: one run, and those who came late are told who was first."""
    root = town.ask("rita", "rotate web-01")
    with ThreadPoolExecutor(3) as people:
        list(people.map(lambda person: town.press(person, root, "Approve"), ["ada", "ada", "ben"]))
    town.end(root)
    town.assert_good("web-01")
    assert town.effects("web-01", "make") == 1
    whispers = [m.content for p in ("ada", "ben") for m in town.slack.ephemerals(p)]
    assert sum("already approved" in w for w in whispers) == 2


def test_a_plan_expires(town: Town) -> None:
    """Nobody decided in time: its buttons are gone, and one that a client still shows does nothing, and says so."""
    root = town.ask("rita", "rotate web-01")
    town.clock.shift = timedelta(minutes=31)
    town.says(root, "expired")
    town.wait(lambda: "Approve" not in town.slack.message(root.ts).buttons)
    town.press_as_seen("ada", root, "Approve")
    town.whisper("ada", "This plan has expired; nothing was done.")
    assert town.bot
    newest = town.bot.audit.entries(limit=1)[0].entry
    assert (newest.kind, newest.who, newest.digest) == (
        "not counted",
        "U0ADA",
        town.bot.ledger.recent(1)[0].plan.digest,
    )
    assert town.effects("web-01", "make") == 0


def test_the_copy_with_the_old_key_is_removed_after_a_day(town: Town) -> None:
    """Until then it offers a roll back; afterwards nothing of it is left on the host, and the thread says so."""
    web = town.tentacle("web-01")
    root = town.rotate("web-01")
    kept = web.host.program_data / "octocert"
    assert list(kept.glob("*/Tentacle.config"))
    assert "Roll back" in root.buttons
    town.says(root, "kept on the hosts for a day")
    town.clock.shift = timedelta(hours=25)
    town.wait(lambda: not list(kept.glob("*/Tentacle.config")))
    town.wait(lambda: any("old key" in m.content and "removed" in m.content for m in town.slack.thread(root.ts)[4:]))
    town.wait(lambda: not any("Roll back" in m.buttons for m in town.slack.thread(root.ts)))
    town.wait(lambda: "kept on the hosts" not in town.thread(root))
    town.press_as_seen("rita", root, "Roll back")
    assert "copies" in town.whisper("rita", "rolled back")


def test_what_changed_since_the_plan_is_skipped_and_shown(town: Town) -> None:
    """Somebody rotated it by hand before the click: the target is stale, and is not touched."""
    web = town.tentacle("web-01")
    root = town.ask("rita", "rotate web-01")
    result = web.host.run_program([str(web.host.tentacle_exe), "new-certificate", "--instance=Tentacle"])
    assert result.exit_code == 0
    by_hand = web.configured
    town.press("ada", root, "Approve")
    town.end(root)
    assert str(by_hand) in town.says(root, "What is different")
    assert web.configured == by_hand


def test_what_is_served_is_looked_at_again_when_the_turn_comes(town: Town) -> None:
    """Somebody imported another one before the plan and restarts the service while the run waits for a deployment."""
    web = town.tentacle("web-01")
    web.host.run_program([str(web.host.tentacle_exe), "new-certificate", "--instance=Tentacle"])
    old, by_hand = web.served, web.configured
    root = town.ask("rita", "rotate web-01")
    town.octopus.start_deployment(town.sandbox.estate.records["web-01"][0], 600.0)
    town.press("ada", root, "Approve")
    town.wait(lambda: "waiting for" in town.slack.message(root.ts).content)
    web.service.stop()
    web.service.wait_for(ServiceState.STOPPED, 10)
    web.service.start()
    town.end(root)
    said = town.says(root, "What is different")
    assert f"served: was {old}, is now {by_hand}" in said
    assert f"{by_hand}, {old}" not in said
    assert (web.configured, web.served) == (by_hand, by_hand)
    assert town.effects("web-01", "make") == 1, "by hand, before the plan"


def test_a_plan_that_nobody_can_see_is_taken_back(town: Town) -> None:
    """Asked where the bot is no member: there is nothing to approve, so nothing waits for an approval."""
    town.slack.command("rita", "board-room", "rotate web-01")
    assert town.bot
    ledger = town.bot.ledger
    town.wait(lambda: bool(ledger.recent()) and ledger.recent()[0].state is RunState.CANCELLED)
    audit = town.bot.audit
    town.wait(lambda: "could not be posted" in audit.entries()[0].entry.what)


def test_cancel_before_approval_takes_the_plan_back(town: Town) -> None:
    """Rita changes her mind; a click that comes after that does nothing, and says so."""
    root = town.ask("rita", "rotate web-01")
    assert town.bot
    run = town.bot.ledger.recent()[0]
    town.ask_quietly("rita", f"cancel {run.id}", "stopped")
    town.wait(lambda: town.bot and town.bot.ledger.run(run.id).state is RunState.CANCELLED)
    town.press_as_seen("ada", root, "Approve")
    town.whisper("ada", "This plan is cancelled. Your click changed nothing.")
    assert town.bot.ledger.run(run.id).state is RunState.CANCELLED
    assert town.effects("web-01", "make") == 0


def test_stop_in_mid_run_finishes_what_was_begun_and_leaves_the_rest(town: Town) -> None:
    """The canary is done, the others are untouched and listed."""
    record = town.sandbox.estate.records["web-02"][0]
    town.octopus.start_deployment(record, 600.0)
    old = town.tentacle("web-02").configured
    root = town.ask("rita", "rotate web-01 web-02 worker-01")
    town.press("ada", root, "Approve")
    town.wait(lambda: town.sandbox.consistent("web-01") and "waiting for" in town.slack.message(root.ts).content, 60)
    town.press("rita", root, "Stop")
    town.end(root, 60)
    town.assert_good("web-01")
    assert town.tentacle("web-02").configured == old
    town.says(root, "stopped")


def test_retry_repeats_what_failed_under_the_same_approval(town: Town) -> None:
    """The cause is mended, Retry is pressed, nobody has to approve again."""
    web = town.tentacle("web-01")
    web.host.faults.import_fails = "disk full"
    root = town.ask("rita", "rotate web-01 --with pfx:demo")
    town.press("ada", root, "Approve")
    root = town.end(root)
    web.host.faults.import_fails = None
    before = {m.ts for m in town.slack.messages()}
    town.press("rita", root, "Retry")
    again = town.wait(lambda: next((m for m in town.slack.messages() if m.ts not in before and m.is_bot), None))
    town.end(again)
    town.assert_good("web-01")


def test_roll_back_is_a_plan_of_its_own(town: Town) -> None:
    """It asks for an approval again, and puts the former certificate and thumbprint back."""
    web = town.tentacle("web-01")
    old = web.configured
    root = town.rotate("web-01")
    assert web.configured != old
    before = {m.ts for m in town.slack.messages()}
    town.press("rita", root, "Roll back")
    again = town.wait(lambda: next((m for m in town.slack.messages() if m.ts not in before and m.is_bot), None))
    assert "Approve" in again.buttons
    assert str(old) in again.content
    town.press("ben", again, "Approve")
    town.end(again)
    assert web.configured == old
    town.assert_good("web-01")
