"""A fleet: waves with a canary, a budget of errors, people who steer the run, and a thread that stays readable."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bot import cli
from bot.domain.errors import UserError
from bot.domain.facts import ServiceState
from bot.domain.run import RunState
from bot.sandbox import fleet_story
from bot.sandbox.sandbox import Sandbox
from bot.sandbox.slack.model import Message
from tests.scenarios.town import DEADLINES, Town

FLEET = [f"web-{n:02}" for n in range(3, 24)]
"""Plain web servers of the estate below, one more than is shown one by one; web-03 is the canary."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Town]:
    """Return some thirty Tentacles, all looked at together: each is given time for that."""
    patient = DEADLINES.replace("loopback = 2", "loopback = 10").replace("handshake = 5", "handshake = 20")
    with Town(tmp_path, hosts=33, extra=patient) as town:
        yield town


def narrow(folder: Path, in_flight: int) -> Town:
    """Return a town whose bot works on so few hosts at the same time that a wave takes a while."""
    town = Town(folder, hosts=20, pace=0.3)
    config = town.sandbox.config
    text = config.read_text(encoding="utf-8").replace("in_flight = 16", f"in_flight = {in_flight}")
    config.write_text(text, encoding="utf-8")
    return town


def new_root(town: Town, before: set[str]) -> Message:
    """Wait for a message of the bot's that stands in the channel itself."""
    return town.wait(lambda: next((m for m in town.slack.messages() if m.ts not in before and m.is_bot), None))


def attached(town: Town, root: Message, words: str) -> list[dict[str, str]]:
    """Return the rows of the CSV file in a thread whose title holds these words."""

    def found() -> dict[str, Any] | None:
        files = [f for m in town.slack.thread(root.ts) for f in m.files]
        return next((f for f in files if words in f["title"]), None)

    file = town.wait(found)
    return list(csv.DictReader(io.StringIO(town.slack.workspace.file_data[file["id"]].decode())))


def test_no_more_hosts_are_worked_on_than_may_be_in_flight(tmp_path: Path) -> None:
    """However large the wave: as many as `[winrm] in_flight`, and those all at once."""
    with narrow(tmp_path, 3) as town:
        before = len(town.world.effects)
        for name in ("web-03", "web-04", "web-05"):
            town.tentacle(name).host.faults.slow_stop = 1.5  # a slow machine begins these after each other
        town.rotate("web-03 web-04 web-05 web-06 web-07 web-08 web-09 --canary 0", seconds=90)
        at_rest, most = set[str](), 0
        for effect in town.world.effects[before:]:
            if effect.kind == "stop":
                at_rest.add(effect.host)
            elif effect.kind == "running":
                at_rest.discard(effect.host)
            most = max(most, len(at_rest))
        assert most == 3


def test_a_fleet_is_a_handful_of_messages_and_one_that_is_edited(fleet: Town) -> None:
    """No reply for each success, nor for those skipped; a failure has its own; the end has counts, lists and a CSV."""
    fleet.tentacle("web-07").host.faults.import_fails = "disk full"
    replaced = len(fleet.slack.messages())
    root = fleet.ask("rita", f"rotate {' '.join(FLEET)} --with new-certificate --batch 14 --canary 2")
    assert "21 Tentacles" in root.content, root.content
    assert "web-03 and web-04 first and alone, then 14, then 5" in root.content
    assert "with more than 3 failures" in root.content
    gone = ("web-11", "web-13", "web-19")
    for name in gone:
        fleet.tentacle(name).host.faults.unreachable = True
    fleet.press("ada", root, "Approve")
    ended = fleet.end(root, 240)
    assert "17 healthy, 1 undone, 3 skipped" in ended.content
    fleet.says(root, "The full result")
    over = fleet.says(root, "The run is over")
    assert all(f"{name}" in over for name in gone), over
    assert "could not be looked at again" in over
    replies = [m for m in fleet.slack.thread(root.ts)[1:] if m.is_bot]
    assert len(replies) <= 6, [m.content for m in replies]
    assert len(fleet.slack.messages()) == replaced + 1
    planned = attached(fleet, root, "Plan")
    assert [int(r["wave"]) for r in planned] == [1] * 2 + [2] * 14 + [3] * 5
    rows = attached(fleet, root, "Result")
    assert {r["target"] for r in rows} == set(FLEET)
    assert rows[0]["target"] == "web-07"
    assert rows[0]["outcome"] == "undone"
    assert "disk full" in rows[0]["what"]
    for name in set(FLEET) - {"web-07", *gone}:
        fleet.assert_good(name)


def test_pause_resume_and_stop_count_once(fleet: Town) -> None:
    """Paused in the first wave it finishes that and begins nothing; resumed it goes on; stopped it leaves the rest."""
    root = fleet.ask("rita", f"rotate {' '.join(FLEET[:8])} --batch 2")
    fleet.octopus.start_deployment(fleet.sandbox.estate.records["web-03"][0], 600.0)
    fleet.press("ada", root, "Approve")
    fleet.wait(lambda: "waiting for" in fleet.slack.message(root.ts).content)
    fleet.press("rita", root, "Pause")
    paused = fleet.wait(lambda: "Resume" in (m := fleet.slack.message(root.ts)).buttons and m, 60)
    assert "Paused" in paused.content
    assert fleet.bot
    run = fleet.bot.ledger.recent()[0]
    assert "already been paused" in fleet.ask_quietly("ada", f"pause {run.id}", "paused")
    assert "an approver can stop" in fleet.ask_quietly("otto", f"resume {run.id}", "Only who asked")
    assert fleet.bot.ledger.standing(run.id).state is RunState.PAUSED
    fleet.press("ada", paused, "Resume")
    fleet.wait(lambda: "Pause" in fleet.slack.message(root.ts).buttons)
    assert "goes on already" in fleet.ask_quietly("ada", f"resume {run.id}", "already")
    fleet.press("ada", fleet.slack.message(root.ts), "Stop")
    assert "untouched" in fleet.says(root, "The run is over", 90)
    kinds = [e.entry.kind for e in fleet.bot.audit.entries(limit=100)]
    assert [kinds.count(k) for k in ("paused", "resumed", "cancelled")] == [1, 1, 1]


def test_a_paused_run_is_paused_after_a_restart(fleet: Town) -> None:
    """The bot ends at once although a run waits; started again it still waits, and goes on when it is resumed."""
    root = fleet.ask("rita", f"rotate {' '.join(FLEET[:4])} --batch 1")
    fleet.press("ada", root, "Approve")
    fleet.wait(lambda: "Pause" in fleet.slack.message(root.ts).buttons)
    fleet.press("ada", fleet.slack.message(root.ts), "Pause")
    fleet.wait(lambda: "Resume" in fleet.slack.message(root.ts).buttons)
    fleet.stop_bot()
    fleet.start_bot()
    paused = fleet.slack.message(root.ts)
    assert "Resume" in paused.buttons
    fleet.press("rita", paused, "Resume")
    fleet.end(root, 120)
    for name in FLEET[:4]:
        fleet.assert_good(name)


def test_a_run_stops_itself_when_its_budget_is_spent_and_the_failed_are_retried(fleet: Town) -> None:
    """Half of the hosts fail: it says what is done, undone and untouched. Mended, Retry does the rest, once."""
    for name in FLEET[1::2]:
        fleet.tentacle(name).host.faults.import_fails = "disk full"
    root = fleet.ask("rita", f"rotate {' '.join(FLEET)} --batch 6")
    fleet.press("ada", root, "Approve")
    ended = fleet.end(root, 240)
    thread = fleet.says(root, "The full result")
    assert "stops itself" in thread
    assert "not more than 3 may" in thread
    rows = {r["target"]: r["outcome"] for r in attached(fleet, root, "Result")}
    assert list(rows.values()).count("untouched") >= len(FLEET) - 13
    assert {"healthy", "undone", "untouched"} == set(rows.values())
    for name in FLEET:
        assert fleet.sandbox.consistent(name)
        fleet.tentacle(name).host.faults.import_fails = None
    before = {m.ts for m in fleet.slack.messages()}
    fleet.press("rita", ended, "Retry failed")
    again = new_root(fleet, before)
    refused = {m.ts for m in fleet.slack.ephemerals("rita")}
    fleet.press("rita", ended, "Retry failed")
    assert "already been tried again" in fleet.whisper("rita", "already", after=refused)
    fleet.end(again, 240)
    for name in FLEET:
        fleet.assert_good(name)


def test_a_large_wave_is_checked_while_it_is_worked_on(tmp_path: Path) -> None:
    """What Octopus finds out about those that were first stops the run before the others are begun."""
    with narrow(tmp_path, 1) as town:
        root = town.ask("rita", f"rotate {' '.join(FLEET[:8])} --canary 0 --batch 8 --stop-on-failure")
        assert "all at once" in root.content, root.content
        town.octopus.faults.script_health[town.sandbox.estate.records[FLEET[1]][0]] = "Unhealthy"
        town.press("ada", root, "Approve")
        town.end(root, 120)
        assert "stops itself" in town.says(root, "The run is over")
        assert town.bot
        outcomes = {o.target: o.kind.value for o in town.bot.ledger.recent()[0].outcomes}
        assert outcomes[FLEET[0]] == "healthy"
        assert outcomes[FLEET[1]] == "unhealthy"
        begun = [n for n, kind in outcomes.items() if kind != "untouched"]
        assert len(begun) < len(outcomes)
        checks = [t for t in town.octopus.tasks.listed() if t.description.startswith("octocert ")]
        assert len(checks) == -(-len(begun) // 2), [t.description for t in checks]
        for name in begun:
            assert town.sandbox.consistent(name)


def test_a_bot_that_stops_in_a_large_wave_goes_on_with_all_of_its_groups(tmp_path: Path) -> None:
    """Some were checked, some wait for the others of their group, some were not begun: each is done once."""
    with narrow(tmp_path, 1) as town:
        root = town.ask("rita", f"rotate {' '.join(FLEET[:8])} --canary 0 --batch 8")
        town.press("ada", root, "Approve")
        assert town.bot
        ledger = town.bot.ledger
        town.wait(lambda: len(ledger.recent()[0].outcomes) >= 2, 60)
        town.stop_bot()
        assert len(ledger.recent()[0].outcomes) < 8
        town.start_bot()
        assert "8 healthy" in town.end(root, 120).content
        for name in FLEET[:8]:
            town.assert_good(name)
            assert town.effects(name, "make") == 1


def test_selectors_mean_the_same_everywhere(fleet: Town) -> None:
    """In a plan, a look, a health check and the inventory; a typing mistake is answered with what there is."""
    fleet.octopus.edit(
        fleet.sandbox.estate.records["web-05"][0], TenantIds=[fleet.octopus.add_tenant("Default", "Acme")]
    )
    assert "web-05" in fleet.ask("rita", "show-thumbprint tenant:acme").content
    planned = fleet.ask("rita", "plan env:Staging role:web")
    assert "web-02" in planned.content
    assert "web-03" not in planned.content
    assert "2 of 2 records healthy" in fleet.ask("rita", "check-health workers").content or fleet.wait(
        lambda: any("2 of 2 records healthy" in m.content for m in fleet.slack.messages())
    )
    assert "legacy-01" in fleet.ask("rita", "plan sha1").content
    odd = fleet.ask("rita", "show-thumbprint inconsistent not:lost-01")
    assert "moved-01" in odd.content
    assert "web-01" not in odd.content
    assert "Did you mean “Staging”" in fleet.ask_quietly("rita", "rotate env:Stagin", "Did you")


def test_the_inventory_is_counts_and_a_file_in_the_thread(fleet: Town) -> None:
    """Thirty-three targets are too many for a message: those worth a look are named, the file has all."""
    root = fleet.ask("rita", "inventory")
    assert "Inventory: 33 targets" in root.content
    assert "where the witnesses disagree" in root.content
    assert "moved-01" in root.content
    assert "web-17" not in root.content
    rows = {r["target"]: r for r in attached(fleet, root, "Inventory")}
    assert len(rows) == 33
    assert rows["moved-01"]["consistent"] == "no"
    assert rows["legacy-01"]["signature"] == "sha1"
    assert rows["lost-01"]["not_seen"]
    web = fleet.tentacle("web-17")
    assert rows["web-17"]["configured"] == rows["web-17"]["recorded"] == web.configured


def test_each_target_has_a_pfx_file_of_its_own(tmp_path: Path) -> None:
    """A folder of files serves a fleet; a missing one is a refusal that names its path, and so is one for two."""
    folder = tmp_path / "pfx"
    folder.mkdir()
    extra = f'[certificates.pfx.each]\npath = "{folder}/{{target}}.pfx"\n'
    with Town(tmp_path, extra=extra) as town:
        fresh = {}
        for name in ("web-01", "web-02"):
            issued = town.world.ca.issue(f"{name}.corp.example")
            fresh[name] = issued.thumbprint
            (folder / f"{name}.pfx").write_bytes(issued.pfx(""))
        (folder / "edge-01.pfx").write_bytes((folder / "web-01.pfx").read_bytes())
        refused = town.ask("rita", "plan web-01 web-02 edge-01 --with pfx:each").content
        assert "is also that of another target" in refused
        root = town.ask("rita", "rotate web-01 web-02 shared-01 --with pfx:each")
        assert str(folder / "shared-01.pfx") in root.content
        assert str(fresh["web-02"])[:8] in root.content
        town.press("ada", root, "Approve")
        town.end(root, 120)
        for name, thumbprint in fresh.items():
            town.assert_good(name)
            assert town.tentacle(name).configured == thumbprint


def test_roll_back_all_puts_the_former_certificates_back_and_is_proposed_once(fleet: Town) -> None:
    """A second click says so; only who asked or an approver may; the plan is approved like any other."""
    names = FLEET[:5]
    before = {n: fleet.tentacle(n).configured for n in names}
    root = fleet.rotate(f"{' '.join(names)} --canary 0 --batch 3", seconds=120)
    there = {m.ts for m in fleet.slack.messages()}
    fleet.press("rita", root, "Roll back all")
    again = new_root(fleet, there)
    assert "3, then 2. Octopus checks" in again.content
    refused = {m.ts for m in fleet.slack.ephemerals("rita")}
    fleet.press("rita", root, "Roll back all")
    assert "already been proposed" in fleet.whisper("rita", "already", after=refused)
    fleet.press("ben", again, "Approve")
    fleet.end(again, 120)
    for name, thumbprint in before.items():
        assert fleet.tentacle(name).configured == thumbprint
        fleet.assert_good(name)


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_hosts_that_fail_in_different_ways_leave_nothing_stopped_or_inconsistent(fleet: Town, percent: int) -> None:
    """At least one of them; the run ends within its budget or stops itself, and whoever failed is as it was."""
    number = max(1, len(FLEET) * percent // 100)
    ways = ("import_fails", "import_lies", "kill_shell_at", "cut_at")
    odd = FLEET[1:][:: max(1, (len(FLEET) - 1) // number)][:number]
    for place, name in enumerate(odd):
        faults = fleet.tentacle(name).host.faults
        match ways[place % len(ways)]:
            case "import_fails":
                faults.import_fails = "disk full"
            case "import_lies":
                faults.import_lies = True
            case "kill_shell_at":
                faults.kill_shell_at = "stopped"
            case "cut_at":
                faults.cut_at = "stopping"
    root = fleet.ask("rita", f"rotate {' '.join(FLEET)} --batch 6")
    fleet.press("ada", root, "Approve")
    thread = fleet.says(root, "The full result", 300)
    rows = {r["target"]: r for r in attached(fleet, root, "Result")}
    failed = [n for n, r in rows.items() if r["outcome"] in {"undone", "failed", "unhealthy", "not proven"}]
    assert failed
    assert set(failed) <= set(odd)
    if len(failed) > 3:
        fleet.says(root, "stops itself")
    else:
        assert "stops itself" not in thread
    for name in FLEET:
        fleet.wait(lambda n=name: fleet.tentacle(n).service.state is ServiceState.RUNNING, 60)
        assert fleet.sandbox.consistent(name), rows[name]


def test_the_story_of_a_fleet_ends_as_promised(tmp_path: Path) -> None:
    """What `octocert demo --play fleet` plays, judged by the world."""
    with Town(tmp_path, hosts=31) as town:
        told: list[str] = []
        ending = fleet_story.fleet(town.sandbox, told.append)
        assert ending.ok, "\n".join(told)
        assert {t["name"] for t in ending.targets} == {n for n in town.sandbox.estate.instances if n.startswith("web-")}


def test_a_story_that_goes_wrong_says_so(tmp_path: Path) -> None:
    """A dozen Tentacles are no fleet: that is no success."""
    with Town(tmp_path) as town:
        told: list[str] = []
        assert not fleet_story.fleet(town.sandbox, told.append).ok
        assert "too small" in told[-1]


def test_the_inventory_in_the_terminal_needs_no_slack(tmp_path: Path) -> None:
    """It only reads; its exit code says whether something deserves a look, and its CSV is that of Slack."""
    sandbox = Sandbox(tmp_path / "estate", pace=0.02, powershell=None)
    try:
        sandbox.slack.close()
        written = len(sandbox.world.effects)
        config = ["--config", str(sandbox.config)]
        whole = CliRunner().invoke(cli.octocert, ["inventory", *config, "--csv"], standalone_mode=False)
        rows = {r["target"]: r for r in csv.DictReader(io.StringIO(whole.stdout))}
        assert whole.return_value == 3
        assert rows["moved-01"]["consistent"] == "no"
        assert rows["lost-01"]["host"] == ""
        some = CliRunner().invoke(cli.octocert, ["inventory", "role:web", *config], standalone_mode=False)
        assert some.return_value == 0
        assert "web-01" in some.stdout
        assert "moved-01" not in some.stdout
        counts = CliRunner().invoke(cli.octocert, ["inventory", "sha1", *config, "--json"], standalone_mode=False)
        assert json.loads(counts.stdout)["counts"]["sha1"] == 1
        wrong = CliRunner().invoke(cli.octocert, ["inventory", "env:Nowhere", *config], standalone_mode=False)
        assert isinstance(wrong.exception, UserError)
        assert [e for e in sandbox.world.effects[written:] if e.kind in {"stop", "import", "make", "configured"}] == []
    finally:
        for part in (sandbox.winrm, sandbox.octopus, sandbox.world):
            part.close()
